"""Where a run of a job stands, and how it ended: what the driver keeps, and what it tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from esv_ray.cluster.planning import PlannedJob
from esv_ray.cluster.scheduler import Scheduler
from esv_ray.cluster.worker import UnitReport
from esv_ray.errors import DataError, EsvError
from esv_ray.spec import JobSpec
from esv_ray.tables.results import NO_COUNTS, UnitCounts
from esv_ray.tables.units import Unit

HOPELESS_AFTER = 4


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

    @property
    def busy(self) -> float:
        """Share of the actors' time in which their devices computed; units count when they are committed."""
        whole = self.seconds * self.actors
        return min(1.0, self.compute_s / whole) if whole > 0 else 0.0


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


@dataclass
class Run:
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
        """A unit of the plan by its number."""
        return self.job.manifest.units[index]

    def done(self, worker: str, index: int, report: UnitReport) -> None:
        """A worker committed a unit."""
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
        """A worker could not commit a unit."""
        # A storage error may pass; a changed model or an impossible request does not.
        final = isinstance(error, EsvError) and not isinstance(error, DataError)
        self.scheduler.unit_failed(worker, index, one_line(error), final=final)

    def tick(self, actors: int) -> None:
        """Tell where the run stands; the clock starts with the first ready actor."""
        if self.started is None and actors:
            self.started = time.monotonic()
        seconds = 0.0 if self.started is None else time.monotonic() - self.started
        self.progress = replace(self.progress, actors=actors, seconds=seconds)
        self.report(self.progress)


def one_line(error: BaseException) -> str:
    """An error as one line of a log or a record."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if isinstance(error, EsvError) else f"{type(error).__name__}: {text}"
    return text if len(text) <= 400 else text[:397] + "..."
