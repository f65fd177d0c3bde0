"""Convergence of sampled ESVs to exact ones: the paper's Fig. 8 for any model and feature table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import DataError
from esv_ray.estimator import Estimator, Kind, Output
from esv_ray.input.features import Video
from esv_ray.input.frames import sample_frames
from esv_ray.output.ranges import NOT_FINITE

_NINETY_FIVE = 1.959964  # standard errors on either side that hold 95 % of a normal distribution

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A sequence with its exact ESVs of one class.

    Attributes:
        video_id: of the video.
        features: (n, D).
        target: the class whose ESVs are compared: the label, else the predicted class.
        esv: (n,) exact ESVs of that class.
    """

    video_id: str
    features: torch.Tensor
    target: int
    esv: FloatArray


@dataclass(frozen=True)
class Point:
    """A comparison of one estimator, at one m and number of iterations, with exact ESVs.

    Attributes:
        estimator, m, iterations: of the estimates.
        n: elements.
        videos: number of videos.
        relative_error: mean over videos of mean |estimate - exact| / mean |exact|, over elements of the target class.
        lad_slope: slope through the origin of the least-absolute-deviations line of estimates on exact values.
        pearson: correlation of estimates and exact values over all videos and elements.
        cost: head evaluations relative to those of exact ESVs.
        evaluations: head evaluations per video.
        video_ms: milliseconds per video, without building the plan.
        exact_ms: the same for exact ESVs.
        coverage: share of exact values within 1.96 standard errors of the estimate; NaN without standard errors.
        standard_error: mean standard error / mean |exact|; NaN without standard errors.
    """

    estimator: str
    m: int
    iterations: int
    n: int
    videos: int
    relative_error: float
    lad_slope: float
    pearson: float
    cost: float
    evaluations: int
    video_ms: float
    exact_ms: float
    coverage: float
    standard_error: float


def exact_cases(
    model: VideoModel,
    videos: Sequence[Video],
    n: int,
    *,
    most: int,
    threshold: float,
    memory_budget: int,
    output: Output = "probability",
) -> tuple[list[Case], float, int]:
    """Compute exact ESVs of n frames of each video that has at least n; leave out videos without evidence.

    Args:
        model: to explain.
        videos: to choose from, in order.
        n: frames, sampled uniformly.
        most: maximum number of cases.
        threshold: leave out videos whose score of the target class differs from its prior by less, as in the paper:
            their ESVs are near 0, so that a relative error has no meaning.
        memory_budget: bytes that the work may take.
        output: the quantity that ESVs attribute.

    Returns:
        Cases, milliseconds per video, head evaluations per video.

    Raises:
        DataError: no video is left.
        SpecError: exact ESVs of n elements do not fit in memory.
    """
    engine = Engine(model, Estimator("exact", output=output), memory_budget=memory_budget)
    engine.budget.check(n)
    long_enough = [video for video in videos if len(video.features) >= n]
    cases: list[Case] = []
    seconds, computed, evaluations = 0.0, 0, 0
    step = engine.batch(n, engine.plan(n))
    for start in range(0, len(long_enough), step):
        batch = long_enough[start : start + step]
        features = _features(model, batch, n)
        started = time.perf_counter()
        ((_, result),) = engine.attributions([n] * len(batch), [v.video_id for v in batch], features.__getitem__)
        scores = result.scores.double().cpu()
        probabilities = (scores.softmax(dim=1) if output == "logit" else scores).numpy()
        esv = result.esv.double().cpu().numpy()
        seconds, computed = seconds + time.perf_counter() - started, computed + len(batch)
        evaluations = result.evaluations
        cases += _evident_cases(model, batch, features, probabilities, esv, threshold)[: most - len(cases)]
        if len(cases) >= most:
            break
    if not cases:
        raise DataError(
            f"no video to compare: {len(long_enough)} of {len(videos)} have {n} frames or more, but the scores of all "
            f"of them differ from their priors by less than {threshold:g}; choose a smaller n or threshold"
        )
    return cases, 1e3 * seconds / computed, evaluations


def _evident_cases(
    model: VideoModel,
    videos: Sequence[Video],
    features: torch.Tensor,
    probabilities: FloatArray,
    esv: FloatArray,
    threshold: float,
) -> list[Case]:
    """Return the cases of a batch whose score differs enough from the prior.

    Args:
        model: that is explained.
        videos: of the batch, B of them.
        features: (B, n, D).
        probabilities: (B, C).
        esv: (B, n, C).
        threshold: as for `exact_cases`.

    Raises:
        DataError: a label or a value is invalid.
    """
    cases = []
    for row, video in enumerate(videos):
        target = int(probabilities[row].argmax()) if video.label is None else video.label
        if not 0 <= target < model.n_classes:
            raise DataError(f"{video.video_id}: expected a label below {model.n_classes}, got {target}")
        if not (np.isfinite(probabilities[row]).all() and np.isfinite(esv[row]).all()):
            raise DataError(f"{video.video_id}: {NOT_FINITE}")
        if abs(probabilities[row, target] - float(model.prior[target])) >= threshold:
            cases.append(Case(video.video_id, features[row], target, esv[row, :, target]))
    return cases


def compare(
    model: VideoModel,
    cases: Sequence[Case],
    exact_ms: float,
    exact_evaluations: int,
    estimator: Estimator,
    *,
    memory_budget: int,
) -> Point:
    """Compare one estimator with the exact ESVs of all cases.

    Args:
        model: to explain.
        cases: of `exact_cases`.
        exact_ms: milliseconds per video of exact ESVs.
        exact_evaluations: head evaluations per video of exact ESVs.
        estimator: to compare.
        memory_budget: bytes that the work may take.

    Raises:
        SpecError: the estimator does not fit in memory.
    """
    n = len(cases[0].esv)
    engine = Engine(model, estimator, memory_budget=memory_budget)
    engine.budget.check(n)
    features = torch.stack([case.features for case in cases])
    ids = [case.video_id for case in cases]
    first = engine.batch(n, engine.plan(n))
    list(engine.attributions([n] * min(first, len(ids)), ids[:first], features.__getitem__))  # fills buffers
    started = time.perf_counter()
    results = list(engine.attributions([n] * len(ids), ids, features.__getitem__))
    values: dict[int, tuple[FloatArray, FloatArray]] = {}
    for indices, result in results:
        for row, index in enumerate(indices):
            target = cases[index].target
            stderr = result.esv.new_full((n,), torch.nan) if result.stderr is None else result.stderr[row, :, target]
            values[index] = (result.esv[row, :, target].double().cpu().numpy(), stderr.double().cpu().numpy())
    seconds = time.perf_counter() - started
    estimates = np.stack([values[index][0] for index in range(len(cases))])  # (V, n)
    errors = np.stack([values[index][1] for index in range(len(cases))])
    exact = np.stack([case.esv for case in cases])
    size = np.abs(exact).mean(axis=1)
    deviations = np.abs(estimates - exact)
    return Point(
        estimator=engine.budget.kind(n) if estimator.kind == "auto" else estimator.kind,
        m=estimator.m,
        iterations=estimator.iterations,
        n=n,
        videos=len(cases),
        relative_error=float((deviations.mean(axis=1) / size).mean()),
        lad_slope=lad_slope(exact.ravel(), estimates.ravel()),
        pearson=float(np.corrcoef(exact.ravel(), estimates.ravel())[0, 1]),
        cost=results[0][1].evaluations / max(1, exact_evaluations),
        evaluations=results[0][1].evaluations,
        video_ms=1e3 * seconds / len(cases),
        exact_ms=exact_ms,
        coverage=float((deviations <= _NINETY_FIVE * errors).mean()) if np.isfinite(errors).all() else float("nan"),
        standard_error=float((errors.mean(axis=1) / size).mean()),
    )


def estimator_grid(
    kinds: Sequence[Kind], ms: Sequence[int], iterations: Sequence[int], seed: int, output: Output = "probability"
) -> list[Estimator]:
    """Return every estimator at every m and number of iterations; kinds vary fastest."""
    return [Estimator(kind, m, times, seed, output=output) for m in ms for times in iterations for kind in kinds]


def convergence(
    model: VideoModel,
    videos: Sequence[Video],
    n: int,
    estimators: Sequence[Estimator],
    *,
    most: int,
    threshold: float,
    memory_budget: int,
    report: Callable[[Point], None] = lambda point: None,
) -> list[Point]:
    """Compare estimators with exact ESVs.

    Args:
        model, videos, n, most, threshold, memory_budget: as for `exact_cases`.
        estimators: of one output (probability or logit).
        report: called with each point.

    Returns:
        One point per estimator.
    """
    cases, exact_ms, evaluations = exact_cases(
        model, videos, n, most=most, threshold=threshold, memory_budget=memory_budget, output=estimators[0].output
    )
    points = []
    for estimator in estimators:
        points.append(compare(model, cases, exact_ms, evaluations, estimator, memory_budget=memory_budget))
        report(points[-1])
    return points


def lad_slope(x: FloatArray, y: FloatArray) -> float:
    """Return the slope b that minimizes sum |y - b x|: the median of y / x weighted by |x|."""
    nonzero = np.abs(x) > 0
    ratios, weights = y[nonzero] / x[nonzero], np.abs(x[nonzero])
    order = np.argsort(ratios)
    cumulative = np.cumsum(weights[order])
    return float(ratios[order][np.searchsorted(cumulative, cumulative[-1] / 2)]) if len(order) else float("nan")


def as_table(points: Sequence[Point]) -> pa.Table:
    """Return a table with one row per point."""
    return pa.Table.from_pylist([asdict(point) for point in points])


def _features(model: VideoModel, videos: Sequence[Video], n: int) -> torch.Tensor:
    """Return (B, n, D) features of frames sampled uniformly."""
    indices = sample_frames(np.array([len(video.features) for video in videos], dtype=np.int64), n)
    chosen = [np.asarray(video.features[rows], dtype=np.float32) for video, rows in zip(videos, indices, strict=True)]
    return torch.from_numpy(np.stack(chosen)).to(model.dtype)
