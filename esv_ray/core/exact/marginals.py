"""Marginal contributions of each scale over lattices, from the same sums as the ESVs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from esv_ray.core.exact.plan import Weights


def add_scale(marginals: Tensor, weights: Weights, s: int, sums: Tensor) -> None:
    """Add the sums of one scale: the mean with each element at scale s, minus the mean without it at scale s + 1.

    The operator of the ESVs holds one over counts, divided by the number of scales that say something about the
    element; here each scale is kept separate.

    Args:
        marginals: (n, n, B * columns) for each scale and element; updated in place.
        weights: operator over the sums pooled over iterations.
        s: the scale.
        sums: (n + 1, B * columns) of its values: with each element, and over all subsequences.
    """
    n = len(marginals)
    counted = _known(weights).sum(dim=0)  # (n,)
    marginals[s - 1].addcmul_(sums[:n], (weights.within[s] * counted)[:, None])
    if s < n:
        marginals[s].addcmul_(sums[:n] - sums[n], (weights.without[s] * counted)[:, None])


def finish(marginals: Tensor, weights: Weights, baselines: list[Tensor], empty: Tensor) -> None:
    """Add what was subtracted from the values, and mark scales that say nothing about an element as NaN.

    Args:
        marginals: (n, n, B * columns) sums of `add_scale`; updated in place.
        weights: operator over the sums pooled over iterations.
        baselines: (B * columns,) of each scale, from s = 1.
        empty: (B * columns,) value of the empty sequence.
    """
    before = empty
    for s, baseline in enumerate(baselines[: len(marginals)]):
        marginals[s] += baseline - before
        before = baseline
    marginals.masked_fill_(~_known(weights)[:, :, None], torch.nan)


def _known(weights: Weights) -> Tensor:
    """Return (n, n) bool: whether a scale s (place s - 1) says something about an element."""
    return weights.within[1:] > 0
