"""Lattices: the evaluated subsequences, as bitmasks with parents by index. Shape only, no features.

Subsequences of n elements are bitmasks: element i is bit ``i % 62`` of word ``i // 62`` (one int64 word to n = 62,
several for longer ones). A scale s holds N_s masks of s elements each. The parents of a subsequence are the
subsequences of scale s - 1 that lack one of its elements; they are indices into the previous scale, so no N x N'
relation is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esv_ray.core.tensor_fields import by_number, moved, numbered, tensor_fields, total_bytes
from esv_ray.core.workspace import counting

WORD_BITS = 62  # int64 without the sign bit, and one spare
MAX_FULL = 30  # elements of a full lattice
_CHUNK = 2**14  # rows of a full lattice built together: bounds the memory beside the result

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Scale:
    """The subsequences of one length.

    Attributes:
        masks: (N_s, W) int64 words.
        parents: (N_s, P) int32 indices into the previous scale; N_{s-1} pads missing parents. None at s = 1,
            where they are not needed, and in a full lattice that computes them on demand (`Lattice.parents`).
        parent_share: (N_s, 1) one over the number Z of parents that were sampled. None if all s were.
        elements: (N_s, s) int32, ascending, for scales whose heads are evaluated; None if not stored.
    """

    masks: Tensor
    parents: Tensor | None
    parent_share: Tensor | None
    elements: Tensor | None

    def __len__(self) -> int:
        return self.masks.shape[0]


@dataclass(frozen=True)
class Lattice:
    """Subsequences of every length 1..n: ``scales[s - 1]`` holds those of length s."""

    n: int
    full: bool
    scales: tuple[Scale, ...]

    def to(self, device: torch.device, dtype: torch.dtype) -> Lattice:
        """Copy the lattice to a device; ``parent_share`` takes the dtype."""
        return Lattice(self.n, self.full, tuple(moved(scale, device, dtype) for scale in self.scales))

    def nbytes(self) -> int:
        """Return the bytes held by all tensors."""
        return sum(total_bytes(scale) for scale in self.scales)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, for storage (`from_tensors`)."""
        out = {"full": torch.tensor(self.full)}
        for s, scale in enumerate(self.scales, start=1):
            out |= numbered(s, tensor_fields(scale))
        return out

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Lattice:
        """Rebuild a lattice from its `tensors`.

        Raises:
            KeyError: a tensor is missing.
        """
        scales = tuple(
            Scale(parts["masks"], parts.get("parents"), parts.get("parent_share"), parts.get("elements"))
            for _, parts in by_number(tensors)
        )
        return cls(len(scales), bool(tensors["full"]), scales)

    def elements(self, s: int, start: int, stop: int) -> Tensor:
        """Return the positions of some subsequences of length s, ascending: (R, s) int32."""
        scale = self.scales[s - 1]
        if scale.elements is not None:
            return scale.elements[start:stop]
        return elements_of(scale.masks[start:stop], self.n, s)

    def parents(self, s: int, start: int, stop: int) -> Tensor:
        """Return the parents of some subsequences of length s, (R, P) int32 as in `Scale.parents`."""
        scale = self.scales[s - 1]
        if scale.parents is not None:
            return scale.parents[start:stop]
        if not self.full:
            raise ValueError("this lattice was built without parents")
        return full_parents(self.elements(s, start, stop))


def membership(masks: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """Compute the membership matrix of subsequences.

    Args:
        masks: (N, W) int64 words.
        n: number of elements.
        dtype: dtype of the result.

    Returns:
        (n + 1, N): 1 if element i is in the subsequence; the last row is all ones, so that one product with
        the values (N, C) gives the sums "with i" and, below them, the sum over all.
    """
    element = torch.arange(n, device=masks.device)
    words = masks if n <= WORD_BITS else masks.t()[element // WORD_BITS].t()  # (N, 1) or (N, n)
    bits = (words >> (element % WORD_BITS)) & 1  # (N, n)
    out = torch.ones((n + 1, masks.shape[0]), dtype=dtype, device=masks.device)
    out[:n] = bits.t()
    return out


def elements_of(masks: Tensor, n: int, s: int) -> Tensor:
    """Return the positions of the s elements of each subsequence, ascending: (N, s) int32 from (N, W) words."""
    bits = membership(masks, n, torch.bool)[:n].t()  # (N, n)
    # `nonzero` would wait for the device to count them.
    rank = torch.where(bits, bits.cumsum(dim=1) - 1, s)
    out = torch.empty((len(masks), s + 1), dtype=torch.int32, device=masks.device)
    return out.scatter_(1, rank, counting(n, masks.device).expand(rank.shape))[:, :s].contiguous()


def full_parents(elements: Tensor) -> Tensor:
    """Compute parents in a full lattice, by arithmetic.

    Ascending masks of one length are in colexicographic order, in which {e_0 < ... < e_(s-1)} has the rank
    sum over k of C(e_k, k + 1); without e_j the later elements move down by one.

    Args:
        elements: (R, s) int32, ascending in each row.

    Returns:
        (R, s) int32: column j is the index, among all subsequences of length s - 1, of the row without element j.
    """
    s = elements.shape[1]
    table = _binomials(elements.device)
    places = torch.arange(s, device=elements.device)
    kept, moved = table[elements.long(), places + 1], table[elements.long(), places]  # (R, s)
    before = kept.cumsum(dim=1) - kept
    after = moved.sum(dim=1, keepdim=True) - moved.cumsum(dim=1)
    return (before + after).int()


def index_of(kept: Tensor) -> Tensor:
    """Return the index of subsequences (..., n) bool among all of their length, in a full lattice: int64."""
    n = kept.shape[-1]
    before = (kept.cumsum(dim=-1) - 1).clamp(min=0)
    rank = _binomials(kept.device)[torch.arange(n, device=kept.device).expand(kept.shape), before + 1]
    return torch.where(kept, rank, 0).sum(dim=-1)


@lru_cache(maxsize=8)
def _binomials(device: torch.device) -> Tensor:
    return torch.tensor([[comb(e, k) for k in range(MAX_FULL + 1)] for e in range(MAX_FULL)], device=device)


def full_lattice(n: int, *, scales_with_elements: int, parents: bool = True) -> Lattice:
    """Build the lattice of all 2^n - 1 subsequences, each scale in the order of its masks.

    Args:
        n: number of elements, 1..30 (2^n words are built; the caller checks that they fit in memory).
        scales_with_elements: store element positions for the scales s up to this one.
        parents: store the parents; otherwise they are computed on demand.
    """
    if not 1 <= n <= MAX_FULL:
        raise ValueError(f"a full lattice has 1 to {MAX_FULL} elements, got {n}")
    by_size = [np.zeros(1, dtype=np.int64)]  # subsets of the first e elements, ascending, for each size
    for e in range(n):
        grown = [masks | np.int64(1 << e) for masks in by_size]
        both = [np.concatenate(pair) for pair in zip(by_size[1:], grown[:-1], strict=True)]
        by_size = [by_size[0], *both, grown[-1]]
    scales = []
    for s in range(1, n + 1):
        masks = torch.from_numpy(by_size[s][:, None])
        elements = torch.empty((len(masks), s), dtype=torch.int32)
        parent_rows = torch.empty_like(elements) if parents and s > 1 else None
        if parent_rows is not None or s <= scales_with_elements:
            for start in range(0, len(masks), _CHUNK):
                part = slice(start, start + _CHUNK)
                elements[part] = elements_of(masks[part], n, s)
                if parent_rows is not None:
                    parent_rows[part] = full_parents(elements[part])
        scales.append(Scale(masks, parent_rows, None, elements if s <= scales_with_elements else None))
    return Lattice(n, True, tuple(scales))
