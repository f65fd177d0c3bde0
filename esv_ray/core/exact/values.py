"""Results besides ESVs from the values of all subsequences: interactions of pairs, and values of given subsequences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb, factorial

import torch
from torch import Tensor

from esv_ray.core.lattices.lattice import Lattice, full_lattice, index_of, membership

_CHUNK = 2**12  # subsequences that are summed at once
_PRODUCT = 2**22  # numbers of a product of memberships and values: 32 MB


@torch.no_grad()
def interactions(values: Sequence[Tensor], empty: Tensor, n: int, videos: Tensor, classes: Tensor) -> Tensor:
    """Compute the Shapley interaction indices of all pairs of elements (Grabisch & Roubens 1999).

    The index of i and j is the mean of v(S + i + j) - v(S + i) - v(S + j) + v(S) over the subsequences S without both:
    first over those of a size, then over sizes 0 to n - 2. For each j, the sum over i is
    v(all) - v(all but j) - v(j) + v(none).

    Args:
        values: values of all subsequences (`Attribution.values`).
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
    most = max(1, _PRODUCT // (min(_CHUNK, comb(n, n // 2)) * n))
    if len(videos) > most:
        parts = zip(videos.split(most), classes.split(most), strict=True)  # type: ignore[no-untyped-call]
        return torch.cat([interactions(values, empty, n, own, kept) for own, kept in parts])
    start = empty.double()[classes]
    out = _weight(n, 0) * start.expand(len(i), -1)  # (P, M)
    for s, scale in enumerate(_lattice(n).scales, start=1):
        sums = _pair_sums(scale.masks.to(empty.device), values[s - 1], n, videos, classes)  # (n, n, M)
        single = sums.diagonal().t()  # (n, M)
        total = single.sum(dim=0) / s  # each subsequence counts once for each of its elements
        # A subsequence X with both elements counts for S = X minus both, one with one of them for X minus that one.
        both, one, none = _weight(n, s - 2), _weight(n, s - 1), _weight(n, s)
        out = out + (both + 2 * one + none) * sums[i, j] - (one + none) * (single[i] + single[j]) + none * total
    return out.t().contiguous()


@lru_cache(maxsize=1)
def _lattice(n: int) -> Lattice:
    """Return the subsequences of n elements; batches of one length follow each other."""
    return full_lattice(n, scales_with_elements=0, parents=False)


def _pair_sums(masks: Tensor, values: Tensor, n: int, videos: Tensor, classes: Tensor) -> Tensor:
    """Return the sums (n, n, M) of values over the subsequences with both elements; with one, on the diagonal."""
    sums = torch.zeros((n, n * len(videos)), dtype=torch.float64, device=masks.device)
    for begin in range(0, len(masks), _CHUNK):
        held = membership(masks[begin : begin + _CHUNK], n, torch.float64)[:n]  # (n, R)
        own = values[begin : begin + _CHUNK, videos, classes].double()  # (R, M)
        sums += held @ (held.t()[:, :, None] * own[:, None]).flatten(start_dim=1)
    return sums.view(n, n, -1)


def _weight(n: int, size: int) -> float:
    """Return the weight of each subsequence S of a size without the two elements; 0 for sizes that do not exist."""
    if not 0 <= size <= n - 2:
        return 0.0
    return factorial(size) * factorial(n - size - 2) / factorial(n - 1)


@torch.no_grad()
def largest_probabilities(values: Sequence[Tensor], empty: Tensor, n: int, classes: Tensor, *, logits: bool) -> Tensor:
    """Return for each length the largest probability of a class over all subsequences of that length.

    Args:
        values: values of all subsequences (`Attribution.values`).
        empty: (C,) value of the empty sequence.
        n: number of elements.
        classes: (B,) class of each video.
        logits: whether values are logits.

    Returns:
        (B, n + 1), lengths ascending from 0.
    """
    place = classes[None, :, None]

    def largest(scale: Tensor) -> Tensor:
        parts = torch.split(scale[..., : len(empty)], _CHUNK)
        own = [(part.softmax(dim=-1) if logits else part).take_along_dim(place, dim=2)[..., 0] for part in parts]
        return torch.stack([part.amax(dim=0) for part in own]).amax(dim=0)

    nothing = largest(empty.expand(1, len(classes), -1))
    if not values:  # all equal
        return nothing[:, None].expand(-1, n + 1)
    return torch.stack([nothing, *(largest(scale) for scale in values)], dim=1)


@torch.no_grad()
def values_at(values: Sequence[Tensor], empty: Tensor, kept: Tensor) -> Tensor:
    """Look up the values of subsequences.

    Args:
        values: values of all subsequences (`Attribution.values`).
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
