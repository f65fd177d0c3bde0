"""Select the requested frames, while they arrive or in advance from their time stamps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isfinite
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from esv_ray.errors import SpecError

T = TypeVar("T")

LEAST_TOLERANCE = Fraction(1, 10_000)
"""Seconds by which a time stamp may differ from the time that is meant."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A shown frame: its number in the file, its seconds."""

    index: int
    time: Fraction


class Span(NamedTuple):
    """The part of a file from `start` to before `end`, in seconds; None: open.

    A time less than `tolerance` before a limit counts as at it, since containers round time stamps: parts that share a
    limit share no frame and miss none.
    """

    start: Fraction | None
    end: Fraction | None
    tolerance: Fraction = LEAST_TOLERANCE

    def is_before(self, time: Fraction) -> bool:
        """Return whether a time lies before the part."""
        return self.start is not None and time < self.start - self.tolerance

    def is_after(self, time: Fraction) -> bool:
        """Return whether a time lies after the part."""
        return self.end is not None and time >= self.end - self.tolerance


def span_of(start: float | None, end: float | None) -> Span:
    """Check the limits of a part, in seconds.

    Raises:
        SpecError: they are not numbers, or not in order.
    """
    if not all(limit is None or isfinite(limit) for limit in (start, end)):
        raise SpecError(f"expected a start and an end in seconds, got {start} and {end}")
    if end is not None and end <= max(start or 0, 0):
        raise SpecError(f"expected an end after the start, got {start or 0} to {end} seconds")
    return Span(None if start is None else Fraction(start), None if end is None else Fraction(end))


def at_rate(frames: Iterable[tuple[Shown, T]], rate: float, span: Span) -> Iterator[tuple[Shown, T]]:
    """Yield the frames that are shown at the times start + k / rate within a span, each once.

    A frame is shown until the next one comes, the first one also before its time, and the last one for as long as the
    one before it. Where times go back, frames count as shown at the latest time before.
    """
    grid = Grid(rate, span)
    latest: Fraction | None = None
    before: tuple[Shown, T] | None = None
    gap: Fraction | None = None
    for frame in frames:
        time = frame[0].time if latest is None else max(latest, frame[0].time)
        if before is not None and latest is not None:
            gap = time - latest
            if grid.asks_before(time):
                yield before
        latest, before = time, frame
    if before is not None and latest is not None and grid.asks_before(_last_until(latest, gap, span)):
        yield before


def _last_until(time: Fraction, gap: Fraction | None, span: Span) -> Fraction | None:
    """Return until when the last frame is shown, given the time since the one before; None: not known.

    The three time stamps that give the end are rounded.
    """
    return None if gap is None else time + gap - 3 * span.tolerance


class Grid:
    """The times start + k / rate, which are consumed as frames are shown."""

    def __init__(self, rate: float, span: Span) -> None:
        """Start at the beginning of a span, or of the file."""
        self._start, self._end = span.start or Fraction(0), span.end
        self._tolerance = span.tolerance
        self._step = 1 / Fraction(rate)
        self._k = 0

    @property
    def next(self) -> Fraction:
        """The next time that is asked for."""
        return self._start + self._k * self._step

    def asks_before(self, until: Fraction | None) -> bool:
        """Return whether a frame that is shown until some time is asked for, and go on to the times from then on."""
        if self._end is not None:
            until = self._end if until is None else min(until, self._end)
        if until is None:
            return True
        limit = until - self._tolerance
        if self.next >= limit:
            return False
        self._k = ceil((limit - self._start) / self._step)
        return True


def evenly(total: int, count: int) -> list[int]:
    """Return the numbers floor((i + 0.5) * total / n) of n = min(count, total) of `total` frames."""
    n = min(count, total)
    return [(2 * i + 1) * total // (2 * n) for i in range(n)]


def ranks_at_rate(
    stamps: npt.NDArray[np.int64], seconds: Callable[[int], Fraction], rate: float, span: Span
) -> Iterator[int]:
    """Yield which of the frames of a span `at_rate` chooses, from their ascending time stamps alone.

    Args:
        stamps: of the frames of the span.
        seconds: gives the time of a stamp.
        rate: frames per second.
        span: the part of the file.
    """
    grid = Grid(rate, span)
    count = len(stamps)
    rank = -1
    while rank + 1 < count:
        rank = max(0, bisect_right(stamps, grid.next + span.tolerance, key=seconds) - 1)
        until = None
        if rank + 1 < count:
            until = seconds(stamps[rank + 1])
        elif count > 1:
            last, previous = seconds(stamps[-1]), seconds(stamps[-2])
            until = _last_until(last, last - previous, span)
        if not grid.asks_before(until):
            return
        yield rank
