"""State of one run of the driver."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from random import Random

from esv_ray.errors import count_of
from esv_ray.job.order import shuffled
from esv_ray.job.progress import Ended, Progress, Report
from esv_ray.job.result import JobResult
from esv_ray.job.scheduling.scheduler import Scheduler, Task
from esv_ray.job.work import (
    Finished,
    RowCounts,
    Unit,
    UnitFault,
    UnitReport,
    Work,
    WorkPlan,
    all_failures,
    most_frequent,
)

_SILENT_S = 10.0  # without progress, after which a busy worker is reported


@dataclass(frozen=True)
class Silence:
    """Busy workers without progress.

    Attributes:
        actors: number of them.
        since: last progress of the actor that has been silent longest; seconds of the driver's clock.
        ended_after_s: seconds of silence after which a worker is ended; None: never.
    """

    actors: int
    since: float
    ended_after_s: float | None

    def describe(self, now: float) -> str:
        """Return a phrase for a progress line."""
        actors = "1 actor" if self.actors == 1 else f"{self.actors} actors"
        ended = "" if self.ended_after_s is None else f" (ended after {self.ended_after_s:g} s)"
        return f"{actors} silent for {now - self.since:.0f} s{ended}"


@dataclass(frozen=True)
class UnitEvent:
    """The outcome of a task."""

    unit: Unit
    worker: str
    task: Task
    outcome: UnitReport | UnitFault


@dataclass
class Run:
    """The state of one run.

    Attributes:
        work, plan: what to do.
        progress: state of the run, for reports.
        report: called with the progress, often.
        listeners: called with the outcome of every task.
        started: when the first actor was ready.
        waiting_for: what the cluster lacks to hold any actor.
        silence: busy workers without progress.
        stages: the long step that each worker last reported; empty if none.
        ended: how the run ended; None while it runs.
    """

    work: Work
    plan: WorkPlan
    report: Report
    listeners: list[Callable[[UnitEvent], None]] = field(default_factory=list)
    started: float | None = None
    waiting_for: str | None = None
    silence: Silence | None = None
    stages: dict[str, str] = field(default_factory=dict)
    ended: Ended | None = None
    progress: Progress = field(init=False)
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        # Not the job's seed: order and pauses differ from driver to driver, and no result depends on them.
        random = Random()  # noqa: S311
        ordered = shuffled(self.plan.pending, random)
        sizes = {unit.index: len(self.plan.retried.get(unit.index, range(unit.rows))) for unit in ordered}
        groups = {unit.index: (unit.source, unit.group) for unit in ordered}
        self.scheduler = Scheduler(sizes, self.work.cluster.stall_timeout, random, groups=groups)
        rows = sum(unit.rows for unit in self.plan.units)
        self.progress = Progress(
            rows, rows - sum(sizes.values()), len(self.plan.units), self.resumed_units, noun=self.work.noun
        )

    @property
    def resumed_units(self) -> int:
        """Number of units that earlier runs committed and this run leaves unchanged."""
        return len(self.plan.units) - len(self.plan.pending)

    def unit(self, index: int) -> Unit:
        """Return a unit by its number."""
        return self.plan.units[index]

    def retried(self, index: int) -> tuple[int, ...] | None:
        """Return the rows of a committed unit that this run computes again, or None."""
        return self.plan.retried.get(index)

    def settle(self, worker: str, index: int, outcome: UnitReport | UnitFault, now: float) -> None:
        """Record the outcome of a task."""
        event = UnitEvent(self.unit(index), worker, self.scheduler.task(index), outcome)
        if isinstance(outcome, UnitFault):
            self.scheduler.unit_failed(worker, index, outcome.reason, outcome.fault, now)
            self._notify(event)
            return
        self.scheduler.unit_done(worker, index, now, found=outcome.already_committed)
        self._notify(event)
        before = self.progress
        self.progress = replace(
            before,
            counts=before.counts + outcome.counts,
            failures=all_failures([before.failures, outcome.failures]),
            read_s=before.read_s + outcome.read_s,
            compute_s=before.compute_s + outcome.compute_s,
            commit_s=before.commit_s + outcome.commit_s,
        )

    @property
    def expected(self) -> set[str]:
        """Names of the units that this run or an earlier one committed."""
        remaining = self.scheduler.sizes.keys() - self.scheduler.done - self.plan.retried.keys()
        return {unit.name for unit in self.plan.units if unit.index not in remaining}

    def record_missing(self, missing: Collection[str], counts: RowCounts) -> None:
        """Correct the progress: units that were committed are not in the output at the end.

        Args:
            missing: names of the units.
            counts: videos of the units that are in the output.
        """
        of_this_run = self.progress.counts if self.progress.counts.rows <= counts.rows else counts
        self.progress = replace(
            self.progress,
            resumed=counts.rows - of_this_run.rows,
            counts=of_this_run,
            units_done=self.progress.units_done - len(missing),
            units_missing=len(missing),
        )

    def worker_lost(self, worker: str, reason: str, now: float, *, charged: bool) -> None:
        """Record that a worker is lost, with its units in flight."""
        for index in self.scheduler.in_flight.get(worker, []):
            fault = UnitFault("compute", reason)
            self._notify(UnitEvent(self.unit(index), worker, self.scheduler.task(index), fault))
        self.scheduler.worker_lost(worker, reason, now, charged=charged)

    def all_workers_lost(self, now: float) -> None:
        """Record that the runtime is lost with all workers; no unit is at fault."""
        for worker in [*self.scheduler.starting, *self.scheduler.in_flight]:
            self.scheduler.worker_lost(worker, "the runtime is gone", now, charged=False)
        self.waiting_for, self.silence = "Ray to start again", None
        self.tick(now)

    def update_silence(self, now: float, ended_after_s: float | None) -> None:
        """Find busy workers without progress. This looks at all workers, so call it rarely.

        Args:
            now: seconds.
            ended_after_s: seconds of silence after which a worker is ended; None: never.
        """
        silent = self.scheduler.silent(now, _SILENT_S)
        self.silence = Silence(len(silent), min(silent), ended_after_s) if silent else None

    def tick(self, now: float) -> None:
        """Report the progress. The clock starts with the first ready actor."""
        scheduler = self.scheduler
        if self.started is None and scheduler.in_flight:
            self.started = now
        self.progress = replace(
            self.progress,
            actors=len(scheduler.in_flight),
            busy_actors=scheduler.busy,
            starting=len(scheduler.starting),
            waiting_for=None if scheduler.in_flight else self.waiting_for,
            silence=None if self.silence is None else self.silence.describe(now),
            stage=self._stage(),
            silent_actors=0 if self.silence is None else self.silence.actors,
            seconds=0.0 if self.started is None else now - self.started,
            units_done=self.progress.units - len(scheduler.sizes) + len(scheduler.done),
            units_failed=len(scheduler.quarantined),
        )
        self.report(self.progress)

    def _stage(self) -> str:
        """Describe the long steps that busy workers take: how many, and one of them."""
        stages = sorted(filter(None, (self.stages.get(worker) for worker in self.scheduler.in_flight)))
        return f"{count_of(len(stages), 'actor')} {stages[0]}" if stages else ""

    def result(self, finished: Finished, seconds: float) -> JobResult:
        """Return the result of the run, and record how it ended."""
        result = JobResult(
            output=self.work.output,
            counts=finished.counts,
            failed=finished.failed,
            failures=tuple(most_frequent(self.progress.failures)),
            quarantined={self.unit(index).name: why for index, why in self.scheduler.quarantined.items()},
            given_up=self.scheduler.hopeless,
            missing=finished.missing,
            repeated=finished.repeated,
            finished=finished.finished,
            max_failed=self.work.max_failed,
            units=len(self.plan.units),
            resumed_units=self.resumed_units,
            seconds=seconds,
        )
        self.progress = replace(self.progress, repeated=finished.repeated)
        self.ended = "incomplete" if result.units_left or result.repeated else "done"
        return result

    def _notify(self, event: UnitEvent) -> None:
        for listener in self.listeners:
            listener(event)
