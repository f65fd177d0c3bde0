"""Where a job stands: what its scheduler says of it (Ray, Kubernetes), joined with its progress file on storage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from esv_ray import storage
from esv_ray.errors import EsvError, short_text
from esv_ray.output.layout import PROGRESS
from esv_ray.submit.submission import ENDED

_SILENT_S = 60.0  # six times the pause between two writes


@dataclass(frozen=True)
class Standing:
    """A job seen from outside.

    Attributes:
        job: its id; None: nobody was asked but the storage.
        state: of the scheduler, in its words.
        message: what the scheduler says beside.
        output: where the tables go.
        started, ended: seconds since 1970.
        progress: the progress file; None: there is none, or it cannot be read from here.
        unread: why it cannot.
        partition: the one at work, where the job is one over partitions.
    """

    job: str | None
    state: str | None
    message: str
    output: str
    started: float | None
    ended: float | None
    progress: Mapping[str, Any] | None
    unread: str | None
    partition: Standing | None = None

    @property
    def cut_short(self) -> bool:
        """Whether the job ended without a word to the progress file: it was killed."""
        ours = bool(self.progress) and not self.earlier
        return ours and self.state in ENDED and (self.progress or {}).get("state") == "running"

    @property
    def earlier(self) -> bool:
        """Whether the progress file is of an earlier attempt."""
        return bool(self.job and self.progress and self.progress.get("submission") != self.job)


def standing_of(
    output: str,
    *,
    job: str | None = None,
    state: str | None = None,
    message: str = "",
    started: float | None = None,
    ended: float | None = None,
) -> Standing:
    """A scheduler's view, joined with the progress file of an output."""
    progress, unread = None, None
    try:
        where = storage.join(output, PROGRESS)
        if storage.exists(where):
            read = json.loads(storage.read_bytes(where, "read the progress", most=2**20))
            progress = read if isinstance(read, dict) else None
    except (EsvError, ValueError, RecursionError) as error:  # not everybody who may see jobs may read their storage
        unread = short_text(error)
    at_work = progress.get("partition") if progress else None
    partition = None
    if isinstance(at_work, str) and "/" not in at_work and at_work not in ("", ".", ".."):
        partition = standing_of(storage.join(output, at_work))
    return Standing(job, state, message, output, started, ended, progress, unread, partition)


def lines_of(standing: Standing, now: float) -> Iterator[str]:
    """For a person."""
    if standing.job:
        yield f"{standing.job}  {standing.state}{_since(standing, now)}"
        if standing.message and standing.state not in ("RUNNING", "SUCCEEDED"):
            yield f"  {standing.message}"
    yield from (f"  {line}" for line in _progress_lines(standing, now))
    yield f"  output: {standing.output}"


def _since(standing: Standing, now: float) -> str:
    if standing.started is None:
        return ""
    return f"  {_span((standing.ended or now) - standing.started)}"


def _progress_lines(standing: Standing, now: float) -> Iterator[str]:
    told = standing.progress
    if told is None:
        yield f"no progress: {standing.unread}" if standing.unread else "no progress is written yet"
        return
    if "partitions" in told:
        yield from _partition_lines(standing, told, now)
        return
    videos, units = _section(told, "videos"), _section(told, "units")
    if told.get("waiting_for") and not _number(units, "total"):
        yield f"{_state(standing, told)}: the job is not planned yet"
        yield from _live_lines(standing, told, now)
        return
    done = sum(_number(videos, key) for key in ("resumed", "ok", "skipped", "failed"))
    left_s = _number(told, "left_s")
    left = f", about {_span(left_s)} left" if left_s and _running(standing) else ""
    yield (
        f"{_state(standing, told)}: {done:.0f} of {_number(videos, 'total'):.0f} videos "
        f"({_number(videos, 'failed'):.0f} failed, {_number(videos, 'resumed'):.0f} of earlier attempts), "
        f"{_number(units, 'done'):.0f} of {_number(units, 'total'):.0f} units, "
        f"{_number(told, 'videos_per_second'):g} videos/s{left}"
    )
    if _running(standing):
        actors = _section(told, "actors")
        ready, busy, starting = (_number(actors, key) for key in ("ready", "busy", "starting"))
        yield f"{ready:.0f} actors, {busy:.0f} with work, {starting:.0f} starting"
    yield from _live_lines(standing, told, now)
    missing = _number(units, "missing")
    if missing:
        yield f"{missing:.0f} units that were committed are missing: run it again to compute them"
    if told.get("repeated_ids"):
        yield str(told["repeated_ids"])
    yield from (f"{count} failed: {reason}" for reason, count in _section(told, "failures").items())
    yield from (f"unit {unit} given up: {why}" for unit, why in _section(told, "units_given_up").items())


def _live_lines(standing: Standing, told: Mapping[str, Any], now: float) -> Iterator[str]:
    if not _running(standing):
        return
    if told.get("waiting_for"):
        yield f"waiting for {told['waiting_for']}"
    silent = now - _seconds(told.get("updated"), now)
    if silent > _SILENT_S:
        yield f"nothing was heard of it for {_span(silent)}: it may have been killed; submit it again to resume"


def _running(standing: Standing) -> bool:
    return (standing.progress or {}).get("state") == "running" and not standing.cut_short


def _state(standing: Standing, told: Mapping[str, Any]) -> str:
    before = "of an earlier attempt: " if standing.earlier else ""
    return f"{before}{'killed while running' if standing.cut_short else told.get('state')}"


def _partition_lines(standing: Standing, told: Mapping[str, Any], now: float) -> Iterator[str]:
    counts = ", ".join(f"{count} {state}" for state, count in _section(told, "partitions").items())
    yield f"{_state(standing, told)}: partitions: {counts or 'none'}"
    if standing.partition is not None:
        yield f"{told['partition']}:"
        yield from (f"  {line}" for line in _progress_lines(standing.partition, now))
    yield from (f"{name}: {why}" for name, why in _section(told, "problems").items())


def _section(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = told.get(key)
    return section if isinstance(section, Mapping) else {}


def _number(section: Mapping[str, Any], key: str) -> float:
    """What stands there, if it is a number that makes sense; the file may be anybody's."""
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


def as_json(standing: Standing) -> dict[str, Any]:
    """For machines: what the scheduler says, and the progress file as it is."""
    return {
        "job": standing.job,
        "state": standing.state,
        "message": standing.message or None,
        "output": standing.output,
        "started": utc(standing.started),
        "ended": utc(standing.ended),
        "progress": standing.progress,
        "progress_of_this_attempt": None if standing.progress is None or not standing.job else not standing.earlier,
        "progress_unread": standing.unread,
        "partition": None if standing.partition is None else standing.partition.progress,
    }


def utc(seconds: float | None) -> str | None:
    """A time as machines are told of it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
