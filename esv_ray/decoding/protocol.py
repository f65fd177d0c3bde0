"""The interface of a decoder of videos; `tests/decoding` has one suite of tests for all implementations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from esv_ray.decoding.frames import Request, Sizes, VideoFrame
from esv_ray.errors import count_of


@dataclass(frozen=True)
class VideoSummary:
    """What came out of a video.

    Attributes:
        shown: number of shown frames that were decoded; before `end`.
        total: number of shown frames of the whole file; None: not known, since it was not read to its end.
        complete: whether the video was decoded to its end.
        duration: seconds, as the container states it; None if it does not.
        rate: mean frames per second, as the container states it; None if it does not.
        height: pixels of the first frame as a player shows it, before any resizing; 0 if no frame came.
        width: pixels.
        lost: number of pieces of the video stream that are damaged and gave no frame.
        damaged: number of shown frames that the decoder marked as damaged and patched up.
        truncated: whether the end of the file is missing.
        counted_times: whether time stamps are missing, so that times are frame numbers divided by the rate.
        notes: further oddities, one line each.
    """

    shown: int = 0
    total: int | None = None
    complete: bool = False
    duration: float | None = None
    rate: float | None = None
    height: int = 0
    width: int = 0
    lost: int = 0
    damaged: int = 0
    truncated: bool = False
    counted_times: bool = False
    notes: tuple[str, ...] = ()

    def reasons(self) -> list[str]:
        """Return what is wrong with the video, one line each; empty if nothing is."""
        lines = []
        if self.lost:
            lines.append(f"{count_of(self.lost, 'damaged frame')} lost")
        if self.damaged:
            lines.append(f"{count_of(self.damaged, 'frame')} damaged")
        if self.truncated:
            lines.append("truncated: the end of the file is missing")
        if self.counted_times:
            lines.append("no time stamps: times are counted")
        return [*lines, *self.notes]


class Video(Protocol):
    """An open video. One thread at a time may use it."""

    @property
    def source(self) -> str:
        """Path or URL."""

    def frames(
        self,
        request: Request,
        *,
        start: float | None = None,
        end: float | None = None,
        resize: Sizes = None,
    ) -> Iterator[VideoFrame]:
        """Yield the requested frames in presentation order.

        Each call starts from the beginning; an earlier iterator of the same video ends when a new one begins. At most
        a few frames are in memory at a time, whatever the length of the video.

        Args:
            request: which frames.
            start: seconds; frames before are not counted as shown (their `index` is that in the whole file). None: the
                first frame.
            end: seconds; the frame at this time and later ones are left out. None: to the end of the file.
            resize: size of the images; None: as a player shows them. Of several sizes each frame is given once in each,
                in their order, and decoded once.

        Raises:
            DataError: the file holds no frame in this range, cannot be read, or ends its decoder; one line.
            SpecError: `start` and `end` are not in order.
        """

    def summary(self) -> VideoSummary:
        """Return what came out of the latest iteration over `frames`, complete or not; one that runs is ended."""

    def close(self) -> None:
        """Close the file."""


class Decoder(Protocol):
    """Opens videos, one at a time. Each thread has its own decoder."""

    def open(self, source: str) -> AbstractContextManager[Video]:
        """Open a video.

        Args:
            source: a path, or an fsspec URL such as ``s3://bucket/clip.mp4``.

        Raises:
            DataError: there is no such file, it is no video, or it has no video stream; one line.
        """

    def close(self) -> None:
        """Free what the decoder holds."""
