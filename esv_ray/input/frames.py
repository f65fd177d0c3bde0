"""The features of a table as flat arrays: frames of D values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.input.columns import is_flat

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrameColumn:
    """The column `features`.

    Attributes:
        n_frames: (rows,) int64.
        faults: rows that break the contract, and the reasons.
    """

    n_frames: Int64Array
    faults: dict[int, str]
    _dim: int
    _first: Int64Array  # (rows,) first frame of each row
    _values: npt.NDArray[np.floating | np.uint8]  # flat
    _starts: Int64Array | None  # (frames + 1,) first value of each frame; None: every D-th

    @classmethod
    def read(cls, column: pa.Array, dim: int, dtype: npt.DTypeLike) -> FrameColumn:
        """Read a column of lists of frames, each of `dim` values, or of flat lists of T * dim values."""
        is_null = column.is_null().to_numpy(zero_copy_only=False)
        frames = _flat_frames(column, dim) if is_flat(column.type) else _listed_frames(column)
        offsets, starts, is_null_frame, raw = frames
        n_frames = np.where(is_null, 0, np.diff(offsets))
        lengths = np.diff(starts)
        finite = None
        if np.issubdtype(dtype, np.integer):  # images
            finite = raw.is_valid().to_numpy(zero_copy_only=False)
            raw = raw.fill_null(0)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is reported below
            # Null becomes NaN; float32 without nulls is not copied.
            values = raw.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
        wrong = is_null_frame | (lengths != dim)

        faults = {int(row): "features is null" for row in np.flatnonzero(is_null)}
        faults |= {int(row): "no frames" for row in np.flatnonzero(~is_null & (n_frames == 0))}
        row_of = np.searchsorted(offsets, np.arange(len(lengths)), side="right") - 1 if wrong.any() else None
        if row_of is not None:
            for row in np.unique(row_of[wrong]):
                if is_null[row]:
                    continue
                own = slice(offsets[row], offsets[row + 1])
                if is_flat(column.type):
                    faults[int(row)] = _flat_fault(int(lengths[own][0]), dim)
                    n_frames[row] = 0
                else:
                    faults[int(row)] = _frame_fault(is_null_frame[own], lengths[own], dim)
        finite = np.isfinite(values) if finite is None else finite
        if not finite.all():
            frame_of = np.searchsorted(starts, np.flatnonzero(~finite), side="right") - 1
            for frame in np.unique(frame_of):
                row = int(np.searchsorted(offsets, frame, side="right")) - 1
                if row not in faults:
                    place = int(frame - offsets[row])
                    stored = raw.slice(starts[frame], starts[frame + 1] - starts[frame]).to_numpy(zero_copy_only=False)
                    why = "NaN, infinity or null in"
                    if values.dtype.kind == "f" and np.isfinite(stored.astype(np.float64)).all():
                        why = f"a number beyond the range of {values.dtype}, in which they are computed, in"
                    faults[row] = f"features are not finite: {why} frame {place}"
        return cls(n_frames, faults, dim, offsets[:-1], values, starts if wrong.any() else None)

    @classmethod
    def joined(cls, parts: Sequence[FrameColumn]) -> FrameColumn:
        """Return the rows of several columns of one D as one."""
        rows = np.cumsum([0, *(len(part.n_frames) for part in parts)]).tolist()
        values = np.cumsum([0, *(len(part._values) for part in parts)]).tolist()
        every = [part._every_start() for part in parts]
        frames = np.cumsum([0, *(len(starts) - 1 for starts in every)]).tolist()
        regular = all(part._starts is None for part in parts)
        return cls(
            np.concatenate([part.n_frames for part in parts]),
            {start + row: why for start, part in zip(rows, parts, strict=False) for row, why in part.faults.items()},
            parts[0]._dim,
            np.concatenate([part._first + start for part, start in zip(parts, frames, strict=False)]),
            np.concatenate([part._values for part in parts]),
            None
            if regular
            else np.append(
                np.concatenate([starts[:-1] + start for starts, start in zip(every, values, strict=False)]), values[-1]
            ),
        )

    def _every_start(self) -> Int64Array:
        """Return (frames + 1,) the first value of each frame."""
        return np.arange(0, len(self._values) + 1, self._dim) if self._starts is None else self._starts

    def take(self, rows: Int64Array, places: Int64Array) -> npt.NDArray[np.floating | np.uint8]:
        """Return (K, n, D): the frames at places (K, n) of valid rows (K,)."""
        frames = self._first[rows][:, None] + places
        if self._starts is None:
            out: npt.NDArray[np.floating | np.uint8] = self._values.reshape(-1, self._dim)[frames]
        else:
            out = self._values[self._starts[frames][..., None] + np.arange(self._dim)]
        return out


class _Frames(NamedTuple):
    """Frames of the rows of a column, as a flat array of values.

    Attributes:
        offsets: (rows + 1,) first frame of each row.
        starts: (frames + 1,) first value of each frame.
        is_null: (frames,) whether a frame is null.
        values: of all frames.
    """

    offsets: Int64Array
    starts: Int64Array
    is_null: npt.NDArray[np.bool_]
    values: pa.Array


def _listed_frames(column: pa.Array) -> _Frames:
    """Return the frames of a column of lists of frames."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    # Only the values of these rows: a unit is a slice of a row group.
    frames = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    if pa.types.is_fixed_size_list(frames.type):
        # .values ignores the slice of its array
        starts = (np.arange(len(frames) + 1, dtype=np.int64) + frames.offset) * frames.type.list_size
    else:
        starts = frames.offsets.to_numpy().astype(np.int64)
    values = frames.values.slice(starts[0], starts[-1] - starts[0])
    return _Frames(offsets - offsets[0], starts - starts[0], frames.is_null().to_numpy(zero_copy_only=False), values)


def _flat_frames(column: pa.Array, dim: int) -> _Frames:
    """Return the frames of a column of flat lists; a list that is not T * dim long is one frame of another size."""
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    ends = column.offsets.to_numpy().astype(np.int64)
    values = column.values.slice(ends[0], ends[-1] - ends[0])
    ends -= ends[0]
    sizes = np.diff(ends)
    counts = np.where(sizes % dim == 0, sizes // dim, 1)  # (rows,) frames of each row
    offsets = np.concatenate([[0], np.cumsum(counts)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)  # (frames,) place in its row
    starts = np.append(np.repeat(ends[:-1], counts) + within * dim, ends[-1])
    return _Frames(offsets, starts, np.zeros(len(starts) - 1, dtype=bool), values)


def frame_sizes(column: pa.ChunkedArray) -> list[int]:
    """Return the size of the frames of each row whose frames all have the same size above 0; none of flat lists."""
    sizes: list[int] = []
    if is_flat(column.type):
        return sizes
    for chunk in column.chunks:
        for row in range(len(chunk)):
            frames = chunk[row].values
            distinct = [] if frames is None else pc.unique(pc.fill_null(pc.list_value_length(frames), 0)).to_pylist()
            if len(distinct) == 1 and distinct != [0]:
                sizes.append(int(distinct[0]))
    return sizes


def frame_counts(column: pa.ChunkedArray, dim: int) -> Int64Array:
    """Return the (rows,) numbers of frames of features; 0 for null, and for a flat list that is not T * dim long."""
    sizes = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    return np.where(sizes % dim == 0, sizes // dim, 0) if is_flat(column.type) else sizes


def _flat_fault(size: int, dim: int) -> str:
    return f"features must be flat lists of T * {dim} numbers, got {size}, which is not a multiple of {dim}"


def _frame_fault(is_null: npt.NDArray[np.bool_], lengths: Int64Array, dim: int) -> str:
    if is_null.any():
        return f"frame {int(np.flatnonzero(is_null)[0])} is null"
    sizes = np.unique(lengths)
    if len(sizes) > 1:
        return f"features are ragged: frames of {int(sizes[0])} to {int(sizes[-1])} values, expected {dim}"
    return f"features must be (T, {dim}), got ({len(lengths)}, {int(sizes[0])})"


def sample_frames(n_frames: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Choose n of T frames uniformly: floor((i + 0.5) * T / n). Return (K, n) from n_frames (K,), n <= T."""
    return (2 * np.arange(n, dtype=np.int64) + 1) * n_frames[:, None] // (2 * n)
