"""Measurements of the engine, relative to the bare matrix products and to the machine's ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from esv_ray.bench.host import host_share
from esv_ray.bench.setting import Dimensions, Setting, peak_mb, random_model, timed
from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.core.plan import Plan
from esv_ray.core.scales import equal_scales
from esv_ray.core.threads import torch_settings
from esv_ray.estimator import Estimator
from esv_ray.machine import spare_memory

_FLOAT_BYTES = 4
_SHORT = {"algorithm1": "alg1", "adjusted": "adj"}


@dataclass(frozen=True)
class Ceilings:
    """Ceilings of the machine, measured in the same run.

    Attributes:
        gflops: throughput of a large square matrix product.
        gbytes_s: bytes read and written per second by a large copy.
    """

    gflops: float
    gbytes_s: float


@dataclass(frozen=True)
class Measurement:
    """One estimator at one length.

    Attributes:
        n: number of elements.
        estimator: `exact`, or the kind with m and iterations.
        batch: videos computed together.
        evaluations: head evaluations per video.
        plan_s: seconds to build the plan.
        video_ms: median milliseconds per video; video_ms_min, video_ms_max: the range over repeats.
        second_ms: median milliseconds per video of the bare second-layer products, one per scale and batch, measured
            alternately with the total.
        first_ms: the same for the bare first-layer products (the table of feasible pairs of position and element).
        gflops: throughput of both layers' products, over the total time.
        gbytes_s: minimal memory traffic, over the total time.
        peak_mb: peak memory so far: resident set of the process, or allocated on the GPU.
        host: share of a job's unit spent on reading, decoding, tables and commit; None: not measured.
        error: largest difference of an ESV from float64 over the largest ESV, of one video; None if float64 would take
            too long.
    """

    n: int
    estimator: str
    batch: int
    evaluations: int
    plan_s: float
    video_ms: float
    video_ms_min: float
    video_ms_max: float
    second_ms: float
    first_ms: float
    gflops: float
    gbytes_s: float
    peak_mb: int
    host: float | None
    error: float | None

    @property
    def over_second(self) -> float:
        """Total time relative to that of the bare second-layer products."""
        return self.video_ms / self.second_ms

    @property
    def over_both(self) -> float:
        """Total time relative to that of both layers' bare products."""
        return self.video_ms / (self.second_ms + self.first_ms)


def measure(lengths: Sequence[int], estimator: Estimator, setting: Setting) -> list[Measurement]:
    """Time an estimator at several lengths.

    Raises:
        SpecError: a length does not fit in memory; then nothing is timed.
    """
    engine = _engine(random_model(setting.dimensions, device=setting.device), estimator, setting)
    for n in lengths:
        engine.budget.check(n)
    with torch_settings(setting.threads, setting.matmul):
        return [_measure(n, estimator, setting) for n in lengths]


def measure_mixed(shortest: int, longest: int, videos: int, estimator: Estimator, setting: Setting) -> float:
    """Return the share of throughput lost to mixed lengths.

    It is the time of videos of lengths shortest..longest together, over the sum of the times that each length takes in
    full batches, minus one. Plans are built in advance in both cases.
    """
    with torch_settings(setting.threads, setting.matmul):
        model = random_model(setting.dimensions, device=setting.device)
        lengths = [shortest + index % (longest - shortest + 1) for index in range(videos)]
        engine = _engine(model, estimator, setting)
        alone = 0.0
        for n in sorted(set(lengths)):
            batch = engine.batch(n, engine.plan(n))
            seconds = [timed(lambda n=n, batch=batch: _run(engine, [n] * batch), model) for _ in range(3)]  # type: ignore[misc]
            alone += median(seconds[1:]) / batch * lengths.count(n)
        together = [timed(lambda: _run(engine, lengths), model) for _ in range(3)]
        return median(together[1:]) / alone - 1


def ceilings(setting: Setting) -> Ceilings:
    """Measure the ceilings of the machine."""
    with torch_settings(setting.threads, setting.matmul):
        cuda = setting.device == "cuda"
        model = random_model(Dimensions(1, 1, 2, 1), device=setting.device)
        size, numbers = (8192, 2**28) if cuda else (1536, 2**24)
        square = torch.randn((size, size), device=setting.device)
        out = torch.empty_like(square)
        product = median(timed(lambda: torch.mm(square, square, out=out), model) for _ in range(5))
        line = torch.zeros(numbers, device=setting.device)
        to = torch.empty_like(line)
        copy = median(timed(lambda: to.copy_(line), model) for _ in range(5))
        return Ceilings(2 * size**3 / product / 1e9, 2 * 4 * numbers / copy / 1e9)


def _engine(model: VideoModel, estimator: Estimator, setting: Setting) -> Engine:
    return Engine(model, estimator, memory_budget=spare_memory(model.device), batch=setting.batch)


def _features(engine: Engine, n: int, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn((batch, n, engine.model.feature_dim), generator=generator)


def _run(engine: Engine, lengths: Sequence[int]) -> list[Attribution]:
    ids = [f"video {index}" for index in range(len(lengths))]
    batches = engine.attributions(
        lengths, ids, lambda positions: _features(engine, lengths[positions[0]], len(positions))
    )
    return [attribution for _, attribution in batches]


def _measure(n: int, estimator: Estimator, setting: Setting) -> Measurement:
    d = setting.dimensions
    model = random_model(d, device=setting.device)
    engine = _engine(model, estimator, setting)
    started = time.perf_counter()
    plan = engine.plan(n)
    plan_s = time.perf_counter() - started
    batch = engine.batch(n, plan)
    features = _features(engine, n, batch).to(model.device)
    ids = [f"video {index}" for index in range(batch)]
    second, first = _bare_products(plan, d, batch, model.device)

    # Alternately, so that noise affects all three.
    times: list[list[float]] = [[], [], []]
    works = (lambda: list(engine.attributions([n] * batch, ids, lambda _: features)), second, first)
    for repeat in range(setting.repeats + 1):
        for kept, work in zip(times, works, strict=True):
            seconds = timed(work, model)
            if repeat:
                kept.append(seconds / batch * 1e3)
    total_ms, second_ms, first_ms = times
    video_s = median(total_ms) / 1e3
    evaluations = plan.evaluations(model.scales)
    return Measurement(
        n=n,
        estimator="exact" if plan.exact else f"{_SHORT[engine.budget.kind(n)]} {estimator.m}x{estimator.iterations}",
        batch=batch,
        evaluations=evaluations,
        plan_s=plan_s,
        video_ms=median(total_ms),
        video_ms_min=min(total_ms),
        video_ms_max=max(total_ms),
        second_ms=median(second_ms),
        first_ms=median(first_ms),
        gflops=2e-9 * (evaluations * d.hidden * d.n_classes + _pairs(n, d) * d.feature_dim * d.hidden) / video_s,
        gbytes_s=_FLOAT_BYTES * d.n_classes * plan.score_rows() / video_s / 1e9,
        peak_mb=peak_mb(setting.device),
        host=host_share(n, estimator, setting, video_s) if setting.host and video_s < 0.5 else None,
        error=_error(model, estimator, setting, n) if video_s < 1 else None,
    )


def _bare_products(
    plan: Plan, d: Dimensions, batch: int, device: torch.device
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return the bare products of the second, and of the first layers, into reused memory."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    scales = plan.rows(equal_scales(d.n_max))
    rows = max(scales) * batch
    hidden, weight, bias = random(rows, d.hidden), random(d.hidden, d.n_classes), random(d.n_classes)
    out = torch.empty((rows, d.n_classes), device=device)

    def second() -> None:
        for count in (scale * batch for scale in scales):
            torch.addmm(bias, hidden[:count], weight, out=out[:count])

    tables = [s * (plan.n - s + 1) * batch for s in range(1, min(d.n_max, plan.n) + 1)]
    frames, first_weight = random(max(tables), d.feature_dim), random(d.feature_dim, d.hidden)
    table = torch.empty((max(tables), d.hidden), device=device)

    def first() -> None:
        for count in tables:  # once, for any number of iterations
            torch.mm(frames[:count], first_weight, out=table[:count])

    return second, first


def _pairs(n: int, d: Dimensions) -> int:
    """Return the number of feasible pairs of position and element of all heads."""
    return sum(s * (n - s + 1) for s in range(1, min(d.n_max, n) + 1))


def _error(model: VideoModel, estimator: Estimator, setting: Setting, n: int) -> float:
    """Return the largest difference of an ESV of one video from float64, over the largest ESV."""
    features = _features(_engine(model, estimator, setting), n, 1)
    esvs = []
    for dtype in (torch.float32, torch.float64):
        exact = random_model(setting.dimensions, device=setting.device).to(dtype=dtype)
        engine = _engine(exact, estimator, setting)
        esvs += [part.esv.double() for _, part in engine.attributions([n], ["video 0"], lambda _: features)]
    return float((esvs[0] - esvs[1]).abs().max() / esvs[1].abs().max())
