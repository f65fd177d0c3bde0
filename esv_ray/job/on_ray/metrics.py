"""Prometheus metrics of a run, through Ray's own exporter, where the cluster has one (`ray[default]`)."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from esv_ray.job.actor import UnitFault
from esv_ray.job.run import Progress, UnitEvent

_SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000]


class JobMetrics:
    """Counts and times of a run.

    `esv_videos` (by status) and `esv_units` (done, found, probe, or the kind of fault) count; `esv_unit_seconds` (by
    stage) tells how long units take; `esv_actors` (ready, busy), `esv_device_busy` and `esv_left_seconds` where the run
    stands.
    """

    def __init__(self) -> None:
        self._videos = Counter("esv_videos", "Videos of this run by what became of them.", ("status",))
        self._units = Counter("esv_units", "Units of this run by what became of them.", ("outcome",))
        self._seconds = Histogram("esv_unit_seconds", "Seconds of a unit's stages.", _SECONDS, ("stage",))
        self._actors = Gauge("esv_actors", "Actors that are ready, and those with work.", ("state",))
        self._busy = Gauge("esv_device_busy", "Share of the actors' time in which their devices computed.")
        self._left = Gauge("esv_left_seconds", "Seconds until the job is done at this rate.")

    def unit(self, event: UnitEvent) -> None:
        """A unit ended, or failed."""
        outcome = event.outcome
        if isinstance(outcome, UnitFault):
            self._units.inc(1, {"outcome": outcome.fault})
            return
        what = "probe" if event.task.probe else "found" if outcome.found else "done"
        self._units.inc(1, {"outcome": what})
        for status in ("ok", "skipped", "failed"):
            count = getattr(outcome.counts, status)
            if count:
                self._videos.inc(count, {"status": status})
        if what == "done":
            for stage in ("read", "compute", "commit"):
                self._seconds.observe(getattr(outcome, f"{stage}_s"), {"stage": stage})

    def progress(self, now: Progress) -> None:
        """Where the run stands."""
        self._actors.set(now.actors, {"state": "ready"})
        self._actors.set(now.busy_actors, {"state": "busy"})
        self._busy.set(now.busy)
        if now.left_s is not None:
            self._left.set(now.left_s)
