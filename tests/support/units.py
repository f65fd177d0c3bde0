"""Units of one range of rows, as most tables have them."""

from __future__ import annotations

from esv_ray.input.files import InputFile
from esv_ray.input.units import RowRange, Unit


def one_range(index: int, file: InputFile, row_group: int, start: int, stop: int, first_row: int) -> Unit:
    """A unit of rows of one row group."""
    return Unit(index, (RowRange(file, row_group, start, stop, first_row),))


def only(unit: Unit) -> RowRange:
    """The range of a unit that has one."""
    (rows,) = unit.ranges
    return rows
