"""Intervals of shares and of means over videos.

Shares have Wilson intervals, and differences of two shares of the same videos Newcombe's. Means have percentile
intervals of the bootstrap over videos (Efron 1979): the elements of one video depend on each other, so whole videos are
drawn. A resample gives each video a weight, drawn from a Poisson distribution with mean 1 (Chamandy et al. 2012), which
needs no second pass over the data: a mean of a resample is the weighted sum divided by the sum of the weights. The
weights are a function of the seed and of the video's id alone, so

- they do not depend on files, batches, threads or the order of videos;
- two methods or two outputs give a video the same weights: the interval of a difference is paired by video.

Few videos: percentiles of resamples of V videos cover too little. Both distances from the mean to the ends are
multiplied by `student.small_sample_factor`, which is near 1 for many videos and leaves the interval as asymmetric as
the resamples are. Measured (`tests/analysis/test_statistics.py`), 95 % intervals of 3, 5, 10 and 30 videos cover the
mean of a normal distribution in 94 to 96 % of cases, that of an exponential distribution in 88, 91, 92 and 94 %. Fewer
than `FEWEST` videos, or videos whose values are all equal, say nothing useful about the spread: there is no interval.

Standard errors of sampled ESVs: the interval of a mean covers them, because the values that are drawn are the estimates
themselves, and their errors are independent between videos. The variance of estimates is that of the exact values plus
the mean squared standard error. `mean_stderr` returns the second part alone, which more iterations would reduce.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from esv_ray.analysis.student import level_of_each, quantile, small_sample_factor

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
SEED = 0
REPLICATES = 1000
FEWEST_REPLICATES = 100
FEWEST = 3
"""Videos below which a mean has no interval: that of two would be 6 times as wide as they are apart, to each side."""
_MOST_SUMS = 2**23  # 64 MB of float64
ROWS = 2048
"""Videos whose weights are in memory at once: 8 MB."""

_GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64 (Steele et al. 2014)


def wilson(successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = LEVEL) -> tuple[FloatArray, FloatArray]:
    """Return the Wilson intervals of shares (Wilson 1927).

    Args:
        successes: (...) counts.
        trials: (...) counts.
        level: of the intervals.

    Returns:
        Lower and upper ends (...), in [0, 1]; NaN without trials.
    """
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = k / n
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # The ends are exactly 0 and 1 there; rounding would leave 1e-17.
    low = np.where(k == 0, np.where(n > 0, 0.0, np.nan), np.maximum(middle - half, 0.0))
    high = np.where(k == n, np.where(n > 0, 1.0, np.nan), np.minimum(middle + half, 1.0))
    return low, high


def newcombe(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of the same videos, b minus a.

    It is method 10 of Newcombe (1998, "Improved confidence intervals for the difference ... based on paired data"): it
    combines the Wilson intervals of both shares by their correlation. So it has a width where no video changes
    sides, where all resamples are equal.

    Args:
        both, only_a, only_b, neither: numbers of videos that count in both shares, in one, and in none.

    Returns:
        Lower and upper end, in [-1, 1]; NaN without videos.
    """
    total = both + only_a + only_b + neither
    if not total:
        return np.nan, np.nan
    shares = np.array([both + only_b, both + only_a]) / total  # of b, of a
    lows, highs = wilson([both + only_b, both + only_a], total)
    below, above = shares - lows, highs - shares
    spread = (both + only_b) * (only_a + neither) * (both + only_a) * (only_b + neither)
    product = float(both * neither - only_a * only_b)
    if product > 0:
        product = max(product - total / 2, 0.0)  # correction for continuity
    correlation = product / spread**0.5 if spread else 0.0
    difference = float(shares[0] - shares[1])
    down = below[0] ** 2 - 2 * correlation * below[0] * above[1] + above[1] ** 2
    up = above[0] ** 2 - 2 * correlation * above[0] * below[1] + below[1] ** 2
    return max(-1.0, difference - max(down, 0.0) ** 0.5), min(1.0, difference + max(up, 0.0) ** 0.5)


def replicates_for(means: int) -> int:
    """Return how many resamples to draw for a number of means, within 64 MB: 1000, fewer for many means, or 0."""
    affordable = _MOST_SUMS // max(1, means)
    return min(REPLICATES, affordable) if affordable >= FEWEST_REPLICATES else 0


def resampling_weights(video_ids: Sequence[str], replicates: int, seed: int = SEED) -> npt.NDArray[np.float32]:
    """Draw how often each video is in each resample.

    Args:
        video_ids: of V videos; those of equal ids get equal weights.
        replicates: R.
        seed: of all weights.

    Returns:
        (V, R) whole numbers, distributed as Poisson(1): probabilities are rounded to 2**-16.
    """
    key = seed.to_bytes(8, "little", signed=True)
    digest = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in video_ids)
    start = np.frombuffer(digest, "<u8")  # (V,)
    step = np.arange(1, -(-replicates // 4) + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    bits = start[:, None] + step  # (V, R/4); wraps around
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    words = bits.astype("<u8", copy=False).view("<u2")[:, :replicates]
    drawn: npt.NDArray[np.float32] = _poisson_table()[words]  # (V, R)
    return drawn


@cache
def _poisson_table() -> npt.NDArray[np.float32]:
    """Return (65536,) the values of Poisson(1) at the quantiles (i + 0.5) / 65536."""
    ends, term, total = [], np.exp(-1.0), 0.0
    for k in range(1, 12):
        total += term
        ends.append(total)
        term /= k
    return np.searchsorted(ends, (np.arange(65536) + 0.5) / 65536).astype(np.float32)


@dataclass(eq=False)
class Sums:
    """Sums over the videos of a group, and the same sums of R resamples.

    Attributes:
        videos: number of videos.
        total: (K,) sums of K columns.
        least, most: (K,) the smallest and the largest value of each column.
        weight: (R,) sum of the weights of each resample.
        weighted: (K, R) sums of weight times value.
    """

    videos: int
    total: FloatArray
    least: FloatArray
    most: FloatArray
    weight: FloatArray
    weighted: FloatArray

    @staticmethod
    def empty(columns: int, replicates: int) -> Sums:
        """Return the sums over no videos."""
        ends = np.full(columns, np.inf), np.full(columns, -np.inf)
        return Sums(0, np.zeros(columns), *ends, np.zeros(replicates), np.zeros((columns, replicates)))

    def add(self, values: FloatArray, drawn: npt.NDArray[np.float32]) -> None:
        """Add videos, in place.

        Args:
            values: (V, K); finite.
            drawn: (V, R) their weights (`resampling_weights`).
        """
        self.videos += len(values)
        self.total += values.sum(axis=0)
        self._extend(values.min(axis=0, initial=np.inf), values.max(axis=0, initial=-np.inf))
        self.weight += drawn.sum(axis=0)
        self.weighted += values.astype(np.float32).T @ drawn  # ends of intervals, not means: 24 bits suffice

    def include(self, other: Sums) -> None:
        """Add the sums over other videos, in place."""
        self.videos += other.videos
        self.total += other.total
        self._extend(other.least, other.most)
        self.weight += other.weight
        self.weighted += other.weighted

    def _extend(self, least: FloatArray, most: FloatArray) -> None:
        self.least, self.most = np.minimum(self.least, least), np.maximum(self.most, most)

    def keep_replicates(self, replicates: int) -> None:
        """Keep only the first resamples, to save memory: weights do not depend on how many are drawn."""
        self.weight = self.weight[:replicates].copy()
        self.weighted = self.weighted[:, :replicates].copy()


@dataclass(frozen=True, eq=False)
class Means:
    """Means over the videos of a group, with intervals.

    Attributes:
        mean: (K,); NaN without videos.
        low, high: (K,) ends of the 95 % intervals; NaN with fewer than `FEWEST` videos, for equal values, where nothing
            is known about the spread, and without resamples.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray


def means(sums: Sums) -> Means:
    """Return the means of all columns, with intervals: those of the resamples, wider for few videos."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.total / sums.videos
        drawn = sums.weighted / sums.weight  # (K, R); NaN where a resample drew no video
    if sums.videos < FEWEST:
        return Means(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    low, high = percentile_interval(drawn)
    factor = small_sample_factor(sums.videos, LEVEL)
    known = sums.least < sums.most
    # Rounding of float32 must not leave the mean outside.
    low, high = np.minimum(mean + factor * (low - mean), mean), np.maximum(mean + factor * (high - mean), mean)
    return Means(mean, np.where(known, low, np.nan), np.where(known, high, np.nan))


def percentile_interval(drawn: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the 95 % percentile intervals of resampled statistics.

    Args:
        drawn: (..., R); NaN where a resample has no value.

    Returns:
        Lower and upper ends (...); NaN if no resample has a value.
    """
    values = np.asarray(drawn, np.float64)
    ends = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    missing = np.isnan(values)
    if missing.all():
        return np.full(values.shape[:-1], np.nan), np.full(values.shape[:-1], np.nan)
    low, high = (np.nanpercentile if missing.any() else np.percentile)(values, ends, axis=-1)
    return low, high


def for_several(mean: float, low: float, high: float, videos: int | None, compared: int) -> tuple[float, float]:
    """Return the interval of a mean at the level at which those of all means that are compared hold together.

    Both distances to the ends grow as Student's quantile does (`student.level_of_each`): the tails of resamples are too
    few for such levels.

    Args:
        mean, low, high: the mean and its 95 % interval.
        videos: their number; None: not known, and taken as many.
        compared: number of means among which the largest is looked for.
    """
    freedom = max(1, videos - 1) if videos else 10**9
    factor = quantile(freedom, level_of_each(LEVEL, compared)) / quantile(freedom, LEVEL)
    return mean + factor * (low - mean), mean + factor * (high - mean)


def mean_of(video_ids: Sequence[str], values: npt.ArrayLike) -> Means:
    """Return the means over V videos of columns (V, K).

    For differences between methods or outputs, give the difference of each video: then they are paired by video.
    """
    columns = np.asarray(values, np.float64)
    sums = Sums.empty(columns.shape[1], REPLICATES)
    for start in range(0, len(columns), ROWS):
        ids = video_ids[start : start + ROWS]
        sums.add(columns[start : start + ROWS], resampling_weights(ids, REPLICATES))
    return means(sums)


def mean_stderr(squares: npt.ArrayLike, count: npt.ArrayLike) -> FloatArray:
    """Return the standard error of a mean that is due to the sampling of ESVs alone.

    It is the root of the sum of squared standard errors, divided by the number of values. For values that are sums of
    ESVs of one video, the squares add up over elements: an upper bound, because the errors of one video's elements are
    correlated negatively (by efficiency their sum hardly varies).

    Args:
        squares: (...) sums of squared standard errors.
        count: (...) numbers of values.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.asarray(squares, np.float64)) / np.asarray(count, np.float64))
