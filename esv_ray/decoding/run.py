"""Decode a video with PyAV: its shown frames with their times, and what is wrong with the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from esv_ray.decoding.container import Container
from esv_ray.decoding.pictures import Decoded, Turn, shown_size
from esv_ray.decoding.protocol import VideoSummary
from esv_ray.decoding.timestamps import Clock
from esv_ray.errors import count_of

_JOINED = {"mpegts", "mpeg"}  # formats whose files can be joined end to end
_COUNTING = {"avi"}  # formats that count frames instead of giving them time stamps
_MOSTLY = Fraction(95, 100)


@dataclass
class Run:
    """One decoding of a video.

    Attributes:
        container: what is decoded.
        shown: number of frames so far.
        sizes: heights and widths so far, in the order of their first frame.
        ended: seconds of the latest frame.
        complete: whether the end was reached.
        truncated: whether the end of the file is missing; known at the end.
        slanted: whether a display matrix was ignored.
    """

    container: Container
    clock: Clock
    shown: int = 0
    sizes: dict[tuple[int, int], None] = field(default_factory=dict)
    ended: Fraction = Fraction(0)
    complete: bool = False
    truncated: bool = False
    slanted: bool = False

    def count(self, decoded: Decoded, time: Fraction) -> None:
        """Count a frame."""
        self.shown += 1
        self.ended = time
        self.slanted |= decoded.turn is None
        self.sizes[shown_size(decoded, decoded.turn or Turn())] = None

    def summary(self, total: int | None) -> VideoSummary:
        """Return what came out so far."""
        height, width = next(iter(self.sizes), (0, 0))
        return VideoSummary(
            shown=self.shown,
            total=self.shown if self.complete else total,
            complete=self.complete,
            duration=None if self.container.duration is None else float(self.container.duration),
            rate=None if self.container.rate is None else float(self.container.rate),
            height=height,
            width=width,
            lost=self.container.lost,
            damaged=self.container.damaged,
            truncated=self.truncated,
            counted_times=self.clock.counted or self.container.format in _COUNTING,
            notes=tuple(self._notes()),
        )

    def _stated_end(self) -> Fraction:
        """Return the latest time as the container counts it: some formats state the last time stamp as duration."""
        return self.ended + max(0, self.container.offset) * self.container.base

    def _notes(self) -> Iterator[str]:
        if self.container.broken:
            yield f"reading stopped before the end: {self.container.broken}"
        elif self._ends_early():
            stated = float(self.container.duration or 0)
            yield f"frames end at {float(self.ended):.2f} of the stated {stated:.2f} seconds"
        if self.clock.jumped:
            yield f"time stamps start again in {count_of(self.clock.jumped, 'place')}; times are continued"
        if self.clock.went_back:
            yield f"times go back in {count_of(self.clock.went_back, 'place')}"
        if len(self.sizes) > 1:
            yield f"frames of {len(self.sizes)} sizes"
        if self.slanted:
            yield "rotated by an angle that is not a multiple of 90 degrees: shown as stored"

    def _ends_early(self) -> bool:
        """Return whether frames are missing at the end of a file that is not truncated."""
        stated = self.container.duration
        return (
            self.complete
            and not self.truncated
            and not self.clock.jumped
            and stated is not None
            and self._stated_end() < stated * _MOSTLY - 1
        )


def begun(container: Container) -> Run:
    """Return the run of a container that nothing has been read from."""
    clock = Clock(container.base, container.offset, container.rate, container.format in _JOINED)
    return Run(container, clock)
