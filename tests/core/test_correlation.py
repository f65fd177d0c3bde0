"""Correlations of many sequences at once are those of the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from esv_ray.core.correlation import cosine, order_keys, pearson, ranks, spearman
from tests.support import compare_oracle

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 30, 7))
A[3], B[4, 2:] = 0.0, 0.0
A[5] = 1 / 3
A[6, :3] = A[6, 3]
A[7] *= 1e-200
B[8] = -2 * A[8]


@pytest.mark.parametrize("name", ["pearson", "spearman", "cosine"])
def test_correlations(name: str) -> None:
    got = {"pearson": pearson, "spearman": spearman, "cosine": cosine}[name](A, B)
    for place in range(len(A)):
        scale = 1e200 if place == 7 else 1.0
        expected = getattr(compare_oracle, name)((A[place] * scale).tolist(), B[place].tolist())
        assert got[place] == pytest.approx(np.nan if expected is None else expected, abs=1e-12, nan_ok=True)
    assert got[8] == pytest.approx(-1)
    assert np.isnan(got[3])


def test_one_element_has_no_correlation() -> None:
    one = np.array([[1.0], [2.0]])
    assert np.isnan(pearson(one, one)).all()
    assert np.isnan(spearman(one, one)).all()
    assert cosine(one, -one).tolist() == [-1, -1]


def test_ranks() -> None:
    assert ranks(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [5.0, 5.0, 5.0]])).tolist() == [
        *([3, 1, 2], [2.5, 2.5, 1], [2, 2, 2])
    ]


def test_keys_keep_the_order() -> None:
    values = np.concatenate([RNG.standard_normal(3000) * 10.0 ** RNG.integers(-38, 3, 3000), [0.0, -0.0, 1e30, -1e30]])
    values = np.unique(np.concatenate([values, values * (1 + 2**-11)]))
    keys = order_keys(values)
    assert (np.diff(keys.astype(np.int64)) >= 0).all()
    apart = np.diff(values) > 2**-11 * np.abs(values[1:])
    apart &= np.abs(values[1:]) > 1e-37
    assert (np.diff(keys.astype(np.int64))[apart] > 0).all()
    assert len(set(order_keys(np.array([0.0, -0.0])).tolist())) == 1
