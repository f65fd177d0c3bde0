"""Matrices of pairs of elements: of all classes together, and of the classes where they say most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from esv_ray.analysis.figures.clearest import FloatArray, clearest_classes, frequent_lengths, of_class
from esv_ray.analysis.figures.layout import grid, headed
from esv_ray.analysis.figures.look import Look
from esv_ray.analysis.figures.matrix import Cells, blocks, matrix
from esv_ray.analysis.figures.rows import Row
from esv_ray.errors import count_of

_MOST_CLASSES, _MOST_LENGTHS, _SIDE = 3, 3, 330


def pair_panels(
    table: pa.Table,
    strength: FloatArray,
    look: Look,
    *,
    cells: Callable[[pa.Table], list[Row]],
    finding: Callable[[Sequence[Row]], str],
    shape: Callable[[Sequence[Row]], Cells],
) -> tuple[list[Any], list[str], str]:
    """Return the panels of a table of pairs, what they show, and a note on lengths that are left out.

    Args:
        table: with `class` (null: all), `n_elements`, `videos`, `element_i`, `element_j`.
        strength: (N,) of the rows: the classes with the largest mean get a panel.
        look: width and colors.
        cells: turns rows of the table into cells.
        finding: what the cells of all classes show.
        shape: titles, format and domain for some cells.
    """
    lengths, note = frequent_lengths(table, _MOST_LENGTHS, "videos")
    groups: list[list[Any]] = []
    findings = []
    for n in lengths:
        small: list[Any] = []
        whole = cells(of_class(table, n, None))
        if whole:
            findings.append(f"{count_of(n, 'element')}: {finding(whole)}")
            small.append(
                headed(
                    _panel(whole, n, shape, look), look, look.heading(findings[-1]), "all classes", width=look.column
                )
            )
        for each in clearest_classes(table, n, strength, _MOST_CLASSES):
            panel = _panel(cells(of_class(table, n, each)), n, shape, look)
            small.append(headed(panel, look, look.class_name(each), count_of(n, "element"), width=look.column))
        groups.append(small)
    if all(len(small) <= 1 for small in groups):  # a matrix per length: they stand side by side
        groups = [[panel for small in groups for panel in small]]
    return [row for small in groups for row in grid(small, look)], findings, note


def _panel(rows: Sequence[Row], n: int, shape: Callable[[Sequence[Row]], Cells], look: Look) -> Any:
    means, size = blocks(rows, n)
    return matrix(means, shape(means).in_blocks(size), look, side=min(_SIDE, look.plot_width(small=True)))
