"""Lattices sampled by the paper's Algorithm 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.core.keyed import Int64Array, UInt64Array, derive_key, mix64
from esv_ray.core.lattices.lattice import WORD_BITS, Int32Array, Lattice, Scale


def sampled_lattice(n: int, *, m: int, key: np.uint64, scales_with_elements: int, parents: bool = True) -> Lattice:
    """Draw one iteration of the paper's Algorithm 1.

    All singletons; then, scale by scale, at most m drawn uniformly without replacement from the distinct
    one-element extensions of the subsequences drawn at the scale before.

    Args:
        n: number of elements; more than 1,000 are supported.
        m: most subsequences per scale.
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
            # coincide by chance once in 10^8 plans: compare the masks and drop such a parent.
            same = ((masks[parent] | single[element]) == grown[row]).all(axis=1)
            rows, counts = _padded(row[same], parent[same], len(grown), missing=len(masks))
        masks = grown
        positions = _bits(masks, n).nonzero()[1].reshape(-1, s) if s <= scales_with_elements else None
        scales.append(_scale(masks, rows, counts, positions))
    return Lattice(n, False, tuple(scales))


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
    """Return (N, n) membership from (N, W) words."""
    element = np.arange(n)
    words = masks if n <= WORD_BITS else masks[:, element // WORD_BITS]  # (N, 1) or (N, n)
    return ((words >> (element % WORD_BITS)) & 1).astype(np.bool_)


def _single_bits(n: int) -> Int64Array:
    """Return (n, W): the mask of each single element."""
    element = np.arange(n)
    out = np.zeros((n, -(-n // WORD_BITS)), dtype=np.int64)
    out[element, element // WORD_BITS] = np.int64(1) << (element % WORD_BITS)
    return out


def _element_keys(n: int) -> UInt64Array:
    """Return (n,) words whose XOR over a subsequence identifies it: the mask itself if it fits in one word."""
    if n <= WORD_BITS:
        return _single_bits(n)[:, 0].astype(np.uint64)
    return mix64(np.arange(n, dtype=np.uint64))


def _smallest_distinct(values: UInt64Array, m: int) -> np.uint64:
    """Return the m-th smallest distinct value, or the largest if there are fewer."""
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
    """Pad ragged lists to a matrix: values (K,) of rows (K,) -> (n_rows, longest), and each row's count."""
    counts = np.bincount(row, minlength=n_rows)
    order = np.argsort(row, kind="stable")
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.full((n_rows, int(counts.max())), missing, dtype=np.int32)
    out[row[order], column] = value[order]
    return out, counts
