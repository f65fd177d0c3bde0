"""Figure of the facet `classes`: from the prior to the score, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.keys import Key, leading
from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.ranking import ranking
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows, total
from esv_ray.analysis.figures.wording import percent, signed
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MOST, _MOST_BRIEF = 200, 40  # classes of a figure that stands alone, and of one that must fit on a page of paper
_VALUES = ("prior", "score", "support", "distract")


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the prior, the sums of supporting and of distracting ESVs, and the score of each class.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "classes", ["class", "n_elements"], ["videos", "accuracy", *_VALUES], ["name"])
    lengths, note = by_length([row for row in rows if has(row, *_VALUES)], "videos", most=2)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: (row["prior"] - row["score"], row["class"]))
        best, worst = of_length[0], of_length[-1]
        videos = total(of_length, "videos")
        findings.append(
            f"{count_of(n, 'element')}, {videos:,} video{'' if videos == 1 else 's'}: score minus prior is from "
            f"{signed(worst['score'] - worst['prior'])} to {signed(best['score'] - best['prior'])}"
        )
        panels.append(headed(_panel(of_length, look), look, look.heading(findings[-1]), _left_out(of_length, look)))
    reading = (
        "Wide bar: from the prior up by what supporting elements add. Narrow bar: down from there by what distracting "
        "elements take. Black line: the mean score where it ends. Sorted by score minus prior."
    )
    return figure(
        panels,
        look,
        title=f"From the class prior to the mean score ({look.unit}), by class",
        notes=[reading, note],
        summary=". ".join(findings),
    )


def key_of(row: Row) -> Key | None:
    """Return the videos of a row of the table; None if there are none."""
    if not row["videos"]:
        return None
    return Key(n=row["n_elements"], videos=row["videos"], explained=row["class"], esvs=1)


def _most(look: Look) -> int:
    return _MOST_BRIEF if look.brief else _MOST


def _left_out(rows: Sequence[Row], look: Look) -> str:
    """Return a note on classes for which there is no room."""
    most = _most(look)
    return f"{most} of {len(rows)} classes: the first and the last {most // 2}." if len(rows) > most else ""


def _panel(rows: Sequence[Row], look: Look) -> Any:
    """Return the bars of one length."""
    most = _most(look)
    shown = [*rows[: most // 2], *rows[-most // 2 :]] if len(rows) > most else rows
    texts = [_texts(row, look) for row in shown]
    values = [
        {name: row[name] for name in _VALUES}
        | {"sum": row["prior"] + row["support"], "remark": _remark(row), "videos": row["videos"]}
        | leading(key_of(row), look)
        for row in shown
    ]  # fmt: skip
    told = {name: (name, ".3f") for name in ("prior", "support")} | {
        "distract": ("distract", "+.3f"),
        "score": (f"mean {look.unit}", ".3f"),
        "remark": ("correct", ""),
        "videos": ("videos", ",d"),
    }
    ranked = ranking(values, texts, look, title="class", told=told, right=0 if look.narrow else 76)
    base = ranked.base(leads=True)
    theme = look.theme
    x = ranked.x("prior", f"{look.unit} (prior, and score)")
    layers = [
        base.mark_rect(color=theme.supporting).encode(x=x, x2="sum:Q", y=ranked.y("top"), y2="bottom:Q"),
        base.mark_rect(color=theme.distracting).encode(
            x="sum:Q", x2="score:Q", y=ranked.y("inner_top"), y2="inner_bottom:Q"
        ),
        base.mark_rule(color=theme.ink, strokeWidth=2).encode(x="score:Q", y=ranked.y("top"), y2="bottom:Q"),
    ]
    if not look.narrow:
        layers.append(ranked.remarks("remark", "correct"))
    return ranked.panel(layers)


def _texts(row: Row, look: Look) -> list[str]:
    """Return the name of a class; in a narrow figure also what otherwise stands at the right."""
    name = str(row["name"] or "").strip() or look.class_name(row["class"])
    return [name, f"{_remark(row)} correct"] if look.narrow and row["accuracy"] is not None else [name]


def _remark(row: Row) -> str:
    accuracy = "" if row["accuracy"] is None else f"{percent(row['accuracy'])} of "
    return f"{accuracy}{row['videos'] or 0:,}"
