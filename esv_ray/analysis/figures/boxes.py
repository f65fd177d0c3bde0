"""Boxes of percentiles along an axis of numbers: 5 to 95 % thin, 25 to 75 % thick, the median, and the mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.rows import Row, has
from esv_ray.analysis.figures.wording import signed

PERCENTILES = ("p5", "p25", "p50", "p75", "p95")
READING = "Thick: the middle half of the values; thin: 5 to 95 %; white line: median; diamond: mean."
_HEIGHT = 200


def boxes(rows: Sequence[Row], look: Look, *, key: str, x: str, y: str) -> Any:
    """Return a box per value of a key.

    Args:
        rows: with the key, `mean` and the percentiles; rows that lack one are left out.
        look: width and colors.
        key: column along the horizontal axis.
        x, y: titles of the axes.
    """
    alt = vega()
    kept = [
        row | {"key": int(row[key]), "told": f"{x}: {int(row[key])}; {_values(row)}"}
        for row in rows
        if has(row, "mean", *PERCENTILES)
    ]
    width = look.plot_width()
    step = width / max(1, len(kept))
    thick = max(2.0, min(22.0, 0.6 * step))
    base = alt.Chart(alt.Data(values=tuple(kept))).encode(
        x=alt.X("key:O", title=x, axis=alt.Axis(labelAngle=0, labelOverlap=True, labelSeparation=4, ticks=False)),
        description="told:N",
    )
    values = alt.Y("p5:Q", title=y, axis=alt.Axis(format="~g", tickCount=6))
    color = look.theme.supporting
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=look.theme.faint).encode(y="zero:Q")
    layers = [
        zero,
        base.mark_rule(color=color, strokeWidth=min(1.5, thick)).encode(y=values, y2="p95:Q"),
        base.mark_bar(color=color, size=thick).encode(y="p25:Q", y2="p75:Q"),
        base.mark_tick(color=look.theme.background, size=thick, thickness=2, orient="horizontal").encode(y="p50:Q"),
        base.mark_point(
            shape="diamond", filled=True, size=min(60, 3 * thick), fill=look.theme.ink, stroke=look.theme.background,
            strokeWidth=1, opacity=1,
        ).encode(y="mean:Q"),
    ]  # fmt: skip
    return alt.layer(*layers).properties(width=width, height=_HEIGHT)


def _values(row: Row) -> str:
    """Return the percentiles of a box in words."""
    mean, p5, p25, p50, p75, p95 = (signed(row[name], 4) for name in ("mean", *PERCENTILES))
    return f"mean: {mean}; median: {p50}; middle half: {p25} to {p75}; 5 to 95 %: {p5} to {p95}"
