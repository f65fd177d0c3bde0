"""Pictures of frames, and which frames are around one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Picture(NamedTuple):
    """A picture of a frame.

    Attributes:
        number: of the frame.
        time: seconds from the start of the file; None where nothing records it.
        file: JPEG, PNG or WebP, unchecked; empty if it is unreadable.
    """

    number: int
    time: float | None
    file: bytes


def around(numbers: Iterable[int], frame: int, offsets: Sequence[int]) -> dict[int, int]:
    """Return the numbers of the frames at some offsets from one, as far as they exist.

    Args:
        numbers: of all frames, in any order.
        frame: number of the frame at offset 0.
        offsets: in frames; -1: the frame before.
    """
    ordered = sorted(numbers)
    place = bisect_left(ordered, frame)
    if place == len(ordered) or ordered[place] != frame:
        return {}
    return {offset: ordered[place + offset] for offset in offsets if 0 <= place + offset < len(ordered)}
