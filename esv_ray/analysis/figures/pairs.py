"""Figure of the facet `pairs`: how often one element contributes more than another (Fig. 5 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from esv_ray.analysis.figures.clearest import FloatArray, numbers
from esv_ray.analysis.figures.keys import Key, leading
from esv_ray.analysis.figures.layout import figure
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.matrix import Cells
from esv_ray.analysis.figures.pair_panels import pair_panels
from esv_ray.analysis.figures.rows import Row, check_columns, has, read_rows
from esv_ray.analysis.figures.wording import percent
from esv_ray.analysis.statistics import LEVEL, wilson
from esv_ray.analysis.student import level_of_each

if TYPE_CHECKING:
    import altair

_KEYS, _VALUES = ["n_elements", "element_i", "element_j"], ["class", "videos", "share"]


def chart(table: pa.Table, look: Look) -> altair.ConcatChart:
    """Return the share of videos in which element i has a larger ESV than element j, as matrices.

    Raises:
        DataError: the table is not the facet's.
        SpecError: the libraries of figures are not installed.
    """
    check_columns(table, "pairs", _KEYS, _VALUES)
    panels, findings, note = pair_panels(
        table, _strength(table), look, cells=lambda rows: _cells(rows, look), finding=_finding, shape=lambda _: _SHAPE
    )
    return figure(
        panels,
        look,
        title="Share of videos in which the ESV of element i exceeds that of element j",
        notes=[
            "Dot: the 95 % interval holds 50 %. By class: those with the clearest order of elements, by intervals that "
            "hold for all pairs and classes together (Bonferroni).",
            note,
        ],
        summary=". ".join(findings),
    )


_SHAPE = Cells("element j", "element i", "share of videos with ESV i > ESV j", ".0%", (0.0, 0.5, 1.0))


def _strength(table: pa.Table) -> FloatArray:
    """Return by how much the interval of each share differs from one half.

    The largest of many are looked for: the intervals of a length hold for all its pairs and classes together.
    """
    share, videos, lengths = (numbers(table, name) for name in ("share", "videos", "n_elements"))
    strength = np.full(len(share), np.nan)
    for n in np.unique(lengths):
        inside = lengths == n
        pairs = int(np.count_nonzero(inside & np.isfinite(numbers(table, "class")))) // 2
        low, high = wilson(np.rint(share * videos)[inside], videos[inside], level_of_each(LEVEL, pairs))
        strength[inside] = np.fmax(np.fmax(low - 0.5, 0.5 - high), 0)
    return strength


def key_of(row: Row) -> Key | None:
    """Return the videos of a row of the table in which its first element has the larger ESV; None if there are none."""
    videos = round((row["share"] or 0.0) * (row["videos"] or 0))
    if not videos:
        return None
    return Key(
        n=row["n_elements"], videos=videos, explained=row["class"], over=f"{row['element_i']},{row['element_j']}"
    )


def _cells(table: pa.Table, look: Look) -> list[Row]:
    """Return the cells; one is sure if its interval does not hold 50 %."""
    rows = read_rows(table, "pairs", _KEYS, _VALUES, ["low", "high"])
    return [
        {
            "i": row["element_i"],
            "j": row["element_j"],
            "value": row["share"],
            "videos": round(row["share"] * (row["videos"] or 0)),
            "sure": row["low"] > 0.5 or row["high"] < 0.5 if has(row, "low", "high") else None,
            **leading(key_of(row), look),
        }
        for row in rows
        if has(row, "share") and row["element_i"] != row["element_j"]
    ]


def _finding(cells: Sequence[Row]) -> str:
    top = max(cells, key=lambda row: float(row["value"]))
    return f"element {top['i']} contributes more than element {top['j']} in {percent(top['value'])} of videos"
