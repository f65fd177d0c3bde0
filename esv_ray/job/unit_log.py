"""A line of JSON for every task, to the logger `esv_ray.units`."""

from __future__ import annotations

import json
import logging
from typing import Any

from esv_ray.job.progress_record import timestamp
from esv_ray.job.run import UnitEvent
from esv_ray.job.work import UnitFault

_log = logging.getLogger("esv_ray.units")


def log_unit(event: UnitEvent) -> None:
    """Log the outcome of a task."""
    if not _log.isEnabledFor(logging.INFO):
        return
    line: dict[str, Any] = {
        "time": timestamp(),
        "unit": event.unit.index,
        "name": event.unit.name,
        "file": event.unit.source,
        "worker": event.worker,
        "probe": event.task.probe,
        "without": len(event.task.poisoned),
    }
    if isinstance(event.outcome, UnitFault):
        line |= {"event": "fault", "fault": event.outcome.fault, "reason": event.outcome.reason}
    else:
        report = event.outcome
        seconds = {"read_s": report.read_s, "compute_s": report.compute_s, "commit_s": report.commit_s}
        line |= {"event": outcome_of(event), **report.counts.asdict()}
        line |= {name: round(value, 4) for name, value in seconds.items()}
    _log.info("%s", json.dumps(line))


def outcome_of(event: UnitEvent) -> str:
    """Return `done`, `found` (another run had committed the unit), `probe`, or the kind of the fault."""
    if isinstance(event.outcome, UnitFault):
        return event.outcome.fault
    return "probe" if event.task.probe else "found" if event.outcome.already_committed else "done"
