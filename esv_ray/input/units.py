"""Units of a job: row ranges of Parquet row groups, planned from the footers of the table's files. Reads nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from esv_ray.errors import DataError
from esv_ray.input.files import InputFile
from esv_ray.input.images import shown_elements
from esv_ray.input.parquet.footers import Footer

_FEWEST_UNITS = 64  # of a large table, so that several actors share the work evenly
_MOST_ROWS, _FEWEST_ROWS = 1024, 16
_MOST_UNITS = 1_000_000  # a footer may promise any number of rows
_MANY_UNITS = 512  # more of them are made of several small files each: a commit takes as long as hundreds of videos
_SMALL_SHARE = 8  # a file is small if a unit holds the rows of this many such files
_MOST_VALUES = 2**26  # of the features of several files: 256 MiB of float32
_CHECKSUM_DIGITS = 32  # of SHA-256


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows start..stop of a row group of a file.

    Attributes:
        file: the file that holds the rows.
        row_group: number of the row group in the file.
        start, stop: rows within the row group.
        first_row: the row of the file at `start`.
    """

    file: InputFile
    row_group: int
    start: int
    stop: int
    first_row: int

    @property
    def rows(self) -> int:
        """Number of input rows."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Unit:
    """The piece of work that is computed and committed whole: rows of one row group, or of several small files.

    Attributes:
        index: number of the unit in the plan.
        ranges: its rows, in the order of the table; those of several files are of one whole file each, or more.
    """

    index: int
    ranges: tuple[RowRange, ...]

    @property
    def rows(self) -> int:
        """Number of input rows."""
        return sum(each.rows for each in self.ranges)

    @property
    def files(self) -> tuple[InputFile, ...]:
        """Its files, each once, in the order of the table."""
        return tuple(dict.fromkeys(each.file for each in self.ranges))

    @property
    def source(self) -> str:
        """URL of its first file."""
        return self.ranges[0].file.url

    @property
    def group(self) -> int:
        """Row group, which is read as a whole; the first one."""
        return self.ranges[0].row_group

    @property
    def input(self) -> str:
        """Checksum of the input: of the footer of its file; of several ranges, also of what they cover."""
        if len(self.ranges) == 1:
            return self.ranges[0].file.footer
        content = [(each.file.footer, each.row_group, each.start, each.stop) for each in self.ranges]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:_CHECKSUM_DIGITS]

    @property
    def covers(self) -> tuple[int, ...]:
        """The rows of the plan that it covers, wherever the input lies: index, row group, start, stop.

        Of several ranges the first row group, 0, and their rows: `input` says the others.
        """
        first = self.ranges[0]
        if len(self.ranges) == 1:
            return self.index, first.row_group, first.start, first.stop
        return self.index, first.row_group, 0, self.rows

    @property
    def name(self) -> str:
        """Name of its files in the output: its number, and a hash of what it covers."""
        ranges = tuple(
            (each.file.url, each.file.size, each.file.version, each.row_group, each.start, each.stop)
            for each in self.ranges
        )
        content = ranges[0] if len(ranges) == 1 else ranges
        return f"part-{self.index:06d}-{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}.parquet"


def plan_units(footers: Sequence[Footer], unit: int | Literal["auto"], *, across_files: bool = False) -> list[Unit]:
    """Return the units of a feature table.

    Args:
        footers: of its files, from `read_footers`.
        unit: rows of a unit; `auto`: large enough to keep commits few, small enough to share among actors.
        across_files: whether a unit may hold several small files, if there are very many units otherwise.

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
    joined = _joined(footers, rows) if across_files and count > _MANY_UNITS else _apart(footers, rows)
    return [Unit(index, ranges) for index, ranges in enumerate(joined)]


def _ranges(footer: Footer, rows: int) -> list[RowRange]:
    """Divide the rows of a file into ranges of a row group each, of at most some rows."""
    ranges, first_row = [], 0
    for row_group, group in enumerate(footer.groups):
        for start in range(0, group.rows, rows):
            stop = min(start + rows, group.rows)
            ranges.append(RowRange(footer.file, row_group, start, stop, first_row + start))
        first_row += group.rows
    return ranges


def _apart(footers: Iterable[Footer], rows: int) -> Iterator[tuple[RowRange, ...]]:
    return ((each,) for footer in footers for each in _ranges(footer, rows))


def _joined(footers: Iterable[Footer], rows: int) -> Iterator[tuple[RowRange, ...]]:
    """Join the ranges of small files that follow one another, while they are not too many together."""
    waiting: list[RowRange] = []
    held = held_values = 0
    for footer in footers:
        count, values = (sum(getattr(group, name) for group in footer.groups) for name in ("rows", "values"))
        small = count * _SMALL_SHARE <= rows
        if waiting and not (small and held + count <= rows and held_values + values <= _MOST_VALUES):
            yield tuple(waiting)
            waiting, held, held_values = [], 0, 0
        if small:
            waiting += _ranges(footer, rows)
            held, held_values = held + count, held_values + values
        else:
            yield from _apart([footer], rows)
    if waiting:
        yield tuple(waiting)


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
