"""The features of surrogates, and their part of F, for the subsequences of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from esv_ray.core.adjusted.plan import AdjustedPlan, Size


def add_means(plan: AdjustedPlan, size: Size, weights: Tensor, start: int, out: Tensor) -> None:
    """Add the surrogates' part of F to the scores out (R, B * columns) of a size's subsequences from `start` on.

    Args:
        plan: the plan.
        size: the size.
        weights: (P, B * columns) weights of the surrogates' features.
        start: the first subsequence.
        out: scores of the head; without one, it is overwritten.
    """
    n, stop = plan.n, start + len(out)
    if not size.single:
        table = surrogate_features(plan, size, size.memberships(start, stop, n, out.dtype))
        if size.evaluated:
            out.addmm_(table.t(), weights, beta=1 + size.borrowed)
        else:
            torch.mm(table.t(), weights, out=out)
        return
    if size.evaluated:  # the shortest head: nothing is added
        return
    torch.sub(weights[:n].sum(dim=0) + weights[n], weights[start:stop], out=out)
    if len(plan.pairs):
        counts = out.new_zeros(len(size.pair_response)).index_add_(0, plan.bins, out.new_ones(n))
        held = counts[:, None] - torch.eye(len(counts), dtype=out.dtype, device=out.device)
        out += (_pair_features(plan, held).t() @ weights[n + 1 :])[plan.bins[start:stop]]


def surrogate_features(plan: AdjustedPlan, size: Size, member: Tensor) -> Tensor:
    """Return the surrogate's features (P, R) from memberships (n + 1, R): memberships, ones, and pairs by bins."""
    if not len(plan.pairs):
        return member
    n, bins = plan.n, len(size.pair_response)
    held = member[:n] if bins == n else member.new_zeros((bins, member.shape[1])).index_add_(0, plan.bins, member[:n])
    return torch.cat([member, _pair_features(plan, held)])


def _pair_features(plan: AdjustedPlan, held: Tensor) -> Tensor:
    """Return the surrogate's pairs (P_2, R) from the number of elements that are held of each bin (G, R)."""
    g, h = plan.pairs[:, 0], plan.pairs[:, 1]
    if len(held) == plan.n:
        return held[g] * held[h]
    same = (g == h).to(held.dtype)[:, None]
    return held[g] * (held[h] - same) / (1 + same)
