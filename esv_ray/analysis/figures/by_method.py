"""Panels of measures, each with a bar per method and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from esv_ray.analysis.figures.layout import grid, headed
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.ranking import INTERVAL, ranking
from esv_ray.analysis.figures.rows import Row, has
from esv_ray.analysis.figures.wording import method_name, method_place, minus
from esv_ray.errors import count_of

_VALUE = "mean over videos"


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
    words = [method_name(row["method"]) for row in ordered]
    part = replace(look, width=look.column)
    panels = [(name, bars(ordered, name, words, part, title="method")) for name in measured]
    small = [headed(panel, look, measures[name], count_of(n, "element"), width=look.column) for name, panel in panels]
    return list(grid(small, look))


def bars(
    rows: Sequence[Row], name: str, texts: Sequence[str], look: Look, *, title: str, reference: str | None = None
) -> Any:
    """Return a bar per row with its interval.

    Args:
        rows: with a column `name`, its `..._low` and `..._high`; rows without a value are left out.
        name: of the measure.
        texts: of the rows.
        look: of the panel.
        title: what the rows are.
        reference: column of values to compare with, which are dashed.
    """
    alt = vega()
    kept = [(row, text) for row, text in zip(rows, texts, strict=True) if has(row, name)]
    values = [
        {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "text": minus(f"{row[name]:.3f}")}
        | ({} if reference is None else {"reference": row[reference]})
        for row, _ in kept
    ]
    told = {"value": (_VALUE, ".3f"), "low": (INTERVAL[0], ".3f"), "high": (INTERVAL[1], ".3f")}
    told |= {"reference": ("the same in random order", ".3f")}
    ranked = ranking(values, [[text] for _, text in kept], look, title=title, told=told, right=46)
    base = ranked.base()
    x = ranked.x("value", _VALUE)
    layers = [
        base.mark_rect(color=look.theme.supporting).encode(x=x, x2=alt.datum(0), y=ranked.y("top"), y2="bottom:Q"),
        ranked.base("low", "high")
        .mark_rule(color=look.theme.ink, strokeWidth=2)
        .encode(x="low:Q", x2="high:Q", y=ranked.y("middle")),
        base.mark_text(align="left", fontSize=11, color=look.theme.ink).encode(
            x=alt.value(ranked.width + 6), y=ranked.y("middle"), text="text:N"
        ),
    ]
    if reference is not None:
        dashed = ranked.base("reference").mark_rule(color=look.theme.ink, strokeDash=[3, 2], strokeWidth=1.5)
        layers.append(dashed.encode(x="reference:Q", y=ranked.y("top"), y2="bottom:Q"))
    return ranked.panel(layers)
