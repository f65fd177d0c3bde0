"""Heads at some scales only, with weights, added or averaged: every estimator against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations
from math import comb, factorial

import pytest
import torch
from torch import Tensor

from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.core.scales import Combine, Scales, equal_scales
from esv_ray.estimator import Estimator, Kind, Output
from tests.support.slow import slow_unless
from tests.support.weighted_heads import CASES, PRIOR, C, D, model_of, value_of


def brute_force(features: Tensor, weights: dict[int, float], combine: Combine, output: Output) -> Tensor:
    """ESVs (n, C): the mean over all orders in which elements join."""
    n = len(features)
    values: dict[tuple[int, ...], Tensor] = {(): PRIOR if output == "probability" else PRIOR.log()}
    for size in range(1, n + 1):
        for chosen in combinations(range(n), size):
            values[chosen] = value_of(features[list(chosen)], weights, combine, output)
    esv = torch.zeros((n, C), dtype=torch.float64)
    for order in permutations(range(n)):
        for place, element in enumerate(order):
            before: Sequence[int] = sorted(order[:place])
            esv[element] += values[tuple(sorted([*before, element]))] - values[tuple(before)]
    return esv / factorial(n)


def run(
    model: VideoModel,
    features: Tensor,
    kind: Kind,
    output: Output,
    m: int,
    iterations: int = 1,
    memory_budget: int = 2**30,
) -> Attribution:
    engine = Engine(model, Estimator(kind, m, iterations, output=output), memory_budget=memory_budget)
    n = features.shape[1]
    ids = [str(index) for index in range(len(features))]
    parts = [result for _, result in engine.attributions([n] * len(features), ids, lambda at: features[at])]
    stderr = [part.stderr for part in parts if part.stderr is not None]
    return replace(
        parts[0],
        esv=torch.cat([part.esv for part in parts]),
        stderr=torch.cat(stderr) if stderr else None,
        scores=torch.cat([part.scores for part in parts]),
        gaps=torch.cat([part.gaps for part in parts]),
        spread=None,
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("n", slow_unless(lambda n: n < 6, [1, 2, 3, 6]))
def test_exact_is_brute_force(case: str, output: Output, n: int) -> None:
    weights, combine = CASES[case]
    features = torch.randn((2, n, D), generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    for plain in (False, True):
        result = run(model_of(weights, combine, plain=plain), features, "exact", output, 1)
        for video in range(2):
            expected = brute_force(features[video], weights, combine, output)
            assert torch.allclose(result.esv[video], expected, rtol=0, atol=1e-12)
            value = value_of(features[video], weights, combine, output)
            assert torch.allclose(result.scores[video], value, rtol=0, atol=1e-12)
        assert result.gaps.max() < 1e-12
        assert result.evaluations == sum(comb(n, s) for s in weights if s <= n)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("kind", ["algorithm1", "adjusted"])
def test_sampled_is_near_exact_and_efficient(case: str, output: Output, kind: Kind) -> None:
    weights, combine = CASES[case]
    model, n = model_of(weights, combine), 12
    features = torch.randn((4, n, D), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = run(model, features, "exact", output, 1)
    errors = []
    for m in (24, 160):
        result = run(model, features, kind, output, m, 4 if kind == "algorithm1" else 1)
        assert not result.exact
        if kind == "adjusted":
            assert result.gaps.max() < 1e-9
        errors.append(float((result.esv - exact.esv).abs().mean() / exact.esv.abs().mean()))
    assert errors[1] < 0.35
    assert errors[1] < errors[0]


@pytest.mark.parametrize("case", CASES)
def test_adjusted_has_no_bias_and_its_errors_are_said(case: str) -> None:
    """In logits, over relabellings of one video: the mean is exact, 95 % intervals cover."""
    weights, combine = CASES[case]
    model, n, videos = model_of(weights, combine), 8, 400
    one = torch.randn((1, n, D), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    exact = run(model, one, "exact", "logit", 1).esv
    result = run(model, one.expand(videos, n, D).contiguous(), "adjusted", "logit", 20)
    if result.exact:
        assert sum(comb(n, s) > 20 for s in weights if s <= n) == 0
        return
    deviation = (result.esv - exact).mean(dim=0) / (result.esv.std(dim=0) / videos**0.5)
    assert deviation.abs().max() < 4.5
    assert result.stderr is not None
    assert ((result.esv - exact).abs() <= 1.96 * result.stderr).double().mean() > 0.7


def test_shorter_than_every_head_is_worth_nothing() -> None:
    model = model_of({7: 1.0}, "sum")
    features = torch.randn((2, 5, D), dtype=torch.float64)
    outputs: list[Output] = ["probability", "logit"]
    kinds: list[Kind] = ["exact", "algorithm1", "adjusted", "auto"]
    for kind in kinds:
        for output in outputs:
            result = run(model, features, kind, output, 4)
            assert result.exact
            assert result.esv.abs().max() < 1e-15
            empty = PRIOR if output == "probability" else PRIOR.log()
            assert torch.allclose(result.scores, empty.expand(2, C))
            assert result.evaluations == 0
    long = torch.randn((1, 30, D), dtype=torch.float64)
    assert run(model_of({40: 1.0}, "mean"), long, "adjusted", "probability", 20).esv.abs().max() < 1e-15


def test_equal_weights_of_any_size_are_the_same_mean() -> None:
    features = torch.randn((2, 7, D), dtype=torch.float64)
    once, twice = (
        run(model_of(dict.fromkeys((1, 2, 3), w), "mean"), features, "exact", "probability", 1) for w in (1.0, 2.0)
    )
    assert torch.allclose(once.esv, twice.esv, rtol=0, atol=1e-12)


def test_wrong_weights_are_refused() -> None:
    for weights in ((), (1.0, 0.0), (-1.0, 1.0), (float("nan"),), (float("inf"),), (1e-9, 1.0)):
        with pytest.raises(ValueError, match="expected weights from 1e-06 to 1e"):
            Scales(weights)
    assert equal_scales(3).heads(2) == [1, 2]


@pytest.mark.parametrize("weights", [{1: 1.0, 2: 1.0, 30: 1.0}, {1: 1.0, 30: 1.0}])
def test_scales_without_a_head_take_no_memory_in_logits(weights: dict[int, float]) -> None:
    features = torch.randn((1, 30, D), dtype=torch.float64)
    result = run(model_of(weights, "sum"), features, "exact", "logit", 1, memory_budget=2**28)
    assert result.evaluations == sum(comb(30, s) for s in weights)
    assert result.gaps.max() < 1e-9
