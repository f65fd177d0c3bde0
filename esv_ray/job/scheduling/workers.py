"""Ready workers and their units, indexed so that a worker with capacity is found without a scan of all."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_IN_FLIGHT = 2


@dataclass
class Workers:
    """Ready workers.

    Attributes:
        in_flight: units of each worker, oldest first.
        alone: workers that run a suspect unit and nothing else, and that unit.
        draining: workers that get no unit until they are idle.
        available: workers that may take another unit, by their number of units (0, 1, ...), in the order in which they
            came to it. There may be thousands of workers, so no step looks at all of them.
        last_progress: time of the last progress of each busy worker.
    """

    in_flight: dict[str, list[int]] = field(default_factory=dict)
    alone: dict[str, int] = field(default_factory=dict)
    draining: dict[str, None] = field(default_factory=dict)
    available: tuple[dict[str, None], ...] = field(default_factory=lambda: tuple({} for _ in range(MOST_IN_FLIGHT)))
    last_progress: dict[str, float] = field(default_factory=dict)

    def add(self, worker: str) -> None:
        """Add a worker that is ready."""
        if worker in self.in_flight:
            raise ValueError(f"worker {worker} is known already")
        self.in_flight[worker] = []
        self.available[0][worker] = None

    def remove(self, worker: str) -> tuple[list[int], bool]:
        """Remove a worker, known or not; return its units, and whether it ran one alone."""
        units = self.in_flight.pop(worker, [])
        self.last_progress.pop(worker, None)
        self.draining.pop(worker, None)
        for workers in self.available:
            workers.pop(worker, None)
        return units, self.alone.pop(worker, None) is not None

    def first_with(self, units: int = 0) -> str | None:
        """Return a worker that has this many units and may take another."""
        return next(iter(self.available[units]), None)

    def give(self, worker: str, unit: int, now: float, *, alone: bool = False) -> None:
        """Assign a unit to a worker."""
        units = self.in_flight[worker]
        self.available[len(units)].pop(worker)
        units.append(unit)
        if alone:
            self.alone[worker] = unit
        elif len(units) < MOST_IN_FLIGHT:
            self.available[len(units)][worker] = None
        self.last_progress.setdefault(worker, now)

    def release(self, worker: str, unit: int, now: float) -> None:
        """Take back a unit that a worker finished."""
        units = self.in_flight[worker]
        if len(units) < MOST_IN_FLIGHT:
            self.available[len(units)].pop(worker, None)
        units.remove(unit)
        self.alone.pop(worker, None)
        if units:
            self.last_progress[worker] = now
        else:
            self.last_progress.pop(worker)
            self.draining.pop(worker, None)
        if worker not in self.draining:
            self.available[len(units)][worker] = None

    def drain(self, count: int) -> None:
        """Let up to `count` workers become idle."""
        while len(self.draining) < count and (worker := self.first_with(1)) is not None:
            self.available[1].pop(worker)
            self.draining[worker] = None

    def progress(self, worker: str, now: float) -> None:
        """Record that a worker made progress."""
        if worker in self.last_progress:
            self.last_progress[worker] = now

    def stalled(self, now: float, after_s: float) -> list[str]:
        """Return the busy workers without progress for `after_s` seconds."""
        return [worker for worker, last in self.last_progress.items() if now - last >= after_s]
