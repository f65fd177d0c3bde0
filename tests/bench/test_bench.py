"""What a benchmark counts is right, whatever the clock says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esv_ray.bench import measure as measuring
from esv_ray.bench.host import host_share
from esv_ray.bench.measure import Measurement, ceilings, measure, measure_mixed
from esv_ray.bench.report import as_json, read_measurements
from esv_ray.bench.setting import Dimensions, Setting, random_model
from esv_ray.core.games.model import VideoModel
from esv_ray.core.scales import equal_scales
from esv_ray.errors import DataError
from esv_ray.estimator import Estimator
from tests.support.plans import plan_algorithm1, plan_exact

SMALL = Setting(Dimensions(feature_dim=4, hidden=4, n_classes=3, n_max=2), repeats=2)


def test_measurements() -> None:
    exact, *_ = measure([5], Estimator("exact"), SMALL)
    assert (exact.n, exact.estimator, exact.evaluations, exact.batch) == (5, "exact", 5 + 10, 256)
    # Second layer: 15 rows of 4 x 3; first layer: 1 x 5 + 2 x 4 pairs of 4 x 4.
    assert exact.gflops == pytest.approx(2e-9 * (15 * 12 + 13 * 16) / (exact.video_ms / 1e3))
    assert exact.over_second > exact.over_both > 0
    assert exact.error is not None
    assert exact.error < 1e-4
    sampled, *_ = measure([5], Estimator("algorithm1", m=4, iterations=2), SMALL)
    assert (sampled.estimator, sampled.evaluations) == ("alg1 4x2", 2 * (5 + 4))


def test_what_must_be_moved() -> None:
    rows = sum(count * (1 + parents) for count, parents in ((4, 0), (6, 2), (4, 3), (1, 4)))
    assert (
        plan_exact(4, scales=equal_scales(2)).score_rows()
        == plan_exact(4, scales=equal_scales(2), stored=False).score_rows()
        == rows
    )
    plan = plan_algorithm1(6, m=3, iterations=2, seed=0, scales=equal_scales(2))
    assert 0 < plan.score_rows() <= 2 * (6 + 3 * sum(1 + s for s in range(2, 7)))


def test_random_models_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = (dict(random_model(SMALL.dimensions).scorer.named_buffers()) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
def test_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < host_share(4, Estimator("exact"), SMALL, 1e-3) < 1

    def a_second(work: Callable[[], object], model: VideoModel) -> float:
        work()
        return 1.0

    monkeypatch.setattr(measuring, "timed", a_second)
    # Alone 256 videos of each length take a second, together 12 of all lengths do.
    assert measure_mixed(2, 4, 12, Estimator("algorithm1", m=4), SMALL) == pytest.approx(256 / 12 - 1)
    assert ceilings(SMALL).gflops == pytest.approx(2e-9 * 1536**3)
    assert ceilings(SMALL).gbytes_s == pytest.approx(8e-9 * 2**24)


@pytest.mark.slow
def test_a_file_of_measurements(tmp_path: Path) -> None:
    measurements = measure([3, 4], Estimator("exact"), SMALL)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(as_json(measurements, ceilings(SMALL), SMALL)))
    back: dict[tuple[int, str], Measurement] = read_measurements(path, SMALL)
    assert list(back.values()) == measurements
    path.write_text("[]")
    with pytest.raises(DataError, match="expected a file that `esv bench --json` wrote"):
        read_measurements(path, SMALL)
    path.write_text(json.dumps(as_json(measurements, ceilings(SMALL), SMALL)))
    with pytest.raises(DataError, match="expected a run with the same dimensions, threads; measure again"):
        read_measurements(path, Setting(threads=2))
