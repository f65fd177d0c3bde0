"""Units of a job: row ranges of Parquet row groups, planned from the footers of the table's files. Reads nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from esv_ray.errors import DataError
from esv_ray.input.files import InputFile
from esv_ray.input.images import shown_elements
from esv_ray.input.parquet.footers import Footer

_FEWEST_UNITS = 64  # of a large table, so that several actors share the work evenly
_MOST_ROWS, _FEWEST_ROWS = 1024, 16
_MOST_UNITS = 1_000_000  # a footer may promise any number of rows


@dataclass(frozen=True, slots=True)
class Unit:
    """The piece of work that is computed and committed whole: rows start..stop of a row group.

    Attributes:
        index: number of the unit in the plan.
        file: the file that holds the rows.
        row_group: number of the row group in the file.
        start, stop: rows within the row group.
        first_row: the row of the file at `start`.
    """

    index: int
    file: InputFile
    row_group: int
    start: int
    stop: int
    first_row: int

    @property
    def rows(self) -> int:
        """Number of input rows."""
        return self.stop - self.start

    @property
    def source(self) -> str:
        """URL of the file."""
        return self.file.url

    @property
    def group(self) -> int:
        """Row group, which is read as a whole."""
        return self.row_group

    @property
    def input(self) -> str:
        """Checksum of the input: of the footer of its file."""
        return self.file.footer

    @property
    def covers(self) -> tuple[int, ...]:
        """The rows of the plan that it covers, wherever the input lies: index, row group, start, stop."""
        return self.index, self.row_group, self.start, self.stop

    @property
    def name(self) -> str:
        """Name of its files in the output: its number, and a hash of what it covers."""
        content = (self.file.url, self.file.size, self.file.version, self.row_group, self.start, self.stop)
        return f"part-{self.index:06d}-{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}.parquet"


def plan_units(footers: Sequence[Footer], unit: int | Literal["auto"]) -> list[Unit]:
    """Return the units of a feature table.

    Args:
        footers: of its files, from `read_footers`.
        unit: rows of a unit; `auto`: large enough to keep commits few, small enough to share among actors.

    Raises:
        DataError: files disagree in D, or there are too many units.
    """
    _check_feature_dims(footers)
    total = sum(group.rows for footer in footers for group in footer.groups)
    rows = min(_MOST_ROWS, max(_FEWEST_ROWS, -(-total // _FEWEST_UNITS))) if unit == "auto" else unit
    count = sum(-(-group.rows // rows) for footer in footers for group in footer.groups)
    if count > _MOST_UNITS:
        raise DataError(
            f"features: expected at most {_MOST_UNITS} units, got {count} of {rows} rows; set compute.unit higher"
        )
    units: list[Unit] = []
    for footer in footers:
        first_row = 0
        for row_group, group in enumerate(footer.groups):
            for start in range(0, group.rows, rows):
                stop = min(start + rows, group.rows)
                units.append(Unit(len(units), footer.file, row_group, start, stop, first_row + start))
            first_row += group.rows
    return units


def _check_feature_dims(footers: Sequence[Footer]) -> None:
    dims: dict[int, str] = {}
    for footer in footers:
        if footer.feature_dim is not None:
            dims.setdefault(footer.feature_dim, footer.file.url)
    shapes = {footer.shape for footer in footers}
    if len(dims) <= 1 < len(shapes):
        listed = " and ".join(sorted(shown_elements(shape, None) for shape in shapes))
        raise DataError(f"features: expected the same elements in all files, got {listed}")
    if len(dims) > 1:
        listed = ", ".join(f"{dim} in {url}" for dim, url in dims.items())
        raise DataError(f"features: expected one feature size D in all files, got {listed}")
