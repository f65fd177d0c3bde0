"""Figure of the facet `interactions`: which elements add to each other, and which repeat each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from esv_ray.analysis.figures.clearest import numbers
from esv_ray.analysis.figures.layout import figure
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.matrix import Cells
from esv_ray.analysis.figures.pair_panels import pair_panels
from esv_ray.analysis.figures.rows import FEW, Row, check_columns, has, read_rows

if TYPE_CHECKING:
    import altair

_KEYS, _VALUES = ["n_elements", "element_i", "element_j"], ["class", "videos", "mean"]


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the mean Shapley interaction index of each pair of elements, as matrices.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    check_columns(table, "interactions", _KEYS, _VALUES)
    strength = np.where(numbers(table, "videos") >= FEW, np.abs(numbers(table, "mean")), np.nan)
    panels, findings, note = pair_panels(
        table, strength, look, cells=_cells, finding=_finding, shape=lambda cells: _shape(cells, look)
    )
    reading = (
        "Above 0: together the two elements add more than each alone. Below 0: each does in part what the other does. "
        "Dot: the 95 % interval holds 0. "
        f"By class: those with the strongest interactions, of those with {FEW} videos or more."
    )
    return figure(
        panels,
        look,
        title=f"Mean interaction of two elements ({look.unit})",
        notes=[reading, note],
        summary=". ".join(findings),
    )


def _cells(table: pa.Table) -> list[Row]:
    rows = read_rows(table, "interactions", _KEYS, _VALUES, ["low", "high"])
    return [
        {
            "i": row["element_i"],
            "j": row["element_j"],
            "value": row["mean"],
            "sure": row["low"] > 0 or row["high"] < 0 if has(row, "low", "high") else None,
        }
        for row in rows
        if has(row, "mean")
    ]


def _finding(cells: Sequence[Row]) -> str:
    top = max(cells, key=lambda row: abs(row["value"]))
    return f"the strongest mean interaction is {top['value']:+.3g}, of elements {top['i']} and {top['j']}"


def _shape(cells: Sequence[Row], look: Look) -> Cells:
    most = max((abs(row["value"]) for row in cells), default=0.0) or 1.0
    return Cells("element j", "element i", f"interaction ({look.unit})", "+.2~g", (-most, 0.0, most))
