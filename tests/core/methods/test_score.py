"""F of whole sequences: the scores of an attribution, for every kind of model and estimator, and their gradients."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from esv_ray.core.engine import Engine
from esv_ray.core.games.model import characteristic_game
from esv_ray.core.methods.score import score_function
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator, Kind, Output
from tests.conftest import make_model
from tests.support.model_kinds import KINDS, PRIOR, has_logits, heads, model_of
from tests.support.pooled import C, D

KINDS_OF_ESTIMATORS: tuple[Kind, ...] = ("exact", "adjusted", "algorithm1")
IDS = ["a", "b", "c"]


def features_of(n: int, *, batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn((batch, n, D), generator=generator, dtype=torch.float64).to(dtype)


def engine_scores(model: object, estimator: Estimator, features: Tensor) -> Tensor:
    engine = Engine(model, estimator, memory_budget=2**30)  # type: ignore[arg-type]
    lengths = [features.shape[1]] * len(features)
    ((_, result),) = engine.attributions(lengths, IDS[: len(features)], lambda rows: features[rows])
    return result.scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", KINDS_OF_ESTIMATORS)
@pytest.mark.parametrize("output", ["probability", "logit"])
def test_scores_are_those_of_the_engine(kind: str, estimator: Kind, output: Output) -> None:
    model = model_of(kind)
    if output == "logit" and not has_logits(model):
        with pytest.raises(SpecError, match="output logit"):
            score_function(model, Estimator(estimator, output=output), 3)
        return
    for n in (1, 2, 5, 9):
        asked = Estimator(estimator, m=10, iterations=2, seed=3, output=output)
        features, function = features_of(n), score_function(model, asked, n)
        scores = function.scores(features, function.relabelling(IDS))
        assert (scores - engine_scores(model, asked, features)).abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_scores_in_float32(kind: str) -> None:
    model, features = model_of(kind, torch.float32), features_of(9, dtype=torch.float32)
    for estimator in KINDS_OF_ESTIMATORS:
        asked = Estimator(estimator, m=16, iterations=2)
        function = score_function(model, asked, 9)
        scores = function.scores(features, function.relabelling(IDS))
        assert (scores - engine_scores(model, asked, features)).abs().max() < 1e-5


@pytest.mark.parametrize("n", [3, 6])
def test_scores_are_equation_8(n: int) -> None:
    """The mean over scales of the mean over subsequences, from the heads as they were trained."""
    made = {s: head.double() for s, head in heads().items()}
    x = features_of(n, batch=1)
    means = [made[s](torch.stack([x[0, list(t)] for t in combinations(range(n), s)])).mean(dim=0) for s in (1, 2, 3)]
    function = score_function(model_of("multiscale"), Estimator("exact"), n)
    expected = torch.stack(means).mean(dim=0).softmax(dim=0)
    assert (function.scores(x, None)[0] - expected).abs().max() < 1e-7, "weights are folded in float32"


def test_a_game_of_positions_has_scores() -> None:
    game = characteristic_game(lambda positions: positions.double().sum(dim=1)[:, None], torch.zeros(1))
    function = score_function(game, Estimator("exact"), 4)
    assert function.scores(torch.zeros((2, 4, 1)), None).tolist() == [[6.0], [6.0]]
    whole, without = function.occluded_scores(torch.zeros((1, 4, 1)), None)
    assert (whole.tolist(), without[0, :, 0].tolist()) == ([[6.0]], [6.0, 5.0, 4.0, 3.0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", KINDS_OF_ESTIMATORS)
@pytest.mark.parametrize("output", ["probability", "logit"])
def test_gradients_are_finite_differences(kind: str, estimator: Kind, output: Output) -> None:
    model, n, step = model_of(kind), 7, 1e-6
    if output == "logit" and not has_logits(model):
        return
    function = score_function(model, Estimator(estimator, m=8, iterations=2, output=output), n)
    labels, x = function.relabelling(IDS), features_of(n).requires_grad_()
    along = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    mix = torch.tensor([0.3, -1.0, 0.5], dtype=x.dtype)
    (gradient,) = torch.autograd.grad((function.scores(x, labels) @ mix).sum(), x)
    with torch.no_grad():
        after, before = (function.scores(x + sign * step * along, labels) @ mix for sign in (1, -1))
    expected = (after - before) / (2 * step)  # (B,)
    assert ((gradient * along).sum(dim=(1, 2)) - expected).abs().max() < 1e-7 * (1 + expected.abs().max())
    assert gradient.any()


@pytest.mark.parametrize("kind", ["multiscale", "multiscale, two hidden layers", "python, mapping of heads"])
@pytest.mark.parametrize("estimator", KINDS_OF_ESTIMATORS)
def test_chunks_change_rounding_only(kind: str, estimator: Kind) -> None:
    model, asked = model_of(kind), Estimator(estimator, m=20, iterations=1)
    results = []
    for working_set in (2**15, 2**30):
        function = score_function(model, asked, 9, working_set=working_set)
        x = features_of(9).requires_grad_()
        scores = function.scores(x, function.relabelling(IDS))
        results.append((scores, *torch.autograd.grad(scores[:, 0].sum(), x)))
    (scores, gradient), (other_scores, other_gradient) = results
    assert (scores - other_scores).abs().max() < 1e-14
    assert (gradient - other_gradient).abs().max() < 1e-14


def test_shorter_than_every_head_has_the_value_of_nothing() -> None:
    model = model_of("multiscale, weights and gaps")
    function = score_function(model, Estimator("exact"), 1)
    x = features_of(1).requires_grad_()
    scores = function.scores(x, None)
    assert torch.allclose(scores, PRIOR.expand(3, C))
    (gradient,) = torch.autograd.grad(scores[:, 0].sum(), x)
    assert not gradient.any()


@pytest.mark.parametrize("n", [1, 4, 8])
def test_evaluations_are_those_of_the_heads(n: int) -> None:
    model = make_model(n_max=3)
    form = score_function(model, Estimator("exact"), n).form
    expected = {1: 1, 4: 4 + 6 + 4, 8: 8 + 28 + 56}[n]
    assert (form.evaluations(occluded=False), form.evaluations(occluded=True)) == (expected, expected)
    direct = score_function(model_of("python, any length"), Estimator("exact"), n).form
    assert (direct.evaluations(occluded=False), direct.evaluations(occluded=True)) == (1, 1 if n == 1 else n + 1)
