"""The labeled videos of a feature table: where each lies, its length and its label, without the features.

One pass over the table checks every row and keeps a few numbers of each; the features are read again where they are
used (`windows`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError
from esv_ray.input.features import Contract, FeatureRows
from esv_ray.input.files import list_files
from esv_ray.input.images import check_vectors
from esv_ray.input.numbers import INT32_MAX
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import check_label_names, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import Unit, plan_units
from esv_ray.input.videos import VideoRequest, feature_dim_of_table
from esv_ray.machine import host_memory

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]

ITEM_BYTES = 4  # of a number of the features in memory
PIECE_BYTES, _MOST_ROWS = 2**25, 1024  # of a piece: features in memory, and rows
INDEX_BYTES = 4 * 8
"""Bytes of each video in `LabeledRows`."""
_HASH_BYTES = 8  # two of 10^7 ids have equal hashes with probability 3e-6; the second would be left out
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class LabeledRows:
    """Labeled videos of a table.

    Attributes:
        pieces: the parts in which the table is read: rows of its row groups.
        contract: what is expected of its rows.
        piece, row: (V,) where each video lies: the number of its piece, and its row in it.
        lengths: (V,) frames T.
        labels: (V,) class ids.
        preprocessing: how frames became features, if `esv extract` wrote the table (`input.preprocessing`).
    """

    pieces: tuple[Unit, ...]
    contract: Contract
    piece: Int64Array
    row: Int64Array
    lengths: Int64Array
    labels: Int64Array
    preprocessing: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.piece)

    @property
    def sizes(self) -> Int64Array:
        """(V,) bytes of the features of each video in memory."""
        return self.lengths * (self.contract.feature_dim * ITEM_BYTES)

    def take(self, chosen: Int64Array) -> LabeledRows:
        """Return some of the videos, in the order of `chosen`."""
        arrays = {name: getattr(self, name)[chosen] for name in ("piece", "row", "lengths", "labels")}
        return replace(self, **arrays)

    def checksum(self) -> str:
        """Return a hash of the videos that does not depend on the table's location."""
        content = hashlib.sha256()
        for piece in self.pieces:
            content.update(repr((piece.input, piece.covers)).encode())
        for array in (self.piece, self.row, self.lengths, self.labels):
            content.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return content.hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class TableIndex:
    """The index of a table.

    Attributes:
        rows: its labeled videos, in the order of the table.
        left_out: number of other rows, by reason.
        ids: (V,) hashes of the ids.
        content: (V,) hashes of features and labels; 0 if they are not asked for.
        shared: number of videos whose ids another table has, and the first of these ids.
    """

    rows: LabeledRows
    left_out: Counter[str]
    ids: UInt64Array
    content: UInt64Array
    shared: tuple[int, tuple[str, ...]] = (0, ())


def read_index(
    url: str, request: VideoRequest, other: UInt64Array | None = None, *, contents: bool = False
) -> TableIndex:
    """Read a table once, and index its videos that have a label.

    Of several rows with one id the first counts, also if they are in several files.

    Args:
        url: the table.
        request: what is known of it.
        other: hashes of the ids of another table, to be counted in this one (`TableIndex.shared`).
        contents: whether `TableIndex.content` is computed.

    Raises:
        DataError: the table is unreadable, not a feature table, or of another D; or labels are names of classes that
            are not known.
    """
    budget = host_memory()
    footers = read_footers(list_files(url, request.columns))
    check_vectors(footers, url, "a training")
    dim = feature_dim_of_table(url, footers, request, budget)
    if request.classes is None:
        check_label_names(footers, budget, url, request.names_advice)
    contract = Contract(
        dim,
        request.n_classes or INT32_MAX,
        unlabelled=request.unlabelled,
        classes=request.classes,
        mark_advice=request.mark_advice,
    )
    pieces = tuple(plan_units(footers, _rows_of_piece(footers)))
    if not pieces:
        raise DataError(f"{url}: expected videos, got a table without rows")
    reader = UnitReader(contract, budget)
    left_out: Counter[str] = Counter()
    parts = [
        _index_piece(number, read_rows(piece, reader), left_out, contents=contents)
        for number, piece in enumerate(pieces)
    ]
    piece, row, lengths, labels, ids, content = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    kept = np.sort(np.unique(ids, return_index=True)[1])
    if len(kept) < len(ids):
        left_out["video_id is repeated: an earlier file has it"] += len(ids) - len(kept)
    labeled = kept[labels[kept] >= 0]
    if len(labeled) < len(kept):
        left_out["no label"] += len(kept) - len(labeled)
    recorded = [footer.preprocessing for footer in footers]
    preprocessing = recorded[0] if all(each == recorded[0] for each in recorded) else None
    everything = LabeledRows(pieces, contract, piece, row, lengths, labels, preprocessing)
    index = TableIndex(everything.take(labeled), left_out, ids[labeled], content[labeled])
    return index if other is None else replace(index, shared=_shared(index, other, reader))


def _rows_of_piece(footers: Sequence[Footer]) -> int:
    """Return the rows of a piece, so that its features take about `PIECE_BYTES`."""
    widths = [
        group.chunks["features"].values * ITEM_BYTES / max(1, group.rows)
        for footer in footers
        for group in footer.groups
        if "features" in group.chunks
    ]
    return max(1, min(_MOST_ROWS, int(PIECE_BYTES / max(1.0, *widths, 1.0))))


def _index_piece(
    number: int, rows: FeatureRows, left_out: Counter[str], *, contents: bool
) -> tuple[npt.NDArray[np.generic], ...]:
    """Return piece, row, length, label (-1: none), hash of the id and of the content of each valid row of a piece."""
    left_out.update(rows.faults.values())
    valid = rows.valid
    lengths = rows.n_frames[valid].astype(np.int64)
    labels = np.where(rows.labelled[valid], rows.labels[valid], -1).astype(np.int64)
    ids = np.fromiter((_hash(rows.ids[row].encode()) for row in valid.tolist()), np.uint64, len(valid))
    content = np.zeros(len(valid), np.uint64)
    for length in np.unique(lengths) if contents else ():
        alike = np.flatnonzero(lengths == length)
        frames = rows.features(valid[alike], np.broadcast_to(np.arange(length), (len(alike), length)))
        content[alike] = [_hash(video.tobytes(), label) for video, label in zip(frames, labels[alike], strict=True)]
    return np.full(len(valid), number, np.int64), valid, lengths, labels, ids, content


def _hash(data: bytes, label: int = 0) -> int:
    salt = int(label).to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b(data, digest_size=_HASH_BYTES, salt=salt).digest()
    return int.from_bytes(digest, "little")


def _shared(index: TableIndex, other: UInt64Array, reader: UnitReader) -> tuple[int, tuple[str, ...]]:
    """Return how many videos have ids of another table, and the first of these ids."""
    both = np.flatnonzero(np.isin(index.ids, other))
    rows, names = index.rows, list[str]()
    for place in both[:_SHOWN].tolist():
        names.append(read_rows(rows.pieces[rows.piece[place]], reader).ids[rows.row[place]])
    return len(both), tuple(names)
