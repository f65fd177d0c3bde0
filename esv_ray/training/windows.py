"""The features of labeled videos, a window at a time: from memory where they fit, else streamed from their table.

Which videos are in a window, and in which order, depends on the table and the size of the shuffle buffer alone: the
same heads come from memory and from streaming.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from esv_ray.errors import DataError
from esv_ray.input.reading import read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.machine import host_memory
from esv_ray.training.index import Int64Array, LabeledRows


@dataclass(frozen=True, eq=False)
class Videos:
    """Some videos in memory.

    Attributes:
        frames: (F, D) frames of these videos, and maybe of others.
        first: (V,) row of each video's first frame.
        lengths, labels: (V,).
    """

    frames: Tensor
    first: Tensor
    lengths: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.first)

    def draw(self, videos: Tensor, s: int, generator: torch.Generator) -> Tensor:
        """Draw a random subsequence of s frames of each video: (len(videos), s) rows of `frames`, in time order.

        All videos have T >= s.
        """
        longest = int(self.lengths[videos].max())
        keys = torch.rand((len(videos), longest), generator=generator)
        keys[torch.arange(longest) >= self.lengths[videos][:, None]] = -1  # beyond the video's end
        positions = keys.topk(s, dim=1).indices.sort(dim=1).values
        return self.first[videos][:, None] + positions

    def take(self, chosen: Int64Array) -> Videos:
        """Return some of the videos, in the order of `chosen`; their frames are shared."""
        places = torch.from_numpy(chosen)
        return replace(self, first=self.first[places], lengths=self.lengths[places], labels=self.labels[places])


class Windows:
    """Reader of videos in windows of at most `buffer` bytes of features; keeps all videos if they fit in one."""

    def __init__(self, rows: LabeledRows, buffer: int, *, beat: Callable[[], None] = lambda: None) -> None:
        """Read nothing yet.

        Args:
            rows: the videos.
            buffer: bytes of features in a window; a piece of the table that has more is a window of its own.
            beat: called after every piece that was read.
        """
        self.rows = rows
        self._buffer = buffer
        self._beat = beat
        self._reader = UnitReader(rows.contract, host_memory())
        self._kept: Videos | None = None

    @cached_property
    def fits(self) -> bool:
        """Whether all videos are kept in memory."""
        return int(self.rows.sizes.sum()) <= self._buffer

    def shuffled(self, s: int, generator: torch.Generator) -> Iterator[Videos]:
        """Yield the videos of at least s frames: windows of pieces of row groups in a random order.

        The videos of a window are in the order of the table; the caller shuffles them. One window needs no order, and
        draws no random numbers.
        """
        eligible = np.flatnonzero(self.rows.lengths >= s)
        if self.rows.sizes[eligible].sum() <= self._buffer:
            yield self._load(eligible)
            return
        groups = self._groups(eligible)
        order = torch.randperm(len(groups), generator=generator).tolist()
        yield from self._windows(np.concatenate([groups[index] for index in order]))

    def in_order(self, s: int, only: Int64Array | None = None) -> Iterator[tuple[Int64Array, Videos]]:
        """Yield windows of the videos of at least s frames in the order of the table, and their numbers.

        Args:
            s: fewest frames.
            only: numbers of the videos to choose from, ascending; None: all.
        """
        eligible = np.flatnonzero(self.rows.lengths >= s)
        chosen = eligible if only is None else np.intersect1d(eligible, only)
        for window in self._cut(chosen):
            yield window, self._load(window)

    def _groups(self, chosen: Int64Array) -> list[Int64Array]:
        """Divide videos, ascending, by their row groups."""
        keys = [(piece.source, piece.group) for piece in self.rows.pieces]
        numbers = np.cumsum([0, *(before != after for before, after in pairwise(keys))])
        changes = np.flatnonzero(np.diff(numbers[self.rows.piece[chosen]])) + 1
        return np.split(chosen, changes)

    def _windows(self, chosen: Int64Array) -> Iterator[Videos]:
        for window in self._cut(chosen):
            yield self._load(window)

    def _cut(self, chosen: Int64Array) -> Iterator[Int64Array]:
        """Cut videos into windows between two pieces, so that no piece is decoded twice."""
        if not len(chosen):
            return
        changes = np.flatnonzero(np.diff(self.rows.piece[chosen])) + 1
        starts = np.concatenate([[0], changes])
        sizes = np.add.reduceat(self.rows.sizes[chosen], starts)
        begin, held = 0, 0
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            if held and held + size > self._buffer:
                yield chosen[begin:start]
                begin, held = start, 0
            held += size
        yield chosen[begin:]

    def _load(self, chosen: Int64Array) -> Videos:
        if not self.fits:
            return self._read(chosen)
        if self._kept is None:
            self._kept = self._read(np.arange(len(self.rows)))
        return self._kept.take(chosen)

    def _read(self, chosen: Int64Array) -> Videos:
        """Read the features of videos, whose pieces follow one another."""
        rows = self.rows.take(chosen)
        first = np.cumsum(rows.lengths) - rows.lengths
        frames = torch.empty((int(rows.lengths.sum()), rows.contract.feature_dim))
        ends = np.append(np.flatnonzero(np.diff(rows.piece)) + 1, len(rows))
        start = 0
        for end in ends.tolist():
            self._read_piece(rows, slice(start, end), first, frames)
            self._beat()
            start = end
        lengths, labels = (torch.from_numpy(array.copy()) for array in (rows.lengths, rows.labels))
        return Videos(frames, torch.from_numpy(first), lengths, labels)

    def _read_piece(self, rows: LabeledRows, part: slice, first: Int64Array, frames: Tensor) -> None:
        """Copy the frames of the videos of one piece to their places.

        Raises:
            DataError: the table is not the one that was indexed.
        """
        piece = rows.pieces[rows.piece[part.start]]
        read = read_rows(piece, self._reader)
        at, lengths, begin = rows.row[part], rows.lengths[part], first[part]
        if set(at.tolist()) & read.faults.keys() or (read.n_frames[at] != lengths).any():
            raise DataError(f"{piece.source}: changed since the training was planned; put it back or use a new output")
        into = frames.numpy()
        for length in np.unique(lengths).tolist():
            alike, places = np.flatnonzero(lengths == length), np.arange(length)
            taken = read.features(at[alike], np.broadcast_to(places, (len(alike), length)))
            into[begin[alike][:, None] + places] = taken
