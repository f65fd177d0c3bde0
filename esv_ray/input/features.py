"""Rows of a feature table: from Arrow columns to checked frames, without a Python object per frame.

A row that breaks the contract becomes a fault with its reason; a file that cannot be read as a feature table is a
`DataError`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.input.frames import FrameColumn
from esv_ray.input.ids import check_ids, read_ids
from esv_ray.input.label_names import ClassNames
from esv_ray.input.labels import IN_SPEC, check_labels, read_labels
from esv_ray.input.numbers import NumberColumn
from esv_ray.input.plain import FLAT_COLUMNS, constant

_NO_NAMES: Mapping[str, str | None] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Video:
    """A row without faults.

    Attributes:
        row: its index among the decoded rows.
        video_id: unique in its file.
        features: (T, D), finite, in the requested dtype; uint8 of images. May be a view of the table's memory.
        label: class id, or None.
        frame_index: (T,) int32, the number of each frame in its video.
    """

    row: int
    video_id: str
    features: npt.NDArray[np.floating | np.uint8]
    label: int | None
    frame_index: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Decoded rows of a feature table, by columns.

    Attributes:
        ids: of the rows, "" where a row has none.
        labels: (rows,) int32.
        labelled: (rows,) whether there is a label that fits an int32.
        n_frames: (rows,) int32.
        faults: rows that break the contract, and the reasons.
    """

    ids: list[str]
    labels: npt.NDArray[np.int32]
    labelled: npt.NDArray[np.bool_]
    n_frames: npt.NDArray[np.int32]
    faults: dict[int, str]
    _frames: FrameColumn
    _numbers: NumberColumn

    @property
    def valid(self) -> npt.NDArray[np.int64]:
        """Rows without faults, ascending."""
        return np.delete(np.arange(len(self.ids)), list(self.faults))

    def features(
        self, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.floating | np.uint8]:
        """Return (K, n, D): the frames at places (K, n) of valid rows (K,)."""
        return self._frames.take(rows, places)

    def frame_index(self, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return (K, n): the numbers of the frames at places (K, n) of valid rows (K,)."""
        return self._numbers.take(rows, places)

    def label(self, row: int) -> int | None:
        """Return the class id of a row, or None."""
        return int(self.labels[row]) if self.labelled[row] else None


@dataclass(frozen=True)
class Contract:
    """What a reader of rows expects.

    Attributes:
        feature_dim: D that the model takes.
        n_classes: C; labels are 0..C-1. INT32_MAX if it is unknown.
        dtype: of the decoded features; uint8: they are images.
        unlabelled: labels that mark videos without one.
        classes: C names, which labels may have in place of ids; None: no names.
        mark_advice: how a user says which label marks videos without one.
    """

    feature_dim: int
    n_classes: int
    dtype: npt.DTypeLike = np.float32
    unlabelled: Collection[int] = ()
    classes: Sequence[str] | None = None
    mark_advice: str = IN_SPEC

    @cached_property
    def class_names(self) -> ClassNames | None:
        """The names, indexed."""
        return None if self.classes is None else ClassNames.of(self.classes)


def decode_rows(
    table: pa.Table,
    contract: Contract,
    *,
    repeated: Sequence[int] = (),
    refusal: str | None = None,
    named: Mapping[str, str | None] = _NO_NAMES,
) -> FeatureRows:
    """Decode and check rows of a feature table.

    Args:
        table: columns of the contract, the flat ones in their plain form (`plain.plain_columns`).
        contract: what is expected of the rows.
        repeated: rows of `table` that repeat an id of an earlier row of the file.
        refusal: why the features were not read, or None.
        named: columns given by the names of the file's folders (`InputFile.named`).
    """
    columns = {name: _one_chunk(table.column(name)) for name in table.column_names}
    for name in FLAT_COLUMNS:
        if name not in columns:
            columns[name] = constant(named.get(name), table.num_rows)
    ids, id_faults = read_ids(columns["video_id"])
    if "video_id" in named:
        check_ids(ids, id_faults, named["video_id"])
    frames = FrameColumn.read(columns["features"], contract.feature_dim, contract.dtype)
    labels = read_labels(
        columns["label"],
        contract.n_classes,
        contract.unlabelled,
        contract.class_names,
        mark_advice=contract.mark_advice,
    )
    if "label" in named:
        check_labels(labels, named["label"], contract.unlabelled, contract.class_names)
    numbers = NumberColumn.read(columns.get("frame_index"), frames.n_frames)
    repeats = dict.fromkeys(repeated, "video_id is repeated: it stands earlier in the same file")
    # If a row has several faults, the one that a reader would meet first is reported.
    unread = {} if refusal is None else dict.fromkeys(range(table.num_rows), refusal)
    faults = {**numbers.faults, **labels.faults, **frames.faults, **repeats, **id_faults, **unread}
    n_frames = frames.n_frames.astype(np.int32)
    return FeatureRows(ids, labels.ids, labels.labelled, n_frames, dict(sorted(faults.items())), frames, numbers)


def joined_rows(parts: Sequence[FeatureRows]) -> FeatureRows:
    """Return the rows of several tables as one."""
    starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    return FeatureRows(
        [video_id for part in parts for video_id in part.ids],
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.labelled for part in parts]),
        np.concatenate([part.n_frames for part in parts]),
        {start + row: why for start, part in zip(starts, parts, strict=False) for row, why in part.faults.items()},
        FrameColumn.joined([part._frames for part in parts]),
        NumberColumn.joined([part._numbers for part in parts]),
    )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def videos_of(rows: FeatureRows) -> list[Video]:
    """Return the valid rows, in table order."""
    videos = []
    for row in rows.valid.tolist():
        index, places = np.array([row]), np.arange(rows.n_frames[row], dtype=np.int64)[None]
        numbers = rows.frame_index(index, places)[0]
        videos.append(Video(row, rows.ids[row], rows.features(index, places)[0], rows.label(row), numbers))
    return videos
