"""Student's t distribution: how much wider an interval of few values must be, or one of many that are compared."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_SERIES_UP_TO = 200  # degrees of freedom; the expansion is right to 1e-9 above


@lru_cache(maxsize=4096)
def quantile(freedom: int, level: float) -> float:
    """Return t such that a share `level` of Student's distribution lies between -t and t.

    Args:
        freedom: degrees of freedom, 1 or more.
        level: in (0, 1).
    """
    if freedom > _SERIES_UP_TO:
        return _expansion(freedom, NormalDist().inv_cdf(0.5 + level / 2))
    low, high = 0.0, 1.0
    while _inside(high, freedom) < level and high < 1e12:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return high


def small_sample_factor(videos: int, level: float) -> float:
    """Return by how much a percentile interval of the bootstrap is too narrow for a number of videos.

    Resamples vary by the root of (V - 1) / V too little, because they are drawn from V values and not from all; and
    their percentiles are those of a known spread, while the spread of few values is itself uncertain: Student's
    quantile replaces the normal one (Hesterberg 2015, "What teachers should know about the bootstrap"). The factor is
    2.7 for 3 videos, 1.22 for 10 and 1.006 for 300.

    Args:
        videos: V, 2 or more.
        level: of the interval.
    """
    return quantile(videos - 1, level) / NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(videos / (videos - 1))


def level_of_each(level: float, compared: int) -> float:
    """Return the level of each of several intervals, so that all of them hold together at `level` (Bonferroni)."""
    return 1 - (1 - level) / max(1, compared)


def _inside(t: float, freedom: int) -> float:
    """Return the share between -t and t, by its finite series (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    square = math.cos(angle) ** 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= square * (k - 1) / k
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _expansion(freedom: int, z: float) -> float:
    """Return the quantile from that of the normal distribution (Abramowitz and Stegun 1964, 26.7.5)."""
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
