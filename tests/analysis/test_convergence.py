"""Convergence of sampled ESVs to exact ones: the figures of a point, which videos count, table and picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esv_ray.analysis.convergence import Point, as_table, compare, convergence, estimator_grid, exact_cases, lad_slope
from esv_ray.analysis.figures.convergence import chart
from esv_ray.analysis.figures.files import figure_files
from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.errors import DataError
from esv_ray.estimator import Estimator
from esv_ray.input.features import Video
from esv_ray.models.explain import explain

MODEL = random_model(Dimensions(feature_dim=6, hidden=16, n_classes=5, n_max=4), seed=3)
BUDGET = 2**30


def videos(count: int = 12, frames: int = 14) -> list[Video]:
    rng = np.random.default_rng(0)
    return [
        Video(
            row=i,
            video_id=f"v{i}",
            features=3 * rng.normal(size=(frames, 6)).astype(np.float32),
            frame_index=np.arange(frames, dtype=np.int32),
            label=None if i % 2 else i % 5,
        )
        for i in range(count)
    ]


def test_points_measure_the_errors_of_estimates() -> None:
    cases, milliseconds, evaluations = exact_cases(MODEL, videos(), 11, most=6, threshold=0.02, memory_budget=BUDGET)
    assert len(cases) == 6
    point = compare(MODEL, cases, milliseconds, evaluations, Estimator("adjusted", 64, 1), memory_budget=BUDGET)
    shares, inside = [], []
    for case in cases:
        result = explain(MODEL, case.features, estimator="adjusted", m=64, iterations=1, video_id=case.video_id)
        assert result.stderr is not None
        off = np.abs(result.esv[:, case.target].numpy() - case.esv)
        shares.append(off.mean() / np.abs(case.esv).mean())
        inside += (off <= 1.96 * result.stderr[:, case.target].numpy()).tolist()
        exact = explain(MODEL, case.features, estimator="exact")
        assert np.abs(exact.esv[:, case.target].numpy() - case.esv).max() < 1e-6
        assert abs(float(exact.scores[case.target] - exact.prior[case.target])) >= 0.02
    assert point.relative_error == pytest.approx(np.mean(shares), rel=1e-3)
    assert point.coverage == pytest.approx(np.mean(inside), abs=0.02)
    assert point.pearson > 0.95
    assert point.cost == pytest.approx(point.evaluations / evaluations)
    assert point.video_ms > 0


@pytest.mark.slow
def test_order_of_estimators() -> None:
    reported: list[Point] = []
    estimators = estimator_grid(("algorithm1", "adjusted"), (16, 64), (1, 2), 0)
    points = convergence(
        MODEL, videos(), 11, estimators, most=8, threshold=0.0, memory_budget=BUDGET, report=reported.append
    )
    assert points == reported
    assert [(p.estimator, p.m, p.iterations) for p in points[:3]] == [
        ("algorithm1", 16, 1),
        ("adjusted", 16, 1),
        ("algorithm1", 16, 2),
    ]
    by = {(p.estimator, p.m, p.iterations): p for p in points}
    assert all(by["adjusted", *at].relative_error < by["algorithm1", *at].relative_error for at in ((16, 1), (64, 2)))
    assert np.isnan(by["algorithm1", 16, 1].coverage), "one iteration of Algorithm 1 has no standard errors"
    table = as_table(points)
    assert table.num_rows == 8
    assert {"relative_error", "lad_slope", "pearson", "cost", "video_ms"} <= set(table.column_names)
    files = figure_files(chart, table)
    assert set(files) == {"svg", "png", "html"}
    names = ("adjusted", "algorithm1", "standard error", "head evaluations per video", "11 elements, 8 videos")
    assert all(name in files["svg"].decode() for name in names)
    assert files["png"].startswith(b"\x89PNG")


def test_convergence_of_logits() -> None:
    estimators = estimator_grid(("algorithm1", "adjusted"), (24, 96), (1,), 0, "logit")
    points = convergence(MODEL, videos(), 11, estimators, most=8, threshold=0.02, memory_budget=BUDGET)
    theirs, ours, _, better = points
    assert ours.relative_error < theirs.relative_error
    assert better.relative_error < ours.relative_error < 0.2
    assert better.pearson > 0.99
    assert ours.cost < 0.3, "of the subsequences up to the longest head"


def test_videos_without_evidence_or_too_short_are_left_out() -> None:
    with pytest.raises(DataError, match="12 of 12 have 11 frames or more, but the scores of all of them differ"):
        exact_cases(MODEL, videos(), 11, most=6, threshold=1.0, memory_budget=BUDGET)
    with pytest.raises(DataError, match="0 of 12 have 15 frames"):
        exact_cases(MODEL, videos(), 15, most=6, threshold=0.0, memory_budget=BUDGET)


def test_values_that_are_not_finite_are_errors() -> None:
    odd = videos(1)[0]
    huge = Video(0, "huge", np.full((14, 6), 3e38, np.float32) * np.array([1, -1] * 3), odd.label, odd.frame_index)
    with pytest.raises(DataError, match="huge: the model's scores are not finite"):
        exact_cases(MODEL, [*videos(2), huge], 11, most=6, threshold=0.0, memory_budget=BUDGET)


def test_the_slope_of_least_absolute_deviations() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    y = 0.9 * x + 0.01 * rng.normal(size=400)
    y[:20] += 50  # outliers do not move it
    slope = lad_slope(x, y)
    assert slope == pytest.approx(0.9, abs=0.02)
    losses = [np.abs(y - b * x).sum() for b in (slope, slope + 1e-3, slope - 1e-3)]
    assert losses[0] == min(losses)
    assert np.isnan(lad_slope(np.zeros(3), np.ones(3)))


def test_labels_beyond_the_model_are_refused() -> None:
    video = videos(1)[0]
    odd = Video(row=0, video_id="odd", features=video.features, frame_index=video.frame_index, label=7)
    with pytest.raises(DataError, match="odd: expected a label below 5, got 7"):
        exact_cases(MODEL, [odd], 11, most=1, threshold=0.0, memory_budget=BUDGET)
    assert torch.is_tensor(exact_cases(MODEL, videos(1), 11, most=1, threshold=0, memory_budget=BUDGET)[0][0].features)
