"""One unit: read, compute, commit. A plain function of (job, unit), which actors call and tests call without Ray."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.core.attribution import Attribution, attribute_videos, check_fits
from esv_ray.core.estimator import Estimator
from esv_ray.core.model import VideoModel
from esv_ray.errors import JobError, SpecError
from esv_ray.models.bundle import load_model
from esv_ray.spec import JobSpec
from esv_ray.tables.features import BadRow, Video, decode
from esv_ray.tables.manifest import commit_unit
from esv_ray.tables.results import Computed, Outcome, UnitCounts, choose_classes, unit_tables
from esv_ray.tables.units import Unit, read_unit

_T = TypeVar("_T")


@dataclass(frozen=True)
class UnitReport:
    """How a unit went.

    Attributes:
        counts: of its rows.
        read_s, compute_s, commit_s: seconds of each stage.
    """

    counts: UnitCounts
    read_s: float
    compute_s: float
    commit_s: float


@dataclass(frozen=True, eq=False)
class Workplace:
    """What an actor holds for all of its units: the job and the loaded model, on its device."""

    spec: JobSpec
    model: VideoModel


def open_workplace(spec: JobSpec, digest: str, device: str) -> Workplace:
    """Load the model once.

    Args:
        spec: the job.
        digest: the model's hash in the plan.
        device: torch device of this worker.

    Raises:
        JobError: the bundle changed since the job was planned.
    """
    model = load_model(spec.model)
    if model.digest != digest:
        raise JobError(f"{spec.model}: the model changed since the job was planned; put it back or use a new output")
    return Workplace(spec, model.to(device, getattr(torch, spec.compute.dtype)))


def run_unit(place: Workplace, unit: Unit, compute: Executor | None = None) -> UnitReport:
    """Read, compute and commit one unit.

    Args:
        place: job and model.
        unit: which rows.
        compute: where the torch work is done, so that it stays on one thread while others read and commit; None: here.

    Raises:
        EsvError: the input changed, or the storage refuses; nothing of the unit is marked done.
    """
    begun = perf_counter()
    table, repeated = read_unit(unit)
    videos, bad = decode(
        table,
        feature_dim=place.model.feature_dim,
        n_classes=place.model.n_classes,
        dtype=np.dtype(place.spec.compute.dtype),
        repeated=repeated.tolist(),
    )
    read = perf_counter()
    outcomes = _on(compute, lambda: compute_outcomes(place, videos, bad, unit.rows))
    computed = perf_counter()
    attributions, rows, counts = unit_tables(outcomes, unit.covers)
    commit_unit(place.spec.output, unit, attributions, rows)
    done = perf_counter()
    return UnitReport(counts, read - begun, computed - read, done - computed)


def _on(compute: Executor | None, work: Callable[[], _T]) -> _T:
    return work() if compute is None else compute.submit(work).result()


def compute_outcomes(place: Workplace, videos: list[Video], bad: list[BadRow], n_rows: int) -> list[list[Outcome]]:
    """What becomes of the rows of a unit: for each input row its outcomes, lengths ascending."""
    spec = place.spec
    outcomes: list[list[Outcome]] = [[] for _ in range(n_rows)]
    for row in bad:
        asked = (row.n_frames,) if spec.frames == "all" else spec.frames
        outcomes[row.row] = [Outcome(row.video_id, row.label, row.n_frames, n, "failed", row.reason) for n in asked]
    wanted: list[tuple[Video, npt.NDArray[np.int64]]] = []
    for video in videos:
        n_frames = len(video.features)
        for n in requested_lengths(spec, n_frames):
            if n <= n_frames:
                wanted.append((video, sample_frames(n_frames, n)))
            else:
                reason = f"{n_frames} frames, {n} asked for"
                outcomes[video.row].append(Outcome(video.video_id, video.label, n_frames, n, "skipped", reason))
    for video, outcome in _attributed(place, wanted):
        outcomes[video.row].append(outcome)
    return [sorted(row, key=lambda outcome: outcome.n_elements) for row in outcomes]


def requested_lengths(spec: JobSpec, n_frames: int) -> list[int]:
    """The lengths at which a video of T frames is attributed (or, where longer than T, skipped), ascending.

    With `short: all`, lengths above T collapse into one: all T frames.
    """
    if spec.frames == "all":
        return [n_frames]
    return sorted({min(n, n_frames) for n in spec.frames} if spec.short == "all" else spec.frames)


def sample_frames(n_frames: int, n: int) -> npt.NDArray[np.int64]:
    """n of T frames, uniformly: floor((i + 0.5) * T / n), in whole numbers. (n,), for n <= T."""
    return (2 * np.arange(n, dtype=np.int64) + 1) * n_frames // (2 * n)


def _attributed(place: Workplace, wanted: list[tuple[Video, npt.NDArray[np.int64]]]) -> list[tuple[Video, Outcome]]:
    """Outcomes of sampled videos; those whose exact ESVs do not fit in memory fail with the reason."""
    spec, model = place.spec, place.model
    estimator = job_estimator(spec)
    out: list[tuple[Video, Outcome]] = []
    fitting: list[tuple[Video, npt.NDArray[np.int64]]] = []
    # By the job's budget, not by this machine's memory: the bytes of a table depend on the job alone.
    refusals = {n: _refusal(place, estimator, n) for n in {len(frames) for _, frames in wanted}}
    for video, frames in wanted:
        refusal = refusals[len(frames)]
        if refusal is None:
            fitting.append((video, frames))
        else:
            out.append((video, _outcome(video, frames, refusal)))
    batches = attribute_videos(
        model,
        [torch.from_numpy(video.features[frames]) for video, frames in fitting],
        [video.video_id for video, _ in fitting],
        estimator,
        memory_budget=spec.compute.memory_budget,
        batch=_batch(spec),
    )
    for indices, found in batches:
        chosen = [fitting[index] for index in indices]
        for (video, frames), computed in zip(chosen, _computed(place, chosen, found), strict=True):
            out.append((video, _outcome(video, frames, computed)))
    return out


def job_estimator(spec: JobSpec) -> Estimator:
    """The estimator that a job asks for."""
    asked = spec.estimator
    return Estimator(asked.kind, asked.m, asked.iterations, asked.seed)


def _batch(spec: JobSpec) -> int | None:
    return None if spec.compute.batch == "auto" else spec.compute.batch


def _refusal(place: Workplace, estimator: Estimator, n: int) -> str | None:
    """Why n elements cannot be attributed within the job's budget; None if they can."""
    try:
        check_fits(place.model, estimator, n, place.spec.compute.memory_budget, _batch(place.spec))
    except SpecError as error:
        return str(error)
    return None


def _computed(
    place: Workplace, chosen: list[tuple[Video, npt.NDArray[np.int64]]], found: Attribution
) -> list[Computed | str]:
    """The classes asked for of one batch; of a video whose values are not finite, the reason."""
    prior = place.model.prior.to(found.scores)
    gaps = (found.esv.sum(dim=1) - (found.scores - prior)).abs().amax(dim=1).cpu().numpy()  # (B,)
    scores = found.scores.float().cpu().numpy()  # (B, C)
    esv = found.esv.float().cpu().numpy()  # (B, n, C)
    stderr = None if found.stderr is None else found.stderr.float().cpu().numpy()
    finite = np.isfinite(scores).all(axis=1) & np.isfinite(esv).all(axis=(1, 2))  # (B,)
    out: list[Computed | str] = []
    for row, (video, frames) in enumerate(chosen):
        if not finite[row]:
            out.append("the model's scores are not finite: features or weights are too large")
            continue
        classes = choose_classes(place.spec.classes, scores[row], video.label)
        out.append(
            Computed(
                scores=scores[row],
                classes=classes,
                esv=esv[row][:, classes],
                stderr=None if stderr is None else stderr[row][:, classes],
                frame_index=video.frame_index[frames],
                exact=found.exact,
                evaluations=found.evaluations,
                efficiency_gap=float(gaps[row]),
            )
        )
    return out


def _outcome(video: Video, frames: npt.NDArray[np.int64], result: Computed | str) -> Outcome:
    """What was computed, or the reason why not."""
    computed, reason = (result, None) if isinstance(result, Computed) else (None, result)
    return Outcome(
        video.video_id,
        video.label,
        len(video.features),
        len(frames),
        "ok" if computed else "failed",
        reason,
        computed,
    )


class UnitActor:
    """The thin actor around `run_unit`: Ray's threads read and commit, one own thread does all torch work.

    Torch work spread over an actor's threads would give each its own thread pool, and results that depend on which.
    """

    def __init__(self, spec: JobSpec, digest: str, device: str) -> None:
        """Take what `open_workplace` wants; nothing is loaded yet, so that errors reach the caller whole."""
        self._wanted = (spec, digest, device)
        self._compute = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(spec.compute.threads,))
        self._place: Workplace | None = None

    def ready(self) -> int:
        """Load the model; the process id."""
        self._place = self._compute.submit(open_workplace, *self._wanted).result()
        return os.getpid()

    def run(self, unit: Unit) -> UnitReport:
        """One unit, after `ready`."""
        assert self._place is not None, "the driver gives work to ready actors only"
        return run_unit(self._place, unit, self._compute)
