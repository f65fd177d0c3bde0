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
    for_several,
    mean_of,
    mean_stderr,
    means,
    newcombe,
    replicates_for,
    resampling_weights,
    wilson,
)
from esv_ray.analysis.student import quantile, small_sample_factor


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
    assert found.low == pytest.approx(np.quantile(drawn, 0.025, axis=0), abs=3e-5)  # wider by 4 in 10,000
    assert found.high == pytest.approx(np.quantile(drawn, 0.975, axis=0), abs=3e-5)


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


COVERAGE = {3: 0.93, 4: 0.93, 5: 0.93, 10: 0.92, 30: 0.92, 100: 0.92}  # at least, of 600 draws
SKEWED = {3: 0.86, 4: 0.89, 5: 0.88, 10: 0.89, 30: 0.91, 100: 0.92}


@pytest.mark.parametrize("videos", COVERAGE)
def test_coverage(videos: int) -> None:
    """95 % intervals cover the true mean about as often as they should, of few videos too.

    Those of shares of a rare event do too, unless no video has it: then there is no interval.
    """
    rng = np.random.default_rng(videos)
    rare = (rng.random((videos, 600)) < 0.05).astype(float)
    columns = np.concatenate([rng.normal(size=(videos, 600)), rng.exponential(size=(videos, 600)), rare], axis=1)
    covered = np.zeros(1800, bool)
    known = np.zeros(1800, bool)
    true = np.repeat([0, 1, 0.05], 600)
    for start in range(0, 1800, 100):  # other resamples
        part = slice(start, start + 100)
        found = mean_of([f"{start} {number}" for number in range(videos)], columns[:, part])
        covered[part] = (found.low <= true[part]) & (found.high >= true[part])
        known[part] = ~np.isnan(found.low)
    assert known[:1200].all()
    assert (known[1200:] == (rare.min(axis=0) < rare.max(axis=0))).all()
    normal, skewed, of_rare = np.split(covered, 3)
    assert COVERAGE[videos] < normal.mean() < 0.985
    assert SKEWED[videos] < skewed.mean() < 0.98
    assert of_rare[known[1200:]].mean() > 0.93


def test_few_videos_have_an_interval_like_students() -> None:
    """Of normal values, about as wide as the t interval; at 3 videos or more."""
    rng = np.random.default_rng(5)
    for videos, t in ((3, 4.3027), (4, 3.1824), (10, 2.2622)):
        values = rng.normal(size=(videos, 300))
        found = mean_of(ids(videos), values)
        student = 2 * t * values.std(axis=0, ddof=1) / videos**0.5
        assert 0.95 < np.mean((found.high - found.low) / student) < 1.35


def test_students_quantiles() -> None:
    """Values of printed tables; and the two formulas meet."""
    for freedom, t in ((1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (120, 1.9799)):
        assert quantile(freedom, 0.95) == pytest.approx(t, abs=5e-5)
    assert quantile(10, 0.99) == pytest.approx(3.1693, abs=5e-5)
    assert quantile(200, 0.999) == pytest.approx(quantile(201, 0.999), rel=1e-4)
    assert quantile(10**9, 0.95) == pytest.approx(1.959964, abs=1e-6)
    assert small_sample_factor(10**6, 0.95) == pytest.approx(1, abs=1e-5)


def test_equal_values_have_no_interval() -> None:
    """No spread was seen, so none is known: 5 of 5 equal values do not prove that all are."""
    rng = np.random.default_rng(6)
    found = mean_of(ids(9), np.stack([np.full(9, 0.1), rng.random(9)], axis=1))
    assert found.mean[0] == pytest.approx(0.1)
    assert np.isnan([found.low[0], found.high[0]]).all()
    assert found.low[1] < found.mean[1] < found.high[1]


def test_newcombe() -> None:
    """The published example (Newcombe 1998, Table II); and a width where no video changes sides."""
    assert newcombe(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = newcombe(10, 0, 0, 0)
    assert -0.3 < low < -0.2
    assert high == pytest.approx(-low)
    assert np.isnan(newcombe(0, 0, 0, 0)).all()


@given(st.tuples(*[st.integers(0, 200)] * 4).filter(any))
def test_newcombe_laws(counts: tuple[int, int, int, int]) -> None:
    """The difference is inside, the ends are differences of shares, and the other way round they are mirrored."""
    both, only_a, only_b, neither = counts
    low, high = newcombe(*counts)
    assert -1 <= low <= (only_b - only_a) / sum(counts) <= high <= 1
    assert low < high
    assert newcombe(both, only_b, only_a, neither) == pytest.approx((-high, -low), abs=1e-12)
    assert newcombe(neither, only_a, only_b, both) == pytest.approx((low, high), abs=1e-9)  # of the complements


@pytest.mark.slow
def test_newcombe_covers() -> None:
    """Of 20 pairs of shares that agree often; the bootstrap has no width in one of three draws of the last."""
    rng = np.random.default_rng(7)
    for shares in ([0.4, 0.1, 0.1, 0.4], [0.7, 0.05, 0.15, 0.1], [0.9, 0.03, 0.03, 0.04]):
        drawn = rng.multinomial(20, shares, size=2000)
        ends = np.array([newcombe(*map(int, row)) for row in drawn])
        true = shares[2] - shares[1]
        assert 0.93 < np.mean((ends[:, 0] <= true) & (true <= ends[:, 1])) <= 1


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
    two = mean_of(["a", "b"], [[0.0], [1.0]])
    assert two.mean[0] == 0.5
    assert np.isnan([two.low[0], two.high[0]]).all()
    three = mean_of(["a", "b", "c"], [[0.0], [1.0], [0.0]])  # some resamples draw none
    assert three.low[0] < 0 < 1 < three.high[0]
    none = mean_of([], np.zeros((0, 1)))
    assert np.isnan(none.mean).all()


@pytest.mark.slow
def test_the_largest_of_many_means_of_noise_is_not_clear_of_0() -> None:
    """Of 60 means of noise some 95 % interval excludes 0 nearly always; one that holds for all of them, rarely."""
    rng = np.random.default_rng(8)
    alone, together = 0, 0
    for draw in range(60):
        found = mean_of([f"{draw} {number}" for number in range(8)], rng.normal(size=(8, 60)))
        ends = [for_several(*each, 8, 60) for each in zip(found.mean, found.low, found.high, strict=True)]
        alone += bool(((found.low > 0) | (found.high < 0)).any())
        together += any(low > 0 or high < 0 for low, high in ends)
    assert alone > 45
    assert together < 12
    assert for_several(0.5, 0.2, 0.9, 8, 1) == pytest.approx((0.2, 0.9))
    wider = for_several(0.5, 0.2, 0.9, None, 20)
    assert wider == pytest.approx((0.5 - 0.3 * 3.0233 / 1.95996, 0.5 + 0.4 * 3.0233 / 1.95996), abs=1e-3)


def test_replicates_are_bounded() -> None:
    assert replicates_for(0) == replicates_for(2000) == REPLICATES
    assert FEWEST_REPLICATES <= replicates_for(50_000) < REPLICATES
    assert replicates_for(10**7) == 0
    sums = Sums.empty(1, 0)
    sums.add(np.ones((3, 1)), np.ones((3, 0), np.float32))
    assert means(sums).mean[0] == 1
    assert np.isnan(means(sums).low).all()
