"""Which of the shown frames are wanted, decided while they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import NamedTuple, TypeVar

from esv_ray.decoding.timestamps import TOLERANCE
from esv_ray.errors import SpecError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """A shown frame: its number in the file, its seconds."""

    index: int
    time: Fraction


class Span(NamedTuple):
    """The part of a file from `start` to before `end`, in seconds; None: open.

    A time just before a limit counts as at it, since containers round time stamps: parts that share a limit share no
    frame and miss none.
    """

    start: Fraction | None
    end: Fraction | None

    def is_before(self, time: Fraction) -> bool:
        """Return whether a time lies before the part."""
        return self.start is not None and time < self.start - TOLERANCE

    def is_after(self, time: Fraction) -> bool:
        """Return whether a time lies after the part."""
        return self.end is not None and time >= self.end - TOLERANCE


def span_of(start: float | None, end: float | None) -> Span:
    """Check the limits of a part, in seconds.

    Raises:
        SpecError: they are not numbers, or not in order.
    """
    try:
        span = Span(*(None if limit is None else Fraction(limit) for limit in (start, end)))
    except (ValueError, OverflowError):
        raise SpecError(f"expected a start and an end in seconds, got {start} and {end}") from None
    if span.end is not None and span.end <= max(span.start or 0, 0):
        raise SpecError(f"expected an end after the start, got {start or 0} to {end} seconds")
    return span


def at_rate(
    frames: Iterable[tuple[Shown, T]], rate: float, start: Fraction, end: Fraction | None
) -> Iterator[tuple[Shown, T]]:
    """Yield the frames that are shown at the times start + k / rate before `end`, each once.

    A frame is shown until the next one comes; the first one also before its time, the last one at its own time.
    """
    step = 1 / Fraction(rate)
    k = 0  # next time is start + k * step
    before: tuple[Shown, T] | None = None
    for frame in frames:
        until = frame[0].time - TOLERANCE
        if before is not None and start + k * step < until:
            yield before
            k = max(k + 1, ceil((until - start) / step))
        before = frame
    if before is not None and (end is None or start + k * step < end):
        yield before


def evenly(total: int, count: int) -> list[int]:
    """Return the numbers floor((i + 0.5) * total / n) of n = min(count, total) of `total` frames."""
    n = min(count, total)
    return [(2 * i + 1) * total // (2 * n) for i in range(n)]
