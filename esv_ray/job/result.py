"""How a job ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esv_ray.job.work import Failures, RowCounts


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        output: location of the tables.
        counts: videos of all committed units, of this and earlier runs.
        failed: (video_id, reason) of the first failed videos.
        failures: failed videos of this run by kind of reason, the most frequent first.
        quarantined: units that could not be committed, and why.
        given_up: why the run stopped early, or None.
        missing: names of units that were committed but are not in the output at the end.
        repeated: ids that occur in several files of the input, in one line; empty if there are none.
        finished: whether every unit is in the output, no id occurs in two files, and _SUCCESS exists.
        max_failed: largest share of failed videos of a successful job.
        units, resumed_units: number of units of the job, and of those that earlier runs committed.
        seconds: duration of this run.
    """

    output: str
    counts: RowCounts
    failed: tuple[tuple[str, str], ...]
    failures: tuple[Failures, ...]
    quarantined: Mapping[str, str]
    given_up: str | None
    missing: tuple[str, ...]
    repeated: str
    finished: bool
    max_failed: float
    units: int
    resumed_units: int
    seconds: float

    @property
    def units_left(self) -> bool:
        """Whether a unit is not committed, or was given up while its failed videos were computed again."""
        unfinished = not self.finished and not self.repeated
        return unfinished or bool(self.missing or self.quarantined or self.given_up)

    @property
    def exit_code(self) -> int:
        """0: done; 1: too many videos failed, a unit is not committed, or an id occurs in two files."""
        too_many = self.counts.failed > self.max_failed * self.counts.rows
        return 1 if self.units_left or self.repeated or too_many else 0

    @property
    def problem(self) -> str:
        """Why units are left, in one line; empty if none are."""
        if self.given_up:
            return f"stopped early, {self.given_up}"
        if self.missing:
            return (
                f"{len(self.missing)} of {self.units} units were committed and are not in {self.output}: they were "
                "removed, or the storage loses what it accepts"
            )
        return f"{len(self.quarantined)} units could not be committed" if self.quarantined else ""
