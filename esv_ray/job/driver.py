"""run_job: plan, dispatch units to warm actors, survive their deaths, finish. Safe to kill and to run again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial

import torch

from esv_ray.attribution.planning import memory_budget, plan_job, runs_here
from esv_ray.attribution.worker import UnitReport
from esv_ray.errors import EsvError, IncompleteError, SpecError, StorageError
from esv_ray.job.actor import UnitActor, UnitFault
from esv_ray.job.on_ray.local_runtime import RuntimeLostError
from esv_ray.job.on_ray.runtime import check_address, ray_runtime
from esv_ray.job.progress_file import awaiting_file, log_unit, progress_file
from esv_ray.job.resources import shape_of, this_machine
from esv_ray.job.run import JobResult, Progress, Report, Run
from esv_ray.job.scheduling.workers import MOST_IN_FLIGHT
from esv_ray.output.finish import finish_job
from esv_ray.parallel import DaemonThreads
from esv_ray.signals import sigterm_interrupts
from esv_ray.spec import JobSpec

__all__ = ["JobResult", "Progress", "Report", "run_job"]

_log = logging.getLogger("esv_ray")


def run_job(
    spec: JobSpec,
    report: Report = lambda progress: None,
    *,
    retry_failed: bool = False,
) -> JobResult:
    """Attribute a feature table.

    Args:
        spec: the job (`load_spec`).
        report: called with the progress, often.
        retry_failed: try the videos again that failed; what is well stays as it is.

    Returns:
        How it ended. Run again to go on where something is left.

    Raises:
        EsvError: the request is wrong (nothing is half-written), or no actor can be started.
    """
    with sigterm_interrupts():
        return _run_job(spec, report, retry_failed)


def _run_job(spec: JobSpec, report: Report, retry_failed: bool) -> JobResult:
    begun = time.monotonic()
    check_address(spec)
    with awaiting_file(spec.output, report) as waiting:
        budget_of = None if spec.cluster.address is None else partial(_budget_on_cluster, waiting=waiting)
        try:
            job = plan_job(spec, retry_failed=retry_failed, budget_of=budget_of)
        except StorageError as error:
            if error.passing or error.full:  # the request may be right
                raise IncompleteError(f"{error}; run again to go on") from error
            raise
    left = sum(len(job.retried.get(unit.index, range(unit.rows))) for unit in job.pending)
    units = len(job.manifest.units)
    progress = Progress(job.manifest.rows, job.manifest.rows - left, units, units - len(job.pending))
    run = Run(job.spec, job, progress, report, [log_unit])
    with progress_file(run):
        run.tick(begun)
        try:
            _run_pending(run)
            ended = finish_job(spec.output, job.manifest, run.expected)
            if ended.missing:
                run.found_missing(ended.missing, ended.counts)
        except (SpecError, IncompleteError):
            raise  # a machine or a cluster that cannot do what is asked of it, or one that is gone for the second time
        except EsvError as error:  # the request was right: it is what was met on the way
            raise IncompleteError(f"{error}; run again to go on") from error
        result = JobResult(
            output=spec.output,
            counts=ended.counts,
            failed=ended.failed,
            reasons=run.progress.reasons,
            quarantined={job.manifest.units[index].name: why for index, why in run.scheduler.quarantined.items()},
            given_up=run.scheduler.hopeless,
            missing=ended.missing,
            repeats=ended.repeats,
            finished=ended.finished,
            max_failed=spec.max_failed,
            units=units,
            resumed_units=units - len(job.pending),
            seconds=time.monotonic() - begun,
        )
        run.progress = replace(run.progress, repeated=result.repeated)
        run.ended = "incomplete" if result.units_left or result.repeats.number else "done"
        return result


def _run_pending(run: Run) -> None:
    spec = run.spec
    if not run.job.pending:
        return
    if runs_here(spec):
        _run_here(run)
        return
    try:
        _run_on_ray(run)
    except RuntimeLostError as error:
        _log.warning("%s; starting it again", str(error).removesuffix("; run again to go on"))
        run.all_lost(time.monotonic())
        _run_on_ray(run)


def _run_on_ray(run: Run) -> None:
    with ray_runtime(run.spec):
        from esv_ray.job.on_ray.pool import run_on_actors  # imports Ray, which must find its environment set

        run_on_actors(run)


def _budget_on_cluster(spec: JobSpec, waiting: Callable[[str], None]) -> int:
    """The memory budget of a job that runs on a cluster's nodes; for the first of them it may have to wait."""
    if spec.compute.memory_budget != "auto" or runs_here(spec):
        return memory_budget(spec)
    with ray_runtime(spec):
        from esv_ray.job.on_ray.capacity import budget_on_cluster

        return budget_on_cluster(spec, waiting)


def _run_here(run: Run) -> None:
    """All units in this process without Ray: the actor as a plain object, its threads in place of Ray's."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    shape = shape_of(run.spec, [this_machine()])
    manifest = run.job.manifest
    actor = UnitActor(run.spec, manifest.job, manifest.model["digest"], shape.device)
    scheduler = run.scheduler
    pool = DaemonThreads(MOST_IN_FLIGHT, "esv-unit")
    running: dict[Future[UnitReport | UnitFault], tuple[str, int]] = {}
    beats = 0
    try:
        actor.ready()
        scheduler.worker_ready("here")
        while not (scheduler.finished or scheduler.hopeless):
            now = time.monotonic()
            run.tick(now)
            for worker, task in scheduler.assign(now):
                call = pool.submit(actor.run, run.unit(task.unit), task, run.retried(task.unit))
                running[call] = (worker, task.unit)
            if not running:
                time.sleep(min(1.0, scheduler.idle_s(now)))
            for future in wait(running, timeout=1.0, return_when=FIRST_COMPLETED).done:
                worker, index = running.pop(future)
                run.settle(worker, index, future.result(), time.monotonic())
            if beats != (beats := actor.beats()):
                scheduler.progress("here", time.monotonic())
            run.look_for_silence(time.monotonic(), None)
        run.silence = None
        run.tick(time.monotonic())
    except KeyboardInterrupt:
        running.clear()  # their store may not answer: they are dropped, as by a kill
        raise
    finally:
        actor.close()
        pool.shutdown(cancel_futures=True)
        wait(running)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
