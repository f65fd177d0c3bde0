"""Figure of the facet `moments`: how well each method's values agree with marked key moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from esv_ray.analysis.figures.by_method import measure_panels
from esv_ray.analysis.figures.layout import figure
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.rows import by_length, has, read_rows
from esv_ray.analysis.figures.wording import method_name, percent
from esv_ray.errors import count_of

if TYPE_CHECKING:
    import altair

_MEASURES = {
    "pointing": "Largest value is in the key moment",
    "auc": "AUC: inside against outside (chance: 0.5)",
    "iou": "Overlap of the largest values (IoU)",
}


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return a panel per measure, with a bar per method.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    intervals = [f"{measure}_{end}" for measure in _MEASURES for end in ("low", "high")]
    rows = read_rows(table, "moments", ["n_elements", "method"], ["videos", "by_chance", *_MEASURES], intervals)
    lengths, note = by_length(
        [row for row in rows if has(row, "pointing", "by_chance")], "videos", most=3, repeated=True
    )
    panels, findings = [], []
    for n, of_length in lengths:
        best = max(of_length, key=lambda row: float(row["pointing"]))
        findings.append(
            f"{count_of(n, 'element')}: the largest value by {method_name(best['method'])} is in the key moment in "
            f"{percent(best['pointing'])} of videos, by chance {percent(best['by_chance'])}"
        )
        panels += measure_panels(of_length, _MEASURES, n, look)
    return figure(
        panels,
        look,
        title="Agreement of each method's values with marked key moments",
        notes=["Lines: 95 % intervals.", note],
        summary=". ".join(findings),
    )
