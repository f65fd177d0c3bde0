"""Which subsequences are looked at: lattices of bitmasks with parents by index. Shape only, no features.

Subsequences of n elements are bitmasks: element i is bit ``i % 62`` of word ``i // 62`` (one int64 word to n = 62,
several beyond). A scale s holds N_s masks of s elements each. The parents of a subsequence are the subsequences of
scale s - 1 that miss one of its elements; they are indices into the previous scale, so no N x N' relation is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esv_ray.core.keyed import UInt64Array, derive_key, mix64

WORD_BITS = 62  # int64 without the sign bit, and one spare
MOST_FULL = 30  # elements of a full lattice
_ROWS_AT_ONCE = 2**14  # of a full lattice while it is built: bounds the memory beside the result

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Scale:
    """The subsequences of one length.

    Attributes:
        masks: (N_s, W) int64 words.
        parents: (N_s, P) int32 indices into the previous scale; the value N_{s-1} stands for "none". None at s = 1,
            where nobody asks, and where a full lattice makes them when asked (`Lattice.parents`).
        parent_share: (N_s, 1) one over the number Z of parents that were sampled. None where all s are there.
        elements: (N_s, s) int32, ascending, of the scales whose heads are evaluated; None where not kept.
    """

    masks: Tensor
    parents: Tensor | None
    parent_share: Tensor | None
    elements: Tensor | None

    def __len__(self) -> int:
        return self.masks.shape[0]

    def tensors(self) -> list[Tensor]:
        """Those that it has."""
        return [part for part in (self.masks, self.parents, self.parent_share, self.elements) if part is not None]


@dataclass(frozen=True)
class Lattice:
    """Subsequences of every length 1..n: ``scales[s - 1]`` holds those of length s."""

    n: int
    full: bool
    scales: tuple[Scale, ...]

    def to(self, device: torch.device, dtype: torch.dtype) -> Lattice:
        """The same lattice on a device; ``parent_share`` takes the model's dtype."""
        return Lattice(
            self.n,
            self.full,
            tuple(
                Scale(
                    scale.masks.to(device),
                    None if scale.parents is None else scale.parents.to(device),
                    None if scale.parent_share is None else scale.parent_share.to(device, dtype),
                    None if scale.elements is None else scale.elements.to(device),
                )
                for scale in self.scales
            ),
        )

    def nbytes(self) -> int:
        """Bytes held by all of its tensors."""
        return sum(tensor.nbytes for scale in self.scales for tensor in scale.tensors())

    def elements(self, s: int, start: int, stop: int) -> Tensor:
        """Positions of some subsequences of length s, ascending: (R, s) int32."""
        scale = self.scales[s - 1]
        if scale.elements is not None:
            return scale.elements[start:stop]
        return elements_of(scale.masks[start:stop], self.n, s)

    def parents(self, s: int, start: int, stop: int) -> Tensor:
        """Parents of some subsequences of length s, (R, P) int32 as in `Scale.parents`."""
        scale = self.scales[s - 1]
        if scale.parents is not None:
            return scale.parents[start:stop]
        if not self.full:
            raise ValueError("this lattice was made without parents")
        return full_parents(self.elements(s, start, stop))


def membership(masks: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """Who is in which subsequence.

    Args:
        masks: (N, W) int64 words.
        n: number of elements.
        dtype: of the result.

    Returns:
        (n + 1, N): one where element i is in the subsequence; the last row is all ones, so that one product with
        the values (N, C) gives the sums "with i" and, below them, the sum over all.
    """
    element = torch.arange(n, device=masks.device)
    words = masks if n <= WORD_BITS else masks.t()[element // WORD_BITS].t()  # (N, 1) or (N, n)
    bits = (words >> (element % WORD_BITS)) & 1  # (N, n)
    out = torch.ones((n + 1, masks.shape[0]), dtype=dtype, device=masks.device)
    out[:n] = bits.t()
    return out


def elements_of(masks: Tensor, n: int, s: int) -> Tensor:
    """Positions of the s elements of each subsequence, ascending: (N, s) int32 from (N, W) words."""
    bits = membership(masks, n, torch.bool)[:n].t()  # (N, n)
    return bits.nonzero()[:, 1].view(-1, s).int()


def full_parents(elements: Tensor) -> Tensor:
    """Parents in a full lattice, by arithmetic.

    Ascending masks of one length are in colexicographic order, in which {e_0 < ... < e_(s-1)} has the rank
    sum over k of C(e_k, k + 1); without e_j the later elements move down one place.

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


@lru_cache(maxsize=8)
def _binomials(device: torch.device) -> Tensor:
    return torch.tensor([[comb(e, k) for k in range(MOST_FULL + 1)] for e in range(MOST_FULL)], device=device)


def full_lattice(n: int, *, scales_with_elements: int, parents: bool = True) -> Lattice:
    """All 2^n - 1 subsequences, each scale in the order of its masks.

    Args:
        n: elements, 1..30 (2^n words are built; whether that fits is the caller's check).
        scales_with_elements: keep element positions for the scales s up to this one.
        parents: keep the parents; else they are made when asked for.
    """
    if not 1 <= n <= MOST_FULL:
        raise ValueError(f"a full lattice has 1 to {MOST_FULL} elements, got {n}")
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
            for start in range(0, len(masks), _ROWS_AT_ONCE):
                part = slice(start, start + _ROWS_AT_ONCE)
                elements[part] = elements_of(masks[part], n, s)
                if parent_rows is not None:
                    parent_rows[part] = full_parents(elements[part])
        scales.append(Scale(masks, parent_rows, None, elements if s <= scales_with_elements else None))
    return Lattice(n, True, tuple(scales))


def sampled_lattice(n: int, *, m: int, key: np.uint64, scales_with_elements: int, parents: bool = True) -> Lattice:
    """One iteration of the paper's Algorithm 1.

    All singletons; then, scale by scale, at most m drawn uniformly without replacement from the distinct
    one-element extensions of the subsequences drawn at the scale before.

    Args:
        n: elements, from 1 to beyond 1,000.
        m: most subsequences a scale.
        key: fixes the draw.
        scales_with_elements: as for `full_lattice`.
        parents: as for `full_lattice`.
    """
    element_keys = _element_keys(n)
    single = _single_bits(n)
    masks = single  # (n, W)
    keys = element_keys  # (n,)
    scales = [_scale(masks, None, None, np.arange(n)[:, None] if scales_with_elements else None)]
    for s in range(2, n + 1):
        parent, element = (~_bits(masks, n)).nonzero()  # all one-element extensions, with repetitions
        order = mix64((keys[parent] ^ element_keys[element]) ^ derive_key(int(key), s))
        chosen = np.flatnonzero(order <= _smallest_distinct(order, m))
        parent, element = parent[chosen], element[chosen]
        _, first, row = np.unique(order[chosen], return_index=True, return_inverse=True)
        grown = masks[parent[first]] | single[element[first]]  # (N_s, W)
        keys = keys[parent[first]] ^ element_keys[element[first]]
        rows, counts = None, None
        if parents:
            # A pool entry with the same key is the same subsequence grown from another parent. Hashed keys (n > 62)
            # could coincide by chance, once in 10^8 plans: compare the masks and drop such a parent.
            same = ((masks[parent] | single[element]) == grown[row]).all(axis=1)
            rows, counts = _padded(row[same], parent[same], len(grown), missing=len(masks))
        masks = grown
        positions = _bits(masks, n).nonzero()[1].reshape(-1, s) if s <= scales_with_elements else None
        scales.append(_scale(masks, rows, counts, positions))
    return Lattice(n, False, tuple(scales))


def lattice_from_subsequences(n: int, subsequences: Sequence[npt.ArrayLike]) -> Lattice:
    """A lattice of given subsequences, e.g. those that another implementation drew.

    Args:
        n: elements.
        subsequences: for s = 1..n the positions (N_s, s), ascending in each row; rows are distinct.

    Raises:
        ValueError: a scale is missing or misshapen, or a subsequence has no parent at the scale before.
    """
    if len(subsequences) != n:
        raise ValueError(f"expected subsequences of every length 1..{n}, got {len(subsequences)} lengths")
    element_keys = _element_keys(n)
    scales: list[Scale] = []
    previous: UInt64Array = np.zeros(0, dtype=np.uint64)
    for s, given in enumerate(subsequences, start=1):
        positions = np.asarray(given, dtype=np.int64)
        if positions.ndim != 2 or positions.shape[1] != s or not len(positions):
            raise ValueError(f"subsequences of length {s} must be (N, {s}), got {positions.shape}")
        masks = np.bitwise_or.reduce(_single_bits(n)[positions], axis=1)  # (N_s, W)
        keys = np.bitwise_xor.reduce(element_keys[positions], axis=1)  # (N_s,)
        rows, counts = None, None
        if s > 1:
            sorter = np.argsort(previous)
            wanted = keys[:, None] ^ element_keys[positions]  # (N_s, s) keys of all possible parents
            at = np.searchsorted(previous, wanted, sorter=sorter).clip(max=len(previous) - 1)
            found = sorter[at]
            row, column = (previous[found] == wanted).nonzero()
            rows, counts = _padded(row, found[row, column], len(keys), missing=len(previous))
            if not counts.all():
                orphan = positions[int(np.argmin(counts))].tolist()
                raise ValueError(f"subsequence {orphan} has no parent among those of length {s - 1}")
        scales.append(_scale(masks, rows, counts, positions))
        previous = keys
    full = all(len(scale) == comb(n, s) for s, scale in enumerate(scales, start=1))
    return Lattice(n, full, tuple(scales))


def _scale(
    masks: Int64Array, parents: Int32Array | None, counts: Int64Array | None, elements: Int64Array | None
) -> Scale:
    return Scale(
        torch.from_numpy(masks),
        None if parents is None else torch.from_numpy(parents),
        None if counts is None else torch.from_numpy(1.0 / counts)[:, None],
        None if elements is None else torch.from_numpy(elements.astype(np.int32)),
    )


def _bits(masks: Int64Array, n: int) -> npt.NDArray[np.bool_]:
    """(N, n) membership from (N, W) words."""
    element = np.arange(n)
    words = masks if n <= WORD_BITS else masks[:, element // WORD_BITS]  # (N, 1) or (N, n)
    return ((words >> (element % WORD_BITS)) & 1).astype(np.bool_)


def _single_bits(n: int) -> Int64Array:
    """(n, W): the mask of each single element."""
    element = np.arange(n)
    out = np.zeros((n, -(-n // WORD_BITS)), dtype=np.int64)
    out[element, element // WORD_BITS] = np.int64(1) << (element % WORD_BITS)
    return out


def _element_keys(n: int) -> UInt64Array:
    """(n,) words whose exclusive or over a subsequence names it: the mask itself while one word holds it."""
    if n <= WORD_BITS:
        return _single_bits(n)[:, 0].astype(np.uint64)
    return mix64(np.arange(n, dtype=np.uint64))


def _smallest_distinct(values: UInt64Array, m: int) -> np.uint64:
    """The m-th smallest distinct value, or the largest where there are fewer."""
    take = min(len(values), 2 * m)
    while True:
        lowest = values if take == len(values) else np.partition(values, take - 1)[:take]
        distinct = np.unique(lowest)
        if len(distinct) >= m:
            return np.uint64(distinct[m - 1])
        if take == len(values):
            return np.uint64(distinct[-1])
        take = min(len(values), 2 * take)


def _padded(row: Int64Array, value: Int64Array, n_rows: int, *, missing: int) -> tuple[Int32Array, Int64Array]:
    """Ragged lists as a matrix: values (K,) that belong to rows (K,) -> (n_rows, longest), and each row's count."""
    counts = np.bincount(row, minlength=n_rows)
    order = np.argsort(row, kind="stable")
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.full((n_rows, int(counts.max())), missing, dtype=np.int32)
    out[row[order], column] = value[order]
    return out, counts
