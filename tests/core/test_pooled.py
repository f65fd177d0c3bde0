"""Pooled models: every estimator against brute force on modules that see whole subsequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from esv_ray.core.games.model import VideoModel, pooled_model, variable_length_model
from esv_ray.core.games.pooled import CosinePooling
from esv_ray.estimator import Kind, Output
from esv_ray.models.explain import explain
from tests.support.oracle import esv_by_orders, module_game
from tests.support.pooled import CASES, C, Case, D, gated, query

PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def models_of(case: Case, dtype: torch.dtype = torch.float64) -> tuple[VideoModel, VideoModel]:
    """The pooled model, and that of the module."""
    pooled = pooled_model(case.pooling, PRIOR, feature_dim=D, width=case.width).to(dtype=dtype)
    return pooled, variable_length_model(case.module.to(dtype), PRIOR, feature_dim=D)


def features_of(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn((n, D), generator=torch.Generator().manual_seed(n), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_exact_is_brute_force(name: str, output: Output, n: int) -> None:
    case, features = CASES[name](), features_of(n)
    pooled, _ = models_of(case)
    result = explain(pooled, features, estimator="exact", output=output)
    game = module_game(case.module, features, PRIOR, logits=output == "logit")
    np.testing.assert_allclose(result.esv, esv_by_orders(game, n), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.scores, game(tuple(range(n))), rtol=0, atol=1e-12)
    assert result.exact


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["algorithm1", "adjusted"])
@pytest.mark.parametrize("output", ["probability", "logit"])
def test_sampling_evaluates_the_same_game(name: str, kind: Kind, output: Output) -> None:
    """The same subsequences of the same video: results equal those of the module, run on each subsequence."""
    features = features_of(11)
    results = [
        explain(model, features, estimator=kind, m=40, iterations=2, seed=3, output=output)
        for model in models_of(CASES[name]())
    ]
    assert not results[0].exact
    if (kind, output) == ("algorithm1", "logit"):
        assert results[0].stderr is not None
    # An unordered model relabels elements, an ordered one positions: the same subsequences, up to the order of sums.
    np.testing.assert_allclose(results[0].esv, results[1].esv, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_float32_and_batches(name: str) -> None:
    case = CASES[name]()
    features = [features_of(n, torch.float32) for n in (3, 6, 6, 6, 8)]
    pooled, module = models_of(case, torch.float32)
    together = explain(pooled, features, estimator="exact")
    for sequence, result in zip(features, together, strict=True):
        alone = explain(module, sequence, estimator="exact")
        np.testing.assert_allclose(result.esv, alone.esv, rtol=0, atol=2e-6)
        assert float((result.esv.sum(dim=0) - (result.scores - PRIOR)).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [30.0, 1000.0])
@pytest.mark.parametrize("make", [gated, lambda size: query(complete=True, size=size)], ids=["gated", "query"])
def test_large_attention_logits(make: type[Case], size: float) -> None:
    """Attention weights are relative to the largest of the sequence: no overflow, whatever the logits."""
    case, features = make(size=size), features_of(5, torch.float32)  # type: ignore[call-arg]
    pooled, module = models_of(case, torch.float32)
    result, expected = explain(pooled, features, estimator="exact"), explain(module, features, estimator="exact")
    assert result.esv.isfinite().all()
    if size < 100:
        np.testing.assert_allclose(result.esv, expected.esv, rtol=0, atol=2e-5)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=0, atol=2e-5)


def test_a_zero_element_has_no_direction() -> None:
    """CLIP: an element of zeros adds nothing, and a sequence of zeros has equal logits."""
    pooled, _ = models_of(CASES["CLIP"]())
    result = explain(pooled, torch.zeros((3, D), dtype=torch.float64), estimator="exact")
    np.testing.assert_allclose(result.scores, np.full(C, 1 / C), atol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1e30, 1e38])
def test_cosines_of_features_of_any_size(factor: float) -> None:
    """Squares of such numbers are infinite in float32, their directions are not."""
    pooling = CosinePooling(torch.eye(C, D), 10.0)
    features = features_of(4, torch.float32).clamp(-1, 1)
    model = pooled_model(pooling, PRIOR.float(), feature_dim=D, width=D)
    results = [explain(model, x, estimator="exact") for x in (features, features * factor)]
    np.testing.assert_allclose(results[1].esv, results[0].esv, rtol=0, atol=1e-6)
    assert results[0].scores.max() - results[0].scores.min() > 0.1
