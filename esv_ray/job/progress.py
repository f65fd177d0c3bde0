"""Progress of a run, as the driver reports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from esv_ray.job.work import Failures, RowCounts

CHECKING = "checking the input"
"""The stage before the job is planned."""

Ended = Literal["done", "incomplete", "interrupted", "failed"]


@dataclass(frozen=True)
class Progress:
    """State of a run.

    Attributes:
        total: videos of the job.
        resumed: videos that earlier runs committed.
        units, units_done, units_failed: units of the job; those committed so far; those given up in this run.
        units_missing: units that were committed and are not in the output at the end of the run.
        repeated: ids that occur in several files, in one line, found at the end of the run; empty where none does.
        counts: videos that this run committed.
        failures: failed videos of this run by kind of reason.
        actors: ready actors.
        busy_actors: ready actors with work.
        starting: actors that were started and are not ready.
        waiting_for: what the cluster lacks to hold any actor; None if nothing is lacking.
        silence: which actors make no progress, in words; None if all do.
        stage: the long step that is under way, in words; empty if there is none.
        stage_done, stage_total: how far it is, before the job is planned; 0 of 0: unknown.
        silent_actors: number of actors without progress.
        noun: what a row is: "video".
        seconds: time since the first unit was assigned.
        read_s, compute_s, commit_s: seconds of all actors together.
    """

    total: int
    resumed: int
    units: int = 0
    units_done: int = 0
    units_failed: int = 0
    units_missing: int = 0
    repeated: str = ""
    counts: RowCounts = field(default_factory=RowCounts)
    failures: Mapping[str, Failures] = field(default_factory=dict)
    actors: int = 0
    busy_actors: int = 0
    starting: int = 0
    waiting_for: str | None = None
    silence: str | None = None
    stage: str = ""
    stage_done: int = 0
    stage_total: int = 0
    silent_actors: int = 0
    noun: str = "video"
    seconds: float = 0.0
    read_s: float = 0.0
    compute_s: float = 0.0
    commit_s: float = 0.0

    @property
    def rate(self) -> float:
        """Videos per second of this run."""
        return self.counts.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the job is done at this rate; None without a rate, or if all busy actors are silent."""
        remaining = self.total - self.resumed - self.counts.rows
        all_silent = 0 < self.busy_actors <= self.silent_actors
        return remaining / self.rate if self.rate > 0 and not all_silent else None

    @property
    def device_busy(self) -> float:
        """Share of the actors' time in which their devices computed; units count when they are committed."""
        actor_seconds = self.seconds * self.actors
        return min(1.0, self.compute_s / actor_seconds) if actor_seconds > 0 else 0.0


Report = Callable[[Progress], None]
