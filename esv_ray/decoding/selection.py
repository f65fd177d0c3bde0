"""Select the requested frames, while they arrive or in advance from their time stamps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isfinite
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from esv_ray.decoding.frames import At, Fps, Numbered, Request
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


def requested(frames: Iterable[tuple[Shown, T]], request: Request, span: Span) -> Iterator[tuple[Shown, T]]:
    """Yield the requested frames among those of a span, which arrive in order; `Evenly` needs their number before.

    No frame after the last requested one is asked for.
    """
    if isinstance(request, Fps | At):
        yield from shown_at(frames, clock_of(request, span), span)
        return
    if not isinstance(request, Numbered):
        yield from frames
        return
    wanted = set(request.numbers)
    for frame in frames:
        if frame[0].index in wanted:
            yield frame
        if frame[0].index >= request.numbers[-1]:
            return


def shown_at(frames: Iterable[tuple[Shown, T]], times: TimesAsked, span: Span) -> Iterator[tuple[Shown, T]]:
    """Yield the frames that are shown at some times within a span, each once.

    A frame is shown until the next one comes, the first one also before its time, and the last one for as long as the
    one before it. Where times go back, frames count as shown at the latest time before.
    """
    latest: Fraction | None = None
    before: tuple[Shown, T] | None = None
    gap: Fraction | None = None
    for frame in frames:
        time = frame[0].time if latest is None else max(latest, frame[0].time)
        if before is not None and latest is not None:
            gap = time - latest
            if times.asks_before(time):
                yield before
            if times.next is None:
                return
        latest, before = time, frame
    if before is not None and latest is not None and times.asks_before(_last_until(latest, gap, span)):
        yield before


def _last_until(time: Fraction, gap: Fraction | None, span: Span) -> Fraction | None:
    """Return until when the last frame is shown, given the time since the one before; None: not known.

    The three time stamps that give the end are rounded.
    """
    return None if gap is None else time + gap - 3 * span.tolerance


class TimesAsked(Protocol):
    """Times in ascending order, which are consumed as frames are shown."""

    @property
    def next(self) -> Fraction | None:
        """The next time that is asked for; None: no more."""

    def asks_before(self, until: Fraction | None) -> bool:
        """Return whether a frame that is shown until some time is asked for, and go on to the times from then on.

        None: it is not known until when the frame is shown, since it is the only one.
        """


def clock_of(request: Fps | At, span: Span) -> TimesAsked:
    """Return the times of a request."""
    return Grid(request.rate, span) if isinstance(request, Fps) else Listed(request.times, span)


class Listed:
    """Some times; see `TimesAsked`."""

    def __init__(self, times: Iterable[float], span: Span) -> None:
        """Start at the first of ascending times."""
        self._times = [Fraction(time) for time in times]
        self._tolerance = span.tolerance
        self._k = 0

    @property
    def next(self) -> Fraction | None:
        """The next time that is asked for; None: no more."""
        return self._times[self._k] if self._k < len(self._times) else None

    def asks_before(self, until: Fraction | None) -> bool:
        """See `TimesAsked.asks_before`."""
        first = self._k
        end = len(self._times)
        self._k = end if until is None else bisect_left(self._times, until - self._tolerance, first)
        return self._k > first


class Grid:
    """The times start + k / rate; see `TimesAsked`."""

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
        """See `TimesAsked.asks_before`."""
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


def ranks_at(
    stamps: npt.NDArray[np.int64], seconds: Callable[[int], Fraction], times: TimesAsked, span: Span
) -> Iterator[int]:
    """Yield which of the frames of a span `shown_at` chooses, from their ascending time stamps alone.

    Args:
        stamps: of the frames of the span.
        seconds: gives the time of a stamp.
        times: that are asked for.
        span: the part of the file.
    """
    count = len(stamps)
    rank = -1
    while rank + 1 < count and (time := times.next) is not None:
        rank = max(0, bisect_right(stamps, time + span.tolerance, key=seconds) - 1)
        until = None
        if rank + 1 < count:
            until = seconds(stamps[rank + 1])
        elif count > 1:
            last, previous = seconds(stamps[-1]), seconds(stamps[-2])
            until = _last_until(last, last - previous, span)
        if not times.asks_before(until):
            return
        yield rank
