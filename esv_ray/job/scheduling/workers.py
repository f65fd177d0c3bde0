"""The workers of a run and the units that each has: who may take more is found without looking at all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_IN_FLIGHT = 2


@dataclass
class Crew:
    """Workers that are ready.

    Attributes:
        in_flight: units of each, oldest first.
        alone: workers that a suspect has for itself, and it.
        draining: workers that take nothing until they are empty.
        room: workers with 0, 1, ... units that may take more, in the order in which they came to that: no step looks
            at all workers, of which there may be thousands.
        seen: busy workers, and when each last made progress.
    """

    in_flight: dict[str, list[int]] = field(default_factory=dict)
    alone: dict[str, int] = field(default_factory=dict)
    draining: dict[str, None] = field(default_factory=dict)
    room: tuple[dict[str, None], ...] = field(default_factory=lambda: tuple({} for _ in range(MOST_IN_FLIGHT)))
    seen: dict[str, float] = field(default_factory=dict)

    def join(self, worker: str) -> None:
        """A worker is ready."""
        if worker in self.in_flight:
            raise ValueError(f"worker {worker} is known already")
        self.in_flight[worker] = []
        self.room[0][worker] = None

    def leave(self, worker: str) -> tuple[list[int], bool]:
        """A worker is gone: the units that it had, and whether the one was alone. It may be unknown."""
        units = self.in_flight.pop(worker, [])
        self.seen.pop(worker, None)
        self.draining.pop(worker, None)
        for room in self.room:
            room.pop(worker, None)
        return units, self.alone.pop(worker, None) is not None

    def free(self, depth: int = 0) -> str | None:
        """A worker with so many units that may take another."""
        return next(iter(self.room[depth]), None)

    def give(self, worker: str, unit: int, now: float, *, alone: bool = False) -> None:
        """A worker gets a unit."""
        units = self.in_flight[worker]
        self.room[len(units)].pop(worker)
        units.append(unit)
        if alone:
            self.alone[worker] = unit
        elif len(units) < MOST_IN_FLIGHT:
            self.room[len(units)][worker] = None
        self.seen.setdefault(worker, now)

    def release(self, worker: str, unit: int, now: float) -> None:
        """A worker is through with a unit."""
        units = self.in_flight[worker]
        if len(units) < MOST_IN_FLIGHT:
            self.room[len(units)].pop(worker, None)
        units.remove(unit)
        self.alone.pop(worker, None)
        if units:
            self.seen[worker] = now
        else:
            self.seen.pop(worker)
            self.draining.pop(worker, None)
        if worker not in self.draining:
            self.room[len(units)][worker] = None

    def drain(self, wanted: int) -> None:
        """Let some workers run empty."""
        while len(self.draining) < wanted and (worker := self.free(1)) is not None:
            self.room[1].pop(worker)
            self.draining[worker] = None

    def progress(self, worker: str, now: float) -> None:
        """A worker showed that its work goes on."""
        if worker in self.seen:
            self.seen[worker] = now

    def stalled(self, now: float, after_s: float) -> list[str]:
        """Workers with work that showed no progress for so long."""
        return [worker for worker, seen in self.seen.items() if now - seen >= after_s]
