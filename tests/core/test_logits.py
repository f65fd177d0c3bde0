"""ESVs in logits: brute force, Shapley's laws, no bias, coverage, and contrasts of classes in every output."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.exact.attribution import attribute
from esv_ray.core.games.model import VideoModel, characteristic_game, multiscale_model, variable_length_model
from esv_ray.core.games.modules import Average
from esv_ray.core.logit.plan import build_logit, scale_weights
from esv_ray.core.scales import equal_scales
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator, Kind, Output
from esv_ray.models.explain import explain
from tests.conftest import make_heads, make_prior
from tests.support.oracle import esv_by_orders, module_game, multiscale_game
from tests.support.plans import plan_exact

MODEL = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=4), seed=3)


class Pooled(nn.Module):
    """Takes any length, and is neither additive nor blind to order."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).tanh().amax(dim=1)) + x[:, 0, :3] - x[:, -1, :3] / x.shape[1]
        return out


def features_of(videos: int, n: int, dim: int = 6) -> Tensor:
    return 2 * torch.randn((videos, n, dim), generator=torch.Generator().manual_seed(videos * 1000 + n))


def run(
    model: VideoModel,
    features: Tensor,
    *,
    kind: Kind = "exact",
    m: int = 64,
    iterations: int = 1,
    output: Output = "logit",
    seed: int = 0,
) -> Attribution:
    """All videos in one batch."""
    engine = Engine(
        model, Estimator(kind, m, iterations, seed, output=output), memory_budget=2**32, batch=len(features)
    )
    count, n, _ = features.shape
    ((_, found),) = engine.attributions([n] * count, [f"video {i}" for i in range(count)], lambda some: features[some])
    return found


# --- exact


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_heads_are_brute_force(n: int) -> None:
    heads, features = make_heads(), features_of(2, n, 4)
    model = multiscale_model(heads, make_prior(3), feature_dim=4)
    found = run(model, features)
    assert found.evaluations == sum(comb(n, s) for s in range(1, min(n, 3) + 1)), "nothing beyond the longest head"
    for b in range(2):
        expected = esv_by_orders(multiscale_game(heads, features[b], model.prior, logits=True), n)
        assert np.abs(found.esv[b].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("n", [1, 2, 5])
def test_models_of_any_length_are_brute_force(n: int) -> None:
    average = Average(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), torch.ones(3), input_relu=True)
    module, features = Pooled().eval(), features_of(2, n, 4)
    mean = VideoModel(average, make_prior(3), 4)
    for model, plain in (
        (variable_length_model(module, make_prior(3), feature_dim=4), module),
        (mean, lambda x: (x.relu() @ average.weight.T + average.bias).mean(dim=1)),
    ):
        found = run(model, features)
        for b in range(2):
            expected = esv_by_orders(module_game(plain, features[b], model.prior, logits=True), n)  # type: ignore[arg-type]
            assert np.abs(found.esv[b].numpy() - expected).max() < 1e-5


def test_the_closed_form_is_the_lattice_without_a_softmax() -> None:
    model = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=70, n_max=4), seed=1)  # with idle columns
    features = features_of(3, 9)
    plan = plan_exact(9, scales=equal_scales(4)).to(model.device, model.dtype)
    slow, fast = attribute(model, features, plan, output="logit"), run(model, features)
    assert (slow.esv - fast.esv).abs().max() < 1e-5
    assert (slow.scores - fast.scores).abs().max() < 1e-5
    assert max(slow.gaps.max(), fast.gaps.max()) < 1e-5


@pytest.mark.parametrize("kind", ["exact", "adjusted"])
@pytest.mark.parametrize("n", [1, 2, 7, 13])
def test_efficiency_in_logits(kind: Kind, n: int) -> None:
    found = run(MODEL, features_of(3, n), kind=kind, m=16)
    assert (found.esv.sum(dim=1) - (found.scores - MODEL.prior.log().float())).abs().max() < 1e-5
    assert found.gaps.max() < 1e-5


def test_long_sequences_with_short_heads_are_exact() -> None:
    model = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=2), seed=2)
    found = run(model, features_of(1, 80))
    assert (found.exact, found.evaluations) == (True, 80 + comb(80, 2))
    auto = run(model, features_of(1, 80), kind="auto", m=1024, iterations=4)
    assert torch.equal(auto.esv, found.esv), "auto sees that it is affordable"


def test_the_weights_of_scales() -> None:
    """Heads that are means of their elements' numbers x play the game of the mean, whose ESVs are known."""
    for n, n_max in ((5, 2), (9, 9), (40, 8), (7, None)):
        weights = scale_weights(n, equal_scales(n_max) if n_max else None)
        assert len(weights) == min(n, n_max or n)
        # D_s of the mean of T over elements is (x_i - mean of others) / s.
        x = np.random.default_rng(n).standard_normal(n)
        others = (x.sum() - x) / (n - 1)
        contrasts = sum(w * (x - others) / s for s, w in enumerate(weights, start=1))
        phi = x.mean() / n + contrasts
        harmonic = sum(1 / k for k in range(1, n + 1))
        expected = [  # the mean game in closed form
            harmonic * x[i] / n - (harmonic - 1) * others[i] / n for i in range(n)
        ]
        assert np.abs(phi - expected).max() < 1e-12


# --- sampled


@pytest.mark.parametrize("model", [MODEL, variable_length_model(Pooled(), make_prior(3), feature_dim=4)])
@pytest.mark.parametrize("m", [1, 12, 40])
def test_no_bias(model: VideoModel, m: int) -> None:
    """The mean over 3,000 relabellings is the exact value, for every element and class.

    z of each of at most 45 means; one beyond 5.5 happens by chance once in 500,000 runs. Seen are biases of a tenth of
    the standard deviation of one estimate.
    """
    model = deepcopy(model).to(dtype=torch.float64)
    features = features_of(1, 9, model.feature_dim).double()
    wanted = run(model, features).esv
    found = run(model, features.expand(3000, -1, -1), kind="adjusted", m=m)
    assert not found.exact
    z = (found.esv.mean(dim=0) - wanted[0]) / (found.esv.std(dim=0) / 3000**0.5)
    assert z.abs().max() < 5.5
    off, spread = found.scores.mean(dim=0) - run(model, features).scores[0], found.scores.std(dim=0)
    assert (off.abs() <= 5.5 * spread / 3000**0.5 + 1e-12).all()


def test_nearly_everything_is_nearly_exact() -> None:
    features = features_of(4, 11)
    wanted = run(MODEL, features).esv
    errors = [
        float((run(MODEL, features, kind="adjusted", m=m).esv - wanted).abs().mean()) for m in (20, 80, 240, 329, 330)
    ]
    assert all(after < before for before, after in pairwise(errors))
    assert errors[-2] < 0.02 * errors[0]
    assert errors[-1] == 0, "m = C(11, 4) leaves none out"


def test_it_beats_algorithm_1_without_a_softmax() -> None:
    features = features_of(20, 14)
    wanted = run(MODEL, features).esv
    for m in (16, 64, 256):
        ours = (run(MODEL, features, kind="adjusted", m=m).esv - wanted).abs().mean()
        theirs = (run(MODEL, features, kind="algorithm1", m=m).esv - wanted).abs().mean()
        assert ours < theirs / 2


def test_nominal_intervals_cover() -> None:
    features = features_of(60, 14)
    wanted = run(MODEL, features).esv
    for m in (32, 64, 256):
        found = run(MODEL, features, kind="adjusted", m=m)
        assert found.stderr is not None
        inside = (found.esv - wanted).abs() <= 1.96 * found.stderr
        assert 0.90 <= inside.double().mean() <= 0.98, m


def test_additive_games_are_exact_from_few_subsequences() -> None:
    average = Average(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)), torch.ones(3), input_relu=False)
    model = VideoModel(average, make_prior(3), 6)
    features = features_of(3, 12)
    found = run(model, features, kind="adjusted", m=40)
    assert not found.exact
    assert (found.esv - run(model, features).esv).abs().max() < 1e-5


@pytest.mark.parametrize("n", [1, 2, 3, 17, 49, 130])
def test_any_size(n: int) -> None:
    found = run(MODEL, features_of(2, n), kind="adjusted", m=5)
    assert found.esv.isfinite().all()
    assert found.gaps.max() < 1e-4
    assert found.stderr is None, "five subsequences a length tell nothing about what they miss"
    told = run(MODEL, features_of(2, n), kind="adjusted", m=20)
    assert told.exact or (told.stderr is not None and (told.stderr > 0).all())


def test_a_plan_has_the_same_bits_with_any_number_of_threads() -> None:
    threads, plans = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with threadpool_limits(count):
                plans.append(build_logit(16, rows=256, seed=0, scales=equal_scales(6)).tensors())
    finally:
        torch.set_num_threads(threads)
    assert plans[0].keys() == plans[1].keys()
    assert all(torch.equal(tensor, plans[1][name]) for name, tensor in plans[0].items())


def test_every_element_is_in_and_out_of_some() -> None:
    plan = build_logit(30, rows=3, seed=0, scales=equal_scales(4))
    for scale in plan.scales:
        held = scale.member[:30].sum(dim=1)
        assert held.min() >= 1
        assert held.max() < len(scale)


# --- contrasts of classes


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("kind", ["algorithm1", "adjusted"])
def test_standard_errors_of_a_difference(kind: Kind, output: Output) -> None:
    """They cover as those of a class do, and are not the sum of the parts."""
    features = features_of(60, 12)
    inside, parts, errors, claimed = [], [], [], []
    exact = explain(MODEL, list(features), estimator="exact", output=output)
    sampled = explain(MODEL, list(features), estimator=kind, m=20, iterations=8, output=output)
    for wanted, found in zip(exact, sampled, strict=True):
        a, b = wanted.scores.topk(2).indices.tolist()
        difference = found.contrast(a, b)
        assert torch.equal(difference.esv, found.esv[:, a] - found.esv[:, b])
        assert difference.stderr is not None
        assert found.stderr is not None
        inside.append((difference.esv - wanted.contrast(a, b).esv).abs() <= 1.96 * difference.stderr)
        errors.append(difference.esv - wanted.contrast(a, b).esv)
        claimed.append(difference.stderr)
        parts.append(difference.stderr / (found.stderr[:, a].square() + found.stderr[:, b].square()).sqrt())
    assert torch.cat(inside).double().mean() > 0.85
    assert 0.7 < torch.cat(claimed).square().mean().sqrt() / torch.cat(errors).square().mean().sqrt() < 2
    if output == "probability":
        assert torch.cat(parts).mean() > 1.05, "what one class gains the other loses"


@pytest.mark.parametrize("kind", ["algorithm1", "adjusted"])
def test_of_two_classes_the_difference_is_twice_each(kind: Kind) -> None:
    """Their probabilities add up to one, so that their errors are each other's negatives."""
    model = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=2, n_max=3), seed=5)
    found = explain(model, features_of(1, 12)[0], estimator=kind, m=30, iterations=3)
    assert found.stderr is not None
    twice, none = found.contrast(0, 1).stderr, found.contrast(1, 1)
    assert twice is not None
    assert none.stderr is not None
    assert torch.allclose(twice, 2 * found.stderr[:, 0], rtol=1e-3)
    assert not none.esv.any()
    assert not none.stderr.any()
    with pytest.raises(SpecError, match="class: expected a class name or a number from 0 to 1, got 2"):
        found.contrast(0, 2)


def test_exact_differences_have_no_standard_errors() -> None:
    assert explain(MODEL, features_of(1, 6)[0], estimator="exact").contrast(0, 1).stderr is None


# --- refused


def test_what_has_no_logits() -> None:
    game = characteristic_game(lambda positions: positions.float().sum(dim=1, keepdim=True), torch.zeros(1))
    with pytest.raises(SpecError, match="returns values of its own, not logits"):
        run(game, torch.zeros((1, 4, 1)))
    prior = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
    model = multiscale_model(make_heads(), prior, feature_dim=4)
    with pytest.raises(SpecError, match=r"class 1 has 0: change the bundle's prior\.csv"):
        run(model, features_of(1, 4, 4))


def test_what_does_not_fit() -> None:
    pooled = variable_length_model(Pooled(), make_prior(3), feature_dim=4)
    with pytest.raises(SpecError, match=r"n = 2000 elements evaluate 2\^2000 - 1 subsequences"):
        Engine(pooled, Estimator("exact", output="logit"), memory_budget=2**30).budget.check(2000)
    with pytest.raises(SpecError, match=r"n = 200 elements evaluate 6\.6e\+07 subsequences and take .*; the largest n"):
        Engine(MODEL, Estimator("exact", output="logit"), memory_budget=2**30).budget.check(200)
    engine = Engine(MODEL, Estimator("auto", 2**20, 64, output="logit"), memory_budget=2**30)
    assert engine.budget.kind(60) == "exact"
