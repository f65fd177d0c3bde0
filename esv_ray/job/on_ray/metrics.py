"""Prometheus metrics of a run, through Ray's exporter (`ray[default]`)."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from esv_ray.job.progress import Progress
from esv_ray.job.run import UnitEvent
from esv_ray.job.unit_log import outcome_of
from esv_ray.job.work import UnitFault

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000]


class JobMetrics:
    """Counters and gauges of a run.

    `esv_videos` (by status) and `esv_units` (by outcome: done, found, probe, or the kind of fault) count;
    `esv_unit_seconds` (by stage) is the time that units take; `esv_actors` (ready, busy), `esv_device_busy` and
    `esv_left_seconds` are the state of the run.
    """

    def __init__(self) -> None:
        self._videos = Counter("esv_videos", "Videos of this run by outcome.", ("status",))
        self._units = Counter("esv_units", "Units of this run by outcome.", ("outcome",))
        self._seconds = Histogram("esv_unit_seconds", "Seconds of a unit by stage.", _SECONDS, ("stage",))
        self._actors = Gauge("esv_actors", "Ready actors, and those with work.", ("state",))
        self._device_busy = Gauge("esv_device_busy", "Share of the actors' time in which their devices computed.")
        self._left = Gauge("esv_left_seconds", "Seconds until the job is done at this rate.")

    def unit(self, event: UnitEvent) -> None:
        """Record the outcome of a task."""
        outcome = outcome_of(event)
        self._units.inc(1, {"outcome": outcome})
        report = event.outcome
        if isinstance(report, UnitFault):
            return
        for status in ("ok", "skipped", "failed"):
            count = getattr(report.counts, status)
            if count:
                self._videos.inc(count, {"status": status})
        if outcome == "done":
            for stage in ("read", "compute", "commit"):
                self._seconds.observe(getattr(report, f"{stage}_s"), {"stage": stage})

    def progress(self, now: Progress) -> None:
        """Record the state of the run."""
        self._actors.set(now.actors, {"state": "ready"})
        self._actors.set(now.busy_actors, {"state": "busy"})
        self._device_busy.set(now.device_busy)
        if now.left_s is not None:
            self._left.set(now.left_s)
