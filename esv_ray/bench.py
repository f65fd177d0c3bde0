"""How fast the engine is here: ESVs of random videos at the paper's dimensions, against the bare products.

Times are medians over repeats in one process; compare ratios of one run, not seconds of different machines.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from esv_ray.cluster.planning import plan_job
from esv_ray.cluster.worker import open_workplace, run_unit
from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Estimator, Plan
from esv_ray.core.heads import MlpHead
from esv_ray.core.model import VideoModel, multiscale_model
from esv_ray.errors import DataError
from esv_ray.machine import spare_memory
from esv_ray.models.bundle import save_heads
from esv_ray.spec import load_spec

# Of the work that is looked at for the host's share.
_HOST_S, _MOST_HOST_VIDEOS, _HOST_UNITS = 1.0, 512, 4
FORMAT = 2

_T = TypeVar("_T")


@dataclass(frozen=True)
class Dimensions:
    """A model's sizes; defaults are the paper's."""

    feature_dim: int = 256
    hidden: int = 256
    n_classes: int = 174
    n_max: int = 8


@dataclass(frozen=True)
class Setting:
    """What a run is about.

    Attributes:
        dimensions: of the random model.
        device: `cpu` or `cuda`.
        threads: torch threads.
        repeats: timed, after one that is not.
        batch: most videos computed together; None: as in a job.
        matmul: precision of products (`torch.set_float32_matmul_precision`).
        host: whether to look at reading, decoding and writing, too.
    """

    dimensions: Dimensions = Dimensions()
    device: str = "cpu"
    threads: int = 1
    repeats: int = 7
    batch: int | None = None
    matmul: str = "highest"
    host: bool = True


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do, measured in the same run.

    Attributes:
        gflops: of a large square product.
        gbytes_s: read and written by a large copy.
    """

    gflops: float
    gbytes_s: float


@dataclass(frozen=True)
class Measurement:
    """One estimator at one length.

    Attributes:
        n: elements.
        estimator: `exact`, or m and iterations of Algorithm 1.
        batch: videos computed together.
        evaluations: head evaluations a video.
        plan_s: seconds to build the plan.
        video_ms: median milliseconds a video; video_ms_min, video_ms_max the range over repeats.
        second_ms: median milliseconds a video of the bare second-layer products, one a scale and batch, in turn with
            the whole.
        first_ms: the same of the bare first-layer products (the table of feasible pairs of position and element).
        gflops: of both layers' products, by the time of the whole.
        gbytes_s: what must be moved at least, by the time of the whole.
        peak_mb: largest memory so far: resident of the process, or allocated on the GPU.
        host: share of a job's unit that is reading, decoding, tables and commit, not compute; None: not looked at.
        error: largest difference of an ESV from float64 over the largest ESV, of one video; None where float64 would
            take too long.
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
        """Time of the whole in units of the bare second-layer products."""
        return self.video_ms / self.second_ms

    @property
    def over_both(self) -> float:
        """Time of the whole in units of both layers' bare products."""
        return self.video_ms / (self.second_ms + self.first_ms)


def random_heads(dimensions: Dimensions, *, seed: int = 0) -> dict[int, MlpHead]:
    """Random heads of one hidden layer, n_max of them."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    d = dimensions
    heads = {
        s: MlpHead(scale=s, feature_dim=d.feature_dim, hidden_dims=[d.hidden], n_classes=d.n_classes).eval()
        for s in range(1, d.n_max + 1)
    }
    torch.random.set_rng_state(state)
    return heads


def random_model(dimensions: Dimensions, *, device: str = "cpu", seed: int = 0) -> VideoModel:
    """A multi-scale model with random heads of one hidden layer, and a uniform prior."""
    prior = torch.full((dimensions.n_classes,), 1 / dimensions.n_classes)
    return multiscale_model(random_heads(dimensions, seed=seed), prior, feature_dim=dimensions.feature_dim).to(device)


def measure(lengths: Sequence[int], estimator: Estimator, setting: Setting) -> list[Measurement]:
    """Time an estimator at several lengths."""
    return _with_settings(setting, lambda: [_measure(n, estimator, setting) for n in lengths])


def measure_mixed(shortest: int, longest: int, videos: int, estimator: Estimator, setting: Setting) -> float:
    """Throughput lost to mixed lengths: time of videos of lengths shortest..longest in turn, together, over the sum of
    what each length takes in full batches, less one. Plans are there beforehand in both.
    """

    def work() -> float:
        model = random_model(setting.dimensions, device=setting.device)
        lengths = [shortest + index % (longest - shortest + 1) for index in range(videos)]
        engine = _engine(model, estimator, setting)
        alone = 0.0
        for n in sorted(set(lengths)):
            batch = engine.batch(n, engine.plan(n))
            seconds = [_timed(lambda n=n, batch=batch: _run(engine, [n] * batch), model) for _ in range(3)]  # type: ignore[misc]
            alone += median(seconds[1:]) / batch * lengths.count(n)
        together = [_timed(lambda: _run(engine, lengths), model) for _ in range(3)]
        return median(together[1:]) / alone - 1

    return _with_settings(setting, work)


def ceilings(setting: Setting) -> Ceilings:
    """What the machine can do."""

    def work() -> Ceilings:
        cuda = setting.device == "cuda"
        model = random_model(Dimensions(1, 1, 1, 1), device=setting.device)
        size, numbers = (8192, 2**28) if cuda else (1536, 2**24)
        square = torch.randn((size, size), device=setting.device)
        out = torch.empty_like(square)
        product = median(_timed(lambda: torch.mm(square, square, out=out), model) for _ in range(5))
        line = torch.zeros(numbers, device=setting.device)
        to = torch.empty_like(line)
        copy = median(_timed(lambda: to.copy_(line), model) for _ in range(5))
        return Ceilings(2 * size**3 / product / 1e9, 2 * 4 * numbers / copy / 1e9)

    return _with_settings(setting, work)


def _with_settings(setting: Setting, work: Callable[[], _T]) -> _T:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(setting.threads)
    torch.set_float32_matmul_precision(setting.matmul)
    try:
        return work()
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def _engine(model: VideoModel, estimator: Estimator, setting: Setting) -> Engine:
    return Engine(model, estimator, memory_budget=spare_memory(model.device), batch=setting.batch)


def _features(engine: Engine, n: int, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn((batch, n, engine.model.feature_dim), generator=generator)


def _run(engine: Engine, lengths: Sequence[int]) -> list[Attribution]:
    ids = [f"video {index}" for index in range(len(lengths))]
    batches = engine.attributions(lengths, ids, lambda some: _features(engine, lengths[some[0]], len(some)))
    return [found for _, found in batches]


def _measure(n: int, estimator: Estimator, setting: Setting) -> Measurement:
    d = setting.dimensions
    model = random_model(d, device=setting.device)
    engine = _engine(model, estimator, setting)
    engine.check(n)
    begun = time.perf_counter()
    plan = engine.plan(n)
    plan_s = time.perf_counter() - begun
    batch = engine.batch(n, plan)
    features = _features(engine, n, batch).to(model.device)
    ids = [f"video {index}" for index in range(batch)]
    second, first = _bare_products(plan, d, batch, model.device)

    # In turn, so that a noisy moment of the machine hits all.
    times: list[list[float]] = [[], [], []]
    works = (lambda: list(engine.attributions([n] * batch, ids, lambda _: features)), second, first)
    for repeat in range(setting.repeats + 1):
        for kept, work in zip(times, works, strict=True):
            seconds = _timed(work, model)
            if repeat:
                kept.append(seconds / batch * 1e3)
    whole, second_ms, first_ms = times
    video_s = median(whole) / 1e3
    evaluations = plan.evaluations(model.n_max)
    return Measurement(
        n=n,
        estimator="exact" if plan.exact else f"m={estimator.m} x{estimator.iterations}",
        batch=batch,
        evaluations=evaluations,
        plan_s=plan_s,
        video_ms=median(whole),
        video_ms_min=min(whole),
        video_ms_max=max(whole),
        second_ms=median(second_ms),
        first_ms=median(first_ms),
        gflops=2e-9 * (evaluations * d.hidden * d.n_classes + _pairs(n, d) * d.feature_dim * d.hidden) / video_s,
        gbytes_s=_moved(plan, d) / video_s / 1e9,
        peak_mb=_peak_mb(setting.device),
        host=_host_share(n, estimator, setting, video_s) if setting.host else None,
        error=_error(model, estimator, setting, n) if video_s < 1 else None,
    )


def _bare_products(
    plan: Plan, d: Dimensions, batch: int, device: torch.device
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Nothing but the products of the second, and of the first layers, into memory that is used again."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    scales = [scale for lattice in plan.lattices for scale in lattice.scales[: d.n_max]]
    rows = max(len(scale) for scale in scales) * batch
    hidden, weight, bias = random(rows, d.hidden), random(d.hidden, d.n_classes), random(d.n_classes)
    out = torch.empty((rows, d.n_classes), device=device)

    def second() -> None:
        for scale in scales:
            count = len(scale) * batch
            torch.addmm(bias, hidden[:count], weight, out=out[:count])

    tables = [s * (plan.n - s + 1) * batch for s in range(1, min(d.n_max, plan.n) + 1)]
    frames, first_weight = random(max(tables), d.feature_dim), random(d.feature_dim, d.hidden)
    table = torch.empty((max(tables), d.hidden), device=device)

    def first() -> None:
        for count in tables * len(plan.lattices):
            torch.mm(frames[:count], first_weight, out=table[:count])

    return second, first


def _pairs(n: int, d: Dimensions) -> int:
    """Feasible pairs of position and element of all heads."""
    return sum(s * (n - s + 1) for s in range(1, min(d.n_max, n) + 1))


def _moved(plan: Plan, d: Dimensions) -> int:
    """Bytes a video that are read and written even where every chunk stays in the cache: F, once written, and read by
    those whose parent it is.
    """
    scales = [scale for lattice in plan.lattices for scale in lattice.scales]
    parents = [
        len(scale) * (comb(s, 1) if scale.parents is None else scale.parents.shape[1])
        for s, scale in enumerate(scales, start=1)
    ]
    return 4 * d.n_classes * (sum(len(scale) for scale in scales) + sum(parents))


def _error(model: VideoModel, estimator: Estimator, setting: Setting, n: int) -> float:
    """Largest difference of an ESV of one video from float64, over the largest ESV."""
    features = _features(_engine(model, estimator, setting), n, 1)
    found = []
    for dtype in (torch.float32, torch.float64):
        exact = random_model(setting.dimensions, device=setting.device).to(dtype=dtype)
        engine = _engine(exact, estimator, setting)
        found += [part.esv.double() for _, part in engine.attributions([n], ["video 0"], lambda _: features)]
    return float((found[0] - found[1]).abs().max() / found[1].abs().max())


def _host_share(n: int, estimator: Estimator, setting: Setting, video_s: float) -> float:
    """Share of a unit of a job that is not compute, without overlap: reading, decoding, tables, commit, on a disk."""
    d = setting.dimensions
    videos = max(16, min(_MOST_HOST_VIDEOS, int(_HOST_S / video_s)))
    with tempfile.TemporaryDirectory() as folder:
        rows = _HOST_UNITS * videos
        values = np.random.default_rng(0).standard_normal((rows * 2 * n, d.feature_dim), dtype=np.float32)
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * 2 * n)
        frames = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), d.feature_dim)
        ids = [f"video {index}" for index in range(rows)]
        labels = pa.array(np.arange(rows) % d.n_classes)
        table = pa.table({"video_id": ids, "features": pa.ListArray.from_arrays(offsets, frames), "label": labels})
        pq.write_table(table, f"{folder}/features.parquet", row_group_size=videos, compression="none")
        save_heads(f"{folder}/model", random_heads(d), torch.full((d.n_classes,), 1 / d.n_classes))
        spec = load_spec(
            {
                "features": f"{folder}/features.parquet",
                "model": f"{folder}/model",
                "output": f"{folder}/out",
                "frames": n,
                "estimator": {"kind": estimator.kind, "m": estimator.m, "iterations": estimator.iterations},
                "compute": {"threads": setting.threads, "unit": videos, "matmul": setting.matmul},
                "cluster": {"actors": 0},
            }
        )
        job = plan_job(spec)
        place = open_workplace(job.spec, job.manifest.model["digest"], setting.device)
        _, *reports = [run_unit(place, unit) for unit in job.pending]  # the first warms up
    return median(1 - one.compute_s / (one.read_s + one.compute_s + one.commit_s) for one in reports)


def _timed(work: Callable[[], object], model: VideoModel) -> float:
    begun = time.perf_counter()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - begun


def _peak_mb(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() // 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 2**20 if sys.platform == "darwin" else peak // 2**10


def as_json(measurements: Sequence[Measurement], found: Ceilings, setting: Setting) -> dict[str, Any]:
    """What a run measured, for a file."""
    return {
        "format": FORMAT,
        "setting": asdict(setting),
        "device": torch.cuda.get_device_name() if setting.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "ceilings": asdict(found),
        "measurements": [asdict(one) for one in measurements],
    }


def read_measurements(path: Path) -> dict[tuple[int, str], Measurement]:
    """The measurements in a file of `as_json`, by n and estimator.

    Raises:
        DataError: it is no such file.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise DataError(f"{path}: expected measurements of format {FORMAT}, got {content['format']}; measure again")
        found = [Measurement(**one) for one in content["measurements"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a file that `esv bench --json` wrote ({type(error).__name__})") from None
    return {(one.n, one.estimator): one for one in found}
