"""Times of shown frames, from the time stamps that a decoder gives, as ffmpeg computes them."""

from __future__ import annotations

from fractions import Fraction

_USUAL_RATE = Fraction(25)  # of ffmpeg, where a raw stream does not say
_MOST_JUMP = Fraction(10)  # seconds, of streams that were cut and joined (ffmpeg's dts_delta_threshold)
_MOST_BACK = Fraction(1, 10)  # seconds by which the times of such streams may go back
_MOST_GAP = Fraction(30 * 3600)  # seconds; a stamp beyond is damaged (ffmpeg's dts_error_threshold)


class Clock:
    """Turns the time stamps of decoded frames into seconds from the start of the file.

    The choice between presentation and decoding stamps is that of ffmpeg (`guess_correct_pts` in libavcodec/decode.c):
    presentation stamps, unless they go back more often than the decoding stamps.

    Attributes:
        counted: whether a frame had no stamp, so that its time was counted.
        went_back: number of frames whose time is before that of the frame before.
        jumped: number of places where the stamps of a joined stream start again, so that its times were continued.
    """

    def __init__(self, base: Fraction, offset: int, rate: Fraction | None, joined: bool) -> None:
        """Create the clock.

        Args:
            base: seconds of one unit of the stamps.
            offset: the stamp of the start of the file.
            rate: frames per second, to count where stamps are missing; None: unknown.
            joined: whether stamps may start again, as in files of transport streams that were joined.
        """
        self.counted = False
        self.went_back = self.jumped = 0
        self._base, self._offset, self._joined = base, offset, joined
        self._shift = Fraction(0)
        self._step = 1 / (rate or _USUAL_RATE)
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = self._faulty_dts = 0
        self._before: Fraction | None = None

    def time(self, pts: int | None, dts: int | None) -> Fraction:
        """Return the seconds of the next frame, given its stamps."""
        stamp = self._stamp(pts, dts)
        expected = Fraction(0) if self._before is None else self._before + self._step
        time = None if stamp is None else (stamp - self._offset) * self._base + self._shift
        if time is not None and self._before is not None and self._joined and self._is_jump(time - expected):
            self.jumped += 1
            self._shift += expected - time
            time = expected
        if time is None or abs(time - expected) > _MOST_GAP:
            self.counted = True
            time = expected
        if self._before is not None and time < self._before:
            self.went_back += 1
        self._before = time
        return time

    def _is_jump(self, difference: Fraction) -> bool:
        return abs(difference) > _MOST_JUMP or difference < -_MOST_BACK - self._step

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
