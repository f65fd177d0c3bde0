"""Standard errors of `adjusted` for confident models: coverage, stability, and the parts that they are made of."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from esv_ray.bench.coverage import Covered, cover, sharpened, truth_of
from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.core.regression.estimates import mean_differences
from esv_ray.core.regression.interactions import BoolArray, interactions
from esv_ray.core.regression.noise import HeadNoise, change_weight, noise_of, probes
from esv_ray.core.regression.surrogate import Fit, fit_head, of_heads
from esv_ray.core.spread import Spread
from esv_ray.estimator import Estimator


def model_of(factor: float) -> VideoModel:
    return sharpened(random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=6), seed=3), factor)


def features_of(videos: int, n: int) -> torch.Tensor:
    return 2 * torch.randn((videos, n, 6), generator=torch.Generator().manual_seed(n))


def all_of(n: int, k: int) -> BoolArray:
    out = np.zeros((len(list(combinations(range(n), k))), n), dtype=np.bool_)
    for row, chosen in enumerate(combinations(range(n), k)):
        out[row, list(chosen)] = True
    return out


def covered(factor: float, n: int, m: int, *, names: int) -> Covered:
    model = model_of(factor)
    found = cover(model, truth_of(model, features_of(6, n)), m, names=names, seeds=2)
    assert found is not None
    return found


@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_intervals_cover_whatever_the_confidence(factor: float) -> None:
    """With the softmax's slope at single subsequences alone, 95 % intervals of the confident one cover 60 %."""
    found = covered(factor, 10, 48, names=4)
    assert found.share > 0.93
    assert found.largest > 0.9
    assert found.stderr < 2.5 * found.error, "wider is allowed, but not without limit"


@pytest.mark.slow
@pytest.mark.parametrize("factor", [3.0, 30.0, 1e3])
@pytest.mark.parametrize(("n", "m"), [(10, 100), (12, 256)])
def test_intervals_cover_every_class(factor: float, n: int, m: int) -> None:
    found = covered(factor, n, m, names=6)
    assert found.share > 0.93
    assert found.least_class > 0.9
    assert found.largest > 0.9


@pytest.mark.slow
def test_standard_errors_of_confident_models_are_elements_own() -> None:
    """Elements with large ESVs have larger errors there."""
    model = sharpened(random_model(Dimensions(feature_dim=12, hidden=32, n_classes=6)), 1e3)
    features = 2 * torch.randn((6, 12, 12), generator=torch.Generator().manual_seed(12))
    found = cover(model, truth_of(model, features), 64, names=12, seeds=2)
    assert found is not None
    assert found.own > 0.3


def test_standard_errors_do_not_depend_on_which_subsequences_lie_near_a_jump() -> None:
    """Those of one video under many names are of one size, however steep the softmax is."""
    model, one = model_of(1e4), features_of(1, 10)
    engine = Engine(model, Estimator("adjusted", 48, 1), memory_budget=2**32)
    ids = [f"name {i}" for i in range(24)]
    parts = [
        found.stderr for _, found in engine.attributions([10] * 24, ids, lambda some: one.expand(len(some), -1, -1))
    ]
    predicted = (
        engine.plan(10)
        .apply(model, one, output="probability", relabelling=None, workspace=engine._memory.workspace)
        .scores.argmax()
    )
    stderr = torch.cat([part for part in parts if part is not None]).mean(dim=1)[:, predicted]
    assert stderr.max() < 4 * stderr.min()


@pytest.mark.parametrize(("n", "k"), [(6, 1), (7, 3), (8, 7)])
def test_the_weight_of_changes_is_the_variance_of_a_difference_of_means(n: int, k: int) -> None:
    operator = mean_differences(all_of(n, k))
    variances = (operator * 0.7 / n) ** 2
    assert change_weight(n, k, operator.shape[1], 0.7) == pytest.approx(variances.sum(axis=1)[0], rel=1e-12)
    assert change_weight(n, n, 1, 1.0) == pytest.approx(1 / n**2), "the full sequence: shared by all elements"


def test_contrasts_of_a_complete_head_measure_what_its_surrogate_leaves_out() -> None:
    n, s = 9, 4
    member, rng = all_of(n, s), np.random.default_rng(0)
    expected = of_heads(n, 256)
    fit = fit_head(member, s, 1.0, expected, seed=0)
    assert not fit.errors.any()
    values = expected.features.features(member, s)[:, : sum(expected.features.counts()[:3])]
    drawn = rng.normal(size=(len(member), 400))
    left = drawn - values @ np.linalg.lstsq(values, drawn, rcond=None)[0]
    rank = np.linalg.matrix_rank(values)
    variance = (left**2).sum(axis=0).mean() / (len(member) - rank)
    found = ((fit.contrasts @ drawn) ** 2).mean() * fit.rest
    # Contrasts divide by N - P, and the features are P, of which some depend on each other.
    assert found == pytest.approx(variance * (len(member) - rank) / (len(member) - values.shape[1]), rel=0.1)
    low = values @ rng.normal(size=(values.shape[1], 3))
    assert np.abs(fit.contrasts @ low).max() < 1e-4 * np.abs(low).max(), "interactions of two are not left out"


def test_noise_has_the_variance_of_its_parts() -> None:
    """Of a head of scale 5 at length 7, with a rest alone: 2 C(5, 4) / C(7, 4); of F's head what is carried over."""
    features = interactions(10, 2)
    terms = 1 + 10 + len(features.products(2))
    fit = Fit(np.zeros((terms, 1)), np.zeros((8, 1)), np.zeros((terms, 8)), rest=2.0)
    member = np.repeat(all_of(10, 7), 50, axis=0)
    noise = noise_of(member, 7, [HeadNoise(5, fit)], features, borrowed=0.0, divisor=3.0, seed=0)
    assert noise is not None
    contrasts = np.ones(8)
    assert (noise.scores @ contrasts).var() == pytest.approx(2 * 5 / 35 / 9, rel=0.05)
    np.testing.assert_allclose((noise.signs**2).sum(axis=1), 1)
    own = noise_of(member, 7, [HeadNoise(7, fit)], features, borrowed=0.5, divisor=1.0, seed=0)
    assert own is not None
    assert (own.scores @ contrasts).var() == pytest.approx(0.25 * 2, rel=0.05)
    assert noise_of(member, 7, [HeadNoise(7, fit)], features, borrowed=0.0, divisor=1.0, seed=0) is None


@pytest.mark.parametrize("count", [1, 12, 130, 257, 4096])
def test_probes_are_distinct_and_spread(count: int) -> None:
    found = probes(count)
    assert len(set(found.tolist())) == min(count, 32, max(8, count // 16))
    assert found.max() < count
    assert np.diff(found, append=count).max() <= -(-count // len(found))


def test_the_own_part_of_a_difference_is_that_of_the_difference() -> None:
    rows, esv = torch.zeros((1, 2, 3)), torch.tensor([[[0.3, -0.1, 0.0]], [[0.2, 0.2, 0.1]]])
    spread = Spread(rows, torch.ones((1, 1)), None, own=torch.tensor([0.5, 0.1]))
    torch.testing.assert_close(spread.stderr(esv), esv.abs() * torch.tensor([0.5, 0.1])[:, None, None])
    difference = spread.contrast(esv, torch.tensor([0, 0]), torch.tensor([1, 1]))
    torch.testing.assert_close(difference, torch.tensor([[0.2], [0.0]]))
    torch.testing.assert_close(spread.take(torch.tensor([1])).stderr(esv[1:]), esv[1:].abs() * 0.1)
