"""Figure of the facet `areas`: how faithful each method's values are to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.by_method import measure_panels
from esv_ray.analysis.figures.layout import figure
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import Row, by_length, has, read_rows
from esv_ray.analysis.figures.wording import method_name
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
    lengths, note = by_length(rows, "videos", most=3, repeated=True)
    panels, findings = [], []
    for n, of_length in lengths:
        best = min((row for row in of_length if has(row, "deletion_auc")), key=_deletion, default=None)
        if best is not None:
            findings.append(
                f"{count_of(n, 'element')}: the score falls fastest by {method_name(best['method'])} (deletion AUC "
                f"{best['deletion_auc']:.3f})"
            )
        panels += measure_panels(of_length, _MEASURES, n, look)
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
