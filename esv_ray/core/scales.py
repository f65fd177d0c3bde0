"""The scales of a multi-scale model: which of them have a head, and how F combines the heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

Combine = Literal["mean", "sum"]
MOST_WEIGHT = 1e6
"""Largest weight of a head, and one over the smallest: their ratios are far from the limits of float32."""


@dataclass(frozen=True)
class Scales:
    """The scales of a multi-scale model.

    F of a subsequence X of length k is the sum over the scales s <= k of w_s times the mean of f^s over the
    subsequences of X of length s, divided by `divisor(k)`. Recursively, with P the mean of F over the parents of X,

        F(X) = (w_k f^k(X) + divisor(k - 1) P) / divisor(k),

    which for weights 1 is Eq. 9 of Price & Damen 2020. A subsequence that is shorter than the shortest head has the
    value of the empty sequence.

    Attributes:
        weights: w_s for s = 1 .. n_max; 0 where there is no head.
        combine: `mean` divides by the sum of the weights up to k (Eq. 8), `sum` by 1: the expectation of the forward
            pass of TRN, which adds relations of all scales.
        linear: whether the value of a subsequence is F itself, with no softmax: heads return probabilities.
    """

    weights: tuple[float, ...]
    combine: Combine = "mean"
    linear: bool = False

    def __post_init__(self) -> None:
        """Check the weights.

        Raises:
            ValueError: one is neither 0 nor from 1 / MOST_WEIGHT to MOST_WEIGHT, or the last is 0.
        """
        usable = all(not weight or 1 / MOST_WEIGHT <= weight <= MOST_WEIGHT for weight in self.weights)
        if not self.weights or not usable or not self.weights[-1]:
            raise ValueError(
                f"expected weights from {1 / MOST_WEIGHT:g} to {MOST_WEIGHT:g}, or 0 without a head, the last above 0, "
                f"got {self.weights}"
            )
        if self.combine not in ("mean", "sum"):
            raise ValueError(f"combine: expected mean or sum, got {self.combine!r}")

    @property
    def n_max(self) -> int:
        """The longest scale with a head."""
        return len(self.weights)

    @cached_property
    def shortest(self) -> int:
        """The shortest scale with a head."""
        return next(s for s, weight in enumerate(self.weights, start=1) if weight)

    @cached_property
    def _sums(self) -> tuple[float, ...]:
        """Sums of the weights of the scales 1 .. k, for k = 0 .. n_max."""
        return tuple(accumulate(self.weights, initial=0.0))

    def has_head(self, s: int) -> bool:
        """Return whether a scale has a head."""
        return s <= self.n_max and self.weights[s - 1] > 0

    def heads(self, n: int) -> list[int]:
        """Return the scales up to n that have a head, ascending."""
        return [s for s, weight in enumerate(self.weights[:n], start=1) if weight]

    def divisor(self, k: int) -> float:
        """Return by what the weighted sum over the scales up to k >= `shortest` is divided."""
        return self._sums[min(k, self.n_max)] if self.combine == "mean" else 1.0

    def share(self, s: int) -> float:
        """Return by what f^s is divided in F of a subsequence of its own length: divisor(s) / w_s."""
        return self.divisor(s) / self.weights[s - 1]

    def parents(self, s: int, count: int = 1) -> float:
        """Return the factor of the sum of F over `count` parents in F of a subsequence of length s > `shortest`."""
        return self.divisor(s - 1) / (self.divisor(s) * count)


def equal_scales(n_max: int) -> Scales:
    """Return the scales of the paper's models: heads of weight 1 at 1 .. n_max."""
    return Scales((1.0,) * n_max)
