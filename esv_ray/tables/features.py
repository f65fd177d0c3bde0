"""Feature tables: from Parquet rows to checked frames, vectorised from Arrow buffers.

A row that breaks the contract becomes a `BadRow` with its reason; a file that cannot be read as a feature table is a
`DataError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError
from esv_ray.tables.frames import INT32_MAX, FrameColumn, NumberColumn, is_any_list, is_list

COLUMNS = ("video_id", "features", "label", "frame_index")
LONGEST_ID = 2**12  # bytes: every row of the results repeats it


@dataclass(frozen=True, eq=False)
class Video:
    """One good row.

    Attributes:
        row: its place among the rows that were decoded.
        video_id: unique in its file.
        features: (T, D), finite, in the dtype asked for; it may be a view of the table's memory.
        label: class id, or None.
        frame_index: (T,) int32, the number of each frame in its video.
    """

    row: int
    video_id: str
    features: npt.NDArray[np.floating]
    label: int | None
    frame_index: npt.NDArray[np.int32]


@dataclass(frozen=True)
class BadRow:
    """One row that breaks the contract: why, and what could be read of it."""

    row: int
    video_id: str
    label: int | None
    n_frames: int
    reason: str


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Rows of a feature table by columns.

    Attributes:
        ids: of each row, "" where it has none.
        labels: (rows,) int32.
        labelled: (rows,) whether there is a label, one that an int32 holds.
        n_frames: (rows,) int32.
        faults: rows that break the contract, and why.
    """

    ids: list[str]
    labels: npt.NDArray[np.int32]
    labelled: npt.NDArray[np.bool_]
    n_frames: npt.NDArray[np.int32]
    faults: dict[int, str]
    _frames: FrameColumn
    _numbers: NumberColumn

    @property
    def good(self) -> npt.NDArray[np.int64]:
        """The rows that keep the contract, ascending."""
        return np.delete(np.arange(len(self.ids)), list(self.faults))

    def features(self, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        """(K, n, D): of good rows (K,) the frames at places (K, n)."""
        return self._frames.take(rows, places)

    def frame_index(self, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """(K, n): of good rows (K,) the numbers of the frames at places (K, n)."""
        return self._numbers.take(rows, places)

    def label(self, row: int) -> int | None:
        """Class id of a row, or None."""
        return int(self.labels[row]) if self.labelled[row] else None


def check_schema(schema: pa.Schema, where: str) -> int | None:
    """The feature size D that a file's schema promises; None where the type leaves it to the rows.

    Raises:
        DataError: a column is missing or of another type; says which, expected, got.
    """
    names = names_of(schema, where)
    for name in COLUMNS:
        if names.count(name) > 1:
            raise DataError(f"{where}: expected one column {name!r}, got {names.count(name)}")
        if name in ("video_id", "features") and name not in names:
            raise DataError(f"{where}: expected a column {name!r}, got columns {names}")
    type_of = {name: schema.field(name).type for name in COLUMNS if name in names}
    id_type = type_of["video_id"]
    text = id_type.value_type if pa.types.is_dictionary(id_type) else id_type
    if not (pa.types.is_string(text) or pa.types.is_large_string(text)):
        raise DataError(f"{where}: column video_id: expected string, got {type_of['video_id']}")
    features = type_of["features"]
    frame = features.value_type if is_list(features) else None
    value = frame.value_type if frame is not None and is_any_list(frame) else None
    if value is None or not pa.types.is_floating(value):
        raise DataError(
            f"{where}: column features: expected list<fixed_size_list<float16/32/64, D>> or list<list<float>>, "
            f"got {features}"
        )
    if "label" in type_of and not (pa.types.is_integer(type_of["label"]) or pa.types.is_null(type_of["label"])):
        raise DataError(f"{where}: column label: expected an integer, got {type_of['label']}")
    index = type_of.get("frame_index")
    if index is not None and not (is_any_list(index) and pa.types.is_integer(index.value_type)):
        raise DataError(f"{where}: column frame_index: expected list<int>, got {index}")
    return int(frame.list_size) if frame is not None and pa.types.is_fixed_size_list(frame) else None


def names_of(schema: pa.Schema, where: str) -> list[str]:
    """The columns of a file.

    Raises:
        DataError: a name is no text.
    """
    try:
        return list(schema.names)
    except UnicodeDecodeError:
        raise DataError(f"{where}: expected column names in UTF-8") from None


def columns_of(schema: pa.Schema) -> list[str]:
    """The columns of a feature table that are read; others are ignored."""
    return [name for name in COLUMNS if name in schema.names]


def decode_rows(
    table: pa.Table,
    *,
    feature_dim: int,
    n_classes: int,
    dtype: npt.DTypeLike = np.float32,
    repeated: Sequence[int] = (),
    refused: str | None = None,
) -> FeatureRows:
    """Rows of a feature table by columns; no Python object per frame is made, nor memory copied that needs not be.

    Args:
        table: columns as `columns_of`, of a schema that passed `check_schema`.
        feature_dim: D that the model takes.
        n_classes: C; labels are 0..C-1.
        dtype: of the features.
        repeated: rows of `table` whose id stands earlier in the same file.
        refused: why the features of all rows were not read, or None.
    """
    ids, id_faults = _ids(table)
    labels, labelled, label_faults = _labels(table, n_classes)
    frames = FrameColumn.read(_one_chunk(table, "features"), feature_dim, dtype)
    given = _one_chunk(table, "frame_index") if "frame_index" in table.column_names else None
    numbers = NumberColumn.read(given, frames.n_frames)
    again = dict.fromkeys(repeated, "video_id is repeated: it stands earlier in the same file")
    # Of several faults the first that a reader would meet is told.
    unread = {} if refused is None else dict.fromkeys(range(table.num_rows), refused)
    faults = {**numbers.faults, **label_faults, **frames.faults, **again, **id_faults, **unread}
    n_frames = frames.n_frames.astype(np.int32)
    return FeatureRows(ids, labels, labelled, n_frames, dict(sorted(faults.items())), frames, numbers)


def decode(
    table: pa.Table,
    *,
    feature_dim: int,
    n_classes: int,
    dtype: npt.DTypeLike = np.float32,
    repeated: Sequence[int] = (),
) -> tuple[list[Video], list[BadRow]]:
    """Rows of a feature table one by one, good rows and bad rows, each in table order; arguments as `decode_rows`."""
    rows = decode_rows(table, feature_dim=feature_dim, n_classes=n_classes, dtype=dtype, repeated=repeated)
    bad = [
        BadRow(row, rows.ids[row], rows.label(row), int(rows.n_frames[row]), why) for row, why in rows.faults.items()
    ]
    return videos_of(rows), bad


def videos_of(rows: FeatureRows) -> list[Video]:
    """The good rows one by one, in table order."""
    videos = []
    for row in rows.good.tolist():
        one, places = np.array([row]), np.arange(rows.n_frames[row], dtype=np.int64)[None]
        numbers = rows.frame_index(one, places)[0]
        videos.append(Video(row, rows.ids[row], rows.features(one, places)[0], rows.label(row), numbers))
    return videos


def _ids(table: pa.Table) -> tuple[list[str], dict[int, str]]:
    """The ids, "" where there is none that can be told, and why there is none."""
    # As bytes: not every writer of Parquet checks that its strings are UTF-8, and one that is not would break them all.
    column = table.column("video_id")
    ids, faults = [""] * table.num_rows, {}
    row = 0
    for chunk in column.chunks:
        plain = plain_ids(pa.chunked_array([chunk])).combine_chunks()
        long = pc.and_(pc.is_valid(chunk), pc.is_null(plain)).to_pylist()
        for video_id, too_long in zip(plain.to_pylist(), long, strict=True):
            try:
                ids[row] = (video_id or b"").decode()
            except UnicodeDecodeError:
                faults[row] = "video_id is not UTF-8"
            if not video_id:
                faults[row] = f"video_id is longer than {LONGEST_ID} bytes" if too_long else "video_id is null or empty"
            row += 1
    return ids, faults


def _labels(table: pa.Table, n_classes: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], dict[int, str]]:
    """Labels that may stand in an int32 column, which rows have one, and what is wrong with the others."""
    nothing = np.zeros(table.num_rows, dtype=np.int32)
    if "label" not in table.column_names or pa.types.is_null(table.schema.field("label").type):
        return nothing, nothing.astype(bool), {}
    column = _one_chunk(table, "label")
    given = column.fill_null(0).to_numpy(zero_copy_only=False)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    wrong = known & ((given < 0) | (given >= n_classes))
    faults = {
        int(row): f"label {given[row]} is out of range: the model has classes 0..{n_classes - 1}"
        for row in np.flatnonzero(wrong)
    }
    fits = known & (given <= INT32_MAX) & (given >= -INT32_MAX)
    return np.where(fits, given, 0).astype(np.int32), fits, faults


def _one_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def plain_ids(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as bytes, decoded where they are dictionary-encoded (categories); null where they are absurdly long."""
    chunks = []
    for chunk in ids.chunks:
        if pa.types.is_dictionary(chunk.type):
            # Before they are decoded: a long entry may stand in every row.
            chunks.append(_short(chunk.dictionary).take(chunk.indices))
        else:
            chunks.append(_short(chunk))
    return pa.chunked_array(chunks, pa.large_binary())


def _short(ids: pa.Array) -> pa.Array:
    plain = ids if pa.types.is_large_binary(ids.type) else ids.cast(pa.large_binary())
    long = pc.fill_null(pc.greater(pc.binary_length(plain), LONGEST_ID), False)
    if not pc.any(long).as_py():
        return plain
    # Not by pc.if_else, which keeps a buffer as long as the ids that are left out.
    kept = [None if too_long else value.as_py() for value, too_long in zip(plain, long.to_pylist(), strict=True)]
    return pa.array(kept, pa.large_binary())


def cut_ids(ids: pa.Array) -> pa.Array:
    """Plain text, what is absurdly long cut so that it is only just so."""
    plain = ids.cast(pa.large_binary())
    if not pc.any(pc.greater(pc.binary_length(plain), LONGEST_ID)).as_py():
        return ids
    cut = [None if value is None else value[: LONGEST_ID + 1] for value in plain.to_pylist()]
    return pa.array(cut, pa.binary()).view(ids.type)


def repeated_rows(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Rows of a file whose id stands earlier in it, ascending; nulls and empty ids are no repetition."""
    filled = pc.fill_null(plain_ids(ids).combine_chunks(), b"")
    codes = filled.dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    return np.flatnonzero(again & pc.not_equal(filled, b"").to_numpy(zero_copy_only=False))
