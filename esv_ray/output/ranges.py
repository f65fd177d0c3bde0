"""Ranges of the numbers in the tables, and bounds of the rounding of their sums.

The job (which fails a video with values outside), `explain` and `esv verify` use the same definitions. `esv verify`
accepts the values that the job accepts: both sum the float32 ESVs of a class in float64 and compare with the same
bounds. All comparisons are written so that NaN fails them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[Any]  # float32 or float64

MOST_GAP = 1e-4  # efficiency of float32 ESVs of probabilities: observed at most 2e-6
MOST_LOGIT_GAP = 1e-3  # of logits of order 10: observed at most 1e-5
MOST_SCORE_SUM = 1e-3  # |sum of the scores - 1|
_ROUNDINGS = 128  # of float32, relative to the summands: observed at most 1
_OPERANDS = 8  # the same if the operands of products are rounded to fewer digits
_LOSS = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}  # of an operand: float32, TF32, bfloat16
NOT_FINITE = "the model's scores are not finite: features or weights are too large"
_MISSED = "ESVs miss efficiency: sum and score - prior differ by {:.3g}, more than rounding explains"


@dataclass(frozen=True)
class Ranges:
    """The ranges of a job's values.

    Attributes:
        in_logits: whether ESVs attribute logits.
        efficient: whether sampled ESVs also sum to score - prior; false for Algorithm 1 only.
        loss: relative error of the operands of products beyond float32's.
    """

    in_logits: bool
    efficient: bool
    loss: float = 0.0

    @property
    def rounding(self) -> float:
        """Largest relative error of a sum by rounding."""
        return max(_ROUNDINGS * float(np.finfo(np.float32).eps), _OPERANDS * self.loss)

    @property
    def most_stderr(self) -> float:
        """Largest standard error: ESVs of a probability lie in [-1, 1], so their errors are at most 1."""
        return inf if self.in_logits else 1 + self.rounding

    @property
    def most_score(self) -> float:
        """Largest score; the least is as far below 0 as this is above 1."""
        return 1 + self.rounding

    def most_esv(self, *, exact: bool) -> float:
        """Return the largest |ESV|.

        For probabilities it is 1 if ESVs are exact or of Algorithm 1: an ESV is a mean of differences of two means of
        probabilities. The adjusted estimator regresses each of the two means and may overshoot: its bound is 2
        (observed: 0.96).
        """
        if self.in_logits:
            return inf
        return (1.0 if exact or not self.efficient else 2.0) + float(self.gap_bound(0.0))

    def gap_bound(self, size: npt.ArrayLike) -> Float64Array:
        """Return the largest |sum of ESVs - (score - prior)| of a class by rounding.

        Args:
            size: sum of |ESV|, |score| and |prior| of a class, a number or an array. For probabilities it is of order
                one, and the bound does not depend on it.
        """
        if not self.in_logits:
            return np.full(np.shape(size), max(MOST_GAP, self.rounding if self.loss else 0.0))
        return np.asarray(np.maximum(MOST_LOGIT_GAP, self.rounding * np.asarray(size, np.float64)))

    def most_recorded_gap(self, n: int, largest: float, *, exact: bool) -> float:
        """Return the largest efficiency_gap of a video of n elements.

        Args:
            n: number of elements.
            largest: the largest bound by rounding (`gap_bound`) of its classes.
            exact: whether its ESVs are exact.
        """
        if exact or self.efficient:
            return largest
        return inf if self.in_logits else n + 1 + largest  # |sum of n ESVs| + |score - prior|


def ranges_of(
    output: Literal["probability", "logit"] | str, kind: str, matmul: Literal["highest", "high", "medium"] | str
) -> Ranges:
    """Return the ranges of a job.

    Args:
        output: `estimator.output` of its spec.
        kind: `estimator.kind`.
        matmul: `compute.matmul`.
    """
    return Ranges(output == "logit", kind != "algorithm1", _LOSS[matmul])


def value_faults(
    ranges: Ranges,
    *,
    esv: FloatArray,
    stderr: FloatArray | None,
    values: FloatArray,
    empty: FloatArray,
    scores: FloatArray | None,
    gaps: FloatArray,
    exact: bool,
) -> dict[int, str]:
    """Find the videos of a batch whose values are outside their ranges.

    Args:
        ranges: ranges of the job's values.
        esv: (B, n, C).
        stderr: (B, n, C); None: no standard errors.
        values: (B, C) of the full sequence: probabilities, or logits.
        empty: (C,) the value of the empty sequence: the prior, or its logarithm.
        scores: (B, C) class probabilities of the full sequence; None: a game without classes.
        gaps: (B,) efficiency gaps that the estimator reports.
        exact: whether every subsequence was evaluated.

    Returns:
        The first reason of each such video, by its index in the batch.
    """
    with np.errstate(all="ignore"):
        checks = [*_score_checks(ranges, esv, values, scores), *_esv_checks(ranges, esv, values, empty, gaps, exact)]
        if stderr is not None:
            checks += _stderr_checks(ranges, stderr)
    faults: dict[int, str] = {}
    for valid, reason, numbers in checks:
        for video in np.flatnonzero(~valid).tolist():
            faults.setdefault(video, reason.format(float(numbers[video])))
    return faults


# (B,) whether a video passes, the reason if it does not, and the (B,) numbers in the reason.
_Check = tuple[npt.NDArray[np.bool_], str, FloatArray]


def _score_checks(ranges: Ranges, esv: FloatArray, values: FloatArray, scores: FloatArray | None) -> Iterator[_Check]:
    top = np.abs(values).max(axis=1)
    yield np.isfinite(esv).all(axis=(1, 2)) & np.isfinite(top), NOT_FINITE, top
    if scores is None:
        return
    total = scores.sum(axis=1, dtype=np.float64)
    inside = (scores.min(axis=1) >= 1 - ranges.most_score) & (scores.max(axis=1) <= ranges.most_score)
    yield inside & (np.abs(total - 1) <= MOST_SCORE_SUM), "scores are not probabilities: their sum is {:.6g}", total


def _esv_checks(
    ranges: Ranges, esv: FloatArray, values: FloatArray, empty: FloatArray, gaps: FloatArray, exact: bool
) -> Iterator[_Check]:
    """Check sizes, the efficiency of every class, and the recorded gap."""
    sizes = np.abs(esv)
    largest, most = sizes.max(axis=(1, 2)), ranges.most_esv(exact=exact)
    yield largest <= most, f"an ESV of size {{:.3g}}, expected at most {most:.6g}", largest
    missed = np.abs(esv.sum(axis=1, dtype=np.float64) - (values.astype(np.float64) - empty))  # (B, C)
    summed = sizes.sum(axis=1, dtype=np.float64) + np.abs(values) + np.abs(empty) if ranges.in_logits else missed
    bound = ranges.gap_bound(summed)
    recorded = gaps.astype(np.float64)
    slack = bound if exact or ranges.efficient else bound + recorded[:, None]
    yield (missed <= slack).all(axis=1), _MISSED, missed.max(axis=1)
    beyond = np.array(
        [ranges.most_recorded_gap(esv.shape[1], video_bound, exact=exact) for video_bound in bound.max(axis=1).tolist()]
    )
    yield (recorded >= 0) & (recorded <= beyond) & np.isfinite(recorded), _MISSED, recorded


def _stderr_checks(ranges: Ranges, stderr: FloatArray) -> Iterator[_Check]:
    least, most = stderr.min(axis=(1, 2)), stderr.max(axis=(1, 2))
    yield (
        np.isfinite(least) & np.isfinite(most),
        "standard errors are not finite: features or weights are too large",
        most,
    )
    reason = f"a standard error of {{:.3g}}, expected 0 to {ranges.most_stderr:.6g}"
    yield least >= 0, reason, least
    yield most <= ranges.most_stderr, reason, most
