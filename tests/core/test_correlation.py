"""Correlations of many sequences at once are those of the definitions; equal up to rounding is equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import esv_ray
from esv_ray.core.correlation import ROUNDING, cosine, order_keys, pearson, ranks, rounding, spearman
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior
from tests.support import compare_oracle

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 30, 7))
A[3], B[4, 2:] = 0.0, 0.0
A[5] = 1 / 3
A[6, :3] = A[6, 3]
A[7] *= 1e-200
B[8] = -2 * A[8]
FUNCTIONS = {"pearson": pearson, "spearman": spearman, "cosine": cosine}
Function = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_correlations(name: str) -> None:
    got = FUNCTIONS[name](A, B)
    for place in range(len(A)):
        rounded = [0.0] * 7 if place == 7 else A[place].tolist()
        expected = getattr(compare_oracle, name)(rounded, B[place].tolist())
        assert got[place] == pytest.approx(np.nan if expected is None else expected, abs=1e-12, nan_ok=True)
    assert got[8] == pytest.approx(-1)
    assert np.isnan(got[[3, 7]]).all()


def test_one_element_has_no_correlation() -> None:
    one = np.array([[1.0], [2.0]])
    assert np.isnan(pearson(one, one)).all()
    assert np.isnan(spearman(one, one)).all()
    assert cosine(one, -one).tolist() == [-1, -1]


def test_values_that_are_not_finite_have_no_rank_correlation() -> None:
    odd = A[:4].copy()
    odd[0, 1], odd[1, :2], odd[2] = np.nan, (np.inf, -np.inf), np.inf
    assert np.isnan(spearman(odd, B[:4])).all()
    assert np.isnan(spearman(B[:3], odd[:3])).all()


def test_ranks() -> None:
    assert ranks(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [5.0, 5.0, 5.0]])).tolist() == [
        *([3, 1, 2], [2.5, 2.5, 1], [2, 2, 2])
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_rounding_changes_nothing(name: str, scale: float) -> None:
    """Noise of 1e-9 leaves ranks of equal and of distinct values, and what has no correlation, as they are."""
    a, b = scale * A, scale * B
    noisy = [values + 1e-9 * scale * RNG.uniform(-1, 1, values.shape) for values in (a, b)]
    got, expected = FUNCTIONS[name](noisy[0], noisy[1]), FUNCTIONS[name](a, b)
    assert np.isnan(got).tolist() == np.isnan(expected).tolist()
    if name == "spearman":
        assert np.array_equal(got, expected, equal_nan=True)
        assert np.array_equal(ranks(noisy[0]), ranks(a))
    assert got == pytest.approx(expected, abs=1e-7, nan_ok=True)


def test_distinct_values_keep_their_ranks() -> None:
    """Values that are farther apart than rounding have the ranks of exact comparisons, wherever they lie."""
    for scale in (1.0, 30.0):
        for center in (-0.5, 0.0, 0.01, 0.7):
            steps = RNG.uniform(1.01, 5.0, (50, 9)).cumsum(axis=1)
            values = RNG.permuted(scale * (center + steps * 20 * ROUNDING), axis=1)
            assert np.diff(np.sort(values, axis=1), axis=1).min() > rounding(values).max()
            assert ranks(values).tolist() == (values.argsort(axis=1).argsort(axis=1) + 1).tolist()


def test_no_group_of_equal_values_is_wider_than_rounding() -> None:
    """A long, dense sequence is not one tie: its rank correlations hardly change."""
    dense = RNG.permuted(np.linspace(0, 3e-4, 600)[None].repeat(3, axis=0), axis=1)
    found = ranks(dense)
    for row, of_row in zip(dense, found, strict=True):
        widths = [np.ptp(row[of_row == rank]) for rank in np.unique(of_row)]
        assert max(widths) <= rounding(dense).max()
    exact = [compare_oracle.spearman(dense[0].tolist(), dense[at].tolist()) for at in (0, 1, 2)]
    assert spearman(dense[[0, 0, 0]], dense) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_bits_in_any_batch(name: str) -> None:
    function: Function = FUNCTIONS[name]
    whole = function(A, B)
    order = RNG.permutation(len(A))
    assert np.array_equal(function(A[order], B[order]), whole[order], equal_nan=True)
    single = [function(A[at : at + 1], B[at : at + 1])[0] for at in range(len(A))]
    assert np.array_equal(np.array(single), whole, equal_nan=True)


@pytest.mark.parametrize("kind", ["exact", "algorithm1", "adjusted"])
@pytest.mark.parametrize("output", ["probability", "logit"])
def test_equal_elements_have_equal_esvs(tmp_path: Path, kind: Any, output: Any) -> None:
    """By symmetry, ESVs of equal elements are equal: what is left of their differences is within `rounding`."""
    save_heads(f"{tmp_path}/m", make_heads(feature_dim=32, hidden=32, n_classes=20, n_max=6, gain=4), make_prior(20))
    model = esv_ray.load_model(f"{tmp_path}/m")
    element = RNG.standard_normal((3, 1, 32)).astype(np.float32)
    videos = list(element.repeat(11, axis=1))
    found = esv_ray.explain(
        model,
        videos,
        estimator=kind,
        m=32,
        iterations=2,
        output=output,
        video_ids=["a", "b", "c"],
    )
    esv = np.concatenate([np.asarray(each.esv).T for each in found])  # (V * C, n)
    assert len(esv) == 60
    assert (np.ptp(esv, axis=1) <= rounding(esv)).all()
    other = RNG.standard_normal(esv.shape)
    assert np.isnan(spearman(esv, other)).all()
    assert np.isnan(pearson(esv, other)).all()


def test_keys_keep_the_order() -> None:
    values = np.concatenate([RNG.standard_normal(3000) * 10.0 ** RNG.integers(-38, 3, 3000), [0.0, -0.0, 1e30, -1e30]])
    values = np.unique(np.concatenate([values, values * (1 + 2**-11)]))
    keys = order_keys(values)
    assert (np.diff(keys.astype(np.int64)) >= 0).all()
    apart = np.diff(values) > 2**-11 * np.abs(values[1:])
    apart &= (np.abs(values[1:]) > ROUNDING) | (np.abs(values[:-1]) > ROUNDING)
    assert (np.diff(keys.astype(np.int64))[apart] > 0).all()
    assert len(set(order_keys(np.array([0.0, -0.0, ROUNDING, -1e-9])).tolist())) == 1
