"""Where a run of a job stands, and how it ended: what the driver keeps, and what it tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from esv_ray.attribution.planning import PlannedJob
from esv_ray.attribution.worker import UnitReport
from esv_ray.input.units import Unit
from esv_ray.job.actor import UnitFault
from esv_ray.job.scheduling.order import own_order
from esv_ray.job.scheduling.scheduler import Scheduler, Task
from esv_ray.output.repeats import Repeats
from esv_ray.output.unit_files import NO_COUNTS, UnitCounts
from esv_ray.spec import JobSpec

_SILENT_S = 10.0  # without progress, after which a busy worker is told of


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        total: videos of the job.
        resumed: videos that earlier runs had committed.
        units, units_done, units_failed: of the job; of them committed by now; given up in this run.
        units_missing: that were committed, and are not in the output at the end of the run.
        repeated: which ids stand in several files, found at the end of the run; empty where none does.
        counts: of the units that this run committed.
        reasons: failed videos of this run by reason, numbers in it left out.
        actors: ready actors.
        busy_actors: of them with work.
        starting: actors that were asked for and are not ready.
        waiting_for: what the cluster lacks to hold any actor; None where nothing is lacking.
        silence: which actors show no progress, in words; None: all do.
        silent_actors: how many.
        seconds: since the first unit was given out.
        read_s, compute_s, commit_s: of all actors together.
    """

    total: int
    resumed: int
    units: int = 0
    units_done: int = 0
    units_failed: int = 0
    units_missing: int = 0
    repeated: str = ""
    counts: UnitCounts = NO_COUNTS
    reasons: Mapping[str, int] = field(default_factory=dict)
    actors: int = 0
    busy_actors: int = 0
    starting: int = 0
    waiting_for: str | None = None
    silence: str | None = None
    silent_actors: int = 0
    seconds: float = 0.0
    read_s: float = 0.0
    compute_s: float = 0.0
    commit_s: float = 0.0

    @property
    def rate(self) -> float:
        """Videos a second in this run."""
        return self.counts.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the rest is done at this rate; None before there is one, or while nothing moves."""
        left = self.total - self.resumed - self.counts.rows
        nothing_moves = 0 < self.busy_actors <= self.silent_actors
        return left / self.rate if self.rate > 0 and not nothing_moves else None

    @property
    def busy(self) -> float:
        """Share of the actors' time in which their devices computed; units count when they are committed."""
        whole = self.seconds * self.actors
        return min(1.0, self.compute_s / whole) if whole > 0 else 0.0


@dataclass(frozen=True)
class Silence:
    """Busy workers that show no progress.

    Attributes:
        actors: how many.
        since: when the one that is silent for longest last showed some; seconds of the driver's clock.
        ended_after_s: seconds after which it is ended; None: never.
    """

    actors: int
    since: float
    ended_after_s: float | None

    def in_words(self, now: float) -> str:
        """For a progress line."""
        actors = "1 actor" if self.actors == 1 else f"{self.actors} actors"
        ended = "" if self.ended_after_s is None else f" (ended after {self.ended_after_s:g} s)"
        return f"{actors} silent for {now - self.since:.0f} s{ended}"


Report = Callable[[Progress], None]
Ended = Literal["done", "incomplete", "interrupted", "failed"]


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        output: where the tables are.
        counts: of all committed units, of this and earlier runs.
        failed: (video_id, reason) of the first failed videos.
        reasons: failed videos of this run by reason, numbers in it left out.
        quarantined: units that could not be committed, and why.
        given_up: why the run stopped early, if it did.
        missing: names of units that were committed and are not in the output at the end.
        repeats: ids that stand in several files of the feature table.
        finished: whether every unit is in the output, no id stands in two files, and _SUCCESS is there.
        max_failed: share of failed videos that the spec bears.
        units, resumed_units: of the job, and of them those that earlier runs had committed.
        seconds: of this run.
    """

    output: str
    counts: UnitCounts
    failed: tuple[tuple[str, str], ...]
    reasons: Mapping[str, int]
    quarantined: Mapping[str, str]
    given_up: str | None
    missing: tuple[str, ...]
    repeats: Repeats
    finished: bool
    max_failed: float
    units: int
    resumed_units: int
    seconds: float

    @property
    def units_left(self) -> bool:
        """Whether a unit is not committed, or one whose failed videos were tried again was given up."""
        unfinished = not self.finished and not self.repeats.number
        return unfinished or bool(self.missing or self.quarantined or self.given_up)

    @property
    def exit_code(self) -> int:
        """0 done; 1 too many videos failed, a unit is not committed, or an id stands in two files."""
        too_many = self.counts.failed > self.max_failed * self.counts.rows
        return 1 if self.units_left or self.repeats.number or too_many else 0

    @property
    def problem(self) -> str:
        """Why units are left, in one line; empty where none is."""
        if self.given_up:
            return f"stopped early, {self.given_up}"
        if self.missing:
            return (
                f"{len(self.missing)} of {self.units} units were committed and are not in {self.output}: they were "
                "removed, or the storage loses what it accepts"
            )
        return f"{len(self.quarantined)} units could not be committed" if self.quarantined else ""

    @property
    def repeated(self) -> str:
        """Describe ids that stand in several files, in one line; empty where none does."""
        if not self.repeats.number:
            return ""
        repeats = self.repeats.examples.items()
        examples = "; ".join(f"{video_id!r} in {' and '.join(files)}" for video_id, files in repeats)
        return (
            f"expected every video_id once in the feature table, got {self.repeats.number} in several files "
            f"({examples}): "
            "the tables hold each of them several times, so _SUCCESS is not written; remove them from the feature "
            "table and use a new output"
        )


@dataclass(frozen=True)
class UnitEvent:
    """A worker did, or could not do, what it was asked of a unit."""

    unit: Unit
    worker: str
    task: Task
    outcome: UnitReport | UnitFault


@dataclass
class Run:
    """The state of one run of the driver.

    Attributes:
        spec, job: what is to be done.
        progress: where it stands.
        report: told of the progress, often.
        listeners: told of every unit that ended, or failed.
        started: when the first actor was ready.
        waiting_for: what the cluster lacks to hold any actor.
        silence: of busy workers.
        ended: how it ended; None while it runs.
    """

    spec: JobSpec
    job: PlannedJob
    progress: Progress
    report: Report
    listeners: list[Callable[[UnitEvent], None]] = field(default_factory=list)
    started: float | None = None
    waiting_for: str | None = None
    silence: Silence | None = None
    ended: Ended | None = None
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        # Not the job's seed: order and pauses differ from driver to driver, and no result depends on them.
        random = Random()  # noqa: S311
        ordered = own_order(self.job.pending, random)
        sizes = {unit.index: len(self.job.retried.get(unit.index, range(unit.rows))) for unit in ordered}
        self.scheduler = Scheduler(sizes, self.spec.cluster.stall_timeout, random)

    def unit(self, index: int) -> Unit:
        """A unit of the plan by its number."""
        return self.job.manifest.units[index]

    def retried(self, index: int) -> tuple[int, ...] | None:
        """The rows of a committed unit that are tried again, if that is what the run is for."""
        return self.job.retried.get(index)

    def settle(self, worker: str, index: int, outcome: UnitReport | UnitFault, now: float) -> None:
        """A worker did, or could not do, what it was asked."""
        task = self.scheduler.task(index)
        if isinstance(outcome, UnitFault):
            self.scheduler.unit_failed(worker, index, outcome.reason, outcome.fault, now)
            self._tell(UnitEvent(self.unit(index), worker, task, outcome))
            return
        self.scheduler.unit_done(worker, index, now)
        self._tell(UnitEvent(self.unit(index), worker, task, outcome))
        so_far = self.progress
        reasons = Counter(so_far.reasons)
        reasons.update(outcome.reasons)
        self.progress = replace(
            so_far,
            counts=so_far.counts + self._gained(index, task, outcome),
            reasons=reasons,
            read_s=so_far.read_s + outcome.read_s,
            compute_s=so_far.compute_s + outcome.compute_s,
            commit_s=so_far.commit_s + outcome.commit_s,
        )

    @property
    def expected(self) -> set[str]:
        """Names of the units that this run or an earlier one committed."""
        left = self.scheduler.sizes.keys() - self.scheduler.done - self.job.retried.keys()
        return {unit.name for unit in self.job.manifest.units if unit.index not in left}

    def found_missing(self, missing: Collection[str], counts: UnitCounts) -> None:
        """Take into account that units which were committed are not there at the end.

        Args:
            missing: their names.
            counts: of the units that are there.
        """
        of_this_run = self.progress.counts if self.progress.counts.rows <= counts.rows else counts
        self.progress = replace(
            self.progress,
            resumed=counts.rows - of_this_run.rows,
            counts=of_this_run,
            units_done=self.progress.units_done - len(missing),
            units_missing=len(missing),
        )

    def lost(self, worker: str, reason: str, now: float, *, charged: bool) -> None:
        """A worker is gone, with what it had in flight."""
        for index in self.scheduler.in_flight.get(worker, []):
            self._tell(UnitEvent(self.unit(index), worker, self.scheduler.task(index), UnitFault("compute", reason)))
        self.scheduler.worker_lost(worker, reason, now, charged=charged)

    def all_lost(self, now: float) -> None:
        """All workers are gone, through no fault of a unit."""
        for worker in [*self.scheduler.starting, *self.scheduler.in_flight]:
            self.scheduler.worker_lost(worker, "the runtime is gone", now, charged=False)
        self.waiting_for, self.silence = "Ray to start again", None
        self.tick(now)

    def look_for_silence(self, now: float, ended_after_s: float | None) -> None:
        """Find busy workers without progress, for `tick` to tell; looks at all workers, so not at every step.

        Args:
            now: seconds.
            ended_after_s: seconds of silence after which such a worker is ended; None: it is not.
        """
        silent = self.scheduler.silent(now, _SILENT_S)
        self.silence = Silence(len(silent), min(silent), ended_after_s) if silent else None

    def tick(self, now: float) -> None:
        """Tell where the run stands; the clock starts with the first ready actor."""
        scheduler = self.scheduler
        if self.started is None and scheduler.in_flight:
            self.started = now
        self.progress = replace(
            self.progress,
            actors=len(scheduler.in_flight),
            busy_actors=scheduler.busy,
            starting=len(scheduler.starting),
            waiting_for=None if scheduler.in_flight else self.waiting_for,
            silence=None if self.silence is None else self.silence.in_words(now),
            silent_actors=0 if self.silence is None else self.silence.actors,
            seconds=0.0 if self.started is None else now - self.started,
            units_done=self.progress.units - len(scheduler.sizes) + len(scheduler.done),
            units_failed=len(scheduler.quarantined),
        )
        self.report(self.progress)

    def _gained(self, index: int, task: Task, report: UnitReport) -> UnitCounts:
        """What this run added to the videos that are attributed."""
        rows = self.retried(index)
        if rows is None or task.probe is not None:
            return report.counts
        return UnitCounts(len(rows), len(rows) - report.counts.failed, 0, report.counts.failed, 0, 0)

    def _tell(self, event: UnitEvent) -> None:
        for listener in self.listeners:
            listener(event)
