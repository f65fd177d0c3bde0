"""Feature tables: from Parquet rows to checked (T, D) arrays, vectorised from Arrow buffers.

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

INT32_MAX = 2**31 - 1
COLUMNS = ("video_id", "features", "label", "frame_index")


@dataclass(frozen=True, eq=False)
class Video:
    """One good row.

    Attributes:
        row: its place among the rows that were decoded.
        video_id: unique in its file.
        features: (T, D), finite, in the dtype asked for.
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
    frame = features.value_type if _is_list(features) else None
    value = frame.value_type if frame is not None and _is_any_list(frame) else None
    if value is None or not pa.types.is_floating(value):
        raise DataError(
            f"{where}: column features: expected list<fixed_size_list<float16/32/64, D>> or list<list<float>>, "
            f"got {features}"
        )
    if "label" in type_of and not (pa.types.is_integer(type_of["label"]) or pa.types.is_null(type_of["label"])):
        raise DataError(f"{where}: column label: expected an integer, got {type_of['label']}")
    index = type_of.get("frame_index")
    if index is not None and not (_is_any_list(index) and pa.types.is_integer(index.value_type)):
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


def decode(
    table: pa.Table,
    *,
    feature_dim: int,
    n_classes: int,
    dtype: npt.DTypeLike = np.float32,
    repeated: Sequence[int] = (),
) -> tuple[list[Video], list[BadRow]]:
    """Rows of a feature table as arrays.

    Args:
        table: columns as `columns_of`, of a schema that passed `check_schema`.
        feature_dim: D that the model takes.
        n_classes: C; labels are 0..C-1.
        dtype: of the features returned.
        repeated: rows of `table` whose id stands earlier in the same file.

    Returns:
        Good rows and bad rows, each in table order.
    """
    count = table.num_rows
    ids, id_faults = _ids(table)
    labels, label_faults = _labels(table, n_classes)
    rows = _RowFeatures.read(_one_chunk(table, "features"), feature_dim, dtype)
    again = set(repeated)
    indices = _FrameIndices.read(table)
    videos: list[Video] = []
    bad: list[BadRow] = []
    for row in range(count):
        n_frames = int(rows.n_frames[row])
        reason = (
            id_faults.get(row)
            or ("video_id is repeated: it stands earlier in the same file" if row in again else None)
            or rows.fault(row)
            or label_faults.get(row)
            or indices.fault(row, n_frames)
        )
        if reason is not None:
            bad.append(BadRow(row, ids[row], labels[row], n_frames, reason))
        else:
            videos.append(Video(row, ids[row], rows.of(row), labels[row], indices.of(row, n_frames)))
    return videos, bad


@dataclass(frozen=True, eq=False)
class _RowFeatures:
    """The features column taken apart once: offsets, flat values, and what is wrong per row."""

    feature_dim: int
    offsets: npt.NDArray[np.int64]  # (rows + 1,) frames
    n_frames: npt.NDArray[np.int64]  # (rows,)
    values: npt.NDArray[np.floating]  # flat, where every frame of a good row has D values
    value_start: npt.NDArray[np.int64]  # (frames + 1,) first value of each frame
    faults: dict[int, str]

    @classmethod
    def read(cls, column: pa.Array, feature_dim: int, dtype: npt.DTypeLike) -> _RowFeatures:
        offsets = column.offsets.to_numpy().astype(np.int64)
        lost = column.is_null().to_numpy(zero_copy_only=False)
        n_frames = np.where(lost, 0, np.diff(offsets))
        # Only what these rows span: a unit is a slice of a row group.
        frames = column.values.slice(offsets[0], offsets[-1] - offsets[0])
        offsets -= offsets[0]
        if pa.types.is_fixed_size_list(frames.type):
            size = frames.type.list_size
            # .values ignores the slice of its array
            value_start = (np.arange(len(frames) + 1, dtype=np.int64) + frames.offset) * size
        else:
            value_start = frames.offsets.to_numpy().astype(np.int64)
        lengths = np.diff(value_start)
        raw = frames.values.slice(value_start[0], value_start[-1] - value_start[0])
        value_start -= value_start[0]
        values = raw.to_numpy(zero_copy_only=False)  # null becomes NaN
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is reported below
            values = values.astype(dtype, copy=not values.flags.writeable)
        lost_frame = frames.is_null().to_numpy(zero_copy_only=False)

        bad_value = np.concatenate([[0], np.cumsum(~np.isfinite(values))])
        wrong = np.concatenate([[0], np.cumsum(lost_frame | (lengths != feature_dim))])
        faults = {int(row): "features is null" for row in np.flatnonzero(lost)}
        faults |= {int(row): "no frames" for row in np.flatnonzero(~lost & (n_frames == 0))}
        first, last = offsets[:-1], offsets[1:]
        for row in np.flatnonzero(~lost & (wrong[last] > wrong[first])):
            own = slice(first[row], last[row])
            faults[int(row)] = _frame_fault(lost_frame[own], lengths[own], feature_dim)
        unseen = np.array([row not in faults for row in range(len(n_frames))], dtype=bool)
        begin, end = value_start[first], value_start[np.maximum(last, first)]
        for row in np.flatnonzero(unseen & (bad_value[end] > bad_value[begin])):
            where = int(np.flatnonzero(~np.isfinite(values[begin[row] : end[row]]))[0]) // feature_dim
            faults[int(row)] = f"features are not finite: NaN, infinity or null in frame {where}"
        return cls(feature_dim, offsets, n_frames, values, value_start, faults)

    def fault(self, row: int) -> str | None:
        return self.faults.get(row)

    def of(self, row: int) -> npt.NDArray[np.floating]:
        begin, end = self.value_start[self.offsets[row]], self.value_start[self.offsets[row + 1]]
        return self.values[begin:end].reshape(-1, self.feature_dim)


def _frame_fault(lost: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64], feature_dim: int) -> str:
    if lost.any():
        return f"frame {int(np.flatnonzero(lost)[0])} is null"
    sizes = np.unique(lengths)
    if len(sizes) > 1:
        return f"features are ragged: frames of {int(sizes[0])} to {int(sizes[-1])} values, expected {feature_dim}"
    return f"features must be (T, {feature_dim}), got ({len(lengths)}, {int(sizes[0])})"


@dataclass(frozen=True, eq=False)
class _FrameIndices:
    """The frame_index column taken apart once; absent: 0..T-1."""

    offsets: npt.NDArray[np.int64] | None
    lost: npt.NDArray[np.bool_]
    values: npt.NDArray[np.int64]
    bad: npt.NDArray[np.bool_]  # null or beyond int32

    @classmethod
    def read(cls, table: pa.Table) -> _FrameIndices:
        nothing = np.zeros(0, dtype=np.int64)
        if "frame_index" not in table.column_names:
            return cls(None, nothing.astype(bool), nothing, nothing.astype(bool))
        column = _one_chunk(table, "frame_index")
        if pa.types.is_fixed_size_list(column.type):
            column = column.cast(pa.list_(column.type.value_type))
        offsets = column.offsets.to_numpy().astype(np.int64)
        raw = column.values.slice(offsets[0], offsets[-1] - offsets[0])
        null = raw.is_null().to_numpy(zero_copy_only=False)
        values = raw.fill_null(0).to_numpy(zero_copy_only=False)
        bad = null | (values > INT32_MAX) | (values < -INT32_MAX)
        lost = column.is_null().to_numpy(zero_copy_only=False)
        return cls(offsets - offsets[0], lost, values, bad)

    def fault(self, row: int, n_frames: int) -> str | None:
        if self.offsets is None or self.lost[row]:
            return None
        own = slice(self.offsets[row], self.offsets[row + 1])
        count = int(own.stop - own.start)
        if count != n_frames:
            return f"frame_index has {count} entries, features has {n_frames} frames"
        return "frame_index holds a null or a number beyond 32 bits" if self.bad[own].any() else None

    def of(self, row: int, n_frames: int) -> npt.NDArray[np.int32]:
        if self.offsets is None or self.lost[row]:
            return np.arange(n_frames, dtype=np.int32)
        return self.values[self.offsets[row] : self.offsets[row + 1]].astype(np.int32)


def _ids(table: pa.Table) -> tuple[list[str], dict[int, str]]:
    """The ids, "" where there is none, and why there is none."""
    # As bytes: not every writer of Parquet checks that its strings are UTF-8, and one that is not would break them all.
    given = [video_id for chunk in _plain(table.column("video_id")).chunks for video_id in chunk.to_pylist()]
    ids, faults = [""] * len(given), {}
    for row, video_id in enumerate(given):
        try:
            ids[row] = (video_id or b"").decode()
        except UnicodeDecodeError:
            faults[row] = "video_id is not UTF-8"
            continue
        if not video_id:
            faults[row] = "video_id is null or empty"
    return ids, faults


def _labels(table: pa.Table, n_classes: int) -> tuple[list[int | None], dict[int, str]]:
    """Labels that may stand in an int32 column, and what is wrong with the others."""
    if "label" not in table.column_names:
        return [None] * table.num_rows, {}
    given: list[int | None] = _one_chunk(table, "label").to_pylist()
    faults = {
        row: f"label {label} is out of range: the model has classes 0..{n_classes - 1}"
        for row, label in enumerate(given)
        if label is not None and not 0 <= label < n_classes
    }
    return [label if label is not None and abs(label) <= INT32_MAX else None for label in given], faults


def _one_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_any_list(kind: pa.DataType) -> bool:
    return _is_list(kind) or bool(pa.types.is_fixed_size_list(kind))


def _plain(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as bytes, decoded where they are dictionary-encoded (categories)."""
    chunks = [chunk.dictionary_decode() if pa.types.is_dictionary(ids.type) else chunk for chunk in ids.chunks]
    return pa.chunked_array([chunk.cast(pa.large_binary()) for chunk in chunks], pa.large_binary())


def repeated_rows(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Rows of a file whose id stands earlier in it, ascending; nulls and empty ids are no repetition."""
    filled = pc.fill_null(_plain(ids).combine_chunks(), b"")
    codes = filled.dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    return np.flatnonzero(again & pc.not_equal(filled, b"").to_numpy(zero_copy_only=False))
