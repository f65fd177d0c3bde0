"""Closed forms of interactions against enumeration; designs and quadrature of the adjusted estimator."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from esv_ray.core.keyed import binned_permutation, derive_key, normals
from esv_ray.core.regression.design import draw, nodes, quadrature
from esv_ray.core.regression.interactions import FloatArray, Interactions, interactions


def all_of(n: int, k: int) -> FloatArray:
    out = np.zeros((comb(n, k), n))
    for row, chosen in enumerate(combinations(range(n), k)):
        out[row, list(chosen)] = 1
    return out


SETS = [interactions(6, 3), interactions(7, 3, bins=3), interactions(8, 3, bins=4, triple_bins=2), interactions(5, 1)]


@pytest.mark.parametrize("features", SETS)
def test_features_are_sums_of_products_of_distinct_elements(features: Interactions) -> None:
    n, k = features.n, 3
    member = all_of(n, k)[:20]
    found = features.features(member, k)
    x = (member - k / n) / np.sqrt(k / n * (1 - k / n))
    column = 1 + n
    for d in range(2, features.order + 1):
        for bins in features.products(d):
            terms = [
                np.prod(x[:, list(chosen)], axis=1)
                for chosen in combinations(range(n), d)
                if sorted(features.bins_of(d)[list(chosen)]) == list(bins)
            ]
            np.testing.assert_allclose(found[:, column], sum(terms) / np.sqrt(comb(n, d)), atol=1e-12)
            column += 1
    assert column == found.shape[1] == sum(features.counts())


@pytest.mark.parametrize("features", SETS)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_contrasts_are_differences_of_means(features: Interactions, k: int) -> None:
    member = all_of(features.n, k)
    values = features.features(member, k)
    for element in range(features.n):
        inside = member[:, element] > 0
        expected = values[inside].mean(axis=0) - values[~inside].mean(axis=0)
        np.testing.assert_allclose(features.contrasts(k)[element], expected, atol=1e-12)


@pytest.mark.parametrize("features", [interactions(6, 2), interactions(7, 2, bins=3), interactions(8, 1)])
@pytest.mark.parametrize(("s", "k"), [(1, 3), (2, 3), (3, 3), (2, 5)])
def test_means_over_subsets_are_the_same_expression(features: Interactions, s: int, k: int) -> None:
    """Mean over the s-subsets T of X of a function of T, from the means b, a, c applied to X."""
    n = features.n
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=sum(features.counts()))
    means = features.to_means(s, coefficients[:, None])[:, 0]
    small, large = all_of(n, s), all_of(n, k)
    values = features.features(small, s) @ coefficients
    inside = (small @ large.T == s).astype(float)  # (T, X)
    expected = inside.T @ values / comb(k, s)
    held = np.stack(
        [large[:, np.flatnonzero(features.bins_of(2) == g)].sum(axis=1) for g in range(max(features.bins) + 1)]
    )
    pairs = features.products(2) if features.order > 1 else np.zeros((0, 2), dtype=int)
    counts = [held[g] * (held[h] - 1) / 2 if g == h else held[g] * held[h] for g, h in pairs]
    found = large @ means[:n] / k + means[n]
    for weight, count in zip(means[n + 1 :], counts, strict=True):
        found = found + weight * count * 2 / max(k * (k - 1), 1)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(features.mean_features(large, k) @ means, expected, atol=1e-10)
    for element in range(n):
        has = large[:, element] > 0
        own = (means[element] - means[:n].mean()) * n / (n - 1) / k
        own += features.pair_contrasts(k)[features.bins_of(2)[element]] @ means[n + 1 :]
        np.testing.assert_allclose(own, expected[has].mean() - expected[~has].mean(), atol=1e-10)


@pytest.mark.parametrize(("n", "k"), [(9, 4), (12, 1), (12, 11), (40, 8), (40, 32), (300, 150), (70, 69)])
def test_draws_are_distinct_nested_and_balanced(n: int, k: int) -> None:
    count = 4 * n
    rows = draw(n, k, count, seed=3)
    assert rows.shape == (min(count, comb(n, k)), n)
    assert (rows.sum(axis=1) == k).all()
    assert len(np.unique(rows, axis=0)) == len(rows)
    if len(rows) < comb(n, k):
        assert (draw(n, k, count // 2, seed=3) == rows[: count // 2]).all()
    assert rows.sum(axis=0).max() - rows.sum(axis=0).min() <= n
    if k == 8:
        assert len(set(rows.sum(axis=0).tolist())) == 1, "whole cycles hold every element equally often"
        assert not (draw(n, k, count, seed=4) == rows).all()


@pytest.mark.parametrize("n", [2, 3, 9, 16, 64, 500])
def test_quadrature_is_exact_for_smooth_functions(n: int) -> None:
    sizes = nodes(n)
    assert sizes == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == n - 1
    weights = quadrature(n, sizes)
    assert len(sizes) <= 40
    for power in range(4):
        values = np.log(np.arange(1, n)) ** power
        assert weights @ values[np.array(sizes) - 1] == pytest.approx(values.sum(), rel=1e-9)
    decay = 1 / np.arange(1, n)
    assert weights @ decay[np.array(sizes) - 1] == pytest.approx(decay.sum(), rel=1e-4)


def test_quadrature_does_not_look_across_a_kink() -> None:
    sizes = nodes(16)
    assert 9 not in sizes
    values = np.where(np.arange(1, 16) < 8, 7.0, np.log(np.arange(1, 16)) ** 3)
    weights = quadrature(16, sizes, smooth_from=8)
    assert weights @ values[np.array(sizes) - 1] == pytest.approx(values.sum(), rel=1e-12)
    assert quadrature(16, sizes) @ values[np.array(sizes) - 1] != pytest.approx(values.sum(), rel=1e-5)


def test_binned_permutations_keep_bins_together() -> None:
    bins = np.array([0, 0, 1, 1, 1, 2, 2, 3])
    seen = set()
    for index in range(200):
        found = binned_permutation(derive_key(index), bins)
        assert sorted(found.tolist()) == list(range(8))
        images = [set(bins[found[bins == g]].tolist()) for g in range(4)]
        assert all(len(image) == 1 for image in images)
        assert images[1] == {1}
        assert images[3] == {3}
        seen.add(tuple(found.tolist()))
    assert len(seen) == 2 * 2 * 2 * 6, "all of them occur"


def test_normals() -> None:
    found = normals(derive_key("normals"), 20_000)
    assert abs(found.mean()) < 0.04
    assert found.var() == pytest.approx(1, abs=0.05)
    assert (normals(derive_key("normals"), 20_000) == found).all()
