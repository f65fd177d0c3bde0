"""Which unit runs on which worker: a pure state machine without Ray and without a clock.

Rules (each was learned from measured failures of real jobs):
- A worker gets work only once it said that it is ready; two units in flight hide its I/O behind its compute.
- When a worker dies, its units in flight are suspects. A suspect runs alone on its worker, and only a death while
  alone is charged to it; charged often enough it is quarantined, so that one bad unit cannot stop a job.
- An error that a unit reports is charged to it at once; errors of the input are final, others are retried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_IN_FLIGHT = 2
MOST_SOLO_DEATHS = 2
MOST_ERRORS = 3


@dataclass
class Scheduler:
    """State of a run.

    Attributes:
        waiting: units not yet given out, in plan order; retries go to the front.
        suspects: units that must run alone.
        in_flight: units of each ready worker.
        done: finished units.
        quarantined: units given up, and why.
    """

    waiting: deque[int] = field(default_factory=deque)
    suspects: deque[int] = field(default_factory=deque)
    in_flight: dict[str, set[int]] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    quarantined: dict[int, str] = field(default_factory=dict)
    _alone: dict[str, int] = field(default_factory=dict)
    _deaths: dict[int, int] = field(default_factory=dict)
    _errors: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, units: Iterable[int]) -> Scheduler:
        """A scheduler of units yet to be done."""
        return cls(waiting=deque(units))

    @property
    def finished(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return not (self.waiting or self.suspects or any(self.in_flight.values()))

    def worker_ready(self, worker: str) -> None:
        """A worker said that it is ready."""
        if worker in self.in_flight:
            raise ValueError(f"worker {worker} is known already")
        self.in_flight[worker] = set()

    def assign(self) -> list[tuple[str, int]]:
        """Give out work: (worker, unit) pairs, now in flight. The least busy worker first."""
        given: list[tuple[str, int]] = []
        for depth in range(MOST_IN_FLIGHT):
            for worker, units in self.in_flight.items():
                if len(units) != depth or worker in self._alone:
                    continue
                if self.suspects and not units:
                    unit = self.suspects.popleft()
                    self._alone[worker] = unit
                elif self.waiting:
                    unit = self.waiting.popleft()
                else:
                    continue
                units.add(unit)
                given.append((worker, unit))
        return given

    def unit_done(self, worker: str, unit: int) -> None:
        """A worker committed a unit."""
        self._release(worker, unit)
        self.done.add(unit)

    def unit_failed(self, worker: str, unit: int, reason: str, *, final: bool) -> None:
        """A worker reported an error of a unit; a final one is not tried again."""
        self._release(worker, unit)
        self._errors[unit] = self._errors.get(unit, 0) + 1
        if final or self._errors[unit] >= MOST_ERRORS:
            self.quarantined[unit] = reason
        else:
            self.waiting.append(unit)

    def worker_lost(self, worker: str, reason: str, *, charged: bool = True) -> list[int]:
        """A worker died.

        Args:
            worker: which; one that was never ready is fine.
            reason: why, for the record of a unit that is given up.
            charged: whether a unit can be at fault; not when its node was taken away.

        Returns:
            The units that were in flight on it; they wait again, as suspects if charged.
        """
        units = sorted(self.in_flight.pop(worker, set()))
        alone = self._alone.pop(worker, None)
        for unit in units:
            if not charged:
                self.waiting.appendleft(unit)
                continue
            if unit == alone or len(units) == 1:
                self._deaths[unit] = self._deaths.get(unit, 0) + 1
            if self._deaths.get(unit, 0) >= MOST_SOLO_DEATHS:
                self.quarantined[unit] = reason
            else:
                self.suspects.append(unit)
        return units

    def already_done(self, unit: int) -> None:
        """A unit that waits turns out to be committed: a worker thought dead did finish."""
        for queue in (self.waiting, self.suspects):
            if unit in queue:
                queue.remove(unit)
                self.done.add(unit)

    def _release(self, worker: str, unit: int) -> None:
        self.in_flight[worker].remove(unit)
        if self._alone.get(worker) == unit:
            del self._alone[worker]
