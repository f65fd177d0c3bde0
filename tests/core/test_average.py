"""TSN over probabilities: every estimator against brute force, and the closed form."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from math import factorial

import pytest
import torch
from torch import Tensor

from esv_ray.core.games.model import VideoModel
from esv_ray.core.games.modules import Average
from esv_ray.errors import SpecError
from esv_ray.estimator import Kind
from esv_ray.models.explain import explain

D, C = 3, 4
PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def model_of(*, input_relu: bool = False, scale: float = 1.0) -> VideoModel:
    generator = torch.Generator().manual_seed(0)
    weight = scale * torch.randn((C, D), generator=generator, dtype=torch.float64)
    bias = torch.randn(C, generator=generator, dtype=torch.float64)
    return VideoModel(Average(weight, bias, input_relu=input_relu, over="probabilities"), PRIOR, D)


def probabilities_of(model: VideoModel, features: Tensor) -> Tensor:
    """Each element's class probabilities (n, C)."""
    assert isinstance(model.scorer, Average)
    elements = features.relu() if model.scorer.input_relu else features
    return (elements @ model.scorer.weight.T + model.scorer.bias).softmax(dim=1)


def brute_force(probabilities: Tensor) -> Tensor:
    """ESVs (n, C): the mean over all orders in which elements join."""
    n = len(probabilities)
    esv = torch.zeros((n, C), dtype=torch.float64)
    for order in permutations(range(n)):
        before = PRIOR
        for place, element in enumerate(order, start=1):
            value = probabilities[list(order[:place])].mean(dim=0)
            esv[element] += value - before
            before = value
    return esv / factorial(n)


def closed_form(probabilities: Tensor) -> Tensor:
    n = len(probabilities)
    harmonic = float(sum(Fraction(1, k) for k in range(1, n + 1)))
    others = (probabilities.sum(dim=0) - probabilities) / max(1, n - 1)
    spread = (probabilities - others) * (harmonic - 1) if n > 1 else 0
    return ((probabilities - PRIOR) + spread) / n


def features_of(n: int) -> Tensor:
    return torch.randn((n, D), generator=torch.Generator().manual_seed(n), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["auto", "exact", "adjusted", "algorithm1"])
@pytest.mark.parametrize("input_relu", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_every_estimator_is_brute_force(kind: Kind, input_relu: bool, n: int) -> None:
    model, features = model_of(input_relu=input_relu), features_of(n)
    result = explain(model, features, estimator=kind)
    expected = brute_force(probabilities_of(model, features))
    assert torch.allclose(result.esv, expected, rtol=0, atol=1e-12)
    assert torch.allclose(result.scores, probabilities_of(model, features).mean(dim=0), rtol=0, atol=1e-12)
    assert result.exact
    assert result.stderr is None


@pytest.mark.parametrize("kind", ["auto", "exact", "adjusted"])
@pytest.mark.parametrize("n", [7, 40, 1000])
def test_any_length_is_exact_with_one_evaluation_per_element(kind: Kind, n: int) -> None:
    model, features = model_of(scale=3.0), features_of(n)
    result = explain(model, features, estimator=kind, m=1, iterations=1)
    assert result.exact
    assert result.evaluations == n
    assert torch.allclose(result.esv, closed_form(probabilities_of(model, features)), rtol=0, atol=1e-12)
    assert torch.allclose(result.esv.sum(dim=0), result.scores - PRIOR, rtol=0, atol=1e-12)


def test_algorithm1_samples_on_request() -> None:
    """The paper's sampling stays available; it estimates the same values."""
    model, features = model_of(), features_of(20)
    exact = explain(model, features, estimator="exact").esv
    errors = []
    for m in (20, 200):
        sampled = explain(model, features, estimator="algorithm1", m=m, iterations=8)
        assert not sampled.exact
        errors.append(float((sampled.esv - exact).abs().mean()))
    assert errors[1] < errors[0] < float(exact.abs().mean())


def test_there_are_no_logits() -> None:
    with pytest.raises(SpecError, match="mean of probabilities, not logits; use output probability"):
        explain(model_of(), features_of(3), output="logit")
