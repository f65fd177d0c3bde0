"""A finding: one sentence that a facet's table says, with the size of its effect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from esv_ray.analysis.statistics import LEVEL, for_several, wilson
from esv_ray.analysis.student import level_of_each


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


def shares_of_several(
    rows: Sequence[Mapping[str, Any]], share: str, trials: str, compared: int
) -> list[tuple[float, float]]:
    """Return the Wilson intervals of shares among which the largest is looked for: all hold together at 95 %.

    Args:
        rows: of a table; shares and trials are known.
        share, trials: columns.
        compared: number of shares, of these rows and of others.
    """
    counts = [row[trials] for row in rows]
    successes = [row[share] * count for row, count in zip(rows, counts, strict=True)]
    ends = wilson(successes, counts, level_of_each(LEVEL, compared))
    return list(zip(*(end.tolist() for end in ends), strict=True))


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
) -> tuple[float, float, float]:
    """Return the mean of values that are counted, and a 95 % interval.

    The interval is the normal one after z^2 / 2 videos were added at each end of the range, as Agresti and Coull (1998)
    do for shares: otherwise two videos with equal values would have an interval of no width.

    Args:
        counts: each value with the number of videos that have it; one video or more.
        least, most: the range of the values.
        compared: number of such means, among which the largest is looked for.
    """
    known = [(value, count) for value, count in counts if count]
    total = sum(count for _, count in known)
    mean = sum(value * count for value, count in known) / total
    z = NormalDist().inv_cdf(0.5 + level_of_each(LEVEL, compared) / 2)
    added: list[tuple[int, float]] = [*known, (least, z * z / 2), (most, z * z / 2)]
    weight = total + z * z
    centre = sum(value * count for value, count in added) / weight
    variance = sum(count * (value - centre) ** 2 for value, count in added) / weight
    half = z * math.sqrt(variance / weight)
    return mean, max(float(least), min(mean, centre - half)), min(float(most), max(mean, centre + half))


def largest(findings: Sequence[Finding], most: int) -> list[Finding]:
    """Return the findings with the largest effects; of equal ones the first. Those without an effect are left out."""
    found = [finding for finding in findings if finding.effect > 0]
    return sorted(found, key=lambda finding: -finding.effect)[:most]
