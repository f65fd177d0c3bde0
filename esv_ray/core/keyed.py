"""Keyed hashing: the only source of randomness in `core`.

A plan and the relabelling of a video must be the same on every machine and with every version of numpy and torch:
results depend on (spec, seed, video_id, features) alone. Library generators do not guarantee that for
derived streams, so sampling ranks hashed keys instead: the k smallest hashes of distinct keys are a uniform
sample without replacement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]


def mix64(keys: UInt64Array) -> UInt64Array:
    """Apply the finalizer of SplitMix64 (Steele, Lea & Flood 2014): a bijection of 64-bit words.

    Args:
        keys: uint64 of any shape.

    Returns:
        Hashes of the same shape; distinct keys have distinct hashes.
    """
    x = keys + np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def derive_key(*parts: int | str) -> np.uint64:
    """Derive a 64-bit key from numbers and names, e.g. ``derive_key(seed, "relabel", video_id)``."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def permutation(key: np.uint64, n: int) -> npt.NDArray[np.int64]:
    """Return a uniformly random permutation of 0..n-1, (n,), fixed by its key."""
    return np.argsort(mix64(np.arange(n, dtype=np.uint64) ^ key), kind="stable")


def permutations(keys: Sequence[np.uint64], n: int) -> Int64Array:
    """Return one `permutation` per key, (len(keys), n)."""
    return np.stack([permutation(key, n) for key in keys])


def binned_permutation(key: np.uint64, bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a random permutation that keeps elements of one bin together, uniform among those that map bins to bins.

    Args:
        key: fixes the permutation.
        bins: (n,) bin of each element, ascending.

    Returns:
        (n,): bins of equal size are shuffled among each other, and the elements within each bin.
    """
    sizes = np.bincount(bins)
    if (sizes == 1).all():
        return permutation(key, len(bins))
    starts = np.cumsum(sizes) - sizes
    target = np.empty(len(sizes), dtype=np.int64)
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        target[alike] = alike[permutation(derive_key(int(key), "bins", int(size)), len(alike))]
    within = np.argsort(mix64(np.arange(len(bins), dtype=np.uint64) ^ key), kind="stable")
    within = within[np.argsort(bins[within], kind="stable")]  # each bin's elements, shuffled, bin by bin
    out = np.empty(len(bins), dtype=np.int64)
    for bin_, to in enumerate(target):
        out[starts[bin_] : starts[bin_] + sizes[bin_]] = within[starts[to] : starts[to] + sizes[to]]
    return out


def normals(key: np.uint64, count: int) -> npt.NDArray[np.float64]:
    """Return independent standard normal numbers, (count,), fixed by their key (Box and Muller 1958)."""
    words = mix64(np.arange(2 * count, dtype=np.uint64) ^ key)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(uniform[:count])), 2 * np.pi * uniform[count:]
    return np.asarray(radius * np.cos(angle))
