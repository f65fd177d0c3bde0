"""Times of shown frames, from the time stamps that a decoder gives, as ffmpeg computes them."""

from __future__ import annotations

from fractions import Fraction

TOLERANCE = Fraction(1, 10_000)
"""Seconds by which a time stamp may differ from the time that is meant; containers round them."""
_USUAL_RATE = Fraction(25)  # of ffmpeg, where a raw stream does not say


class Clock:
    """Turns the time stamps of decoded frames into seconds from the start of the file.

    The choice between presentation and decoding stamps is that of ffmpeg (`guess_correct_pts` in libavcodec/decode.c):
    presentation stamps, unless they go back more often than the decoding stamps.

    Attributes:
        counted: whether a frame had no stamp, so that its time was counted.
        went_back: number of frames whose time is before that of the frame before.
    """

    def __init__(self, time_base: Fraction | None, offset: int, rate: Fraction | None) -> None:
        """Create the clock.

        Args:
            time_base: seconds of one unit of the stamps; None: they say nothing.
            offset: the stamp of the start of the file.
            rate: frames per second, to count where stamps are missing; None: unknown.
        """
        self.counted = False
        self.went_back = 0
        self._base, self._offset = time_base, offset
        self._step = 1 / (rate or _USUAL_RATE)
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = self._faulty_dts = 0
        self._before: Fraction | None = None

    def time(self, pts: int | None, dts: int | None) -> Fraction:
        """Return the seconds of the next frame, given its stamps."""
        stamp = self._stamp(pts, dts)
        if stamp is None or self._base is None:
            self.counted = True
            time = Fraction(0) if self._before is None else self._before + self._step
        else:
            time = (stamp - self._offset) * self._base
        if self._before is not None and time < self._before:
            self.went_back += 1
        self._before = time
        return time

    def _stamp(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None):
            return pts
        return dts
