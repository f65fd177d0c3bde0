"""Benchmark settings: a random model of given sizes, a device, threads, and the timer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.model import VideoModel, multiscale_model


@dataclass(frozen=True)
class Dimensions:
    """Sizes of a model; the defaults are the paper's."""

    feature_dim: int = 256
    hidden: int = 256
    n_classes: int = 174
    n_max: int = 8


@dataclass(frozen=True)
class Setting:
    """Settings of a benchmark run.

    Attributes:
        dimensions: sizes of the random model.
        device: `cpu` or `cuda`.
        threads: torch threads.
        repeats: timed repetitions, after one warm-up.
        batch: most videos computed together; None: as in a job.
        matmul: precision of matrix products (`torch.set_float32_matmul_precision`).
        host: whether to measure reading, decoding and writing, too.
    """

    dimensions: Dimensions = Dimensions()
    device: str = "cpu"
    threads: int = 1
    repeats: int = 7
    batch: int | None = None
    matmul: str = "highest"
    host: bool = True


def random_heads(dimensions: Dimensions, *, seed: int = 0) -> dict[int, MlpHead]:
    """Create n_max random heads with one hidden layer."""
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
    """Create a multi-scale model with random heads of one hidden layer and a uniform prior."""
    prior = torch.full((dimensions.n_classes,), 1 / dimensions.n_classes)
    return multiscale_model(random_heads(dimensions, seed=seed), prior, feature_dim=dimensions.feature_dim).to(device)


def timed(work: Callable[[], object], model: VideoModel) -> float:
    """Return the seconds that some work takes on the model's device."""
    started = time.perf_counter()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - started


def peak_mb(device: str) -> int:
    """Return the peak memory in MiB: resident set of the process, or allocated on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() // 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 2**20 if sys.platform == "darwin" else peak // 2**10
