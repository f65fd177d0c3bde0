"""How sampled ESVs approach the exact ones: the paper's Fig. 8 for any model and feature table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Estimator, Kind, Output
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import DataError
from esv_ray.input.features import Video
from esv_ray.input.frames import sample_frames
from esv_ray.output.ranges import NOT_FINITE

_NINETY_FIVE = 1.959964  # standard errors either side of a normal estimate

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A sequence with its exact ESVs of one class.

    Attributes:
        video_id: its name.
        features: (n, D).
        target: the class looked at: its label, else the class that the model predicts.
        esv: (n,) exact ESVs of that class.
    """

    video_id: str
    features: torch.Tensor
    target: int
    esv: FloatArray


@dataclass(frozen=True)
class Point:
    """One estimator at one m and number of iterations, against exact ESVs.

    Attributes:
        estimator, m, iterations: which.
        n: elements.
        videos: compared.
        relative_error: mean over videos of mean |estimate - exact| over mean |exact|, elements of the target class.
        lad_slope: slope through the origin of the least-absolute-deviations line of estimates on exact values.
        pearson: correlation of estimates and exact values over all videos and elements.
        share: head evaluations over those of exact ESVs.
        evaluations: head evaluations of a video.
        video_ms: milliseconds a video, the plan apart.
        exact_ms: the same of exact ESVs.
        coverage: share of exact values within 1.96 standard errors of the estimate; NaN without standard errors.
        standard_error: mean standard error over mean |exact|; NaN without.
    """

    estimator: str
    m: int
    iterations: int
    n: int
    videos: int
    relative_error: float
    lad_slope: float
    pearson: float
    share: float
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
    """Exact ESVs of n frames of videos of at least n frames, those without evidence left out.

    Args:
        model: which.
        videos: to choose from, in order.
        n: frames sampled uniformly.
        most: cases.
        threshold: videos whose score of the target class differs from its prior by less are left out, as in the paper:
            a relative error of next to nothing tells nothing.
        memory_budget: bytes that the work may take.
        output: what ESVs divide.

    Returns:
        Cases, milliseconds a video, head evaluations of a video.

    Raises:
        DataError: no video is left.
        SpecError: exact ESVs of n elements do not fit.
    """
    engine = Engine(model, Estimator("exact", output=output), memory_budget=memory_budget)
    engine.check(n)
    long_enough = [video for video in videos if len(video.features) >= n]
    cases: list[Case] = []
    seconds, looked, evaluations = 0.0, 0, 0
    plan = engine.plan(n)
    step = engine.batch(n, plan)
    for start in range(0, len(long_enough), step):
        chosen = long_enough[start : start + step]
        features = _features(model, chosen, n)
        begun = time.perf_counter()
        ((_, found),) = engine.attributions([n] * len(chosen), [v.video_id for v in chosen], features.__getitem__)
        full = found.scores.double().cpu()
        scores = (full.softmax(dim=1) if output == "logit" else full).numpy()
        esv = found.esv.double().cpu().numpy()
        seconds, looked, evaluations = seconds + time.perf_counter() - begun, looked + len(chosen), found.evaluations
        for row, video in enumerate(chosen):
            target = int(scores[row].argmax()) if video.label is None else video.label
            if not 0 <= target < model.n_classes:
                raise DataError(f"{video.video_id}: expected a label below {model.n_classes}, got {target}")
            if not (np.isfinite(scores[row]).all() and np.isfinite(esv[row]).all()):
                raise DataError(f"{video.video_id}: {NOT_FINITE}")
            if abs(scores[row, target] - float(model.prior[target])) >= threshold and len(cases) < most:
                cases.append(Case(video.video_id, features[row], target, esv[row, :, target]))
        if len(cases) >= most:
            break
    if not cases:
        raise DataError(
            f"no video to compare: {len(long_enough)} of {len(videos)} have {n} frames or more, and none of them a "
            f"score that differs from its prior by {threshold:g}; choose a smaller n or threshold"
        )
    return cases, 1e3 * seconds / looked, evaluations


def compare(
    model: VideoModel,
    cases: Sequence[Case],
    exact_ms: float,
    exact_evaluations: int,
    estimator: Estimator,
    *,
    memory_budget: int,
) -> Point:
    """One estimator over all cases."""
    n = len(cases[0].esv)
    engine = Engine(model, estimator, memory_budget=memory_budget)
    engine.check(n)
    features = torch.stack([case.features for case in cases])
    ids = [case.video_id for case in cases]
    first = engine.batch(n, engine.plan(n))
    list(engine.attributions([n] * min(first, len(ids)), ids[:first], features.__getitem__))  # buffers are made
    begun = time.perf_counter()
    found = list(engine.attributions([n] * len(ids), ids, features.__getitem__))
    values: dict[int, tuple[FloatArray, FloatArray]] = {}
    for indices, part in found:
        for row, index in enumerate(indices):
            target = cases[index].target
            spread = part.esv.new_full((n,), torch.nan) if part.stderr is None else part.stderr[row, :, target]
            values[index] = (part.esv[row, :, target].double().cpu().numpy(), spread.double().cpu().numpy())
    seconds = time.perf_counter() - begun
    estimates = np.stack([values[index][0] for index in range(len(cases))])  # (V, n)
    errors = np.stack([values[index][1] for index in range(len(cases))])
    exact = np.stack([case.esv for case in cases])
    size = np.abs(exact).mean(axis=1)
    off = np.abs(estimates - exact)
    return Point(
        estimator=engine.kind(n) if estimator.kind == "auto" else estimator.kind,
        m=estimator.m,
        iterations=estimator.iterations,
        n=n,
        videos=len(cases),
        relative_error=float((off.mean(axis=1) / size).mean()),
        lad_slope=lad_slope(exact.ravel(), estimates.ravel()),
        pearson=float(np.corrcoef(exact.ravel(), estimates.ravel())[0, 1]),
        share=found[0][1].evaluations / exact_evaluations,
        evaluations=found[0][1].evaluations,
        video_ms=1e3 * seconds / len(cases),
        exact_ms=exact_ms,
        coverage=float((off <= _NINETY_FIVE * errors).mean()) if np.isfinite(errors).all() else float("nan"),
        standard_error=float((errors.mean(axis=1) / size).mean()),
    )


def grid(
    kinds: Sequence[Kind], ms: Sequence[int], iterations: Sequence[int], seed: int, output: Output = "probability"
) -> list[Estimator]:
    """Every estimator at every m and number of iterations, estimators of one m and number side by side."""
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
    """Points of all estimators, of one output; arguments as for `exact_cases`, `report` is called after each."""
    cases, exact_ms, evaluations = exact_cases(
        model, videos, n, most=most, threshold=threshold, memory_budget=memory_budget, output=estimators[0].output
    )
    points = []
    for estimator in estimators:
        points.append(compare(model, cases, exact_ms, evaluations, estimator, memory_budget=memory_budget))
        report(points[-1])
    return points


def lad_slope(x: FloatArray, y: FloatArray) -> float:
    """Slope b of least sum |y - b x|: the median of y / x weighted by |x|."""
    known = np.abs(x) > 0
    ratios, weights = y[known] / x[known], np.abs(x[known])
    order = np.argsort(ratios)
    reached = np.cumsum(weights[order])
    return float(ratios[order][np.searchsorted(reached, reached[-1] / 2)]) if len(order) else float("nan")


def as_table(points: Sequence[Point]) -> pa.Table:
    """One row a point."""
    return pa.Table.from_pylist([asdict(point) for point in points])


def _features(model: VideoModel, videos: Sequence[Video], n: int) -> torch.Tensor:
    places = sample_frames(np.array([len(video.features) for video in videos], dtype=np.int64), n)
    chosen = [np.asarray(video.features[rows], dtype=np.float32) for video, rows in zip(videos, places, strict=True)]
    return torch.from_numpy(np.stack(chosen)).to(model.dtype)
