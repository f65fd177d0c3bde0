"""Feature tables read as tests want them: a unit as an Arrow table, good and bad rows one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.input.features import Contract, Video, decode_rows, videos_of
from esv_ray.input.files import unchanged
from esv_ray.input.plain import plain_columns
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import Unit
from tests.support.units import only

READER = UnitReader(Contract(1, 1))
"""One for all tests, which so meet what earlier ones left open."""


@dataclass(frozen=True)
class BadRow:
    """A row that breaks the contract: why, and what could be read of it."""

    row: int
    video_id: str
    label: int | None
    n_frames: int
    reason: str


def read_unit(unit: Unit) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The rows of a unit, ids as text; and those that repeat an id of an earlier row of the file, 0 = first."""
    with unchanged(unit.files):
        piece, repeated = READER.read(only(unit))
    ids = piece.table.column("video_id").cast(pa.string())
    return piece.table.set_column(piece.table.column_names.index("video_id"), "video_id", ids), repeated


def plain(table: pa.Table) -> pa.Table:
    """The table as a row group of it is read."""
    batches = table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    return pa.concat_tables(plain_columns(batch) for batch in batches)


def decode(
    table: pa.Table,
    *,
    feature_dim: int,
    n_classes: int,
    dtype: npt.DTypeLike = np.float32,
    repeated: Sequence[int] = (),
    unlabelled: Collection[int] = (),
    named: Mapping[str, str | None] | None = None,
) -> tuple[list[Video], list[BadRow]]:
    """Good rows and bad rows one by one, each in table order; arguments as for `Contract` and `decode_rows`."""
    rows = decode_rows(
        plain(table),
        Contract(feature_dim, n_classes, dtype, unlabelled),
        repeated=repeated,
        named=named or {},
    )
    bad = [
        BadRow(row, rows.ids[row], rows.label(row), int(rows.n_frames[row]), why) for row, why in rows.faults.items()
    ]
    return videos_of(rows), bad
