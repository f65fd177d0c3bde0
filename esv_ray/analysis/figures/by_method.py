"""Panels of measures, each with a bar per method and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esv_ray.analysis.figures.layout import grid, headed
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.ranking import ranking
from esv_ray.analysis.figures.rows import Row, has
from esv_ray.analysis.figures.wording import method_name, method_place
from esv_ray.errors import count_of


def measure_panels(rows: Sequence[Row], measures: Mapping[str, str], n: int, look: Look) -> list[Any]:
    """Return a panel per measure that is known, in rows of the figure.

    Args:
        rows: one per method, of n elements; columns `method`, the measures, and their `..._low` and `..._high`.
        measures: by column, their headings.
        n: number of elements.
        look: of the figure.
    """
    ordered = sorted(rows, key=lambda row: method_place(row["method"]))
    measured = [name for name in measures if any(row[name] is not None for row in ordered)]
    small = [
        headed(_panel(ordered, name, look), look, measures[name], count_of(n, "element"), width=look.column)
        for name in measured
    ]
    return list(grid(small, look))


def _panel(rows: Sequence[Row], name: str, look: Look) -> Any:
    """Return the bars of one measure."""
    alt = vega()
    kept = [row for row in rows if has(row, name)]
    values = [
        {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "text": f"{row[name]:.3f}"}
        for row in kept
    ]
    part = Look(look.names, look.theme, look.column, look.unit)
    ranked = ranking(values, [[method_name(row["method"])] for row in kept], part, title="method", right=46)
    base = ranked.base()
    x = ranked.x("value", "mean over videos")
    layers = [
        base.mark_rect(color=look.theme.supporting).encode(x=x, x2=alt.datum(0), y=ranked.y("top"), y2="bottom:Q"),
        ranked.base("low", "high")
        .mark_rule(color=look.theme.ink, strokeWidth=2)
        .encode(x="low:Q", x2="high:Q", y=ranked.y("middle")),
        base.mark_text(align="left", fontSize=11, color=look.theme.ink).encode(
            x=alt.value(ranked.width + 6), y=ranked.y("middle"), text="text:N"
        ),
    ]
    return ranked.panel(layers)
