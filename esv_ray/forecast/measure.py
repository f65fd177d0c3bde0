"""A short measurement of a job's own model on this machine, with random features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import comb
from time import perf_counter

import torch

from esv_ray.attribution.workplace import job_engine
from esv_ray.core.cost import PlanCost, plan_cost
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.core.scales import Scales
from esv_ray.core.threads import torch_settings
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator
from esv_ray.forecast.throughput import Timing, Timings
from esv_ray.spec import JobSpec

MOST_S = 7.0  # of a measurement, in addition to the start of torch
_BATCH_S = 0.4  # that one batch may be expected to take
_REPEATS = 3
_SHARE = 0.8  # of the time left that a length may be expected to take, including its plan
_FIRST_N, _FIRST_S = 12, 0.1  # elements and seconds below which the first measurement stays
_LENGTHS = 3  # measured per estimator: the least, the middle and the most work
_FEW_ROWS, _FEW_SUBSEQUENCES = 256, 2**13  # of what is measured instead of something that takes long


@dataclass
class _Clock:
    """The measurements so far, and the time until which to measure."""

    until: float
    rate: float = 0.0  # seconds per head evaluation; of networks of images per element of it
    measured: list[Timing] = field(default_factory=list)

    @property
    def left_s(self) -> float:
        return self.until - perf_counter()


def measure_here(spec: JobSpec, model: VideoModel, plans: Sequence[PlanCost]) -> Timings:
    """Measure a model at some of the lengths of a job.

    A plan that takes long to build or to apply is replaced by a smaller one of the same estimator: with fewer
    subsequences, or for exact ESVs with fewer elements.

    Args:
        spec: the job, its memory budget fixed.
        model: on its device, in its dtype.
        plans: costs of the job's plans.
    """
    evaluated = [plan for plan in plans if plan.evaluations]
    with torch_settings(spec.compute.threads, spec.compute.matmul):
        clock = _Clock(perf_counter() + MOST_S)
        if evaluated:
            _first_rate(spec, model, min(evaluated, key=lambda plan: plan.evaluations), clock)
        for plan in _selection(evaluated):
            _measure(spec, model, plan, clock)
    source = f"measured here in {MOST_S - clock.left_s:.1f} s on random features" if evaluated else "nothing to measure"
    return Timings(tuple(clock.measured), source, model.device.type, spec.compute.threads, spec.compute.matmul)


def _selection(plans: Sequence[PlanCost]) -> list[PlanCost]:
    """Select the least, the middle and the most work of each estimator; return them by ascending work."""
    selected = []
    for kind in dict.fromkeys(plan.kind for plan in plans):
        same = sorted((plan for plan in plans if plan.kind == kind), key=lambda plan: plan.evaluations)
        last = len(same) - 1
        selected += [same[index] for index in sorted({last * step // (_LENGTHS - 1) for step in range(_LENGTHS)})]
    return sorted(selected, key=lambda plan: plan.evaluations)


def _first_rate(spec: JobSpec, model: VideoModel, plan: PlanCost, clock: _Clock) -> None:
    """Set an upper bound of the seconds per head evaluation, from exact ESVs of more and more elements.

    A module may take a second per evaluation, so the first measurement has few of them. Its seconds serve for nothing
    else: they include the start of torch's libraries and the fixed cost of a call.
    """
    shortest = 1 if model.scales is None else model.scales.shortest
    if shortest > _FIRST_N:  # exact ESVs of as many elements take long, or do not fit
        engine = _engine(spec, model, replace(spec.estimator.request(), kind=plan.kind, tolerance=None))
        clock.rate = _seconds(engine, plan.n, 1) / _size(model, plan)
        return
    engine = _engine(spec, model, replace(spec.estimator.request(), kind="exact", tolerance=None))
    least = 4 if model.shape is None else 1  # one pass of a network of images may take a second
    for n in range(min(plan.n, max(least, shortest)), max(shortest, min(plan.n, _FIRST_N)) + 1, 2):
        size = _size(model, plan_cost(engine.estimator, "exact", n, model.scales))
        cold_s = _seconds(engine, n, 1)
        clock.rate = (cold_s if cold_s > clock.left_s else _seconds(engine, n, 1)) / size
        if 4 * clock.rate * size > _FIRST_S:  # two more elements mean four times as many subsequences
            return


def _size(model: VideoModel, plan: PlanCost) -> float:
    """Return head evaluations; of a network of images, whose passes take longer with each image, about the images."""
    return plan.evaluations * (1.0 if model.shape is None else (plan.n + 1) / 2)


def _measure(spec: JobSpec, model: VideoModel, plan: PlanCost, clock: _Clock) -> None:
    estimator = replace(spec.estimator.request(), kind=plan.kind, tolerance=None)
    for candidate, candidate_estimator in ((plan, estimator), _smaller(plan, estimator, model.scales)):
        if not candidate.evaluations:  # fewer elements than every head takes
            continue
        engine = _engine(spec, model, candidate_estimator)
        batch = engine.fitting(candidate.n, candidate.largest, candidate.terms)
        video_s = _size(model, candidate) * clock.rate
        batch = max(1, min(batch, int(_BATCH_S / video_s)))
        # The first batch fills caches and buffers; at least one more is needed.
        if candidate.plan_s + 2.5 * batch * video_s > _SHARE * clock.left_s:
            continue
        try:
            engine.budget.check(candidate.n)
        except SpecError:
            continue
        _measure_batches(engine, candidate, batch, clock)
        return
    if not any(timing.kind == plan.kind for timing in clock.measured):  # a rough value is better than none
        clock.measured.append(Timing(plan.kind, plan.n, plan.evaluations, _size(model, plan) * clock.rate))


def _measure_batches(engine: Engine, plan: PlanCost, batch: int, clock: _Clock) -> None:
    """Measure one plan, in larger batches while there is time, since the first rate is that of a single video."""
    most = engine.fitting(plan.n, plan.largest, plan.terms)
    while True:
        _seconds(engine, plan.n, batch)  # builds the plan, fills caches and buffers
        video_s = _median(engine, plan.n, batch, clock) / batch
        clock.rate = video_s / _size(engine.model, plan)
        wider = max(1, min(most, int(_BATCH_S / video_s)))
        if wider <= batch or 3 * wider * video_s > clock.left_s / 2:
            break
        batch = wider
    batch_s = 0.0
    if batch > 1:  # a batch has a fixed cost, however few videos are in it
        batch_s = max(0.0, _median(engine, plan.n, 1, clock) - video_s) * batch / (batch - 1)
    video_s = max(video_s - batch_s / batch, video_s / 10)
    clock.measured.append(Timing(plan.kind, plan.n, plan.evaluations, video_s, batch_s))


def _median(engine: Engine, n: int, batch: int, clock: _Clock) -> float:
    times = [_seconds(engine, n, batch)]
    while len(times) < _REPEATS and times[0] < clock.left_s / 8:
        times.append(_seconds(engine, n, batch))
    return sorted(times)[len(times) // 2]


def _smaller(plan: PlanCost, estimator: Estimator, scales: Scales | None) -> tuple[PlanCost, Estimator]:
    """Return a plan of the same estimator that is quick to build and to apply, and the estimator that makes it."""
    n = plan.n
    if plan.kind == "exact":
        while n > 1 and (comb(min(n, 64), min(n, 64) // 2) * 4 > _FEW_SUBSEQUENCES):
            n -= 1
        candidate_estimator = replace(estimator, kind="exact")
    else:
        candidate_estimator = replace(estimator, m=min(estimator.m * estimator.iterations, _FEW_ROWS), iterations=1)
    return plan_cost(candidate_estimator, plan.kind, n, scales), candidate_estimator


def _engine(spec: JobSpec, model: VideoModel, estimator: Estimator) -> Engine:
    update = {"kind": estimator.kind, "m": estimator.m, "iterations": estimator.iterations, "tolerance": None}
    return job_engine(spec.model_copy(update={"estimator": spec.estimator.model_copy(update=update)}), model)


def _seconds(engine: Engine, n: int, batch: int) -> float:
    size, generator = (batch, n, engine.model.feature_dim), torch.Generator().manual_seed(n)
    if engine.model.shape is None:
        features = torch.randn(size, generator=generator)
    else:
        features = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    ids = [f"video {index}" for index in range(batch)]
    started = perf_counter()
    for _ in engine.attributions([n] * batch, ids, lambda rows: features[: len(rows)]):
        pass
    if engine.model.device.type == "cuda":
        torch.cuda.synchronize(engine.model.device)
    return perf_counter() - started
