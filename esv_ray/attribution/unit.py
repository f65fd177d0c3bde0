"""A unit of an attribution: read, compute, commit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from time import perf_counter

import numpy as np

from esv_ray.attribution.compute import compute_rows
from esv_ray.attribution.workplace import Workplace
from esv_ray.errors import JobError
from esv_ray.input.reading import read_rows
from esv_ray.input.reasons import reason_kind
from esv_ray.input.units import Unit
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.job.work import Failures, RowCounts, UnitReport, all_failures
from esv_ray.output.commits import commit_unit
from esv_ray.output.committed import committed_counts
from esv_ray.output.computed import Missing
from esv_ray.output.layout import folders_of
from esv_ray.output.retried import with_retried


def run_unit(
    place: Workplace, unit: Unit, task: Task, *, retried: Sequence[int] | None = None, compute: Executor | None = None
) -> UnitReport:
    """Read, compute and commit a unit, or compute some of its rows without committing them (`Task.probe`).

    Args:
        place: job and model.
        unit: unit of the plan.
        task: what to do with it.
        retried: rows of the committed unit to compute again; None: the unit is not committed yet.
        compute: runs all torch work on one thread, while other threads read and commit; None: the calling thread.

    Raises:
        EsvError: the input changed, or the storage refuses; the unit is not committed.
        Exception: whatever the computation raises.
    """
    spec = place.spec
    if task.probe is None and retried is None:
        # Committed by another driver of this job, or by an actor that was given up but still works.
        earlier = committed_counts(spec.output, unit, place.job, folders_of(spec.tables))
        if earlier is not None:
            return UnitReport(RowCounts(**earlier.outcomes), already_committed=True)
    begun = perf_counter()
    rows = read_rows(unit, place.reader)
    # Rows of a task are numbered among the rows to compute.
    to_do = np.arange(unit.rows) if retried is None else np.array(retried, dtype=np.int64)
    poisoned = {int(to_do[row]): reason for row, reason in task.poisoned}
    only = to_do if task.probe is None else to_do[slice(*task.probe)]
    read = perf_counter()
    place.heartbeat.beat()
    tables, failures, computing, computed = compute_rows(place, rows, poisoned=poisoned, only=only, compute=compute)
    if task.probe is not None:
        return UnitReport(read_s=read - begun, compute_s=computing)
    if place.stopped.is_set():  # by now the process may compute in another precision
        raise JobError("stopped")
    if retried is not None:
        tables = with_retried(spec.output, unit, tables, rows.ids, retried)
    committed = commit_unit(spec.output, unit, place.job, tables, again=retried is not None)
    counts = RowCounts(**committed.outcomes)
    if retried is not None:
        counts = RowCounts(len(retried), len(retried) - committed.failed, 0, committed.failed)
    place.heartbeat.beat()
    return UnitReport(counts, read - begun, computing, perf_counter() - computed, _by_kind(failures))


def _by_kind(missing: Sequence[Missing]) -> dict[str, Failures]:
    """Return the failed rows by kind of reason; one that failed twice counts once."""
    reasons = {video.row: video.reason for video in missing if video.status == "failed"}
    return all_failures({reason_kind(reason): Failures(1, reason)} for reason in reasons.values())
