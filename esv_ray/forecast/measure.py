"""A short measurement of a job's own model on this machine, with random features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import comb
from time import perf_counter

import torch

from esv_ray.attribution.workplace import job_engine, job_estimator
from esv_ray.core.cost import Outlook, outlook
from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Estimator
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import SpecError
from esv_ray.forecast.throughput import Figure, Figures
from esv_ray.spec import JobSpec

MOST_S = 7.0  # of a measurement, beside the start of torch
_BATCH_S = 0.4  # that one batch may be expected to take
_REPEATS = 3
_SHARE = 0.8  # of the time left that a length may be expected to take, its plan included
_FIRST_N, _FIRST_S = 12, 0.1  # elements and seconds that the first look stays under
_LENGTHS = 3  # of an estimator that are measured: the least, the middle and the most work
_FEW_ROWS, _FEW_SUBSEQUENCES = 256, 2**13  # of what is measured in place of something that takes long


@dataclass
class _Clock:
    """What is known so far, and until when to go on."""

    until: float
    rate: float = 0.0  # seconds a head evaluation
    found: list[Figure] = field(default_factory=list)

    @property
    def rest(self) -> float:
        return self.until - perf_counter()


def measure_here(spec: JobSpec, model: VideoModel, asked: Sequence[Outlook]) -> Figures:
    """Figures of a model at some of the lengths that a job asks for.

    What takes long to plan or to compute has a smaller one of its kind measured in its place: fewer subsequences, or
    for exact ESVs fewer elements.

    Args:
        spec: the job, its memory budget fixed.
        model: on its device, in its dtype.
        asked: what it will do, by length.
    """
    with _settings(spec):
        clock = _Clock(perf_counter() + MOST_S)
        if asked:
            _first_rate(spec, model, min(asked, key=lambda one: one.evaluations), clock)
        for one in _some(asked):
            _measure(spec, model, one, clock)
    source = f"measured here in {MOST_S - clock.rest:.1f} s on random features" if asked else "nothing to measure"
    return Figures(tuple(clock.found), source, model.device.type, spec.compute.threads, spec.compute.matmul)


@contextmanager
def _settings(spec: JobSpec) -> Iterator[None]:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(spec.compute.threads)
    torch.set_float32_matmul_precision(spec.compute.matmul)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def _some(asked: Sequence[Outlook]) -> list[Outlook]:
    """Of every kind least, middle and most work, the least first."""
    chosen = []
    for kind in dict.fromkeys(one.kind for one in asked):
        same = sorted((one for one in asked if one.kind == kind), key=lambda one: one.evaluations)
        last = len(same) - 1
        chosen += [same[index] for index in sorted({last * step // (_LENGTHS - 1) for step in range(_LENGTHS)})]
    return sorted(chosen, key=lambda one: one.evaluations)


def _first_rate(spec: JobSpec, model: VideoModel, one: Outlook, clock: _Clock) -> None:
    """How slow a head evaluation is at most, from exact ESVs of more and more elements.

    A module of any kind may take a second for one evaluation, so the first is of few. Its own seconds tell nothing
    else: they hold the start of torch's libraries, and what any call takes however little it does.
    """
    small = _engine(spec, model, replace(job_estimator(spec), kind="exact", tolerance=None))
    for n in range(min(one.n, 4), min(one.n, _FIRST_N) + 1, 2):
        evaluations = outlook(small.estimator, "exact", n, model.n_max).evaluations
        cold_s = _seconds(small, n, 1)
        clock.rate = (cold_s if cold_s > clock.rest else _seconds(small, n, 1)) / evaluations
        if 4 * clock.rate * evaluations > _FIRST_S:  # two more elements are four times the subsequences
            return


def _measure(spec: JobSpec, model: VideoModel, one: Outlook, clock: _Clock) -> None:
    estimator = replace(job_estimator(spec), kind=one.kind, tolerance=None)
    for shape, how in ((one, estimator), _stand_in(one, estimator, model.n_max)):
        engine = _engine(spec, model, how)
        batch = engine.fitting(shape.n, shape.largest, shape.terms)
        video_s = shape.evaluations * clock.rate
        batch = max(1, min(batch, int(_BATCH_S / video_s)))
        # The first batch fills caches and buffers; at least one more is needed.
        if shape.plan_s + 2.5 * batch * video_s > _SHARE * clock.rest:
            continue
        try:
            engine.check(shape.n)
        except SpecError:
            continue
        _take(engine, shape, batch, clock)
        return
    if not any(figure.kind == one.kind for figure in clock.found):  # nothing else tells of it
        clock.found.append(Figure(one.kind, one.n, one.evaluations, one.evaluations * clock.rate))


def _take(engine: Engine, shape: Outlook, batch: int, clock: _Clock) -> None:
    """Figures of one length: in larger batches while there is time, since the first rate is that of a single video."""
    most = engine.fitting(shape.n, shape.largest, shape.terms)
    while True:
        _seconds(engine, shape.n, batch)  # builds the plan, fills caches and buffers
        video_s = _median(engine, shape.n, batch, clock) / batch
        clock.rate = video_s / shape.evaluations
        wider = max(1, min(most, int(_BATCH_S / video_s)))
        if wider <= batch or 3 * wider * video_s > clock.rest / 2:
            break
        batch = wider
    batch_s = 0.0
    if batch > 1:  # a batch takes some time however few videos are in it
        batch_s = max(0.0, _median(engine, shape.n, 1, clock) - video_s) * batch / (batch - 1)
    video_s = max(video_s - batch_s / batch, video_s / 10)
    clock.found.append(Figure(shape.kind, shape.n, shape.evaluations, video_s, batch_s))


def _median(engine: Engine, n: int, batch: int, clock: _Clock) -> float:
    times = [_seconds(engine, n, batch)]
    while len(times) < _REPEATS and times[0] < clock.rest / 8:
        times.append(_seconds(engine, n, batch))
    return sorted(times)[len(times) // 2]


def _stand_in(one: Outlook, estimator: Estimator, n_max: int | None) -> tuple[Outlook, Estimator]:
    """The same estimator where it takes little to plan and to compute."""
    n = one.n
    if one.kind == "exact":
        while n > 1 and (comb(min(n, 64), min(n, 64) // 2) * 4 > _FEW_SUBSEQUENCES):
            n -= 1
        how = replace(estimator, kind="exact")
    else:
        how = replace(estimator, m=min(estimator.m * estimator.iterations, _FEW_ROWS), iterations=1)
    return outlook(how, one.kind, n, n_max), how


def _engine(spec: JobSpec, model: VideoModel, estimator: Estimator) -> Engine:
    update = {"kind": estimator.kind, "m": estimator.m, "iterations": estimator.iterations, "tolerance": None}
    asked = spec.estimator.model_copy(update=update)
    return job_engine(spec.model_copy(update={"estimator": asked}), model)


def _seconds(engine: Engine, n: int, batch: int) -> float:
    features = torch.randn((batch, n, engine.model.feature_dim), generator=torch.Generator().manual_seed(n))
    ids = [f"video {index}" for index in range(batch)]
    begun = perf_counter()
    for _ in engine.attributions([n] * batch, ids, lambda some: features[: len(some)]):
        pass
    if engine.model.device.type == "cuda":
        torch.cuda.synchronize(engine.model.device)
    return perf_counter() - begun
