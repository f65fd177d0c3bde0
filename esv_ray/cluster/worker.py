"""One unit: read, compute, commit. A plain function of (job, unit), which actors call and tests call without Ray."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.cluster.plan_store import shared_blueprint
from esv_ray.cluster.scheduler import Task
from esv_ray.cluster.wanted import Wanted, requested
from esv_ray.core.attribution import Attribution
from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Estimator
from esv_ray.core.model import VideoModel
from esv_ray.core.transfer import fetched
from esv_ray.errors import JobError, SpecError
from esv_ray.models.bundle import load_model
from esv_ray.spec import JobSpec
from esv_ray.tables.commits import commit_unit, committed_footer, replace_unit, with_retried
from esv_ray.tables.features import FeatureRows
from esv_ray.tables.manifest import is_committed
from esv_ray.tables.results import Computed, InputRows, Missing, choose_classes, unit_tables
from esv_ray.tables.unit_files import NO_COUNTS, UnitCounts, unit_files
from esv_ray.tables.units import Unit, read_rows

_T = TypeVar("_T")


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
    """What an actor holds for all of its units: the job, the loaded model on its device, and whether to stop."""

    spec: JobSpec
    engine: Engine
    stopped: Event = field(default_factory=Event)
    pulse: Pulse = field(default_factory=Pulse)

    @property
    def model(self) -> VideoModel:
        """The model at work."""
        return self.engine.model


def open_workplace(spec: JobSpec, digest: str, device: str) -> Workplace:
    """Load the model once, and set the precision of this process's matrix products.

    Args:
        spec: the job.
        digest: the model's hash in the plan.
        device: torch device of this worker.

    Raises:
        JobError: the bundle changed since the job was planned.
    """
    torch.set_float32_matmul_precision(spec.compute.matmul)
    model = load_model(spec.model)
    if model.digest != digest:
        raise JobError(f"{spec.model}: the model changed since the job was planned; put it back or use a new output")
    place = Workplace(spec, job_engine(spec, model.to(device, getattr(torch, spec.compute.dtype))))
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
    if task.again and task.probe is None and retried is None and is_committed(spec.output, unit):
        return UnitReport(committed_footer(spec.output, unit).counts, found=True)
    begun = perf_counter()
    rows = _rows(place, unit)
    # Rows of a task are counted among those that are to be done.
    own = np.arange(unit.rows) if retried is None else np.array(retried, dtype=np.int64)
    condemned = {int(own[row]): why for row, why in task.condemned}
    only = own if task.probe is None else own[slice(*task.probe)]
    wanted, missing = requested(spec, rows, condemned=condemned, only=only)
    read = perf_counter()
    place.pulse.beat()
    # On the thread of `compute` frames are gathered and the device works; classes and tables are made here.
    found, refused, computing = _on(compute, lambda: _attribute(place, rows, wanted))
    computed = perf_counter()
    results, not_finite = _results(spec, rows, wanted, found)
    failures = missing + refused + not_finite
    tables = unit_tables(InputRows(rows.ids, rows.labels, rows.labelled, rows.n_frames), results, failures)
    if task.probe is not None:
        return UnitReport(read_s=read - begun, compute_s=computing)
    if place.stopped.is_set():  # by now the process may compute in another precision
        raise JobError("stopped")
    if retried is None:
        files = unit_files(tables, unit.rows, unit.covers)
        commit_unit(spec.output, unit, files)
    else:
        files = unit_files(with_retried(spec.output, unit, tables, rows.ids, retried), unit.rows, unit.covers)
        replace_unit(spec.output, unit, files)
    place.pulse.beat()
    return UnitReport(files.footer.counts, read - begun, computing, perf_counter() - computed, _reasons(failures))


def _rows(place: Workplace, unit: Unit) -> FeatureRows:
    """The rows of a unit, read within the job's memory budget."""
    budget = place.spec.compute.memory_budget
    assert budget != "auto", "planning fixes it"
    return read_rows(
        unit,
        feature_dim=place.model.feature_dim,
        n_classes=place.model.n_classes,
        dtype=np.dtype(place.spec.compute.dtype),
        budget=budget,
    )


def _reasons(missing: Sequence[Missing]) -> Mapping[str, int]:
    """How many rows failed for each reason; what differs from video to video is left out of it."""
    by_row = {one.row: re.sub(r"\d+(\.\d+)?", "#", one.reason) for one in missing if one.status == "failed"}
    return dict(Counter(by_row.values()))


def _on(compute: Executor | None, work: Callable[[], _T]) -> _T:
    return work() if compute is None else compute.submit(work).result()


def _attribute(
    place: Workplace, rows: FeatureRows, wanted: Wanted
) -> tuple[list[tuple[npt.NDArray[np.int64], Attribution]], list[Missing], float]:
    """Attributions in host memory, each of some of `wanted`; what does not fit in memory; and seconds."""
    begun = perf_counter()
    engine, refusals = place.engine, {}
    # By the job's budget, not by this machine's memory: the bytes of a table depend on the job alone.
    for n in np.unique(wanted.lengths).tolist():
        try:
            engine.check(n)
        except SpecError as error:
            refusals[n] = str(error)
    refused = [
        Missing(row, n, "failed", refusals[n])
        for row, n in zip(wanted.rows.tolist(), wanted.lengths.tolist(), strict=True)
        if n in refusals
    ]
    fitting = np.flatnonzero(~np.isin(wanted.lengths, list(refusals)))

    def features(some: Sequence[int]) -> torch.Tensor:
        chosen = fitting[some]
        return torch.from_numpy(rows.features(wanted.rows[chosen], wanted.places(chosen, rows.n_frames)))

    ids = [rows.ids[row] for row in wanted.rows[fitting].tolist()]

    def chosen(some: Sequence[int], scores: torch.Tensor) -> torch.Tensor:
        of = wanted.rows[fitting[some]]
        pairs = choose_classes(place.spec.classes, scores.float().cpu().numpy(), rows.labels[of], rows.labelled[of])
        mask = torch.zeros(scores.shape, dtype=torch.bool)
        mask[pairs[:, 0], pairs[:, 1]] = True
        return mask.to(scores.device)

    batches = fetched(engine.attributions(wanted.lengths[fitting].tolist(), ids, features, chosen))
    found = []
    for indices, attribution in batches:
        if place.stopped.is_set():
            raise JobError("stopped")
        place.pulse.beat()
        found.append((fitting[indices], attribution))
    return found, refused, perf_counter() - begun


def _results(
    spec: JobSpec, rows: FeatureRows, wanted: Wanted, found: Sequence[tuple[npt.NDArray[np.int64], Attribution]]
) -> tuple[list[Computed], list[Missing]]:
    """The classes asked for; and the videos whose values are not finite."""
    results, missing = [], []
    for some, attribution in found:
        full = attribution.scores.float()  # (B, C)
        if spec.estimator.output == "logit":
            full = full.softmax(dim=1)  # tables hold probabilities
        esv, scores = attribution.esv.float().numpy(), full.numpy()  # (B, n, C), (B, C)
        finite = np.isfinite(scores).all(axis=1) & np.isfinite(esv).all(axis=(1, 2))
        for index in some[~finite].tolist():
            why = "the model's scores are not finite: features or weights are too large"
            missing.append(Missing(int(wanted.rows[index]), int(wanted.lengths[index]), "failed", why))
        kept = some[finite]
        if not len(kept):
            continue
        rows_of = wanted.rows[kept]
        pairs = choose_classes(spec.classes, scores[finite], rows.labels[rows_of], rows.labelled[rows_of])
        video, chosen = np.flatnonzero(finite)[pairs[:, 0]], pairs[:, 1]
        stderr = None if attribution.stderr is None else attribution.stderr.float().numpy()[video, :, chosen]
        results.append(
            Computed(
                rows=rows_of,
                scores=scores[finite],
                gaps=attribution.gaps.float().numpy()[finite],
                frame_index=rows.frame_index(rows_of, wanted.places(kept, rows.n_frames)),
                pairs=pairs,
                esv=esv[video, :, chosen],
                stderr=stderr,
                exact=attribution.exact,
                evaluations=attribution.evaluations,
                iterations=attribution.iterations,
                met=None if attribution.met is None else attribution.met.numpy()[finite],
            )
        )
    return results, missing


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
