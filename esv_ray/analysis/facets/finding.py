"""A finding: one sentence that a facet's table says, with the size of its effect."""

from __future__ import annotations

import math
from collections import Counter
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
        effect: at most 1: how far the share or score is from what chance would give (`effect`); 0 or below: not clear
            of chance.
    """

    facet: str
    sentence: str
    effect: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out what chance would give."""
        return self.effect > 0


def effect(low: float | None, high: float | None, chance: float, *, least: float = 0.0, most: float = 1.0) -> float:
    """Return the size of an effect, at most 1, by the end of an interval that is nearer to chance.

    It is the distance of this end from chance, as a part of the largest distance possible. 1: all of the interval is at
    `least` or `most`. 0 or below: the interval holds the value that chance gives, and goes so far beyond it. By that
    end, and not by the mean, a group of few videos does not come first because it is small.

    Args:
        low, high: the 95 % interval, or None. An end at `least` or `most` is none, as that of an interval with one end.
        chance: the value by chance.
        least, most: the smallest and the largest value possible.

    Returns:
        The size; minus infinity if there is no interval, or one without ends.
    """
    if low is None or high is None or not all(map(math.isfinite, (low, high, chance))):
        return -math.inf
    above = (low - chance) / (most - chance) if least < low and chance < most else -math.inf
    below = (chance - high) / (chance - least) if high < most and least < chance else -math.inf
    return min(1.0, max(above, below))


def effect_between(
    ends: tuple[float | None, float | None],
    others: tuple[float | None, float | None],
    *,
    least: float = 0.0,
    most: float = 1.0,
) -> float:
    """Return the size of an effect where the value by chance is itself a mean with an interval.

    It is measured between the nearer ends of both intervals. If both hold together at a level, so does the result.

    Args:
        ends: the interval of the mean, or None.
        others: that of the mean by chance, or None.
        least, most: the smallest and the largest value possible.
    """
    lower, upper = others
    if lower is None or upper is None:
        return -math.inf
    above = effect(ends[0], most, upper, least=least, most=most)
    return max(above, effect(least, ends[1], lower, least=least, most=most))


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
    rows: Sequence[Mapping[str, Any]],
    mean: str,
    compared: int,
    low: str = "low",
    high: str = "high",
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> list[tuple[float, float] | tuple[None, None]]:
    """Return the intervals of means among which the largest is looked for: all hold together at 95 %.

    Args:
        rows: of a table, with `videos`.
        mean, low, high: columns; without an interval there is none.
        compared: number of means, of these rows and of others.
        least, most: the smallest and the largest value possible, which no end exceeds.
    """
    intervals: list[tuple[float, float] | tuple[None, None]] = []
    for row in rows:
        if row[low] is None or row[high] is None:
            intervals.append((None, None))
            continue
        ends = for_several(row[mean], row[low], row[high], row["videos"], compared)
        intervals.append((max(least, ends[0]), min(most, ends[1])))
    return intervals


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
    videos_of: Counter[int] = Counter()
    for value, count in counts:  # a value may come several times, for groups of videos
        videos_of[value] += count
    known = [(value, count) for value, count in videos_of.items() if count]
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
    """Return the findings with the largest effects; of equal ones the first.

    So those that are clear of chance come first, then those whose intervals come nearest to leaving it out. Those
    without an interval are left out.
    """
    found = [finding for finding in findings if finding.effect > -math.inf]
    return sorted(found, key=lambda finding: -finding.effect)[:most]
