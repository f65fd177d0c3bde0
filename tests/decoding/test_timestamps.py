"""Times from time stamps, without a video."""

from __future__ import annotations

from fractions import Fraction

from esv_ray.decoding.timestamps import Clock

MILLISECOND = Fraction(1, 1000)


def times(*stamps: int | None, joined: bool = False, rate: Fraction | None = Fraction(25)) -> tuple[list[float], Clock]:
    """The seconds of frames with these presentation stamps in milliseconds, the file starting at 100."""
    clock = Clock(MILLISECOND, 100, rate, joined)
    return [float(clock.time(stamp, None)) for stamp in stamps], clock


def test_times_count_from_the_start_of_the_file() -> None:
    assert times(100, 140, 500)[0] == [0, 0.04, 0.4]


def test_missing_stamps_are_counted() -> None:
    found, clock = times(None, None, 300, None)
    assert found == [0, 0.04, 0.2, 0.24]
    assert clock.counted
    assert times(None, None, rate=None)[0] == [0, 0.04]
    assert not times(100, 140)[1].counted


def test_decoding_stamps_stand_in_for_presentation_stamps() -> None:
    """Where a decoder gives none, or gives ones that go back more often."""
    clock = Clock(MILLISECOND, 0, None, False)
    assert [float(clock.time(None, dts)) for dts in (0, 40, 80)] == [0, 0.04, 0.08]
    clock = Clock(MILLISECOND, 0, None, False)
    pairs = [(0, 0), (40, 40), (0, 80), (0, 120), (0, 160)]
    assert [float(clock.time(*pair)) for pair in pairs] == [0, 0.04, 0.08, 0.12, 0.16]


def test_a_damaged_stamp_is_counted() -> None:
    """No file has a pause of 30 hours."""
    found, clock = times(100, 140, 2**60, 220)
    assert found == [0, 0.04, 0.08, 0.12]
    assert clock.counted


def test_joined_streams_continue() -> None:
    found, clock = times(100, 140, 180, 220, 260, 100, 140, 90_000_000, 90_000_040, joined=True)
    assert found == [0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32]
    assert clock.jumped == 2
    assert not clock.counted


def test_times_that_go_back_are_kept() -> None:
    found, clock = times(100, 180, 140)
    assert found == [0, 0.08, 0.04]
    assert clock.went_back == 1
