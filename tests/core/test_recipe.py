"""Plans: coefficients that obey Shapley's laws, the choice of `auto`, memory, the cache."""

from __future__ import annotations

from dataclasses import fields
from math import comb
from typing import Any

import pytest
import torch

from esv_ray.core import plan as module
from esv_ray.core.exact.plan import LatticePlan
from esv_ray.core.plan import plan_for
from esv_ray.core.recipe import resolve
from esv_ray.core.scales import equal_scales
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator
from esv_ray.spec import EstimatorSpec
from tests.support.plans import lattice_from_subsequences, plan_algorithm1, plan_exact, plan_from_lattices

CPU = torch.device("cpu")


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_exact_coefficients_are_shapleys(n: int) -> None:
    plan = plan_exact(n, scales=equal_scales(3))
    for s in range(1, n + 1):
        assert plan.pooled.within[s, 0].item() == pytest.approx(1 / (n * comb(n - 1, s - 1)))
        if s < n:
            assert plan.pooled.without[s, 0].item() == pytest.approx(1 / (n * comb(n - 1, s)))
    assert plan.pooled.without[0].tolist() == pytest.approx([1 / n] * n)
    interior = plan.pooled.constant[1:n]
    assert interior.abs().max().item() < 1e-12 if n > 1 else True
    assert plan.evaluations(equal_scales(3)) == sum(comb(n, s) for s in range(1, min(n, 3) + 1))
    assert plan.evaluations(None) == 2**n - 1


def test_a_scale_that_says_nothing_about_an_element_is_left_out() -> None:
    """Every sampled pair holds element 0, so nothing is known of the value without it at s = 3, nor with 2 at s = 2."""
    subsequences = [[[0], [1], [2]], [[0, 1]], [[0, 1, 2]]]
    plan = plan_from_lattices([lattice_from_subsequences(3, subsequences)])
    # Element 0: scale 3 has "with" (the full one) but no pair without 0: only scales 1 and 2 count, half each.
    assert plan.pooled.within[:, 0].tolist() == [0, 0.5, 0.5, 0]
    assert plan.pooled.without[:, 0].tolist() == [0.5, 0.25, 0, 0]
    # Element 2: no pair holds it: scale 2 is left out, scales 1 and 3 count, half each.
    assert plan.pooled.within[:, 2].tolist() == [0, 0.5, 0, 0.5]
    assert plan.pooled.without[:, 2].tolist() == [0.5, 0, 0.5, 0]


def test_auto_takes_what_costs_less() -> None:
    auto = Estimator("auto", m=1024, iterations=4)
    assert resolve(auto, 8, equal_scales(8)) == "exact"
    assert resolve(auto, 12, equal_scales(8)) == "exact"
    assert resolve(auto, 20, equal_scales(8)) == "adjusted"
    assert resolve(auto, 300, equal_scales(8)) == "adjusted"
    # One head only: its n evaluations are few, but 2^40 subsequences are not.
    assert resolve(auto, 40, equal_scales(1)) == "adjusted"
    assert resolve(Estimator("algorithm1", m=comb(10, 5)), 10, equal_scales(3)) == "exact", "nothing is left to sample"
    assert resolve(Estimator("algorithm1", m=comb(10, 5) - 1), 10, equal_scales(3)) == "algorithm1"
    assert resolve(Estimator("exact", m=1), 25, equal_scales(8)) == "exact"
    assert resolve(Estimator("adjusted", m=comb(10, 5) // 2, iterations=2), 10, equal_scales(3)) == "exact", (
        "iterations are pooled"
    )
    assert resolve(Estimator("adjusted", m=comb(10, 5) // 2 - 1, iterations=2), 10, equal_scales(3)) == "adjusted"


def test_plans_are_cached_by_what_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cache", type(module._cache)())
    exact = Estimator("exact")
    first = plan_for(exact, 9, scales=equal_scales(4), dtype=torch.float32, device=CPU)
    assert plan_for(Estimator("exact", seed=7), 9, scales=equal_scales(4), dtype=torch.float32, device=CPU) is first
    assert plan_for(exact, 9, scales=None, dtype=torch.float32, device=CPU) is not first
    double = plan_for(exact, 9, scales=equal_scales(4), dtype=torch.float64, device=CPU)
    assert isinstance(double, LatticePlan)
    assert double.pooled.within.dtype == torch.float64
    sampled = Estimator("algorithm1", m=20, iterations=2, seed=1)
    kept = plan_for(sampled, 9, scales=equal_scales(4), dtype=torch.float32, device=CPU)
    assert (
        plan_for(Estimator("algorithm1", 20, 2, 2), 9, scales=equal_scales(4), dtype=torch.float32, device=CPU)
        is not kept
    )
    last = plan_for(exact, 10, scales=equal_scales(4), dtype=torch.float32, device=CPU, cache_bytes=1)
    assert list(module._cache.values()) == [last], "least recently used go first, the one in use stays"


def test_iterations_are_independent_and_pooled() -> None:
    plan = plan_algorithm1(9, m=10, iterations=3, seed=0, scales=equal_scales(3))
    assert not plan.exact
    assert len(plan.lattices) == len(plan.single) == 3
    assert not torch.equal(plan.lattices[0].scales[3].masks, plan.lattices[1].scales[3].masks)
    assert plan_algorithm1(9, m=10, iterations=1, seed=0, scales=equal_scales(3)).single == ()


def test_misuse() -> None:
    with pytest.raises(SpecError, match="expected auto, exact, algorithm1 or adjusted, got 'best'"):
        Estimator("best")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="at least 1"):
        Estimator("auto", m=0)


def test_a_spec_requests_the_same_estimator() -> None:
    """The keys and defaults of a spec's section are the fields of the estimator, one to one."""
    assert EstimatorSpec().request() == Estimator()
    assert list(EstimatorSpec.model_fields) == [field.name for field in fields(Estimator)]


@pytest.mark.parametrize("values", [{"m": 2.5}, {"iterations": True}, {"seed": "1"}, {"tolerance": "0.05"}])
def test_wrong_types(values: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a (whole )?number"):
        Estimator(**values)
