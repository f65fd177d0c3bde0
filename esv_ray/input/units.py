"""The work of a job cut into units: row ranges of Parquet row groups, planned once from the files' footers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.errors import DataError
from esv_ray.input.columns import check_schema
from esv_ray.input.features import FeatureRows, decode_rows
from esv_ray.input.files import InputFile, check_unchanged
from esv_ray.input.ids import repeated_rows
from esv_ray.input.parquet.footers import Footer, decoding, open_file, read_footers
from esv_ray.input.parquet.row_groups import Piece, RowGroupReader, group_ids

_FEWEST_UNITS = 64  # of a large table, so that several actors share the work evenly
_MOST_ROWS, _FEWEST_ROWS = 1024, 16
_MOST_UNITS = 1_000_000  # a footer may promise any number of rows
_NO_LIMIT = 2**62
_FRAMES = pa.list_(pa.list_(pa.float32()))
_IDS_TOO_LARGE = (
    "the ids of its row group, with those before it in the file, take more memory than compute.memory_budget = {}: "
    "write smaller files, or shorter ids"
)


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
    def source(self) -> str:
        """URL of the file."""
        return self.file.url

    @property
    def group(self) -> int:
        """Row group, which is read as a whole."""
        return self.row_group

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
        dim = check_schema(footer.schema, file.url, file.named)
        if dim is not None:
            dims.setdefault(dim, file.url)
    if len(dims) > 1:
        shown = ", ".join(f"{dim} in {url}" for dim, url in dims.items())
        raise DataError(f"features: expected one feature size D in all files, got {shown}")
    total = sum(group.rows for footer in footers for group in footer.groups)
    rows = min(_MOST_ROWS, max(_FEWEST_ROWS, -(-total // _FEWEST_UNITS))) if unit == "auto" else unit
    count = sum(-(-group.rows // rows) for footer in footers for group in footer.groups)
    if count > _MOST_UNITS:
        raise DataError(
            f"features: expected at most {_MOST_UNITS} units, got {count} of {rows} rows; set compute.unit higher"
        )
    units: list[Unit] = []
    for file, footer in zip(files, footers, strict=True):
        first_row = 0
        for row_group, group in enumerate(footer.groups):
            for start in range(0, group.rows, rows):
                stop = min(start + rows, group.rows)
                units.append(Unit(len(units), file, row_group, start, stop, first_row + start))
            first_row += group.rows
    return units


def read_rows(
    unit: Unit,
    *,
    feature_dim: int,
    n_classes: int,
    dtype: npt.DTypeLike = np.float32,
    budget: int | None = None,
    unlabelled: Collection[int] = (),
) -> FeatureRows:
    """The rows of a unit, decoded and checked.

    A row group whose decoding could take more memory than `budget` gives failed rows with ids and labels, no error:
    other row groups go on.

    Args:
        unit: which rows.
        feature_dim, n_classes, dtype, unlabelled: as of `decode_rows`.
        budget: bytes; None: no limit. Which rows fail depends on it and on the file, not on the machine.

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    budget = _NO_LIMIT if budget is None else budget
    piece, repeated = _read(unit, budget, np.dtype(dtype).itemsize)
    return decode_rows(
        piece.table,
        feature_dim=feature_dim,
        n_classes=n_classes,
        dtype=dtype,
        repeated=repeated.tolist(),
        refused=piece.refused,
        unlabelled=unlabelled,
        named=unit.file.named,
    )


def read_unit(unit: Unit) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The rows of a unit, and which of them (0 = first) repeat an id that stands earlier in the file.

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    piece, repeated = _read(unit, _NO_LIMIT, 4)
    return piece.table, repeated


def _read(unit: Unit, budget: int, itemsize: int) -> tuple[Piece, npt.NDArray[np.int64]]:
    check_unchanged(unit.file)
    with _reading:  # two units in flight would read their row group twice
        repeated, refused = _repeated(unit.file, budget)
        own = repeated[(repeated >= unit.first_row) & (repeated < unit.first_row + unit.rows)] - unit.first_row
        if unit.row_group in refused:
            nothing = pa.table({"video_id": pa.nulls(unit.rows, pa.string()), "features": pa.nulls(unit.rows, _FRAMES)})
            return Piece(nothing, refused[unit.row_group]), own
        piece = _row_group(unit, budget, itemsize)
    check_unchanged(unit.file)  # it may have been written over while it was read
    return piece, own


_reading = Lock()
_open: list[tuple[tuple[object, ...], RowGroupReader]] = []  # the last one; units of a row group follow one another


def _row_group(unit: Unit, budget: int, itemsize: int) -> Piece:
    key = (unit.file, unit.row_group, budget, itemsize)
    reader = None
    if _open:
        known, reader = _open.pop()
        if known != key or reader.position > unit.start:
            reader.close()
            reader = None
    reader = reader or RowGroupReader(unit.file, unit.row_group, budget, itemsize)
    try:
        piece = reader.take(unit.start, unit.stop)
    except BaseException:
        reader.close()
        raise
    _open.append((key, reader))
    return piece


@lru_cache(maxsize=8)
def _repeated(file: InputFile, budget: int) -> tuple[npt.NDArray[np.int64], dict[int, str]]:
    """Rows of a file that repeat an id, and row groups whose ids take more memory than there is, with the reason."""
    ids, refused, taken = [], {}, 0
    opened = open_file(file)
    with closing(opened):
        chunks = [group.chunks["video_id"] for group in opened.groups if "video_id" in group.chunks]
        if sum(chunk.size for chunk in chunks) <= budget:
            with decoding(file.url):
                opened.source.fetch([(chunk.start, chunk.size) for chunk in chunks])
        for index, group in enumerate(opened.groups):
            found = group_ids(opened, index, budget - taken, f"{file.url}, row group {index}")
            if found is None:
                refused[index] = _IDS_TOO_LARGE.format(budget)
                if 8 * group.rows > budget - taken:
                    raise DataError(f"{file.url}: expected row groups of fewer rows, got {group.rows}")
                found = pa.chunked_array([pa.nulls(group.rows, pa.large_binary())]), 8 * group.rows
            ids += found[0].chunks
            taken += found[1]
    return repeated_rows(pa.chunked_array(ids, pa.large_binary())), refused
