"""run_work: plan, assign units to warm actors, survive their deaths, finish. Safe to kill and to run again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from esv_ray.errors import EsvError, IncompleteError, SpecError, StorageError
from esv_ray.job.actor import UnitActor
from esv_ray.job.on_ray.local_runtime import RuntimeLostError
from esv_ray.job.on_ray.runtime import check_address, ray_runtime
from esv_ray.job.progress import CHECKING, Progress, Report
from esv_ray.job.progress_file import progress_file, waiting_file
from esv_ray.job.resources import actor_memory, shape_of, this_machine
from esv_ray.job.result import JobResult
from esv_ray.job.run import Run
from esv_ray.job.scheduling.workers import MOST_IN_FLIGHT
from esv_ray.job.unit_log import log_unit
from esv_ray.job.work import UnitFault, UnitReport, Work, WorkPlan
from esv_ray.parallel import DaemonThreads
from esv_ray.signals import sigterm_interrupts

_log = logging.getLogger("esv_ray")


def run_work(work: Work, report: Report = lambda progress: None, *, retry_failed: bool = False) -> JobResult:
    """Do some work on Ray, or in this process.

    Args:
        work: the request.
        report: called with the progress, often.
        retry_failed: compute failed rows again; completed rows are unchanged.

    Returns:
        How the job ended. If something is left, run it again to resume.

    Raises:
        EsvError: the request is wrong (nothing is half-written), or no actor can be started.
    """
    with sigterm_interrupts():
        begun = time.monotonic()
        check_address(work.cluster)
        plan = _plan(work, report, retry_failed)
        run = Run(work, plan, report, [log_unit])
        with progress_file(run):
            run.tick(begun)
            try:
                _run_pending(run)
                finished = plan.finish(run.expected)
                if finished.missing:
                    run.record_missing(finished.missing, finished.counts)
            except (SpecError, IncompleteError):
                raise  # the machine or cluster cannot do what is asked, or was lost for the second time
            except EsvError as error:  # the request was valid: the error came up during the run
                raise IncompleteError(f"{error}; run again to resume") from error
            return run.result(finished, time.monotonic() - begun)


def _plan(work: Work, report: Report, retry_failed: bool) -> WorkPlan:
    with waiting_file(work.output, report) as wait_for:
        report(Progress(total=0, resumed=0, stage=CHECKING))
        try:
            return work.plan(retry_failed=retry_failed, actor_memory=lambda: _actor_memory(work, wait_for))
        except StorageError as error:
            if error.transient or error.full:  # the request may be right
                raise IncompleteError(f"{error}; run again to resume") from error
            raise


def _actor_memory(work: Work, wait_for: Callable[[str], None]) -> int:
    """Return the bytes that each actor may take: on a cluster, those of its first node; this may wait for it."""
    if work.in_process or work.cluster.address is None:
        return actor_memory(work.cluster, work.threads)
    with ray_runtime(work.cluster, work.threads):
        from esv_ray.job.on_ray.capacity import memory_on_cluster

        return memory_on_cluster(work.cluster, work.threads, wait_for)


def _run_pending(run: Run) -> None:
    if not run.plan.pending:
        return
    if run.work.in_process:
        _run_in_process(run)
        return
    try:
        _run_on_ray(run)
    except RuntimeLostError as error:
        _log.warning("%s; starting it again", str(error).removesuffix("; run again to resume"))
        run.all_workers_lost(time.monotonic())
        _run_on_ray(run)


def _run_on_ray(run: Run) -> None:
    with ray_runtime(run.work.cluster, run.work.threads):
        from esv_ray.job.on_ray.pool import run_on_actors  # imports Ray, which reads its environment then

        run_on_actors(run)


def _run_in_process(run: Run) -> None:
    """Run all units without Ray: the actor is a plain object, and threads of this process replace Ray's."""
    shape = shape_of(run.work.cluster, run.work.threads, [this_machine()])
    actor = UnitActor(run.plan.open_workplace, run.plan.run_unit, shape.device)
    scheduler = run.scheduler
    pool = DaemonThreads(MOST_IN_FLIGHT, "esv-unit")
    running: dict[Future[UnitReport | UnitFault], tuple[str, int]] = {}
    beats = (0, "")
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
                run.stages["here"] = beats[1]
            run.update_silence(time.monotonic(), None)
        run.silence = None
        run.tick(time.monotonic())
    except KeyboardInterrupt:
        running.clear()  # their storage may not answer: drop them, as if killed
        raise
    finally:
        actor.close()
        pool.shutdown(cancel_futures=True)
        wait(running)
