"""Figure of the facet `confusions`: which classes are taken for which others (Fig. 7 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.keys import Key, leading
from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.ranking import ranking
from esv_ray.analysis.figures.rows import Row, by_length, read_rows, total
from esv_ray.analysis.figures.wording import signed
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MOST = 20
_TOLD = {"videos": ("videos", ",d"), "difference": ("mean difference at the most misleading element", "+.3f")}
_DIFFERENCE = "mean_difference_at_most_misleading_element"


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the most frequent pairs of label and predicted class.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "confusions", ["label", "predicted", "n_elements"], ["videos", _DIFFERENCE])
    wrong = [row for row in rows if row["videos"] and row["label"] != row["predicted"]]
    lengths, note = by_length(wrong, "videos", most=3)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: (-row["videos"], row["label"], row["predicted"]))
        first = of_length[0]
        videos = total(of_length, "videos")
        wrong_videos = f"{count_of(n, 'element')}: {videos:,} video{'' if videos == 1 else 's'} misclassified"
        findings.append(
            f"{wrong_videos}; most often "
            f"{look.class_quoted(first['label'])} as {look.class_quoted(first['predicted'])} ({first['videos']:,})"
        )
        shown = of_length[:_MOST]
        left_out = f"The first {_MOST} of {len(of_length):,} pairs." if len(of_length) > _MOST else ""
        panels.append(headed(_panel(shown, look), look, wrong_videos, left_out))
    reading = (
        "Beside the bar: the number of videos; in parentheses: the mean ESV of the label minus that of the predicted "
        f"class, at the most misleading element ({look.unit})."
    )
    return figure(
        panels,
        look,
        title="Most frequent confusions (videos)",
        notes=[reading, note],
        summary=". ".join(findings),
    )


def key_of(row: Row) -> Key | None:
    """Return the videos of a row of the table; None if there are none."""
    if not row["videos"]:
        return None
    return Key(n=row["n_elements"], videos=row["videos"], label=row["label"], predicted=row["predicted"])


def _panel(rows: Sequence[Row], look: Look) -> Any:
    """Return the bars of one length."""
    alt = vega()
    texts = [[look.class_name(row["label"]), f"→ {look.class_name(row['predicted'])}"] for row in rows]
    values = [
        {"videos": row["videos"], "difference": row[_DIFFERENCE], "remark": _remark(row), **leading(key_of(row), look)}
        for row in rows
    ]
    ranked = ranking(values, texts, look, title="label → predicted class", told=_TOLD, right=70)
    x = ranked.x("videos", "videos", whole=True)
    layers = [
        ranked.base(leads=True)
        .mark_rect(color=look.theme.distracting)
        .encode(x=x, x2=alt.datum(0), y=ranked.y("top"), y2="bottom:Q"),
        ranked.base()
        .mark_text(align="left", dx=5, fontSize=11, color=look.theme.ink)
        .encode(x="videos:Q", y=ranked.y("middle"), text="remark:N"),
    ]
    return ranked.panel(layers)


def _remark(row: Row) -> str:
    difference = "" if row[_DIFFERENCE] is None else f" ({signed(row[_DIFFERENCE])})"
    return f"{row['videos']:,}{difference}"
