"""Intervals: known values, laws, coverage, and that nothing depends on batches or on the order of videos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.analysis.statistics import (
    FEWEST_REPLICATES,
    REPLICATES,
    Sums,
    mean_of,
    mean_stderr,
    means,
    replicates_for,
    resampling_weights,
    wilson,
)


def ids(count: int) -> list[str]:
    return [f"video {number}" for number in range(count)]


def test_wilson_is_the_score_interval() -> None:
    """The ends solve |share - p| = z sqrt(p (1 - p) / n), by which Wilson defines them."""
    k, n = np.array([15, 0, 20, 1]), np.array([20, 20, 20, 1])
    for p, outer in zip(wilson(k, n), (k == 0, k == n), strict=True):
        assert np.abs(k / n - p)[~outer] == pytest.approx((1.959964 * np.sqrt(p * (1 - p) / n))[~outer], abs=1e-6)
    assert wilson(0, 20)[0] == 0
    assert wilson(20, 20)[1] == 1


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_laws(counts: tuple[int, int]) -> None:
    """The share is inside, the ends are shares, and the complement has the mirrored interval."""
    k, n = counts
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert low < high
    other_low, other_high = wilson(n - k, n)
    assert 1 - other_high == pytest.approx(low, abs=1e-12)
    assert 1 - other_low == pytest.approx(high, abs=1e-12)


def test_wilson_without_trials() -> None:
    assert np.isnan(wilson(0, 0)).all()


def test_weights_are_poisson() -> None:
    drawn = resampling_weights(ids(400), REPLICATES)
    assert drawn.shape == (400, REPLICATES)
    assert drawn.mean() == pytest.approx(1, abs=0.01)
    assert drawn.var() == pytest.approx(1, abs=0.02)
    for k, probability in enumerate([0.3679, 0.3679, 0.1839, 0.0613]):
        assert (drawn == k).mean() == pytest.approx(probability, abs=0.005)
    correlations = np.corrcoef(drawn)
    assert np.abs(correlations - np.eye(400)).max() < 5.5 / REPLICATES**0.5


def test_weights_depend_on_the_id_and_seed_alone() -> None:
    drawn = resampling_weights(ids(50), 30)
    assert np.array_equal(drawn[::-1], resampling_weights(ids(50)[::-1], 30))
    assert np.array_equal(drawn[:, :7], resampling_weights(ids(50), 7))
    assert not np.array_equal(drawn, resampling_weights(ids(50), 30, seed=1))


def test_means_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5000, 3))
    found = mean_of(ids(5000), values)
    assert found.mean == pytest.approx(values.mean(axis=0))
    weights = resampling_weights(ids(5000), REPLICATES).astype(float)
    drawn = np.array([np.average(values, axis=0, weights=column) for column in weights.T])
    assert found.low == pytest.approx(np.quantile(drawn, 0.025, axis=0))
    assert found.high == pytest.approx(np.quantile(drawn, 0.975, axis=0))


def test_batches_add_up() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.standard_normal((300, 2)), resampling_weights(ids(300), 50)
    whole, first, second = (Sums.empty(2, 50) for _ in range(3))
    whole.add(values, weights)
    first.add(values[:100], weights[:100])
    second.add(values[100:], weights[100:])
    first.include(second)
    fewer = Sums.empty(2, 20)
    fewer.add(values, weights[:, :20])
    second.keep_replicates(20)
    whole_of_fewer = Sums.empty(2, 50)
    whole_of_fewer.include(whole)
    whole_of_fewer.keep_replicates(20)
    for left, right in ((first, whole), (whole_of_fewer, fewer)):
        for name in ("videos", "total", "weight", "weighted"):
            assert getattr(left, name) == pytest.approx(getattr(right, name), rel=1e-5, abs=1e-5)


def test_coverage() -> None:
    """95 % intervals of 50 videos cover the true mean about as often as they should, although values are skewed."""
    rng = np.random.default_rng(2)
    columns = rng.exponential(size=(50, 400))
    found = mean_of(ids(50), columns)
    assert 0.88 < np.mean((found.low <= 1) & (found.high >= 1)) < 0.97


def test_interval_covers_sampling_errors() -> None:
    """Exact values without spread, and estimates of them: the interval is as wide as the error of their mean."""
    rng = np.random.default_rng(3)
    stderr = 0.1
    found = mean_of(ids(2000), stderr * rng.standard_normal((2000, 1)))
    expected = mean_stderr(2000 * stderr**2, 2000)
    assert (found.high - found.low)[0] == pytest.approx(2 * 1.96 * float(expected), rel=0.1)


def test_differences_are_paired() -> None:
    """Two methods that differ little on videos that differ much."""
    rng = np.random.default_rng(4)
    video = 10 * rng.standard_normal(500)
    a, b = video + rng.normal(0.1, 0.1, 500), video
    found = mean_of(ids(500), np.stack([a, b, a - b], axis=1))
    assert found.low[2] > 0.08
    assert (found.high - found.low)[0] > 1


def test_few_videos() -> None:
    one = mean_of(["a"], [[0.25]])
    assert one.mean[0] == 0.25
    assert np.isnan([one.low[0], one.high[0]]).all()
    two = mean_of(["a", "b"], [[0.0], [1.0]])  # some resamples draw neither
    assert (two.mean[0], two.low[0], two.high[0]) == (0.5, 0.0, 1.0)
    none = mean_of([], np.zeros((0, 1)))
    assert np.isnan(none.mean).all()


def test_replicates_are_bounded() -> None:
    assert replicates_for(0) == replicates_for(2000) == REPLICATES
    assert FEWEST_REPLICATES <= replicates_for(50_000) < REPLICATES
    assert replicates_for(10**7) == 0
    sums = Sums.empty(1, 0)
    sums.add(np.ones((3, 1)), np.ones((3, 0), np.float32))
    assert means(sums).mean[0] == 1
    assert np.isnan(means(sums).low).all()
