"""Figure of the facet `areas`: how faithful each method's values are to the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from esv_ray.analysis.figures.layout import figure, grid, headed
from esv_ray.analysis.figures.look import Look, vega
from esv_ray.analysis.figures.ranking import ranking
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import method_name, method_place
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MEASURES = {
    "deletion_auc": "Deletion AUC (lower is better)",
    "insertion_auc": "Insertion AUC (higher is better)",
    "comprehensiveness": "Comprehensiveness (higher is better)",
    "sufficiency": "Sufficiency (lower is better)",
    "average_drop": "Average drop (lower is better)",
    "monotonicity": "Monotonicity (higher is better)",
}


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return a panel per measure, with a bar per method.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    intervals = [f"{measure}_{end}" for measure in _MEASURES for end in ("low", "high")]
    rows = read_rows(table, "areas", ["n_elements", "method"], ["videos", *_MEASURES], intervals)
    lengths, note = by_length(rows, "videos", most=3)
    panels, findings = [], []
    for n, of_length in lengths:
        of_length.sort(key=lambda row: method_place(row["method"]))
        best = min((row for row in of_length if has(row, "deletion_auc")), key=_deletion, default=None)
        if best is not None:
            findings.append(
                f"{count_of(n, 'element')}: the score falls fastest by {method_name(best['method'])} (deletion AUC "
                f"{best['deletion_auc']:.3f})"
            )
        measured = [name for name in _MEASURES if any(row[name] is not None for row in of_length)]
        small = [
            headed(_panel(of_length, name, look), look, _MEASURES[name], count_of(n, "element"), width=look.column)
            for name in measured
        ]
        panels += grid(small, look)
    drawn = any(row[name] is not None for row in rows for name in intervals)
    return figure(
        panels,
        look,
        title="Faithfulness of each method: what its most and least influential elements do to the score",
        notes=["Lines: 95 % intervals." if drawn else "", note],
        summary=". ".join(findings),
    )


def _deletion(row: Row) -> float:
    return float(row["deletion_auc"])


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
