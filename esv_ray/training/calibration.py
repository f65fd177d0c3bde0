"""Calibration: whether classes that are predicted with probability p are correct in a share p of cases.

Expected calibration error (Naeini et al. 2015; Guo et al. 2017): predictions are binned by their confidence, the
largest probability; ECE is the mean over predictions of |accuracy - confidence| of their bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15
"""Bins of equal width: (0, 1/15], ..., (14/15, 1]."""


@dataclass(frozen=True)
class Bins:
    """Predictions by confidence.

    Attributes:
        count: predictions in each bin.
        confidence: sum of their confidences.
        correct: number of correct ones.
    """

    count: tuple[int, ...]
    confidence: tuple[float, ...]
    correct: tuple[int, ...]

    def __add__(self, other: Bins) -> Bins:
        def added(name: str) -> tuple[float, ...]:
            return tuple(a + b for a, b in zip(getattr(self, name), getattr(other, name), strict=True))

        return Bins(added("count"), added("confidence"), added("correct"))  # type: ignore[arg-type]

    @property
    def total(self) -> int:
        """Number of predictions."""
        return sum(self.count)

    @property
    def accuracy(self) -> float:
        """Share of correct predictions; NaN without any."""
        return sum(self.correct) / self.total if self.total else float("nan")

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1; NaN without predictions."""
        gaps = (abs(right - sure) for right, sure in zip(self.correct, self.confidence, strict=True))
        return sum(gaps) / self.total if self.total else float("nan")


NO_BINS = Bins((0,) * BINS, (0.0,) * BINS, (0,) * BINS)


def binned(probabilities: Tensor, labels: Tensor) -> Bins:
    """Return predictions by confidence.

    Args:
        probabilities: (N, C).
        labels: (N,) class ids.
    """
    confidence, predicted = probabilities.double().cpu().max(dim=1)
    correct = (predicted == labels.cpu()).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    sums = torch.zeros((3, BINS), dtype=torch.float64)
    for row, values in enumerate((torch.ones_like(confidence), confidence, correct)):
        sums[row].index_add_(0, bins, values)
    count, sure, right = sums.tolist()
    return Bins(tuple(map(int, count)), tuple(sure), tuple(map(int, right)))
