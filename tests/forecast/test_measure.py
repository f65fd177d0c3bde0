"""The short measurement of a forecast, on a machine with a simulated clock."""

from __future__ import annotations

import time
from math import comb
from pathlib import Path

import pytest
import torch

from esv_ray.core.cost import plan_cost
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import multiscale_model
from esv_ray.estimator import Estimator, Resolved
from esv_ray.forecast import measure
from esv_ray.forecast.forecast import forecast
from esv_ray.forecast.measure import MOST_S, measure_here
from esv_ray.forecast.throughput import Timings
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_model, make_prior
from tests.support.bundles import python_bundle
from tests.support.forecasts import job, same_lengths


class Machine:
    """Takes `call_s` per call and `evaluation_s` per head evaluation; more at first (`cold_s`), and to build plans."""

    def __init__(self, *, cold_s: float, call_s: float, evaluation_s: float) -> None:
        self.now, self.left, self.call_s, self.evaluation_s = 0.0, cold_s, call_s, evaluation_s
        self.planned: set[tuple[Estimator, int]] = set()

    def seconds(self, engine: Engine, n: int, batch: int) -> float:
        kind = engine.budget.kind(n)
        result = plan_cost(engine.estimator, kind, n, engine.model.scales)
        seconds = self.call_s + self.evaluation_s * result.evaluations * batch + self.left
        if (engine.estimator, n) not in self.planned:
            seconds += result.plan_s
        self.planned.add((engine.estimator, n))
        self.left = 0.0
        self.now += seconds
        return seconds


def measured(machine: Machine, monkeypatch: pytest.MonkeyPatch, kind: Resolved, n: int, *settings: str) -> Timings:
    monkeypatch.setattr(measure, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(measure, "_seconds", machine.seconds)
    spec = load_spec({"features": "f", "model": "m", "output": "o"}, ["compute.memory_budget=8000000000", *settings])
    how = Estimator(kind=kind, m=spec.estimator.m, iterations=spec.estimator.iterations)
    model = make_model()
    return measure_here(spec, model, [plan_cost(how, kind, n, model.scales)])


@pytest.mark.parametrize("kind", ["adjusted", "algorithm1", "exact"])
@pytest.mark.parametrize("cold_s", [0.0, 0.02, 2.0])
def test_the_start_of_libraries_is_not_measured(kind: Resolved, cold_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(cold_s=cold_s, call_s=2e-3, evaluation_s=2e-6)
    timings = measured(machine, monkeypatch, kind, 16).measured
    assert [(file.kind, file.n) for file in timings] == [(kind, 16)]
    alone_s = 2e-6 * timings[0].evaluations + 2e-3
    assert timings[0].video_s + timings[0].batch_s == pytest.approx(alone_s, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "n"),
    [("exact", 12), ("exact", 20), ("adjusted", 12), ("adjusted", 20), ("adjusted", 49), ("algorithm1", 49)],
)
@pytest.mark.parametrize("evaluation_s", [1e-6, 1e-4, 1e-2, 1.0])
def test_measuring_ends_in_time(kind: Resolved, evaluation_s: float, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(cold_s=0.5, call_s=1e-3, evaluation_s=evaluation_s)
    timings = measured(machine, monkeypatch, kind, n).measured
    few = sum(comb(4, s) for s in range(1, 4)) * evaluation_s  # one exact video of four elements has to be
    assert machine.now < MOST_S + 2 * few
    assert len(timings) == 1
    alone_s = timings[0].video_s + timings[0].batch_s
    assert 0.5 * evaluation_s * timings[0].evaluations < alone_s < 2 * (evaluation_s * timings[0].evaluations + 2e-3)


@pytest.mark.slow
def test_all_lengths_are_measured_with_a_real_clock(bundle: str, tmp_path: Path) -> None:
    table = same_lengths(tmp_path / "f.parquet", lengths=(12, 17, 20), rows=4)
    for kind in ("auto", "exact"):
        result = forecast(job(table, bundle, tmp_path / "out", f"estimator.kind={kind}"))
        assert all(length.video_s > 0 for length in result.by_length)
        assert result.timings.source.startswith("measured here in")


def test_a_slow_model_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support import job_factories as factories

    def sleepy(self: object, subsequences: torch.Tensor) -> torch.Tensor:
        time.sleep(0.001 * len(subsequences))
        return subsequences.mean(dim=1)[:, :3]

    monkeypatch.setattr(factories.Linear, "forward", sleepy)
    table = same_lengths(tmp_path / "f.parquet", lengths=(10,), rows=500)
    spec = job(table, python_bundle(tmp_path / "python", "raising"), tmp_path / "out", "estimator.kind=exact")
    assert forecast(spec).time.compute_s > 0.5 * 500 * 1.023  # sleep never takes less than it was overrides for


@pytest.mark.parametrize(("scale", "kind", "n"), [(30, "adjusted", 30), (30, "adjusted", 33), (14, "exact", 18)])
def test_a_model_whose_only_head_is_long_is_measured(scale: int, kind: Resolved, n: int) -> None:
    """Exact ESVs of so many elements do not fit, and shorter sequences take no evaluation."""
    heads = make_heads(n_max=scale)
    model = multiscale_model({scale: heads[scale]}, make_prior(3), feature_dim=4)
    options = ["compute.memory_budget=8000000000", "estimator.m=50", "estimator.iterations=1"]
    spec = load_spec({"features": "f", "model": "m", "output": "o"}, options)
    plan = plan_cost(Estimator(kind=kind, m=50, iterations=1), kind, n, model.scales)
    timings = measure_here(spec, model, [plan]).measured
    assert [(timing.kind, timing.n) for timing in timings] == [(kind, n)]
    assert timings[0].video_s > 0
