"""What a run tells beside its results: a progress file, which outlives the cluster, and a log line a unit."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.job.actor import UnitFault
from esv_ray.job.environment import SUBMISSION
from esv_ray.job.run import Ended, Progress, Report, Run, UnitEvent
from esv_ray.output.layout import PROGRESS
from esv_ray.signals import INTERRUPTED, last_act

_EVERY_S = 10.0
_LAST_WRITE_S = 3.0  # what a store may take that is told of an interrupt
_REASONS = 20  # most frequent ones

_log = logging.getLogger("esv_ray")
_units = logging.getLogger("esv_ray.units")


@contextmanager
def progress_file(run: Run) -> Iterator[None]:
    """Keep `<output>/progress.json` up to date while a run lasts, and say at its end how it ended.

    A storage that takes it not is told in the log; the job goes on. A killed driver leaves the state `running` and a
    time of `updated` that grows old.
    """
    begun = _now()
    stop = threading.Event()

    def write() -> None:
        _write(run.spec.output, progress_of(run, begun))

    def keep_writing() -> None:
        write()
        while not stop.wait(_EVERY_S):
            write()
        write()

    writer = threading.Thread(target=keep_writing, name="esv-progress", daemon=True)
    writer.start()
    patience = None

    def by_force(code: int) -> None:
        run.ended = "interrupted" if code == INTERRUPTED else "failed"
        write()

    with last_act(by_force):
        try:
            yield
        except KeyboardInterrupt:
            run.ended, patience = "interrupted", _LAST_WRITE_S
            raise
        except BaseException:
            run.ended = "failed"
            raise
        finally:
            stop.set()
            writer.join(patience)


@contextmanager
def awaiting_file(output: str, report: Report) -> Iterator[Callable[[str], None]]:
    """For a run that may have to wait before it is planned.

    Yields:
        To be told now and then what is waited for; only then is there a progress file, and the end of the run told.
    """
    begun = _now()
    told: Progress | None = None

    def tell(waiting_for: str) -> None:
        nonlocal told
        told = Progress(0, 0, waiting_for=waiting_for)
        report(told)
        write("running")

    def write(state: Ended | Literal["running"]) -> None:
        if told is not None:
            _write(output, _content(told, state, begun, {}))

    try:
        yield tell
    except KeyboardInterrupt:
        write("interrupted")
        raise
    except BaseException:
        write("failed")
        raise


@contextmanager
def partitions_file(output: str, counts: Mapping[Any, int]) -> Iterator[PartitionsProgress]:
    """Keep `<output>/progress.json` of a run over partitions, each of which has one of its own below.

    It is written as a partition begins, and says at the end how the run ended.

    Args:
        output: below which the partitions' outputs are.
        counts: partitions by state, kept up to date by the run.
    """
    told = PartitionsProgress(output, _now(), counts)
    state: str | None = "failed"
    try:
        yield told
        state = "incomplete" if told.problems else "done"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        told.write(None, state)


@dataclass
class PartitionsProgress:
    """Where a run over partitions stands.

    Attributes:
        output: below which their outputs are.
        begun: when.
        counts: partitions by state.
        problems: why, by the partition's name.
    """

    output: str
    begun: str
    counts: Mapping[Any, int]
    problems: dict[str, str] = field(default_factory=dict)

    def write(self, partition: str | None, state: str | None = "running") -> None:
        """Write it.

        Args:
            partition: the one that is at work.
            state: of the run.
        """
        content = {
            "format": 1,
            "state": state,
            "submission": os.environ.get(SUBMISSION),
            "begun": self.begun,
            "updated": _now(),
            "partition": partition,
            "partitions": {state: count for state, count in self.counts.items() if count},
            "problems": dict(list(self.problems.items())[:_REASONS]),
        }
        _write(self.output, content)


def _write(output: str, content: Mapping[str, Any]) -> None:
    data = (json.dumps(content, indent=1) + "\n").encode()
    try:
        storage.replace(storage.join(output, PROGRESS), data, "write the progress")
    except DataError as error:
        _log.warning("%s", error)


def progress_of(run: Run, begun: str) -> dict[str, Any]:
    """The content of the progress file."""
    given_up = {run.unit(index).name: why for index, why in list(run.scheduler.quarantined.items())[:_REASONS]}
    return _content(run.progress, run.ended or "running", begun, given_up)


def _content(now: Progress, state: str, begun: str, given_up: Mapping[str, str]) -> dict[str, Any]:
    reasons = sorted(now.reasons.items(), key=lambda item: -item[1])[:_REASONS]
    return {
        "format": 1,
        "state": state,
        "submission": os.environ.get(SUBMISSION),
        "begun": begun,
        "updated": _now(),
        "videos": {
            "total": now.total,
            "resumed": now.resumed,
            "ok": now.counts.ok,
            "skipped": now.counts.skipped,
            "failed": now.counts.failed,
        },
        "units": {
            "total": now.units,
            "done": now.units_done,
            "given_up": now.units_failed,
            "missing": now.units_missing,
        },
        "repeated_ids": now.repeated or None,
        "failures": dict(reasons),
        "units_given_up": dict(given_up),
        "actors": {
            "ready": now.actors,
            "busy": now.busy_actors,
            "starting": now.starting,
            "device_busy": round(now.busy, 3),
        },
        "waiting_for": now.waiting_for or now.silence,
        "seconds": {
            "run": round(now.seconds, 3),
            "read": round(now.read_s, 3),
            "compute": round(now.compute_s, 3),
            "commit": round(now.commit_s, 3),
        },
        "videos_per_second": round(now.rate, 3),
        "left_s": None if now.left_s is None else round(now.left_s, 1),
    }


def log_unit(event: UnitEvent) -> None:
    """One line of JSON for a unit, to the logger `esv_ray.units`."""
    if not _units.isEnabledFor(logging.INFO):
        return
    line: dict[str, Any] = {
        "time": _now(),
        "unit": event.unit.index,
        "name": event.unit.name,
        "file": event.unit.file.url,
        "worker": event.worker,
        "probe": event.task.probe,
        "without": len(event.task.condemned),
    }
    if isinstance(event.outcome, UnitFault):
        line |= {"event": "fault", "fault": event.outcome.fault, "reason": event.outcome.reason}
    else:
        done = event.outcome
        seconds = {"read_s": done.read_s, "compute_s": done.compute_s, "commit_s": done.commit_s}
        line |= {"event": "probe" if event.task.probe else "found" if done.found else "done", **done.counts.asdict()}
        line |= {name: round(value, 4) for name, value in seconds.items()}
    _units.info("%s", json.dumps(line))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
