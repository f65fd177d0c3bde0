"""Orders in which elements are taken away."""

from __future__ import annotations

import numpy as np
import pytest

from esv_ray.core.discards import FIXED_ORDERS, by_contribution, fixed_order, kept_after, nearest_kept, random_orders
from esv_ray.core.keyed import derive_key


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("name", FIXED_ORDERS)
def test_each_element_is_taken_away_once(name: str, n: int) -> None:
    assert sorted(fixed_order(name, n).tolist()) == list(range(n))


def test_fixed_orders() -> None:
    assert fixed_order("center", 5).tolist() == [2, 1, 3, 0, 4]
    assert fixed_order("center", 4).tolist() == [1, 2, 0, 3]
    assert fixed_order("edges", 5).tolist() == [0, 4, 1, 3, 2]
    assert fixed_order("uniform", 8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    with pytest.raises(ValueError, match="expected one of"):
        fixed_order("sideways", 3)


@pytest.mark.parametrize("n", [4, 8, 16])
def test_half_of_a_uniform_order_is_every_second_element(n: int) -> None:
    assert sorted(fixed_order("uniform", n)[: n // 2].tolist()) == list(range(0, n, 2))


def test_orders_by_contribution() -> None:
    values = np.array([[0.1, 0.5, 0.1, -0.2], [0.0, 0.0, 1.0, 0.0]], np.float32)
    assert by_contribution(values, descending=True).tolist() == [[1, 0, 2, 3], [2, 0, 1, 3]]
    assert by_contribution(values, descending=False).tolist() == [[3, 0, 2, 1], [0, 1, 3, 2]]


def test_random_orders_depend_on_their_key_alone() -> None:
    keys = [derive_key(0, "discards", name) for name in ("a", "b", "a")]
    orders = random_orders(keys, 12).tolist()
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == list(range(12))


def test_what_is_left() -> None:
    left = kept_after(np.array([[2, 0, 1], [0, 1, 2]]))
    assert left.astype(int).tolist() == [
        [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]],
        [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]],
    ]


def test_the_nearest_element_that_is_kept() -> None:
    """All subsequences of up to six elements, by plain code."""
    for n in range(1, 7):
        kept = np.array([[mask >> element & 1 for element in range(n)] for mask in range(1, 2**n)], bool)
        for row, found in zip(kept, nearest_kept(kept), strict=True):
            left = np.flatnonzero(row).tolist()
            due = [min(left, key=lambda other: (abs(other - element), other)) for element in range(n)]
            assert found.tolist() == due
