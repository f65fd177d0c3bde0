"""A unit of a training: train a head, evaluate it, commit it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from time import perf_counter

import torch

from esv_ray.core.threads import torch_threads
from esv_ray.input.reasons import reason_kind
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.job.work import Failures, RowCounts, UnitReport
from esv_ray.output.commits import commit_unit
from esv_ray.output.committed import committed_counts
from esv_ray.output.layout import TRAINING_FOLDERS
from esv_ray.output.results import UnitTables
from esv_ray.training.data import places_of_f
from esv_ray.training.evaluation import mean_logits, measure
from esv_ray.training.fitting import DivergedError, Epoch, FitTask, fit_head, seed_of
from esv_ray.training.planning import training_folder
from esv_ray.training.run_file import HeadUnit, TrainingPlan
from esv_ray.training.tables import tables_of_failure, tables_of_head
from esv_ray.training.workplace import Workplace


def run_unit(
    place: Workplace,
    unit: HeadUnit,
    task: Task,
    *,
    retried: Sequence[int] | None = None,
    compute: Executor | None = None,
) -> UnitReport:
    """Train a head and commit it, or train it without a commit (`Task.probe`).

    Args:
        place: the videos.
        unit: unit of the plan.
        task: what to do with it.
        retried: given if the head is committed as failed, and is trained again.
        compute: trains on one thread; None: the calling thread.

    Raises:
        EsvError: the table changed, or the storage refuses; the unit is not committed.
        Exception: whatever torch raises.
    """
    folder, plan = training_folder(place.spec.output), TrainingPlan(place.written)
    if task.probe is None and retried is None:
        # By another driver of this job, or by an actor that was given up and still works.
        earlier = committed_counts(folder, unit, plan.job, plan.folders)
        if earlier is not None:
            return UnitReport(RowCounts(**earlier.outcomes), already_committed=True)
    begun = perf_counter()
    failures: dict[str, Failures] = {}
    if task.poisoned:
        reason = task.poisoned[0][1]
        tables = tables_of_failure(unit, reason)
        failures = {reason_kind(reason): Failures(1, reason)}
    else:
        try:
            tables = train_unit(place, unit) if compute is None else compute.submit(train_unit, place, unit).result()
        except DivergedError as error:
            tables = tables_of_failure(unit, str(error))
            failures = {reason_kind(str(error)): Failures(1, str(error))}
    computed = perf_counter()
    if task.probe is not None:
        return UnitReport(compute_s=computed - begun)
    place.check()
    counts = commit_unit(folder, unit, plan.job, tables, again=retried is not None, folders=TRAINING_FOLDERS)
    place.heartbeat.beat()
    report = RowCounts(**counts.outcomes)
    return UnitReport(report, 0.0, computed - begun, perf_counter() - computed, failures)


def train_unit(place: Workplace, unit: HeadUnit) -> UnitTables:
    """Train a head and evaluate it; return its tables.

    Raises:
        DivergedError: the validation loss is not finite after any epoch.
        DataError: the table changed.
    """
    spec, data = place.spec, place.data

    def report(epoch: Epoch) -> None:
        place.heartbeat.stage = (
            f"training {unit.head}: epoch {epoch.epoch} of {spec.epochs}, validation loss {epoch.validation_loss:.3f}"
        )

    weights = None if data.weights is None else torch.tensor(data.weights)
    task = FitTask(
        spec,
        unit.scale,
        unit.seed,
        place.training,
        place.validation,
        data.n_classes,
        weights,
        place.device,
        report,
        place.check,
    )
    # Of this thread: torch's pools are each thread's own.
    with torch_threads(spec.threads), place.heartbeat.during(f"training {unit.head}"):
        fitted = fit_head(task)
        bins = None
        if task.validated:
            seed = seed_of(spec.seed, 1000 + unit.scale)
            bins = measure(fitted.head, unit.scale, place.validation, seed, check=place.check).bins
        places = places_of_f(len(data.held), spec.seed)
        seed = seed_of(spec.seed, -unit.scale)
        found, logits = mean_logits(fitted.head, unit.scale, place.validation, places, seed, check=place.check)
    return tables_of_head(unit, fitted, bins, found, logits)
