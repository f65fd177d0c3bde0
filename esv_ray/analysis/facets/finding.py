"""A finding: one sentence that a facet's table says, with the size of its effect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from esv_ray.analysis.statistics import FEWEST, LEVEL, FloatArray, for_several, wilson
from esv_ray.analysis.student import level_of_each, quantile


@dataclass(frozen=True)
class Finding:
    """What a table says in one sentence.

    Attributes:
        facet: name of the table, and of its figure.
        sentence: with numbers and, where there is one, the interval.
        effect: from 0 to 1: how far the share or score is from what chance would give, as a part of the largest
            distance possible; the end of the 95 % interval that is nearer to chance counts. 0: none.
    """

    facet: str
    sentence: str
    effect: float


def effect(low: float | None, high: float | None, chance: float, *, least: float = 0.0, most: float = 1.0) -> float:
    """Return the size of an effect from 0 to 1, by the end of an interval that is nearer to chance.

    0: the interval holds the value that chance gives, or there is no interval. 1: all of it is at `least` or `most`.
    By that end, and not by the mean, a group of few videos does not come first because it is small.

    Args:
        low, high: the 95 % interval, or None.
        chance: the value by chance.
        least, most: the smallest and the largest value possible.
    """
    if low is None or high is None or not all(map(math.isfinite, (low, high, chance))):
        return 0.0
    if low > chance:
        return min(1.0, (low - chance) / (most - chance)) if most > chance else 0.0
    if high < chance:
        return min(1.0, (chance - high) / (chance - least)) if chance > least else 0.0
    return 0.0


def exact_ends(successes: npt.ArrayLike, trials: npt.ArrayLike, compared: int) -> tuple[FloatArray, FloatArray]:
    """Return the intervals of shares of which the largest is looked for: all hold together at 95 % or more.

    They are exact (Clopper and Pearson 1934). Wilson's hold at 95 % on average, but at the levels that many comparisons
    need they are too narrow for small shares: of 28 comparisons with a share of 1/14 of 45 videos by chance, some
    interval would leave chance out in 15 % of tables.

    Args:
        successes: (...) counts, or sums of parts.
        trials: (...) counts.
        compared: number of shares, of these and of others.

    Returns:
        Lower and upper ends (...), in [0, 1]; NaN with fewer than `FEWEST` trials.
    """
    k, n = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    tail = (1 - level_of_each(LEVEL, compared)) / 2
    inner, outer = np.clip(k, 1e-9, None), np.clip(n - k, 1e-9, None)
    low = np.where(k <= 0, 0.0, betaincinv(inner, n - k + 1, tail))
    high = np.where(k >= n, 1.0, betaincinv(k + 1, outer, 1 - tail))
    return np.where(n < FEWEST, np.nan, low), np.where(n < FEWEST, np.nan, high)


def shares_of_several(
    rows: Sequence[Mapping[str, Any]], share: str, trials: str, compared: int
) -> list[tuple[float, float] | tuple[None, None]]:
    """Return the intervals of shares of which the largest is looked for (`exact_ends`); none for very few trials.

    Args:
        rows: of a table; shares and trials are known.
        share, trials: columns.
        compared: number of shares, of these rows and of others.
    """
    counts = [row[trials] for row in rows]
    successes = [round(row[share] * count, 9) for row, count in zip(rows, counts, strict=True)]
    lows, highs = exact_ends(successes, counts, compared)
    return [
        (None, None) if count < FEWEST else ends
        for count, ends in zip(counts, zip(lows.tolist(), highs.tolist(), strict=True), strict=True)
    ]


def means_of_several(
    rows: Sequence[Mapping[str, Any]], mean: str, compared: int, low: str = "low", high: str = "high"
) -> list[tuple[float, float] | tuple[None, None]]:
    """Return the intervals of means among which the largest is looked for: all hold together at 95 %.

    Args:
        rows: of a table, with `videos`.
        mean, low, high: columns; without an interval there is none.
        compared: number of means, of these rows and of others.
    """
    return [
        (None, None)
        if row[low] is None or row[high] is None
        else for_several(row[mean], row[low], row[high], row["videos"], compared)
        for row in rows
    ]


def mean_with_interval(
    counts: Iterable[tuple[int, int]], least: int, most: int, compared: int = 1
) -> tuple[float, float, float] | tuple[float, None, None]:
    """Return the mean of values that are counted, and a 95 % interval; none with fewer than `FEWEST` videos.

    The interval is Student's: the mean is in its middle, unless an end would be out of the range. Equal values tell
    nothing about the spread. Then the share of videos with this value has a Wilson interval, and the others may have
    any value of the range.

    Args:
        counts: each value with the number of videos that have it; one video or more.
        least, most: the range of the values.
        compared: number of such means, among which the largest is looked for.
    """
    known = [(value, count) for value, count in counts if count]
    total = sum(count for _, count in known)
    mean = sum(value * count for value, count in known) / total
    if total < FEWEST:
        return mean, None, None
    level = level_of_each(LEVEL, compared)
    if len(known) == 1:
        share = float(wilson(total, total, level)[0])
        return mean, mean * share + least * (1 - share), mean * share + most * (1 - share)
    variance = sum(count * (value - mean) ** 2 for value, count in known) / (total - 1)
    half = quantile(total - 1, level) * math.sqrt(variance / total)
    return mean, max(float(least), mean - half), min(float(most), mean + half)


def largest(findings: Sequence[Finding], most: int) -> list[Finding]:
    """Return the findings with the largest effects; of equal ones the first. Those without an effect are left out."""
    found = [finding for finding in findings if finding.effect > 0]
    return sorted(found, key=lambda finding: -finding.effect)[:most]
