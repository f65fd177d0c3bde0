"""The status of a job: its scheduler's view (Ray, Kubernetes), joined with its progress.json in storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from esv_ray import storage
from esv_ray.errors import EsvError, count_of, one_line
from esv_ray.job.progress_record import PartitionsRecord, ProgressRecord, read_progress
from esv_ray.submit.submission import ENDED

_SILENT_S = 60.0  # six times the interval between two writes


@dataclass(frozen=True)
class JobStatus:
    """The status of a job.

    Attributes:
        job: its id; None: only its storage was read.
        state: as the scheduler names it.
        message: the scheduler's message.
        output: location of the tables.
        started, ended: seconds since 1970.
        progress: content of progress.json; None: there is none, or it cannot be read from here.
        record: its parts with the expected types.
        unread: why progress.json cannot be read.
        partition: status of the partition that is being computed, for a job over partitions.
    """

    job: str | None
    state: str | None
    message: str
    output: str
    started: float | None
    ended: float | None
    progress: Mapping[str, Any] | None
    record: ProgressRecord | PartitionsRecord | None
    unread: str | None
    partition: JobStatus | None = None

    @property
    def running(self) -> bool:
        """Whether progress.json says that the job runs, and the scheduler does not contradict."""
        return self.record is not None and self.record.state == "running" and not self.cut_short

    @property
    def cut_short(self) -> bool:
        """Whether the job ended without an update of progress.json: it was killed."""
        current = self.record is not None and not self.earlier
        return current and self.state in ENDED and self.record is not None and self.record.state == "running"

    @property
    def earlier(self) -> bool:
        """Whether progress.json is of an earlier attempt."""
        return bool(self.job and self.record is not None and self.record.submission != self.job)


def read_status(
    output: str,
    *,
    job: str | None = None,
    state: str | None = None,
    message: str = "",
    started: float | None = None,
    ended: float | None = None,
) -> JobStatus:
    """Read progress.json of an output and join it with the scheduler's view of the job."""
    progress, record, unread = None, None, None
    try:
        stored = read_progress(output)
        if stored is not None:
            progress, record = stored
    except (EsvError, ValueError, RecursionError) as error:  # a user who may list jobs may lack access to their storage
        unread = one_line(error)
    current = record.partition if isinstance(record, PartitionsRecord) else None
    partition = None
    if current is not None and "/" not in current and current not in ("", ".", ".."):
        partition = read_status(storage.join(output, current))
    return JobStatus(job, state, message, output, started, ended, progress, record, unread, partition)


def status_lines(status: JobStatus, now: float) -> Iterator[str]:
    """Return the lines that describe a status to the user."""
    if status.job:
        yield f"{status.job}  {status.state}{_since(status, now)}"
        if status.message and status.state not in ("RUNNING", "SUCCEEDED"):
            yield f"  {status.message}"
    yield from (f"  {line}" for line in _progress_lines(status, now))
    yield f"  output: {status.output}"


def _since(status: JobStatus, now: float) -> str:
    if status.started is None:
        return ""
    return f"  {_span((status.ended or now) - status.started)}"


def _progress_lines(status: JobStatus, now: float) -> Iterator[str]:
    record = status.record
    if record is None:
        yield f"no progress: {status.unread}" if status.unread else "no progress yet"
    elif isinstance(record, PartitionsRecord):
        yield from _partition_lines(status, record, now)
    elif record.waiting_for and not record.units.total:
        yield f"{_state(status, record)}: the job has not checked its input yet"
        yield from _live_lines(status, record, now)
    else:
        yield from _job_lines(status, record, now)


def _job_lines(status: JobStatus, record: ProgressRecord, now: float) -> Iterator[str]:
    videos, units, actors = record.videos, record.units, record.actors
    remaining = f", about {_span(record.left_s)} left" if record.left_s and status.running else ""
    yield (
        f"{_state(status, record)}: {videos.done:.0f} of {videos.total:.0f} {record.noun}s "
        f"({videos.failed:.0f} failed, {videos.resumed:.0f} from earlier attempts), "
        f"{units.done:.0f} of {units.total:.0f} units, "
        f"{record.videos_per_second:g} {record.noun}s/s{remaining}"
    )
    if status.running:
        yield f"{actors.ready:.0f} actors, {actors.busy:.0f} busy, {actors.starting:.0f} starting"
    yield from _live_lines(status, record, now)
    if units.missing:
        yield f"{units.missing:.0f} committed units are missing: run the job again to recompute them"
    if record.repeated_ids:
        yield record.repeated_ids
    yield from (
        f"{count:.0f} failed{', for example' if count > 1 else ''}: {reason}"
        for reason, count in record.failures.items()
    )
    yield from (f"unit {unit} given up: {why}" for unit, why in record.units_given_up.items())


def _live_lines(status: JobStatus, record: ProgressRecord, now: float) -> Iterator[str]:
    if not status.running:
        return
    if record.waiting_for:
        yield f"waiting for {record.waiting_for}"
    silent = now - _seconds(record.updated, now)
    if silent > _SILENT_S:
        yield f"no update for {_span(silent)}: the job may have been killed; submit it again to resume it"


def _state(status: JobStatus, record: ProgressRecord | PartitionsRecord) -> str:
    before = "earlier attempt: " if status.earlier else ""
    return f"{before}{'killed while running' if status.cut_short else record.state}"


def _partition_lines(status: JobStatus, record: PartitionsRecord, now: float) -> Iterator[str]:
    counts = ", ".join(f"{count:.0f} {state}" for state, count in record.partitions.items())
    total = count_of(round(sum(record.partitions.values())), "partition")
    yield f"{_state(status, record)}: {total}{f' ({counts})' if counts else ''}"
    if status.partition is not None:
        yield f"{record.partition}:"
        yield from (f"  {line}" for line in _progress_lines(status.partition, now))
    yield from (f"{name}: {why}" for name, why in record.problems.items())


def _seconds(time: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return otherwise


def _span(seconds: float) -> str:
    minutes, remainder = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {remainder} s" if minutes else f"{remainder} s"


def status_json(status: JobStatus) -> dict[str, Any]:
    """Return a status as JSON: the scheduler's view, and the progress file as it is."""
    return {
        "job": status.job,
        "state": status.state,
        "message": status.message or None,
        "output": status.output,
        "started": utc(status.started),
        "ended": utc(status.ended),
        "progress": status.progress,
        "progress_of_this_attempt": None if status.progress is None or not status.job else not status.earlier,
        "progress_unread": status.unread,
        "partition": None if status.partition is None else status.partition.progress,
    }


def utc(seconds: float | None) -> str | None:
    """Return a time in ISO 8601, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
