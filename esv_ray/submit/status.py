"""The status of a job: its scheduler's view (Ray, Kubernetes), joined with its progress file on storage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from esv_ray import storage
from esv_ray.errors import EsvError, one_line
from esv_ray.output.layout import PROGRESS
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
        progress: content of the progress file; None: there is none, or it cannot be read from here.
        unread: why the progress file cannot be read.
        partition: status of the partition that is being computed, for a job over partitions.
    """

    job: str | None
    state: str | None
    message: str
    output: str
    started: float | None
    ended: float | None
    progress: Mapping[str, Any] | None
    unread: str | None
    partition: JobStatus | None = None

    @property
    def cut_short(self) -> bool:
        """Whether the job ended without an update of the progress file: it was killed."""
        current = bool(self.progress) and not self.earlier
        return current and self.state in ENDED and (self.progress or {}).get("state") == "running"

    @property
    def earlier(self) -> bool:
        """Whether the progress file is of an earlier attempt."""
        return bool(self.job and self.progress and self.progress.get("submission") != self.job)


def read_status(
    output: str,
    *,
    job: str | None = None,
    state: str | None = None,
    message: str = "",
    started: float | None = None,
    ended: float | None = None,
) -> JobStatus:
    """Read the progress file of an output and join it with the scheduler's view of the job."""
    progress, unread = None, None
    try:
        where = storage.join(output, PROGRESS)
        if storage.exists(where):
            content = json.loads(storage.read_bytes(where, "read the progress", most=2**20))
            progress = content if isinstance(content, dict) else None
    except (EsvError, ValueError, RecursionError) as error:  # who may see a job may not be allowed to read its storage
        unread = one_line(error)
    current = progress.get("partition") if progress else None
    partition = None
    if isinstance(current, str) and "/" not in current and current not in ("", ".", ".."):
        partition = read_status(storage.join(output, current))
    return JobStatus(job, state, message, output, started, ended, progress, unread, partition)


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
    progress = status.progress
    if progress is None:
        yield f"no progress: {status.unread}" if status.unread else "no progress yet"
        return
    if "partitions" in progress:
        yield from _partition_lines(status, progress, now)
        return
    videos, units = _section(progress, "videos"), _section(progress, "units")
    if progress.get("waiting_for") and not _number(units, "total"):
        yield f"{_state(status, progress)}: the job is not planned yet"
        yield from _live_lines(status, progress, now)
        return
    done = sum(_number(videos, key) for key in ("resumed", "ok", "skipped", "failed"))
    left_s = _number(progress, "left_s")
    left = f", about {_span(left_s)} left" if left_s and _running(status) else ""
    yield (
        f"{_state(status, progress)}: {done:.0f} of {_number(videos, 'total'):.0f} videos "
        f"({_number(videos, 'failed'):.0f} failed, {_number(videos, 'resumed'):.0f} from earlier attempts), "
        f"{_number(units, 'done'):.0f} of {_number(units, 'total'):.0f} units, "
        f"{_number(progress, 'videos_per_second'):g} videos/s{left}"
    )
    if _running(status):
        actors = _section(progress, "actors")
        ready, busy, starting = (_number(actors, key) for key in ("ready", "busy", "starting"))
        yield f"{ready:.0f} actors, {busy:.0f} busy, {starting:.0f} starting"
    yield from _live_lines(status, progress, now)
    missing = _number(units, "missing")
    if missing:
        yield f"{missing:.0f} committed units are missing: run the job again to recompute them"
    if progress.get("repeated_ids"):
        yield str(progress["repeated_ids"])
    yield from (f"{count} failed: {reason}" for reason, count in _section(progress, "failures").items())
    yield from (f"unit {unit} given up: {why}" for unit, why in _section(progress, "units_given_up").items())


def _live_lines(status: JobStatus, progress: Mapping[str, Any], now: float) -> Iterator[str]:
    if not _running(status):
        return
    if progress.get("waiting_for"):
        yield f"waiting for {progress['waiting_for']}"
    silent = now - _seconds(progress.get("updated"), now)
    if silent > _SILENT_S:
        yield f"no update for {_span(silent)}: the job may have been killed; submit it again to resume it"


def _running(status: JobStatus) -> bool:
    return (status.progress or {}).get("state") == "running" and not status.cut_short


def _state(status: JobStatus, progress: Mapping[str, Any]) -> str:
    before = "earlier attempt: " if status.earlier else ""
    return f"{before}{'killed while running' if status.cut_short else progress.get('state')}"


def _partition_lines(status: JobStatus, progress: Mapping[str, Any], now: float) -> Iterator[str]:
    counts = ", ".join(f"{count} {state}" for state, count in _section(progress, "partitions").items())
    yield f"{_state(status, progress)}: partitions: {counts or 'none'}"
    if status.partition is not None:
        yield f"{progress['partition']}:"
        yield from (f"  {line}" for line in _progress_lines(status.partition, now))
    yield from (f"{name}: {why}" for name, why in _section(progress, "problems").items())


def _section(progress: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = progress.get(key)
    return section if isinstance(section, Mapping) else {}


def _number(section: Mapping[str, Any], key: str) -> float:
    """Return a number of a section; 0 if the value is not a valid number, since anybody may have written the file."""
    value = section.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63:
        return float(value)
    return 0.0


def _seconds(text: object, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return otherwise


def _span(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


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
