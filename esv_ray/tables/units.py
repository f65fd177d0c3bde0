"""The work of a job cut into units: row ranges of Parquet row groups, planned once from the files' footers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.tables.features import Video, check_schema, columns_of, decode, repeated_rows
from esv_ray.tables.frames import INT32_MAX
from esv_ray.tables.inputs import (
    Footer,
    InputFile,
    check_unchanged,
    feature_dim_of,
    list_files,
    open_parquet,
    read_footers,
    readable,
)

_FEWEST_UNITS = 64  # of a large table, so that several actors share the work evenly
_MOST_ROWS, _FEWEST_ROWS = 1024, 16


@dataclass(frozen=True)
class Unit:
    """The piece of work that is computed and committed whole: rows start..stop of a row group.

    Attributes:
        index: its number in the plan.
        file: where the rows are.
        row_group: in the file.
        start, stop: rows within the row group.
        first_row: the row of the file that `start` is.
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
    def covers(self) -> tuple[int, ...]:
        """Which rows of the plan it is, wherever the input lies: index, row group, start, stop."""
        return self.index, self.row_group, self.start, self.stop

    @property
    def name(self) -> str:
        """Name of its files in the output: its number, and a hash of what it covers."""
        what = (self.file.url, self.file.size, self.file.version, self.row_group, self.start, self.stop)
        return f"part-{self.index:06d}-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.parquet"


def plan_units(
    files: Sequence[InputFile], unit: int | Literal["auto"], footers: Sequence[Footer] | None = None
) -> list[Unit]:
    """Units of a feature table from the footers of its files.

    Args:
        files: from `list_files`.
        unit: rows of a unit; `auto`: large enough to keep commits few, small enough to share among actors.
        footers: of the files, where they are known.

    Raises:
        DataError: a file is unreadable or no feature table, or files disagree in D; says which.
    """
    footers = read_footers(files) if footers is None else footers
    dims: dict[int, str] = {}
    for file, footer in zip(files, footers, strict=True):
        dim = check_schema(footer.schema, file.url)
        if dim is not None:
            dims.setdefault(dim, file.url)
    if len(dims) > 1:
        shown = ", ".join(f"{dim} in {url}" for dim, url in dims.items())
        raise DataError(f"features: expected one feature size D in all files, got {shown}")
    total = sum(group.rows for footer in footers for group in footer.groups)
    rows = min(_MOST_ROWS, max(_FEWEST_ROWS, -(-total // _FEWEST_UNITS))) if unit == "auto" else unit
    units: list[Unit] = []
    for file, footer in zip(files, footers, strict=True):
        first_row = 0
        for row_group, group in enumerate(footer.groups):
            for start in range(0, group.rows, rows):
                stop = min(start + rows, group.rows)
                units.append(Unit(len(units), file, row_group, start, stop, first_row + start))
            first_row += group.rows
    return units


def read_unit(unit: Unit) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The rows of a unit, and which of them (0 = first) repeat an id that stands earlier in the file.

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    check_unchanged(unit.file)
    repeated = _repeated(unit.file)
    own = repeated[(repeated >= unit.first_row) & (repeated < unit.first_row + unit.rows)]
    return _row_group(unit.file, unit.row_group).slice(unit.start, unit.rows), own - unit.first_row


_reading = Lock()


def _row_group(file: InputFile, row_group: int) -> pa.Table:
    with _reading:  # two units in flight would read their row group twice
        return _read_row_group(file, row_group)


# Units of a row group follow one another, so that the last one read serves them all.
@lru_cache(maxsize=1)
def _read_row_group(file: InputFile, row_group: int) -> pa.Table:
    where = f"{file.url}, row group {row_group}"
    with open_parquet(file) as parquet, storage.locating(file.url, f"read row group {row_group}"), readable(where):
        return parquet.read_row_group(row_group, columns=columns_of(parquet.schema_arrow))


@lru_cache(maxsize=8)
def _repeated(file: InputFile) -> npt.NDArray[np.int64]:
    with open_parquet(file) as parquet, storage.locating(file.url, "read the ids"), readable(file.url):
        return repeated_rows(parquet.read(columns=["video_id"]).column("video_id"))


def read_videos(url: str, n_classes: int | None = None) -> tuple[list[Video], int]:
    """All good rows of a feature table, in memory, and how many rows break the contract.

    Args:
        url: the table; its D is that of its type or of its first rows.
        n_classes: C; None: any label from 0 up.

    Raises:
        DataError: it is unreadable or no feature table.
    """
    files = list_files(url)
    dim = feature_dim_of(files)
    if dim is None:
        raise DataError(f"{url}: expected features (T, D), found no row with frames of one size D")
    videos: list[Video] = []
    bad = 0
    for unit in plan_units(files, _MOST_ROWS):
        table, repeated = read_unit(unit)
        good, broken = decode(table, feature_dim=dim, n_classes=n_classes or INT32_MAX, repeated=repeated.tolist())
        videos += good
        bad += len(broken)
    return videos, bad
