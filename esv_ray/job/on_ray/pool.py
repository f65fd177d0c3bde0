"""The actors of a run: started, given units, replaced when they die."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from esv_ray.errors import EsvError, JobError, SpecError, one_line
from esv_ray.job.actor import UnitActor
from esv_ray.job.on_ray.capacity import missing_node, nodes, options_of
from esv_ray.job.on_ray.local_runtime import RuntimeLostError, check_alive, lost_process
from esv_ray.job.on_ray.metrics import JobMetrics
from esv_ray.job.resources import ActorShape, capacity, shape_of
from esv_ray.job.run import Run
from esv_ray.job.work import UnitFault

_LONGEST_BEAT_INTERVAL_S = 15.0
_BEATS_PER_SECOND = 100  # of all actors together; more actors are asked less often
_TICK_S = 1.0
_LOOK_EVERY_S = 3.0

# Reasons are written to tables, whose bytes depend on no process, host or time.
DIED = "its process died each time it was computed alone"
NO_MEMORY = "memory ran out each time it was computed alone"


@dataclass(frozen=True)
class _Call:
    """A pending call of an actor: a unit, or (None) `ready` or `beats`."""

    worker: str
    unit: int | None = None
    beats: bool = False


@dataclass
class _Pool:
    """Actors of a run, and their pending calls."""

    run: Run
    shape: ActorShape
    actor_class: Any
    target_actors: int = 0
    handles: dict[str, Any] = field(default_factory=dict)
    pending: dict[Any, _Call] = field(default_factory=dict)  # Ray's reference -> the call
    beats: dict[str, tuple[int, str]] = field(default_factory=dict)  # last answer of each worker
    pending_beats: set[str] = field(default_factory=set)  # workers with a pending call of `beats`
    started: int = 0
    next_beats: float = 0.0
    next_look: float = 0.0

    def update_capacity(self, now: float) -> None:
        """Decide how many actors to ask for, because nodes join and leave."""
        if now < self.next_look:
            return
        self.next_look = now + _LOOK_EVERY_S
        check_alive()
        alive, cluster = nodes(), self.run.work.cluster
        if not alive and cluster.address is None:
            raise RuntimeLostError("Ray on this machine ended: its node is gone; run again to resume")
        held = self.run.scheduler.capacity = capacity(alive, self.shape)
        # Ask for one actor even without capacity: an autoscaler adds a node for it.
        self.target_actors = max(1, held) if cluster.actors == "auto" else cluster.actors
        self.run.waiting_for = None if held else missing_node(alive, self.shape)

    def start_missing(self, now: float) -> None:
        """Start actors in place of those that are lost."""
        if self.run.scheduler.to_start(self.target_actors, now):
            check_alive()
        for _ in range(self.run.scheduler.to_start(self.target_actors, now)):
            worker = f"actor-{self.started}"
            self.started += 1
            plan = self.run.plan
            handle = self.actor_class.remote(plan.open_workplace, plan.run_unit, self.shape.device)
            self.handles[worker] = handle
            self.run.scheduler.worker_starting(worker)
            self.pending[handle.ready.remote()] = _Call(worker)

    def end_spare(self, now: float) -> None:
        """End actors for which no unit is left, so that others can use their resources, or nodes can leave."""
        for worker in self.run.scheduler.spare():
            self._end(worker)
            self.run.scheduler.worker_lost(worker, "ended", now, charged=False)

    def assign(self, now: float) -> None:
        """Send waiting units to ready actors."""
        for worker, task in self.run.scheduler.assign(now):
            unit, retried = self.run.unit(task.unit), self.run.retried(task.unit)
            self.pending[self.handles[worker].run.remote(unit, task, retried)] = _Call(worker, task.unit)

    def ask_beats(self, now: float) -> None:
        """Ask busy actors for their heartbeat, and end those without progress."""
        if now < self.next_beats:
            return
        stall = self.run.work.cluster.stall_timeout
        between = min(_LONGEST_BEAT_INTERVAL_S, max(_TICK_S, len(self.handles) / _BEATS_PER_SECOND))
        self.next_beats = now + (between if stall is None else min(between, stall / 4))
        for worker in self.run.scheduler.stalled(now):
            self.lose(worker, f"no progress in {stall:g} s each time it was computed alone", now)
        self.run.update_silence(now, stall)
        for worker, handle in self.handles.items():
            if worker in self.run.scheduler.in_flight and worker not in self.pending_beats:
                self.pending_beats.add(worker)
                self.pending[handle.beats.remote()] = _Call(worker, beats=True)

    def settle(self, ref: Any, now: float) -> None:
        """Record the result of a finished call."""
        call = self.pending.pop(ref, None)
        if call is None or call.worker not in self.handles:
            return  # its actor was lost a moment ago
        worker = call.worker
        try:
            answer = ray.get(ref)
        except RayTaskError as error:  # from `ready` alone: `run` returns its errors
            cause = error.cause if isinstance(error.cause, Exception) else error
            if isinstance(cause, EsvError):
                raise cause from None
            self.lose(worker, one_line(cause), now)
        except RayError as error:
            check_alive()  # else the unit is not at fault
            preempted = isinstance(error, RayActorError) and bool(getattr(error, "preempted", False))
            starting = worker in self.run.scheduler.starting
            reason = NO_MEMORY if isinstance(error, OutOfMemoryError) else DIED
            self.lose(worker, one_line(error) if starting else reason, now, charged=not preempted)
        else:
            self._settle_answer(call, answer, now)

    def _settle_answer(self, call: _Call, answer: Any, now: float) -> None:
        worker = call.worker
        if call.beats:
            self.pending_beats.discard(worker)
            if self.beats.get(worker) != answer:
                self.beats[worker] = answer
                self.run.stages[worker] = answer[1]
                self.run.scheduler.progress(worker, now)
        elif call.unit is None:
            self.run.scheduler.worker_ready(worker)
        else:
            self.run.settle(worker, call.unit, answer, now)
            if isinstance(answer, UnitFault) and answer.device_lost:
                # After an error of the device nothing on it can be trusted.
                self.lose(worker, answer.reason, now, charged=False)

    def lose(self, worker: str, reason: str, now: float, *, charged: bool = True) -> None:
        """End an actor, if it still lives, and record that it is lost."""
        self._end(worker)
        if worker in self.run.scheduler.starting:
            self.run.scheduler.start_failed(worker, reason, now)
        else:
            self.run.worker_lost(worker, reason, now, charged=charged)

    def _end(self, worker: str) -> None:
        check_alive()
        ray.kill(self.handles.pop(worker))
        self.pending = {ref: call for ref, call in self.pending.items() if call.worker != worker}
        self.pending_beats.discard(worker)
        self.beats.pop(worker, None)
        self.run.stages.pop(worker, None)


def run_on_actors(run: Run) -> None:
    """Run all pending units on warm actors, in the Ray runtime that is connected.

    Raises:
        JobError: no actor can be started.
        RuntimeLostError: the runtime belongs to this process, and a process of it was killed.
        EsvError: an actor cannot open its workplace.
    """
    check_alive()  # it may be one of an earlier job of this process
    pool = _pool_of(run)
    metrics = JobMetrics()
    run.listeners.append(metrics.unit)
    scheduler = run.scheduler
    try:
        while not (scheduler.finished or scheduler.hopeless):
            now = time.monotonic()
            pool.update_capacity(now)
            pool.start_missing(now)
            pool.assign(now)
            pool.end_spare(now)
            pool.ask_beats(now)
            run.tick(now)
            metrics.progress(run.progress)
            _settle_finished(pool)
        run.silence = None
        run.tick(time.monotonic())
        metrics.progress(run.progress)
        if scheduler.hopeless and not scheduler.quarantined and not scheduler.done:
            raise JobError(scheduler.hopeless)
    finally:
        run.listeners.remove(metrics.unit)
        for handle in pool.handles.values() if lost_process() is None else ():
            ray.kill(handle)


def _settle_finished(pool: _Pool) -> None:
    """Wait for calls to finish, or for the next tick."""
    scheduler = pool.run.scheduler
    refs = list(pool.pending)
    if not refs:
        time.sleep(min(_TICK_S, scheduler.idle_s(time.monotonic())))
        return
    done, _ = ray.wait(refs, num_returns=len(refs), timeout=0.02, fetch_local=False)
    if not done:
        time_limit = min(_TICK_S, scheduler.idle_s(time.monotonic()))
        done, _ = ray.wait(refs, num_returns=1, timeout=time_limit, fetch_local=False)
    now = time.monotonic()
    for ref in done:
        pool.settle(ref, now)


def _pool_of(run: Run) -> _Pool:
    alive, cluster = nodes(), run.work.cluster
    shape = shape_of(cluster, run.work.threads, alive)
    if cluster.address is None and not capacity(alive, shape):
        raise SpecError(
            f"compute.threads: expected {missing_node(alive, shape)}, but Ray on this machine has no other nodes; "
            "lower compute.threads"
        )
    actor_class = ray.remote(UnitActor).options(
        **options_of(shape),
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=4,  # two units in flight, `ready`, `beats`
    )
    return _Pool(run, shape, actor_class)
