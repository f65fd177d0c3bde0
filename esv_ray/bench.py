"""How fast the engine is here: ESVs of random videos at the paper's dimensions, against the bare products.

Times are medians over repeats in one process; compare ratios of one run, not seconds of different machines.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from esv_ray.core.attribution import attribute
from esv_ray.core.estimator import Estimator, plan_for
from esv_ray.core.heads import MlpHead
from esv_ray.core.memory import default_batch
from esv_ray.core.model import VideoModel, multiscale_model


@dataclass(frozen=True)
class Dimensions:
    """A model's sizes; defaults are the paper's."""

    feature_dim: int = 256
    hidden: int = 256
    n_classes: int = 174
    n_max: int = 8


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
        bare_ms: median milliseconds of the bare second-layer products of a video, measured in between.
        peak_mb: largest resident memory of the process so far.
    """

    n: int
    estimator: str
    batch: int
    evaluations: int
    plan_s: float
    video_ms: float
    video_ms_min: float
    video_ms_max: float
    bare_ms: float
    peak_mb: int


def random_model(dimensions: Dimensions, *, device: str = "cpu", seed: int = 0) -> VideoModel:
    """A multi-scale model with random heads of one hidden layer, and a uniform prior."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    d = dimensions
    heads = {
        s: MlpHead(scale=s, feature_dim=d.feature_dim, hidden_dims=[d.hidden], n_classes=d.n_classes)
        for s in range(1, d.n_max + 1)
    }
    torch.random.set_rng_state(state)
    prior = torch.full((d.n_classes,), 1 / d.n_classes)
    return multiscale_model(heads, prior, feature_dim=d.feature_dim).to(device)


def measure(
    lengths: Sequence[int],
    estimator: Estimator,
    dimensions: Dimensions,
    *,
    device: str = "cpu",
    threads: int = 1,
    repeats: int = 7,
) -> list[Measurement]:
    """Time an estimator at several lengths."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = random_model(dimensions, device=device)
        return [_measure(n, estimator, dimensions, model, repeats) for n in lengths]
    finally:
        torch.set_num_threads(before)


def _measure(n: int, estimator: Estimator, dimensions: Dimensions, model: VideoModel, repeats: int) -> Measurement:
    begun = time.perf_counter()
    plan = plan_for(estimator, n, n_max=model.n_max, dtype=model.dtype, device=model.device)
    plan_s = time.perf_counter() - begun
    batch = default_batch(plan.largest(), model.device)
    generator = torch.Generator().manual_seed(n)
    features = torch.randn((batch, n, dimensions.feature_dim), generator=generator).to(model.device)
    relabelling = None
    if not plan.exact:
        relabelling = torch.rand((batch, n), generator=generator).argsort(dim=1).int().to(model.device)
    evaluations = plan.evaluations(model.n_max)
    hidden = torch.randn((min(evaluations * batch, 4096), dimensions.hidden), generator=generator).to(model.device)
    weight = torch.randn((dimensions.hidden, dimensions.n_classes), generator=generator).to(model.device)
    bias = torch.zeros(dimensions.n_classes, device=model.device)

    def products() -> None:
        left = evaluations * batch
        while left > 0:
            torch.addmm(bias, hidden[:left], weight)
            left -= len(hidden)

    # In turn, so that a noisy moment of the machine hits both.
    whole, bare = [], []
    for repeat in range(repeats + 1):
        seconds = _timed(lambda: attribute(model, features, plan, relabelling=relabelling), model.device)
        bare_seconds = _timed(products, model.device)
        if repeat:
            whole.append(seconds / batch * 1e3)
            bare.append(bare_seconds / batch * 1e3)
    return Measurement(
        n=n,
        estimator="exact" if plan.exact else f"m={estimator.m} x{estimator.iterations}",
        batch=batch,
        evaluations=evaluations,
        plan_s=plan_s,
        video_ms=median(whole),
        video_ms_min=min(whole),
        video_ms_max=max(whole),
        bare_ms=median(bare),
        peak_mb=_peak_mb(),
    )


def _timed(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _peak_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 2**20 if sys.platform == "darwin" else peak // 2**10


def as_json(
    measurements: Sequence[Measurement], dimensions: Dimensions, *, device: str, threads: int
) -> dict[str, Any]:
    """What a run measured, for a file."""
    return {
        "dimensions": asdict(dimensions),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": threads,
        "torch": torch.__version__,
        "measurements": [asdict(one) for one in measurements],
    }
