"""Orders in which the elements of a sequence are taken away (Price & Damen 2020, Fig. 3; issue 20)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from esv_ray.core.keyed import Int64Array, permutations

FIXED_ORDERS = ("center", "edges", "uniform")
"""Orders that depend on the number of elements alone."""


def fixed_order(name: str, n: int) -> Int64Array:
    """Return an order that is the same for all videos: (n,) elements, the first one taken away first.

    Args:
        name: `center`: from the center outward; `edges`: from the edges inward; `uniform`: so that what is taken away,
            and what remains, is spread evenly (van der Corput's order).
        n: number of elements.
    """
    elements = np.arange(n)
    if name == "uniform":
        bits = max(1, (n - 1).bit_length())
        reversed_bits = sum(((elements >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
        return np.argsort(reversed_bits, kind="stable")
    distance = np.abs(2 * elements - (n - 1))
    if name not in ("center", "edges"):
        raise ValueError(f"expected one of {FIXED_ORDERS}, got {name!r}")
    return np.argsort(distance if name == "center" else -distance, kind="stable")


def by_contribution(contributions: npt.NDArray[np.floating], *, descending: bool) -> Int64Array:
    """Return the elements of each video by their contributions (B, n): (B, n). Of equal ones the earlier is first."""
    return np.argsort(-contributions if descending else contributions, axis=1, kind="stable")


def random_orders(keys: Sequence[np.uint64], n: int) -> Int64Array:
    """Return a random order for each key: (len(keys), n)."""
    return permutations(keys, n)


def nearest_kept(kept: npt.NDArray[np.bool_]) -> Int64Array:
    """Return for each element the nearest one that is kept: itself, or of two equally near ones the earlier.

    Args:
        kept: (..., n), at least one of each n.

    Returns:
        (..., n) elements.
    """
    n = kept.shape[-1]
    elements = np.arange(n)
    before = np.maximum.accumulate(np.where(kept, elements, -2 * n), axis=-1)
    after = np.minimum.accumulate(np.where(kept, elements, 3 * n)[..., ::-1], axis=-1)[..., ::-1]
    nearest: Int64Array = np.where(elements - before <= after - elements, before, after)
    return nearest


def kept_after(orders: Int64Array) -> npt.NDArray[np.bool_]:
    """Return which elements are left after each number of them was taken away.

    Args:
        orders: (..., n).

    Returns:
        (..., n + 1, n): place d says which elements are left after the first d of the order were taken away.
    """
    n = orders.shape[-1]
    place = np.argsort(orders, axis=-1)  # of each element in the order
    return place[..., None, :] >= np.arange(n + 1)[:, None]
