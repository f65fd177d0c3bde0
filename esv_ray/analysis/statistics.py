"""Intervals of shares and of means over videos.

Shares have Wilson intervals. Means have percentile intervals of the bootstrap over videos (Efron 1979): the elements of
one video depend on each other, so whole videos are drawn. A resample gives each video a weight, drawn from a Poisson
distribution with mean 1 (Chamandy et al. 2012), which needs no second pass over the data: a mean of a resample is the
weighted sum divided by the sum of the weights. The weights are a function of the seed and of the video's id alone, so

- they do not depend on files, batches, threads or the order of videos;
- two methods or two outputs give a video the same weights: the interval of a difference is paired by video.

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

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
SEED = 0
REPLICATES = 1000
FEWEST_REPLICATES = 100
_MOST_SUMS = 2**23  # 64 MB of float64
ROWS = 2048
"""Videos whose weights are in memory at once: 8 MB."""

_GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64 (Steele et al. 2014)


def wilson(successes: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the 95 % Wilson intervals of shares (Wilson 1927).

    Args:
        successes: (...) counts.
        trials: (...) counts.

    Returns:
        Lower and upper ends (...), in [0, 1]; NaN without trials.
    """
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = k / n
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # The ends are exactly 0 and 1 there; rounding would leave 1e-17.
    low = np.where(k == 0, np.where(n > 0, 0.0, np.nan), np.maximum(middle - half, 0.0))
    high = np.where(k == n, np.where(n > 0, 1.0, np.nan), np.minimum(middle + half, 1.0))
    return low, high


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
        weight: (R,) sum of the weights of each resample.
        weighted: (K, R) sums of weight times value.
    """

    videos: int
    total: FloatArray
    weight: FloatArray
    weighted: FloatArray

    @staticmethod
    def empty(columns: int, replicates: int) -> Sums:
        """Return the sums over no videos."""
        return Sums(0, np.zeros(columns), np.zeros(replicates), np.zeros((columns, replicates)))

    def add(self, values: FloatArray, drawn: npt.NDArray[np.float32]) -> None:
        """Add videos, in place.

        Args:
            values: (V, K); finite.
            drawn: (V, R) their weights (`resampling_weights`).
        """
        self.videos += len(values)
        self.total += values.sum(axis=0)
        self.weight += drawn.sum(axis=0)
        self.weighted += values.astype(np.float32).T @ drawn  # ends of intervals, not means: 24 bits suffice

    def include(self, other: Sums) -> None:
        """Add the sums over other videos, in place."""
        self.videos += other.videos
        self.total += other.total
        self.weight += other.weight
        self.weighted += other.weighted

    def keep_replicates(self, replicates: int) -> None:
        """Keep only the first resamples, to save memory: weights do not depend on how many are drawn."""
        self.weight = self.weight[:replicates].copy()
        self.weighted = self.weighted[:, :replicates].copy()


@dataclass(frozen=True, eq=False)
class Means:
    """Means over the videos of a group, with intervals.

    Attributes:
        mean: (K,); NaN without videos.
        low, high: (K,) ends of the 95 % intervals; NaN with fewer than two videos, where nothing is known about the
            spread, or without resamples.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray


def means(sums: Sums) -> Means:
    """Return the means of all columns, with percentile intervals."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.total / sums.videos
        drawn = sums.weighted / sums.weight  # (K, R); NaN where a resample drew no video
    if sums.videos < 2:
        drawn = drawn[:, :0]
    return Means(mean, *percentile_interval(drawn))


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
