"""run_job: plan, dispatch units to warm actors, survive their deaths, finish. Safe to kill and to run again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError

from esv_ray import storage
from esv_ray.cluster.planning import PlannedJob, plan_job
from esv_ray.cluster.scheduler import Scheduler
from esv_ray.cluster.worker import UnitActor, UnitReport, open_workplace, run_unit
from esv_ray.errors import DataError, EsvError, JobError
from esv_ray.spec import JobSpec
from esv_ray.tables.finish import JobCounts, finish_job
from esv_ray.tables.manifest import videos_url
from esv_ray.tables.results import NO_COUNTS, UnitCounts
from esv_ray.tables.units import Unit

MOST_FAILED_STARTS = 5
HOPELESS_AFTER = 4
_OBJECT_STORE_BYTES = 100 * 2**20  # nothing but reports passes through it


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        total: videos of the job.
        resumed: videos that earlier runs had committed.
        counts: of the units that this run committed.
        actors: ready actors.
        seconds: since the first unit was given out.
        read_s, compute_s, commit_s: of all actors together.
    """

    total: int
    resumed: int
    counts: UnitCounts = NO_COUNTS
    actors: int = 0
    seconds: float = 0.0
    read_s: float = 0.0
    compute_s: float = 0.0
    commit_s: float = 0.0

    @property
    def rate(self) -> float:
        """Videos a second in this run."""
        return self.counts.rows / self.seconds if self.seconds > 0 else 0.0


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        output: where the tables are.
        counts: of all committed units, of this and earlier runs.
        failed: (video_id, reason) of the first failed videos.
        quarantined: units that could not be committed, and why.
        given_up: whether the run stopped early, every unit so far having failed.
        max_failed: share of failed videos that the spec bears.
        units, resumed_units: of the job, and of them those that earlier runs had committed.
        seconds: of this run.
    """

    output: str
    counts: UnitCounts
    failed: tuple[tuple[str, str], ...]
    quarantined: Mapping[str, str]
    given_up: bool
    max_failed: float
    units: int
    resumed_units: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 done; 1 too many videos failed, or a unit could not be committed."""
        too_many = self.counts.failed > self.max_failed * self.counts.rows
        return 1 if self.quarantined or too_many else 0


def run_job(spec: JobSpec, report: Report = lambda progress: None) -> JobResult:
    """Attribute a feature table.

    Args:
        spec: the job (`load_spec`).
        report: called with the progress, often.

    Returns:
        How it ended. Run again to go on where something is left.

    Raises:
        EsvError: the request is wrong (nothing is half-written), or no actor can be started.
    """
    begun = time.monotonic()
    job = plan_job(spec)
    resumed = sum(unit.rows for unit in job.manifest.units) - sum(unit.rows for unit in job.pending)
    run = _Run(spec, job, Progress(job.manifest.rows, resumed), report)
    report(run.progress)
    if job.pending:
        private = any(storage.in_this_process(url) for url in (spec.features, spec.model, spec.output))
        if private or spec.cluster.actors == 0:
            _run_here(run)
        else:
            with _cluster(spec):
                _run_on_actors(run)
    ended: JobCounts = finish_job(spec.output, job.manifest)
    names = {job.manifest.units[index].name: why for index, why in run.scheduler.quarantined.items()}
    return JobResult(
        output=spec.output,
        counts=ended.counts,
        failed=ended.failed,
        quarantined=names,
        given_up=run.hopeless,
        max_failed=spec.max_failed,
        units=len(job.manifest.units),
        resumed_units=len(job.manifest.units) - len(job.pending),
        seconds=time.monotonic() - begun,
    )


@dataclass
class _Run:
    """The state of one run of the driver."""

    spec: JobSpec
    job: PlannedJob
    progress: Progress
    report: Report
    started: float | None = None
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler.of(unit.index for unit in self.job.pending)

    @property
    def hopeless(self) -> bool:
        """The first units all failed: whatever it is, it will fail the others too."""
        return not self.scheduler.done and len(self.scheduler.quarantined) >= HOPELESS_AFTER

    def unit(self, index: int) -> Unit:
        return self.job.manifest.units[index]

    def done(self, worker: str, index: int, report: UnitReport) -> None:
        self.scheduler.unit_done(worker, index)
        now = self.progress
        self.progress = replace(
            now,
            counts=now.counts + report.counts,
            read_s=now.read_s + report.read_s,
            compute_s=now.compute_s + report.compute_s,
            commit_s=now.commit_s + report.commit_s,
        )

    def failed(self, worker: str, index: int, error: BaseException) -> None:
        # A storage error may pass; a changed model or an impossible request does not.
        final = isinstance(error, EsvError) and not isinstance(error, DataError)
        self.scheduler.unit_failed(worker, index, _one_line(error), final=final)

    def tick(self, actors: int) -> None:
        if self.started is None and actors:
            self.started = time.monotonic()
        seconds = 0.0 if self.started is None else time.monotonic() - self.started
        self.progress = replace(self.progress, actors=actors, seconds=seconds)
        self.report(self.progress)


def _run_here(run: _Run) -> None:
    """All units in this process, one after another, without Ray."""
    threads = torch.get_num_threads()
    torch.set_num_threads(run.spec.compute.threads)
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        place = open_workplace(run.spec, run.job.manifest.model["digest"], device)
        run.scheduler.worker_ready("here")
        while not (run.scheduler.finished or run.hopeless):
            for worker, index in run.scheduler.assign():
                run.tick(actors=1)
                try:
                    run.done(worker, index, run_unit(place, run.unit(index)))
                except Exception as error:
                    run.failed(worker, index, error)
        run.tick(actors=1)
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _cluster(spec: JobSpec) -> Iterator[None]:
    """A Ray runtime: the one that is there, the one at the address, or a new one on this machine alone."""
    if ray.is_initialized():
        yield
        return
    # Set before Ray reads them. Without a mode, a local start writes a token to the home folder.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # calls of an actor that was given up; we tell ourselves
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if spec.cluster.address is None:
        wished = spec.cluster.actors
        cpus = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
        options |= {
            "address": "local",
            "num_cpus": max(cpus or 1, 0 if wished == "auto" else wished * spec.compute.threads),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",  # nothing listens beyond loopback unless asked
        }
    else:
        options["address"] = spec.cluster.address
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = spec.cluster.address or "this machine"
        raise JobError(f"cluster.address: cannot start or reach Ray at {where}: {_one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


@dataclass
class _Pool:
    """Actors of a run: those starting, those ready, and what each was asked last."""

    run: _Run
    wanted: int
    device: str
    actor_class: Any
    handles: dict[str, Any] = field(default_factory=dict)
    pending: dict[Any, tuple[str, int | None]] = field(default_factory=dict)  # ref -> (worker, unit; None: ready ping)
    ready: set[str] = field(default_factory=set)
    failed_starts: int = 0
    next_start: float = 0.0
    started: int = 0

    def start_missing(self) -> None:
        """Replace what is lost, with a pause that doubles with every failed start."""
        if time.monotonic() < self.next_start or self.failed_starts >= MOST_FAILED_STARTS:
            return
        scheduler = self.run.scheduler
        busy = sum(bool(units) for units in scheduler.in_flight.values())
        useful = min(self.wanted, busy + len(scheduler.waiting) + len(scheduler.suspects))
        while len(self.handles) < useful:
            worker = f"actor-{self.started}"
            self.started += 1
            handle = self.actor_class.remote(
                self.run.spec, self.run.job.manifest.model["digest"], self.device, self.wanted
            )
            self.handles[worker] = handle
            self.pending[handle.ready.remote()] = (worker, None)

    def give_out(self) -> None:
        """Hand waiting units to ready actors."""
        for worker, index in self.run.scheduler.assign():
            self.pending[self.handles[worker].run.remote(self.run.unit(index))] = (worker, index)

    def settle(self, ref: Any) -> None:
        """Take one finished call into account."""
        worker, index = self.pending.pop(ref, (None, None))
        if worker is None or worker not in self.handles:
            return  # its actor was lost a moment ago
        try:
            report = ray.get(ref)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if index is None:
                if isinstance(cause, EsvError):
                    raise cause from None
                self.lose(worker, cause, started=False)
                return
            self.run.failed(worker, index, cause)
            if self.device != "cpu" and not isinstance(cause, EsvError):
                self.lose(worker, cause)  # after an error of the device nothing on it can be trusted
        except RayError as error:
            self.lose(worker, error, started=index is not None)
        else:
            if index is None:
                self.ready.add(worker)
                self.failed_starts = 0
                self.run.scheduler.worker_ready(worker)
            else:
                self.run.done(worker, index, report)

    def lose(self, worker: str, error: BaseException, *, started: bool = True) -> None:
        """An actor is gone, or must go."""
        handle = self.handles.pop(worker)
        ray.kill(handle)
        self.pending = {ref: what for ref, what in self.pending.items() if what[0] != worker}
        self.ready.discard(worker)
        if not started:
            self.failed_starts += 1
            self.next_start = time.monotonic() + 0.2 * 2**self.failed_starts
            if self.failed_starts >= MOST_FAILED_STARTS and not self.handles:
                raise JobError(f"no actor can be started ({self.failed_starts} tries): {_one_line(error)}")
        preempted = isinstance(error, RayActorError) and bool(getattr(error, "preempted", False))
        charged = isinstance(error, RayError) and not preempted
        for index in self.run.scheduler.worker_lost(worker, _one_line(error), charged=charged):
            # An actor thought dead may have finished: look before doing it again.
            if storage.exists(videos_url(self.run.spec.output, self.run.unit(index))):
                self.run.scheduler.already_done(index)


def _run_on_actors(run: _Run) -> None:
    threads = run.spec.compute.threads
    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = int(resources.get("GPU", 0))
    fitting = gpus or max(1, int(resources.get("CPU", 1)) // threads)
    wanted = fitting if run.spec.cluster.actors == "auto" else run.spec.cluster.actors
    actor_class = ray.remote(UnitActor).options(
        num_cpus=threads,
        num_gpus=1 if gpus else 0,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=3,  # two units in flight, and the ping
    )
    pool = _Pool(run, wanted, "cuda" if gpus else "cpu", actor_class)
    try:
        while not (run.scheduler.finished or run.hopeless):
            pool.start_missing()
            pool.give_out()
            run.tick(len(pool.ready))
            refs = list(pool.pending)
            if not refs:
                time.sleep(max(0.0, min(1.0, pool.next_start - time.monotonic())))
                continue
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0.02, fetch_local=False)
            if not done:
                done, _ = ray.wait(refs, num_returns=1, timeout=1.0, fetch_local=False)
            for ref in done:
                pool.settle(ref)
        run.tick(len(pool.ready))
    finally:
        for handle in pool.handles.values():
            ray.kill(handle)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if isinstance(error, EsvError) else f"{type(error).__name__}: {text}"
    return text if len(text) <= 400 else text[:397] + "..."
