"""What the values of all subsequences tell besides ESVs: interactions of pairs, and values of given subsequences."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import torch
from torch import Tensor

from esv_ray.core.lattices.lattice import full_lattice, index_of, membership

_CHUNK = 2**14  # subsequences whose weights are held at once


@torch.no_grad()
def interactions(values: Sequence[Tensor], empty: Tensor, n: int, videos: Tensor, classes: Tensor) -> Tensor:
    """Compute the Shapley interaction indices of all pairs of elements (Grabisch & Roubens 1999).

    The index of i and j is the mean of v(S + i + j) - v(S + i) - v(S + j) + v(S) over the subsequences S without both:
    first over those of a size, then over sizes 0 to n - 2. For each j, the sum over i is
    v(all) - v(all but j) - v(j) + v(none).

    Args:
        values: of all subsequences (`Attribution.values`).
        empty: (C,) value of the empty sequence.
        n: number of elements.
        videos: (M,) place of a video in the batch.
        classes: (M,) class.

    Returns:
        (M, n (n - 1) / 2) float64, pairs i < j in the order of `torch.triu_indices`.
    """
    i, j = torch.triu_indices(n, n, offset=1, device=empty.device)
    if not values:  # all equal
        return torch.zeros((len(videos), len(i)), dtype=torch.float64, device=empty.device)
    start = empty.double()[classes]
    out = _weight(n, 0) * start.expand(len(i), -1)  # (P, M)
    for s, scale in enumerate(full_lattice(n, scales_with_elements=0, parents=False).scales, start=1):
        masks = scale.masks.to(empty.device)
        # By how many of the two elements a subsequence holds.
        weights = torch.tensor(
            [_weight(n, s), -_weight(n, s - 1), _weight(n, s - 2)], dtype=torch.float64, device=empty.device
        )
        for begin in range(0, len(masks), _CHUNK):
            end = begin + _CHUNK
            held = membership(masks[begin:end], n, torch.int8)
            own = values[s - 1][begin:end, videos, classes].double()  # (R, M)
            out = out + weights[(held[i] + held[j]).long()] @ own
    return out.t().contiguous()


def _weight(n: int, size: int) -> float:
    """Return the weight of each subsequence S of a size without the two elements; 0 for sizes that there are not."""
    if not 0 <= size <= n - 2:
        return 0.0
    return factorial(size) * factorial(n - size - 2) / factorial(n - 1)


@torch.no_grad()
def values_at(values: Sequence[Tensor], empty: Tensor, kept: Tensor) -> Tensor:
    """Look up the values of subsequences.

    Args:
        values: of all subsequences (`Attribution.values`).
        empty: (C,) value of the empty sequence.
        kept: (B, K, n) bool: for each video K subsequences, by their elements.

    Returns:
        (B, K, C).
    """
    batch, count, n = kept.shape
    out = empty.expand(batch, count, -1).clone()
    if not values:
        return out
    sizes = kept.sum(dim=2)
    place = index_of(kept)
    video = torch.arange(batch, device=kept.device)[:, None].expand(-1, count)
    for s in range(1, n + 1):
        chosen = sizes == s
        out[chosen] = values[s - 1][place[chosen], video[chosen]][:, : len(empty)]
    return out
