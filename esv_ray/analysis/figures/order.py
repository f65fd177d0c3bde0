"""Figure of the facet `order`: what the order of the elements is worth, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, headed
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.ranking import INTERVAL, ranking
from esv_ray.analysis.figures.rows import FEW, Row, by_length, has, read_rows
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MOST = 40


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the mean score minus the mean score of shuffled elements, by class, with intervals.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    rows = read_rows(table, "order", ["n_elements"], ["class", "videos", "score", "shuffled_score", "low", "high"])
    lengths, note = by_length([row for row in rows if has(row, "score", "shuffled_score")], "videos", most=3)
    panels, findings = [], []
    for n, of_length in lengths:
        for row in of_length:
            row["difference"] = row["score"] - row["shuffled_score"]
        whole = [row for row in of_length if row["class"] is None]
        classes = [row for row in of_length if row["class"] is not None]
        classes = sorted([row for row in classes if (row["videos"] or 0) >= FEW] or classes, key=_rank)
        if whole:
            first = whole[0]
            change = "falls" if first["difference"] >= 0 else "rises"
            values = f"from {first['score']:.3f} to {first['shuffled_score']:.3f}"
            findings.append(f"{count_of(n, 'element')}: shuffled, the mean score {change} {values}")
        cut = len(classes) > _MOST
        shown = [*classes[: _MOST // 2], *classes[-_MOST // 2 :]] if cut else classes
        left_out = f"{_MOST} of {len(classes)} classes: those that need the order most, and least." if cut else ""
        heading = look.heading(findings[-1]) if whole else count_of(n, "element")
        panels.append(headed(_panel([*whole, *shown], look), look, heading, left_out))
    return figure(
        panels,
        look,
        title=f"What the order of elements is worth: score minus score of shuffled elements ({look.unit})",
        notes=[f"Dot: mean; line: 95 % interval. Classes with {FEW} videos or more, if there are any.", note],
        summary=". ".join(findings),
    )


def _rank(row: Row) -> tuple[float, int]:
    return -row["difference"], row["class"]


def _panel(rows: Sequence[Row], look: Look) -> Any:
    """Return a row per class."""
    alt = vega()
    values = [
        {"difference": row["difference"], "low": row["low"], "high": row["high"], "remark": f"{row['videos'] or 0:,}"}
        for row in rows
    ]
    told = {
        "difference": ("score minus shuffled score", "+.3f"),
        "low": (INTERVAL[0], "+.3f"),
        "high": (INTERVAL[1], "+.3f"),
        "remark": ("videos", ""),
    }
    texts = [[look.class_name(row["class"])] for row in rows]
    ranked = ranking(values, texts, look, title="class", told=told, right=44)
    base, theme = ranked.base(), look.theme
    x = ranked.x("difference", f"score minus shuffled score ({look.unit})")
    layers = [
        alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=theme.faint).encode(x="zero:Q"),
        ranked.base("low", "high")
        .mark_rule(color=theme.supporting, strokeWidth=2)
        .encode(x="low:Q", x2="high:Q", y=ranked.y("middle")),
        base.mark_point(filled=True, size=45, color=theme.ink, opacity=1).encode(x=x, y=ranked.y("middle")),
        ranked.remarks("remark", "videos"),
    ]
    return ranked.panel(layers)
