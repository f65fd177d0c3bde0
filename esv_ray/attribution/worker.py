"""One unit: read, compute, commit. A plain function of (job, unit), which actors call and tests call without Ray."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter

import numpy as np
import torch

from esv_ray.attribution.computed import compute_rows
from esv_ray.attribution.plan_cache import shared_blueprint
from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Estimator
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import JobError
from esv_ray.input.features import FeatureRows
from esv_ray.input.reading import UnitReader, read_rows
from esv_ray.input.units import Unit
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.models.bundle import load_model
from esv_ray.models.class_tables import in_file
from esv_ray.models.probe import check_repeatable
from esv_ray.output.commits import commit_unit, replace_unit, with_retried
from esv_ray.output.committed import is_committed, read_mark
from esv_ray.output.results import Missing
from esv_ray.output.unit_files import NO_COUNTS, UnitCounts, origin_for, unit_files
from esv_ray.spec import JobSpec


@dataclass(frozen=True)
class UnitReport:
    """How a unit went.

    Attributes:
        counts: of its rows; none of a probe.
        read_s, compute_s, commit_s: seconds of each stage.
        reasons: how many rows failed for which reason, numbers in it left out.
        found: it was committed already.
    """

    counts: UnitCounts = NO_COUNTS
    read_s: float = 0.0
    compute_s: float = 0.0
    commit_s: float = 0.0
    reasons: Mapping[str, int] = field(default_factory=dict)
    found: bool = False


@dataclass
class Pulse:
    """A count that grows as long as work goes on."""

    beats: int = 0

    def beat(self) -> None:
        """Something was done."""
        self.beats += 1


@dataclass(frozen=True, eq=False)
class Workplace:
    """What an actor holds for all of its units.

    Attributes:
        spec: of the job.
        job: its fingerprint (`Manifest.job`).
        engine: the loaded model on its device.
        stopped: set when the actor is to stop.
        pulse: shows that work goes on.
        reader: keeps the file and row group of the last unit open.
    """

    spec: JobSpec
    job: str
    engine: Engine
    stopped: Event = field(default_factory=Event)
    pulse: Pulse = field(default_factory=Pulse)
    reader: UnitReader = field(default_factory=UnitReader)

    @property
    def model(self) -> VideoModel:
        """The model at work."""
        return self.engine.model


def open_workplace(spec: JobSpec, job: str, digest: str, device: str) -> Workplace:
    """Load the model once, and set the precision of this process's matrix products.

    Args:
        spec: of the job.
        job: its fingerprint (`Manifest.job`).
        digest: the model's hash in the plan.
        device: torch device of this worker.

    Raises:
        JobError: the bundle changed since the job was planned.
        ModelError: the model cannot be loaded here, or its modules cannot be repeated on this device in this dtype.
    """
    torch.set_float32_matmul_precision(spec.compute.matmul)
    model = load_model(spec.model, code=spec.code)
    if model.digest != digest:
        raise JobError(f"{spec.model}: the model changed since the job was planned; put it back or use a new output")
    loaded = model.device, model.dtype
    moved = model.to(device, getattr(torch, spec.compute.dtype))
    if (moved.device, moved.dtype) != loaded:
        with in_file(spec.model):
            check_repeatable(moved)
    place = Workplace(spec, job, job_engine(spec, moved))
    # One batch through a slow module of a user's may take longer than a worker may be silent.
    for module in place.model.scorer.modules():
        module.register_forward_hook(lambda *_: place.pulse.beat())
    return place


def run_unit(
    place: Workplace, unit: Unit, task: Task, *, retried: Sequence[int] | None = None, compute: Executor | None = None
) -> UnitReport:
    """Read, compute and commit one unit, or compute some of its rows to see whether they can be.

    Args:
        place: job and model.
        unit: which rows.
        task: what is asked of it.
        retried: rows of the committed unit that are tried again; None: it is not committed yet.
        compute: where the torch work is done, so that it stays on one thread while others read and commit; None: here.

    Raises:
        EsvError: the input changed, or the storage refuses; nothing of the unit is marked done.
        Exception: whatever the computation met.
    """
    spec = place.spec
    if task.probe is None and retried is None and is_committed(spec.output, unit):
        # By another driver of this job, or by an actor that was given up and went on.
        return UnitReport(read_mark(spec.output, unit, place.job).counts, found=True)
    begun = perf_counter()
    rows = rows_of(place, unit)
    # Rows of a task are counted among those that are to be done.
    own = np.arange(unit.rows) if retried is None else np.array(retried, dtype=np.int64)
    condemned = {int(own[row]): why for row, why in task.condemned}
    only = own if task.probe is None else own[slice(*task.probe)]
    read = perf_counter()
    place.pulse.beat()
    tables, failures, computing, computed = compute_rows(place, rows, condemned=condemned, only=only, compute=compute)
    if task.probe is not None:
        return UnitReport(read_s=read - begun, compute_s=computing)
    if place.stopped.is_set():  # by now the process may compute in another precision
        raise JobError("stopped")
    origin = origin_for(unit, place.job)
    if retried is None:
        files = unit_files(tables, unit.rows, origin)
        commit_unit(spec.output, unit, files)
    else:
        files = unit_files(with_retried(spec.output, unit, tables, rows.ids, retried), unit.rows, origin)
        replace_unit(spec.output, unit, files)
    place.pulse.beat()
    return UnitReport(files.footer.counts, read - begun, computing, perf_counter() - computed, _reasons(failures))


def rows_of(place: Workplace, unit: Unit) -> FeatureRows:
    """The rows of a unit, read within the job's memory budget."""
    budget = place.spec.compute.memory_budget
    assert budget != "auto", "planning fixes it"
    return read_rows(
        unit,
        place.reader,
        feature_dim=place.model.feature_dim,
        n_classes=place.model.n_classes,
        dtype=np.dtype(place.spec.compute.dtype),
        budget=budget,
        unlabelled=place.spec.unlabelled,
    )


def _reasons(missing: Sequence[Missing]) -> Mapping[str, int]:
    """How many rows failed for each reason; what differs from video to video is left out of it."""
    by_row = {one.row: re.sub(r"'[^']*'|\d+(\.\d+)?", "#", one.reason) for one in missing if one.status == "failed"}
    return dict(Counter(by_row.values()))


def job_estimator(spec: JobSpec) -> Estimator:
    """The estimator that a job asks for."""
    asked = spec.estimator
    return Estimator(**asked.model_dump())


def job_engine(spec: JobSpec, model: VideoModel) -> Engine:
    """A model at work as a job asks for it."""
    batch = None if spec.compute.batch == "auto" else spec.compute.batch
    budget = spec.compute.memory_budget
    assert budget != "auto", "planning fixes it"
    return Engine(
        model,
        job_estimator(spec),
        memory_budget=budget,
        batch=batch,
        threads=spec.compute.threads,
        build=shared_blueprint,
    )
