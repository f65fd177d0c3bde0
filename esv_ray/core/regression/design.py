"""Subsequences of the adjusted estimator: independent draws per size, nested in the number of iterations.

Up to n_max, heads are evaluated at them. Larger sizes use the complements of the short ones, if there are any, as
antithetic partners, else draws of their own. Long sequences skip sizes (`nodes`): contrasts are smooth in the size.
"""

from __future__ import annotations

from math import comb, inf

import numpy as np
import numpy.typing as npt

from esv_ray.core.keyed import derive_key, mix64
from esv_ray.core.regression.interactions import FloatArray

BoolArray = npt.NDArray[np.bool_]

_DENSE = 8  # sizes up to this one are all evaluated
_GROWTH = 1.2  # ratio of consecutive larger sizes
_ENUMERATED = 2**16  # sizes with at most this many subsequences are enumerated before drawing


def subsequences_of(n: int, k: int) -> float:
    """Return C(n, k), or infinity if it exceeds any memory."""
    return comb(n, k) if min(k, n - k) <= 40 else inf


def nodes(n: int) -> list[int]:
    """Return the sizes 1 .. n - 1 at which values are evaluated, ascending."""
    sizes, k = set(range(1, min(_DENSE, n - 1) + 1)), float(_DENSE)
    while round(k * _GROWTH) < n - 1:
        k *= _GROWTH
        sizes.add(round(k))
    return sorted(sizes | ({n - 1} if n > 1 else set()))


def quadrature(n: int, sizes: list[int], *, smooth_from: int = 1) -> FloatArray:
    """Return weights (len(sizes),) with which values at some sizes give the sum over all from the first to n - 1.

    Each size left out is interpolated from its four nearest neighbors by a cubic in log k. Contrasts
    have a kink at size n_max, from which on F is another mean of heads: n = 16, n_max = 8, error due to sizes left out
    0.056 and 0.022 % of the mean |ESV| on two trained models with neighbors on both sides of the kink, 0.0017 and
    0.0001 % with neighbors on the same side.

    Args:
        n: number of elements.
        sizes: ascending.
        smooth_from: size from which contrasts are smooth; all sizes left out are larger.
    """
    weights = np.zeros(len(sizes))
    for row in interpolation(n, sizes, smooth_from=smooth_from)[sizes[0] : n]:
        weights += row
    return weights


def interpolation(n: int, sizes: list[int], *, smooth_from: int = 1) -> FloatArray:
    """Return (n + 1, len(sizes)): weights with which values at some sizes give that of size 0 .. n (`quadrature`).

    Rows of sizes below the first, and of size n, are zero. Arguments as for `quadrature`.
    """
    start = next(i for i, k in enumerate(sizes) if k >= smooth_from)
    place = np.log(np.asarray(sizes, dtype=np.float64))
    weights = np.zeros((n + 1, len(sizes)))
    for k in range(sizes[0], n):
        if k in sizes:
            weights[k, sizes.index(k)] = 1
            continue
        after = int(np.searchsorted(place, np.log(k)))
        first = max(min(after - 2, len(sizes) - 4), start)
        near = range(first, min(first + 4, len(sizes)))
        for a in near:
            weights[k, a] = np.prod([(np.log(k) - place[b]) / (place[a] - place[b]) for b in near if b != a])
    return weights


def draw(n: int, k: int, count: int, seed: int) -> BoolArray:
    """Draw distinct subsequences of size k: memberships (min(count, C(n, k)), n).

    Random ones, each followed by its cyclic shifts, so that all elements, and all pairs at one distance, occur
    equally often: errors are 3 to 10 % smaller than with independent rows (n = 16, m = 64 to 1,024). A shorter draw
    is a prefix of a longer one.
    """
    key = derive_key(seed, "adjusted", n, k)
    if n - k < k:  # fewer elements are out than in: draw those
        return ~_draw(n, n - k, count, key)
    return _draw(n, k, count, key)


def _draw(n: int, k: int, count: int, key: np.uint64) -> BoolArray:
    total = subsequences_of(n, k)
    if total <= max(_ENUMERATED, 2 * count):
        rows = _listed(n, k, key)
        if total <= count:
            return rows
        base_rows = 2 * (count // n + 1)  # mostly enough; the first rows do not depend on it
        while len(shifted := _with_shifts(rows[:base_rows])) < count:
            base_rows *= 2
        return shifted[:count]
    out: BoolArray = np.zeros((0, n), dtype=np.bool_)
    start = 0
    while len(out) < count:
        numbers = np.arange(start, start + (count - len(out)) // n + 2, dtype=np.uint64)
        start += len(numbers)
        places = numbers[:, None] * np.uint64(n) + np.arange(n, dtype=np.uint64)  # (rows, n)
        hashes = mix64(places.astype(np.uint64) ^ key)
        lowest = np.argpartition(hashes, k - 1, axis=1)[:, :k]
        member = np.zeros((len(numbers), n), dtype=np.bool_)
        np.put_along_axis(member, lowest, True, axis=1)
        out = np.concatenate([out, _with_shifts(member)])
        out = out[_first_occurrences(out)]
    return out[:count]


def _with_shifts(rows: BoolArray) -> BoolArray:
    """Return each row followed by its cyclic shifts, without repetitions."""
    n = rows.shape[1]
    shifts = (np.arange(n)[None, :] - np.arange(n)[:, None]) % n  # (n, n): row j is shifted by j
    out = rows[:, shifts].reshape(-1, n)
    return out[_first_occurrences(out)]


def _listed(n: int, k: int, key: np.uint64) -> BoolArray:
    """Return all subsequences of size k, in an order fixed by the key."""
    by_size = [np.zeros((1, 0), dtype=np.int16)]  # positions of subsets of the elements so far, by size
    for e in range(n):
        last = [np.concatenate([part, np.full((len(part), 1), e, dtype=np.int16)], axis=1) for part in by_size[:k]]
        grown = [by_size[0]]
        for size in range(1, min(e + 1, k) + 1):
            parts = [by_size[size]] if size < len(by_size) else []
            grown.append(np.concatenate([*parts, last[size - 1]]))
        by_size = grown
    positions = by_size[k].astype(np.int64)
    order = np.argsort(mix64(np.arange(len(positions), dtype=np.uint64) ^ key), kind="stable")
    out = np.zeros((len(order), n), dtype=np.bool_)
    np.put_along_axis(out, positions[order], True, axis=1)
    return out


def _first_occurrences(rows: BoolArray) -> npt.NDArray[np.int64]:
    """Return the index of the first occurrence of each distinct row, ascending."""
    _, first = np.unique(np.packbits(rows, axis=1), axis=0, return_index=True)
    return np.sort(first)
