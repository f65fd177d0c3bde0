"""The tables of a committed unit, as verification compares them: videos, and the sums of each class's attributions.

V: `ok` rows of the videos table. G: groups of attribution rows, one for each class of a video at a length. C: classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Videos:
    """The `ok` rows of a videos table.

    Attributes:
        table: the rows.
        n: (V,) elements.
        scores: (R, C) of the rows that have C scores; NaN in place of nulls.
        scores_row: (V,) row of `scores`; -1 for a video with another number of scores.
        exact: (V,) whether ESVs are exact.
        gap: (V,) the recorded efficiency gap; NaN where there is none.
    """

    table: pa.Table
    n: Int64Array
    scores: npt.NDArray[np.float32]
    scores_row: Int64Array
    exact: BoolArray
    gap: Float64Array

    def name(self, video: int) -> str:
        """Return a row as messages name it."""
        return f"video {self.table.column('video_id')[video].as_py()!r} at {self.n[video]} elements"


@dataclass(frozen=True, eq=False)
class Groups:
    """The attributions of each class of each video, summed up, in the order of their first rows.

    Attributes:
        table: the sums.
        video: (G,) index of the video; -1 where there is no `ok` row.
        class_: (G,) class id.
        total: (G,) sum of the ESVs.
        size: (G,) sum of |ESV|.
    """

    table: pa.Table
    video: Int64Array
    class_: Int64Array
    total: Float64Array
    size: Float64Array

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return (G,) a column of the sums."""
        values: npt.NDArray[Any] = self.table.column(name).to_numpy()
        return values

    def name(self, group: int) -> str:
        """Return a group as messages name it."""
        row = {name: self.table.column(name)[group].as_py() for name in ("video_id", "n_elements", "class")}
        return f"video {row['video_id']!r} at {row['n_elements']} elements, class {row['class']}"


def read_videos(table: pa.Table, n_classes: int) -> Videos:
    """Return the `ok` rows of a videos table as arrays."""
    scores, scores_row = _read_scores(table.column("scores"), n_classes)
    return Videos(
        table,
        table.column("n_elements").to_numpy().astype(np.int64),
        scores,
        scores_row,
        table.column("exact").to_numpy(),
        table.column("efficiency_gap").to_numpy().astype(np.float64),
    )


def _read_scores(column: pa.ChunkedArray, n_classes: int) -> tuple[npt.NDArray[np.float32], Int64Array]:
    """Return (R, C) scores of the rows that have C, and (V,) the place of each row among them or -1."""
    parts, rows = [np.zeros((0, n_classes), np.float32)], []
    before = 0
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=False)
        offsets = chunk.offsets.to_numpy().astype(np.int64)
        lengths = np.where(chunk.is_valid().to_numpy(zero_copy_only=False), np.diff(offsets), 0)
        full = np.flatnonzero(lengths == n_classes)
        parts.append(values[offsets[full][:, None] + np.arange(n_classes)])
        row = np.full(len(chunk), -1, dtype=np.int64)
        row[full] = before + np.arange(len(full))
        rows.append(row)
        before += len(full)
    return np.concatenate(parts), np.concatenate([np.zeros(0, np.int64), *rows])


def read_groups(rows: pa.Table, videos: Videos) -> Groups:
    """Sum up the attributions of each class of each video."""
    sized = rows.append_column("size", pc.abs(rows.column("esv")))
    table = sized.group_by(["video_id", "n_elements", "class"], use_threads=False).aggregate(
        [
            ("esv", "sum"),
            ("size", "sum"),
            ("size", "max"),
            ("element", "count_distinct"),
            ("element", "min"),
            ("element", "max"),
            ("element", "count"),
            ("stderr", "count"),
        ]
    )
    return Groups(
        table,
        _video_of(table, videos),
        table.column("class").to_numpy().astype(np.int64),
        table.column("esv_sum").to_numpy(),
        table.column("size_sum").to_numpy(),
    )


def _video_of(groups: pa.Table, videos: Videos) -> Int64Array:
    """Return (G,) the last video of the id and length of each group, -1 where there is none."""
    ids = pc.unique(videos.table.column("video_id"))

    def keys(column: pa.ChunkedArray, n: Int64Array) -> Int64Array:
        place: Int64Array = pc.fill_null(pc.index_in(column, value_set=ids), -1).to_numpy().astype(np.int64)
        return np.where(place < 0, -1, (place << 32) + (n & (2**32 - 1)))

    video_keys = keys(videos.table.column("video_id"), videos.n)
    order = np.argsort(video_keys, kind="stable")
    targets = keys(groups.column("video_id"), groups.column("n_elements").to_numpy().astype(np.int64))
    last = np.searchsorted(video_keys[order], targets, side="right") - 1
    if not len(order):
        return np.full(len(targets), -1, dtype=np.int64)
    candidates = order[np.maximum(last, 0)]
    return np.where((last >= 0) & (targets >= 0) & (video_keys[candidates] == targets), candidates, -1)
