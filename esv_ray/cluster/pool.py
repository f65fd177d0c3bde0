"""The actors of a run: started, given work, replaced when they die."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from esv_ray import storage
from esv_ray.cluster.state import Run, one_line
from esv_ray.cluster.worker import UnitActor
from esv_ray.errors import EsvError, JobError, SpecError
from esv_ray.tables.manifest import videos_url

MOST_FAILED_STARTS = 5


@dataclass
class _Pool:
    """Actors of a run: those starting, those ready, and what each was asked last."""

    run: Run
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
            handle = self.actor_class.remote(self.run.spec, self.run.job.manifest.model["digest"], self.device)
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
        preempted = isinstance(error, RayActorError) and bool(getattr(error, "preempted", False))
        charged = isinstance(error, RayError) and not preempted
        for index in self.run.scheduler.worker_lost(worker, one_line(error), charged=charged):
            # An actor thought dead may have finished: look before doing it again.
            if storage.exists(videos_url(self.run.spec.output, self.run.unit(index))):
                self.run.scheduler.already_done(index)
        if self.failed_starts >= MOST_FAILED_STARTS and not self.handles:
            raise JobError(f"no actor can be started ({self.failed_starts} tries): {one_line(error)}")


def run_on_actors(run: Run) -> None:
    """All waiting units of a run on warm actors, in the Ray runtime that is there.

    Raises:
        JobError: no actor can be started.
        EsvError: what an actor met while it loaded the model.
    """
    threads = run.spec.compute.threads
    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = int(resources.get("GPU", 0))
    largest = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)  # type: ignore[no-untyped-call]
    if threads > largest:
        raise SpecError(
            f"compute.threads: expected at most {largest}, the cores of the largest node of the cluster, got {threads}"
        )
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
