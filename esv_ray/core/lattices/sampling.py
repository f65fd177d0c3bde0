"""Lattices that are not full: drawn by the paper's Algorithm 1, or given."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.core.keyed import UInt64Array, derive_key, mix64
from esv_ray.core.lattices.lattice import WORD_BITS, Int32Array, Int64Array, Lattice, Scale


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
