"""progress.json: written and read only here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from esv_ray import storage
from esv_ray.job.environment import SUBMISSION
from esv_ray.job.progress import Progress
from esv_ray.job.work import most_frequent
from esv_ray.output.layout import PROGRESS

_FORMAT = 1
_MOST_LISTED = 20  # reasons, units and partitions
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class VideosRecord:
    """Videos of a job by outcome; those of earlier runs are `resumed`."""

    total: float = 0
    resumed: float = 0
    ok: float = 0
    skipped: float = 0
    failed: float = 0

    @property
    def done(self) -> float:
        """Videos whose outcome is known."""
        return self.resumed + self.ok + self.skipped + self.failed


@dataclass(frozen=True)
class UnitsRecord:
    """Units of a job by state."""

    total: float = 0
    done: float = 0
    given_up: float = 0
    missing: float = 0


@dataclass(frozen=True)
class ActorsRecord:
    """Actors of a run by state, and the share of their time in which devices computed."""

    ready: float = 0
    busy: float = 0
    starting: float = 0
    device_busy: float = 0


@dataclass(frozen=True)
class SecondsRecord:
    """Seconds of a run, and of its stages over all actors."""

    run: float = 0
    read: float = 0
    compute: float = 0
    commit: float = 0


@dataclass(frozen=True)
class ProgressRecord:
    """progress.json of a job (`docs`: progress.json).

    Attributes:
        state: `running`, or how the run ended (`Ended`).
        submission: id of `esv submit`; None for a run that was not submitted.
        begun, updated: times in ISO 8601.
        videos, units, actors, seconds: see the records.
        repeated_ids: ids that occur in several files, in one line.
        failures: failed videos by an example of their reasons, for the most frequent kinds of reasons.
        units_given_up: reasons by unit.
        waiting_for: what the cluster lacks for an actor, which actors are silent, or the long step that they take.
        videos_per_second: rate of this run.
        left_s: seconds until the job is done at this rate.
        noun: what the rows are that are counted as videos: "video", or "head" in a training.
    """

    state: str
    submission: str | None = None
    begun: str = ""
    updated: str = ""
    videos: VideosRecord = VideosRecord()
    units: UnitsRecord = UnitsRecord()
    repeated_ids: str | None = None
    failures: Mapping[str, float] = field(default_factory=dict)
    units_given_up: Mapping[str, str] = field(default_factory=dict)
    actors: ActorsRecord = ActorsRecord()
    waiting_for: str | None = None
    seconds: SecondsRecord = SecondsRecord()
    videos_per_second: float = 0.0
    left_s: float | None = None
    noun: str = "video"


@dataclass(frozen=True)
class PartitionsRecord:
    """progress.json of a run over partitions, each of which has one of its own below.

    Attributes:
        state, submission, begun, updated: as in `ProgressRecord`.
        partition: the one that is running.
        partitions: number of partitions by state.
        problems: reasons by partition.
    """

    state: str
    submission: str | None = None
    begun: str = ""
    updated: str = ""
    partition: str | None = None
    partitions: Mapping[str, float] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def progress_record(now: Progress, state: str, begun: str, given_up: Mapping[str, str]) -> ProgressRecord:
    """Return the record of a run.

    Args:
        now: state of the run.
        state: `running`, or how it ended.
        begun: time in ISO 8601.
        given_up: reasons by unit.
    """
    counts = now.counts
    return ProgressRecord(
        state,
        os.environ.get(SUBMISSION),
        begun,
        timestamp(),
        VideosRecord(now.total, now.resumed, counts.ok, counts.skipped, counts.failed),
        UnitsRecord(now.units, now.units_done, now.units_failed, now.units_missing),
        now.repeated or None,
        {failures.example: failures.count for failures in most_frequent(now.failures)[:_MOST_LISTED]},
        dict(list(given_up.items())[:_MOST_LISTED]),
        ActorsRecord(now.actors, now.busy_actors, now.starting, round(now.device_busy, 3)),
        now.waiting_for or now.silence or now.stage or None,
        SecondsRecord(*(round(value, 3) for value in (now.seconds, now.read_s, now.compute_s, now.commit_s))),
        round(now.rate, 3),
        None if now.left_s is None else round(now.left_s, 1),
        now.noun,
    )


def partitions_record(
    state: str, begun: str, partition: str | None, counts: Mapping[Any, int], problems: Mapping[str, str]
) -> PartitionsRecord:
    """Return the record of a run over partitions; see `PartitionsRecord`."""
    return PartitionsRecord(
        state,
        os.environ.get(SUBMISSION),
        begun,
        timestamp(),
        partition,
        {str(name): count for name, count in counts.items() if count},
        dict(list(problems.items())[:_MOST_LISTED]),
    )


def write_progress(output: str, record: ProgressRecord | PartitionsRecord) -> None:
    """Replace progress.json of an output.

    Raises:
        DataError: the storage refuses.
    """
    content = {"format": _FORMAT, **asdict(record)}
    data = (json.dumps(content, indent=1) + "\n").encode()
    storage.replace(storage.join(output, PROGRESS), data, "write the progress")


def read_progress(output: str) -> tuple[Mapping[str, Any], ProgressRecord | PartitionsRecord] | None:
    """Read progress.json: the content as it is, and its record; None if there is none.

    Anybody may have written the file: a value of a wrong type counts as absent.

    Raises:
        EsvError: the storage refuses.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    location = storage.join(output, PROGRESS)
    if not storage.exists(location):
        return None
    content = json.loads(storage.read_bytes(location, "read the progress", most=_MOST_BYTES))
    return (content, _record_of(content)) if isinstance(content, dict) else None


def _record_of(content: Mapping[str, Any]) -> ProgressRecord | PartitionsRecord:
    state, submission = _text(content, "state") or "unknown", _text(content, "submission")
    begun, updated = _text(content, "begun") or "", _text(content, "updated") or ""
    if "partitions" in content:
        counts, problems = _numbers(content, "partitions"), _texts(content, "problems")
        return PartitionsRecord(state, submission, begun, updated, _text(content, "partition"), counts, problems)
    return ProgressRecord(
        state,
        submission,
        begun,
        updated,
        VideosRecord(**_fields(content, "videos", VideosRecord)),
        UnitsRecord(**_fields(content, "units", UnitsRecord)),
        _text(content, "repeated_ids"),
        _numbers(content, "failures"),
        _texts(content, "units_given_up"),
        ActorsRecord(**_fields(content, "actors", ActorsRecord)),
        _text(content, "waiting_for"),
        SecondsRecord(**_fields(content, "seconds", SecondsRecord)),
        _number(content.get("videos_per_second")) or 0.0,
        _number(content.get("left_s")),
        _text(content, "noun") or "video",
    )


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = content.get(key)
    return section if isinstance(section, dict) else {}


def _fields(content: Mapping[str, Any], key: str, record: type[Any]) -> dict[str, float]:
    return {name: value for name, value in _numbers(content, key).items() if name in record.__dataclass_fields__}


def _numbers(content: Mapping[str, Any], key: str) -> dict[str, float]:
    numbers = {name: _number(value) for name, value in _section(content, key).items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _texts(content: Mapping[str, Any], key: str) -> dict[str, str]:
    return {name: value for name, value in _section(content, key).items() if isinstance(value, str)}


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    sane = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63
    return float(value) if sane else None  # type: ignore[arg-type]


def timestamp() -> str:
    """Return the time in ISO 8601, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
