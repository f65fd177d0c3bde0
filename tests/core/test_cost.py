"""What is cost of a plan before it is built, against the plan."""

from __future__ import annotations

import pytest
import torch

from esv_ray.core.cost import plan_cost
from esv_ray.core.plan import plan_for
from esv_ray.core.recipe import resolve
from esv_ray.core.scales import Scales, equal_scales
from esv_ray.estimator import Estimator, Kind, Output
from tests.support.slow import slow_unless


@pytest.mark.parametrize(
    "scales",
    [equal_scales(1), equal_scales(3), equal_scales(8), Scales((0, 0, 1)), Scales((0, 2, 0, 0, 1), "sum"), None],
    ids=["1", "1-3", "1-8", "3", "2 and 5", "any"],
)
@pytest.mark.parametrize("kind", ["exact", "algorithm1", "adjusted", "auto"])
@pytest.mark.parametrize("output", slow_unless("probability".__eq__, ["probability", "logit"]))
def test_evaluations_are_those_of_the_plan(output: Output, kind: Kind, scales: Scales | None) -> None:
    for n, m, iterations in (
        *((n, m, iterations) for n in (1, 2, 3, 5, 8, 11) for m, iterations in ((1, 1), (5, 2), (64, 1))),
        (12, 200, 3),
        (40, 60, 1),
    ):
        estimator = Estimator(kind, m=m, iterations=iterations, output=output)
        resolved = resolve(estimator, n, scales)
        if n > 12 and resolved == "exact":
            continue
        cost = plan_cost(estimator, resolved, n, scales)
        plan = plan_for(estimator, n, scales=scales, dtype=torch.float32, device=torch.device("cpu"))
        spent, where = plan.evaluations(scales), (n, m, iterations)
        if cost.counted:
            assert cost.evaluations == spent, where
        else:
            assert resolved == "algorithm1"
            assert cost.evaluations == pytest.approx(spent, rel=0.01, abs=1), where
        assert cost.largest == plan.largest(), where
        assert cost.terms == plan.terms, where


def test_heads_up_to_the_middle_are_counted_whatever_is_drawn() -> None:
    for n in (9, 16, 30):
        for m in (3, 50, 500):
            assert plan_cost(Estimator("algorithm1", m=m), "algorithm1", n, equal_scales((n + 1) // 2)).counted
    assert not plan_cost(Estimator("algorithm1", m=50), "algorithm1", 16, None).counted


def test_the_cost_of_long_sequences_takes_no_time() -> None:
    assert plan_cost(Estimator("adjusted"), "adjusted", 2000, equal_scales(8)).evaluations == 2000 + 7 * 4096
    assert plan_cost(Estimator("algorithm1"), "algorithm1", 2000, equal_scales(8)).evaluations == 4 * (2000 + 7 * 1024)
    assert (
        plan_cost(Estimator("adjusted", output="logit"), "adjusted", 2000, equal_scales(3)).evaluations
        == 2000 + 2 * 4096
    )
    assert plan_cost(Estimator("exact"), "exact", 20, equal_scales(8)).evaluations == 263_949
    assert 1 < plan_cost(Estimator("adjusted"), "adjusted", 20, equal_scales(8)).plan_s < 10, "which nobody builds here"
