"""The interface between a job and a kind of work.

A job plans, runs, retries, bisects and finishes units of some work, and knows nothing of what they compute.
`attribution.work` is one kind of work; `tests/job/made_up.py` is the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from esv_ray.job.scheduling.scheduler import Fault, Task
from esv_ray.spec import ClusterSpec


class Unit(Protocol):
    """The piece of work that is computed and committed whole."""

    @property
    def index(self) -> int:
        """Number in the plan."""

    @property
    def name(self) -> str:
        """File name of the unit's tables."""

    @property
    def rows(self) -> int:
        """Number of input rows."""

    @property
    def source(self) -> str:
        """URL of the file that holds the rows."""

    @property
    def group(self) -> int:
        """Part of the source that is read together, such as a row group."""


@dataclass(frozen=True)
class RowCounts:
    """Outcomes of input rows.

    Attributes:
        rows: input rows; the sum of the next three.
        ok, skipped, failed: rows by outcome.
        written: rows written, by table.
    """

    rows: int = 0
    ok: int = 0
    skipped: int = 0
    failed: int = 0
    written: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: RowCounts) -> RowCounts:
        written = {name: self.written.get(name, 0) + count for name, count in other.written.items()}
        return RowCounts(
            self.rows + other.rows,
            self.ok + other.ok,
            self.skipped + other.skipped,
            self.failed + other.failed,
            {**self.written, **written},
        )

    def asdict(self) -> dict[str, int]:
        """Return the counts by name, those of the tables last."""
        return {"rows": self.rows, "ok": self.ok, "skipped": self.skipped, "failed": self.failed, **self.written}


@dataclass(frozen=True)
class Failures:
    """Failed rows whose reasons are of one kind.

    Attributes:
        count: number of rows.
        example: one of the reasons, whole: the first in the order of text, whatever the order of units.
    """

    count: int
    example: str

    def __add__(self, other: Failures) -> Failures:
        return Failures(self.count + other.count, min(self.example, other.example))


def all_failures(parts: Iterable[Mapping[str, Failures]]) -> dict[str, Failures]:
    """Return the failures of several units together, by kind of reason."""
    together: dict[str, Failures] = {}
    for part in parts:
        for kind, failures in part.items():
            together[kind] = together[kind] + failures if kind in together else failures
    return together


def most_frequent(failures: Mapping[str, Failures]) -> list[Failures]:
    """Return failures, the most frequent kind first."""
    return sorted(failures.values(), key=lambda each: (-each.count, each.example))


@dataclass(frozen=True)
class UnitReport:
    """Outcome of a unit, or of a probe of its rows.

    Attributes:
        counts: what this run added; zero for a probe.
        read_s, compute_s, commit_s: seconds of each stage.
        failures: failed rows by kind of reason: a reason without its numbers and names.
        already_committed: whether another run had committed the unit.
    """

    counts: RowCounts = field(default_factory=RowCounts)
    read_s: float = 0.0
    compute_s: float = 0.0
    commit_s: float = 0.0
    failures: Mapping[str, Failures] = field(default_factory=dict)
    already_committed: bool = False


@dataclass(frozen=True)
class UnitFault:
    """Why a unit failed: what is at fault, the reason in one line, and whether the device can still be trusted."""

    fault: Fault
    reason: str
    device_lost: bool = False


@dataclass
class Heartbeat:
    """A count that grows as long as work makes progress.

    Attributes:
        count: number of beats.
        stage: a long step without beats that is under way, in words: "preparing ..."; empty if there is none.
    """

    count: int = 0
    stage: str = ""

    def beat(self) -> None:
        """Record progress."""
        self.count += 1

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Name the step that a block takes, and record progress at its end."""
        self.stage = stage
        try:
            yield
        finally:
            self.stage = ""
            self.beat()


class Workplace(Protocol):
    """What an actor holds for all of its units."""

    @property
    def heartbeat(self) -> Heartbeat:
        """Counts progress."""

    def stop(self) -> None:
        """Make running units end soon, without a commit."""


class RunUnit(Protocol):
    """Computes and commits a unit, or computes some of its rows without committing them (`Task.probe`)."""

    def __call__(
        self, place: Any, unit: Any, task: Task, *, retried: Sequence[int] | None, compute: Executor
    ) -> UnitReport:
        """Run a unit.

        Args:
            place: the workplace that the plan opened.
            unit: one of the plan's units.
            task: what to do with it.
            retried: rows of the committed unit to compute again; None: the unit is not committed yet.
            compute: runs all device work on one thread, while other threads read and commit.

        Raises:
            EsvError: the input changed or the storage refuses; the unit is not committed.
            Exception: whatever the computation raises.
        """


@dataclass(frozen=True)
class Finished:
    """What is committed at the end of a run.

    Attributes:
        counts: counts of all committed units, of this run and earlier ones.
        failed: (video_id, reason) of the first failed rows.
        missing: names of units that were committed and are not in the output.
        repeated: ids that occur in several input files, in one line; empty where none does.
        finished: whether every unit is in the output, no id occurs twice, and the output is marked as finished.
    """

    counts: RowCounts
    failed: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    repeated: str = ""
    finished: bool = False


class WorkPlan(Protocol):
    """Planned work."""

    @property
    def units(self) -> Sequence[Unit]:
        """All units; `Unit.index` is the position."""

    @property
    def pending(self) -> Sequence[Unit]:
        """Units to do, in plan order: those not committed, and those of `retried`."""

    @property
    def retried(self) -> Mapping[int, tuple[int, ...]]:
        """Rows of committed units to compute again, by `Unit.index`."""

    @property
    def open_workplace(self) -> Callable[[str], Workplace]:
        """Opens the workplace of an actor on a torch device; sent to actors by pickle.

        The thread that calls it does all device work of the actor; a work that uses torch sets its threads here.
        """

    @property
    def run_unit(self) -> RunUnit:
        """Runs a unit at a workplace; sent to actors by pickle."""

    def finish(self, expected: Collection[str]) -> Finished:
        """Count what is committed, and mark the output as finished if that is every unit.

        Args:
            expected: names of the units that this run or an earlier one committed.

        Raises:
            EsvError: files of another job are in the way, or the storage refuses.
        """


class Work(Protocol):
    """A request for one kind of work."""

    @property
    def output(self) -> str:
        """Location of the tables and of progress.json."""

    @property
    def cluster(self) -> ClusterSpec:
        """Where the work runs."""

    @property
    def threads(self) -> int:
        """Torch threads of an actor, and the cores that it takes."""

    @property
    def max_failed(self) -> float:
        """Largest share of failed rows of a successful job."""

    @property
    def noun(self) -> str:
        """What a row is, in one word: "video"."""

    @property
    def in_process(self) -> bool:
        """Whether all units run in this process, without Ray."""

    def plan(self, *, retry_failed: bool, actor_memory: Callable[[], int]) -> WorkPlan:
        """Check the request; plan it, or find its plan in the output.

        Args:
            retry_failed: whether failed rows of committed units are computed again.
            actor_memory: returns the bytes that each actor may take.

        Raises:
            EsvError: the request is wrong, or another job's output is in the way; nothing is written then.
        """
