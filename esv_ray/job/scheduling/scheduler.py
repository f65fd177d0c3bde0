"""Assigns units to workers: a pure state machine without Ray and without a clock; time is an argument.

Rules (each comes from measured failures of real jobs):
- A worker gets work only after it reported that it is ready. Two units in flight hide its I/O behind its compute.
- When a worker dies or makes no progress, its units in flight become suspects. A suspect runs alone on its worker, and
  only a death while alone is charged to it. An error in the computation of a unit is charged at once.
- A unit that is charged twice is bisected (`bisection`): rows are computed alone, and not committed, until the poisoned
  rows are found. Then the unit runs again without them: they are its failed rows.
- A unit in which no single row is poisoned is quarantined: it is not committed, the run reports it, and the next run
  tries it again.
- Storage faults are transient: such a unit is tried again after a random pause. A node that was taken away charges
  no unit.
- When nothing succeeds any more the run stops, so that it does not fail a million units one by one.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from esv_ray.job.scheduling.bisection import Bisection, Rows
from esv_ray.job.scheduling.waiting import Waiting
from esv_ray.job.scheduling.workers import MOST_IN_FLIGHT, Workers

MOST_TRIES = 5  # of a unit that meets storage faults, each of which was retried by the storage layer already
MOST_CHARGES = 2  # of a whole unit, before it is bisected
MOST_FAILED_STARTS = 5  # in a row
HOPELESS_FAILURES, HOPELESS_DEATHS = 8, 40  # without any success in between; a quarantined unit counts twice
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_SHARE_ALONE = 4  # one in so many workers is kept free for suspects, while others wait

Fault = Literal["input", "refused", "storage", "compute"]


@dataclass(frozen=True)
class Task:
    """Work for a worker.

    Attributes:
        unit: number of the unit.
        probe: rows start..stop to compute and not to commit; None: commit the whole unit.
        poisoned: rows that fail without being computed, and why.
    """

    unit: int
    probe: Rows | None = None
    poisoned: tuple[tuple[int, str], ...] = ()


@dataclass
class Scheduler:
    """State of a run.

    Attributes:
        sizes: rows of each unit that is to be done.
        stall_s: seconds without progress after which a worker counts as hung; None: never.
        capacity: workers that the cluster can hold now; None: unknown. Other starting workers wait for nodes.
        groups: units of one group that follow one another are cheap to do on one worker (`waiting`).
        waiting: units not yet assigned, in plan order.
        suspects: units that must run alone.
        workers: ready workers, and their units.
        starting: workers that were started and are not ready.
        done: finished units.
        quarantined: units that are given up, and why.
        poisoned: (unit, row) of each poisoned row, and why.
    """

    sizes: Mapping[int, int]
    stall_s: float | None = None
    random: Random = field(default_factory=lambda: Random(0))  # noqa: S311  # pauses, not secrets
    capacity: int | None = None
    groups: Mapping[int, Hashable] = field(default_factory=dict)
    waiting: Waiting = field(init=False)
    suspects: deque[int] = field(default_factory=deque)
    workers: Workers = field(default_factory=Workers)
    starting: set[str] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    quarantined: dict[int, str] = field(default_factory=dict)
    poisoned: dict[tuple[int, int], str] = field(default_factory=dict)
    failed_starts: int = 0
    _paused: list[tuple[float, int]] = field(default_factory=list)  # a heap of (end of the pause, unit)
    _tries: dict[int, int] = field(default_factory=dict)
    _charges: dict[int, int] = field(default_factory=dict)
    _bisections: dict[int, Bisection] = field(default_factory=dict)
    _next_start: float = 0.0
    _failures: int = 0  # units quarantined and rows found poisoned since the last success
    _deaths: int = 0  # charged ones since the last success
    _last_reason: str = ""

    def __post_init__(self) -> None:
        self.waiting = Waiting(self.sizes, self.groups)

    @property
    def finished(self) -> bool:
        """Whether every unit is done or quarantined."""
        return len(self.done) + len(self.quarantined) == len(self.sizes)

    @property
    def hopeless(self) -> str | None:
        """Why the run should stop early, or None."""
        if self.failed_starts >= MOST_FAILED_STARTS and not self.in_flight and not self.starting:
            return f"no actor can be started ({self.failed_starts} tries): {self._last_reason}"
        if self._failures >= HOPELESS_FAILURES or self._deaths >= HOPELESS_DEATHS:
            return f"nothing succeeds any more: {self._last_reason}"
        return None

    @property
    def in_flight(self) -> Mapping[str, list[int]]:
        """Units of each ready worker, oldest first."""
        return self.workers.in_flight

    @property
    def busy(self) -> int:
        """Number of workers with work."""
        return len(self.workers.last_progress)

    def idle_s(self, now: float) -> float:
        """Return the seconds until a pause ends; no worker reports that."""
        due = [self._paused[0][0]] if self._paused else []
        due += [self._next_start] if self._next_start > now else []
        return max(0.0, min(due) - now) if due else float("inf")

    @property
    def _soon_ready(self) -> int:
        starting = len(self.starting)
        return starting if self.capacity is None else max(0, min(starting, self.capacity - len(self.in_flight)))

    @property
    def _useful(self) -> int:
        """Number of workers that could have work now or soon."""
        return self.busy + len(self.waiting) + len(self.suspects) + len(self._paused)

    # Workers ----------------------------------------------------------------------------------------------------------

    def to_start(self, most: int, now: float) -> int:
        """Return how many workers to start now, of at most `most`; 0 during the pause after failed starts."""
        if now < self._next_start or self.failed_starts >= MOST_FAILED_STARTS:
            return 0
        return max(0, min(most, self._useful) - len(self.in_flight) - len(self.starting))

    def spare(self) -> list[str]:
        """Return the workers for which no unit is left, starting ones first, then idle ones. They should be ended."""
        idle = [*sorted(self.starting), *self.workers.available[0]]
        return idle[: max(0, len(self.in_flight) + len(self.starting) - self._useful)]

    def worker_starting(self, worker: str) -> None:
        """Record that a worker was started."""
        self.starting.add(worker)

    def worker_ready(self, worker: str) -> None:
        """Record that a worker is ready."""
        self.workers.add(worker)
        self.starting.discard(worker)
        self.failed_starts = 0

    def start_failed(self, worker: str, reason: str, now: float) -> None:
        """Record that a worker ended before it was ready; the pause before the next start grows."""
        self.starting.discard(worker)
        self.failed_starts += 1
        self._last_reason = reason
        self._next_start = now + self._pause(self.failed_starts)

    def worker_lost(self, worker: str, reason: str, now: float, *, charged: bool = True) -> list[int]:
        """Record that a worker died or was ended.

        Args:
            worker: name of the worker; it may be starting, idle or unknown.
            reason: why it is lost.
            now: seconds.
            charged: whether a unit can be at fault; False if its node was taken away.

        Returns:
            The units that were in flight on it. They wait again, as suspects if charged.
        """
        self.starting.discard(worker)
        self.waiting.release(worker)
        units, alone = self.workers.remove(worker)
        for unit in units if charged else reversed(units):
            if not charged:
                (self.suspects if alone else self.waiting).appendleft(unit)
            elif len(units) == 1:
                self._deaths += 1
                self._charge(unit, reason)
            else:
                self.suspects.append(unit)
        return units

    def progress(self, worker: str, now: float) -> None:
        """Record that a worker made progress."""
        self.workers.progress(worker, now)

    def stalled(self, now: float) -> list[str]:
        """Return the busy workers without progress for `stall_s`. They should be ended, and recorded as lost."""
        return [] if self.stall_s is None else self.workers.stalled(now, self.stall_s)

    def silent(self, now: float, after_s: float) -> list[float]:
        """Return the times of the last progress of busy workers that made none for `after_s` seconds."""
        return [last for last in self.workers.last_progress.values() if now - last >= after_s]

    # Units ------------------------------------------------------------------------------------------------------------

    def assign(self, now: float) -> list[tuple[str, Task]]:
        """Assign waiting units to the least busy workers; return the (worker, task) pairs."""
        while self._paused and self._paused[0][0] <= now:
            _, unit = heapq.heappop(self._paused)
            (self.suspects if unit in self._bisections else self.waiting).append(unit)
        assigned: list[tuple[str, Task]] = []
        while self.suspects and (worker := self.workers.first_with(0)) is not None:
            assigned.append(self._give(worker, self.suspects.popleft(), now, alone=True))
        # Let some workers become idle, so that suspects need not wait for the end of the job.
        kept_free = max(1, len(self.in_flight) // _SHARE_ALONE) - len(self.workers.alone)
        self.workers.drain(min(len(self.suspects), kept_free))
        for units in range(MOST_IN_FLIGHT):
            # Do not queue the last units behind others if workers that will soon be ready could take them.
            kept = self._soon_ready if units else 0
            while len(self.waiting) > kept and (worker := self.workers.first_with(units)) is not None:
                assigned.append(self._give(worker, self.waiting.take(worker), now))
        return assigned

    def unit_done(self, worker: str, unit: int, now: float, *, found: bool = False) -> None:
        """Record that a worker did its task: the unit is committed, or the rows of the probe raised no fault.

        Args:
            worker: name of the worker.
            unit: number of the unit.
            now: seconds.
            found: whether another driver had committed the unit.
        """
        if found:
            self.waiting.leave(worker, self.random)
        task = self.task(unit)
        self.workers.release(worker, unit, now)
        if len(task.poisoned) < self.sizes[unit]:
            self._failures = self._deaths = 0  # something was computed
        if task.probe is None:
            self.done.add(unit)
            self._bisections.pop(unit, None)
        else:
            self._bisections[unit].succeeded()
            self._continue_bisection(unit)

    def unit_failed(self, worker: str, unit: int, reason: str, fault: Fault, now: float) -> None:
        """Record that a worker reported an error.

        Args:
            worker: name of the worker.
            unit: number of the unit.
            reason: the error in one line.
            fault: `input`: the rows cannot be read, and another try is of no use; `refused`: the storage accepts no
                write, and another try is of no use; `storage`: a transient fault; `compute`: a row may be at fault.
            now: seconds.
        """
        self.workers.release(worker, unit, now)
        if fault == "compute":
            self._charge(unit, reason)
            return
        self._tries[unit] = self._tries.get(unit, 0) + 1
        if fault == "storage" and self._tries[unit] < MOST_TRIES:
            heapq.heappush(self._paused, (now + self._pause(self._tries[unit]), unit))
            return
        before = self._failures
        self._quarantine(unit, reason)
        if fault == "input" and self.done:
            self._failures = before  # of this file: other files may be fine

    def task(self, unit: int) -> Task:
        """Return the next task of a unit."""
        bisection = self._bisections.get(unit)
        if bisection is None:
            return Task(unit)
        return Task(unit, bisection.probe, tuple(sorted(bisection.poisoned.items())))

    def _charge(self, unit: int, reason: str) -> None:
        """Record a fault that only this unit can have caused."""
        self._last_reason = reason
        bisection = self._bisections.get(unit)
        if bisection is not None and bisection.probe is not None:
            row = bisection.failed(reason)
            if row is not None:
                self.poisoned[unit, row] = reason
                self._failures += 1
            self._continue_bisection(unit)
            return
        self._charges[unit] = self._charges.get(unit, 0) + 1
        if self._charges[unit] >= MOST_CHARGES:
            if bisection is None:
                self._bisections[unit] = Bisection(self.sizes[unit])
            elif not bisection.start_again():
                self._quarantine(unit, f"{reason}; the unit fails as a whole: no single video causes the failure")
                return
        self.suspects.append(unit)

    def _continue_bisection(self, unit: int) -> None:
        """Queue the next probe; after the last one, the whole unit without the poisoned rows."""
        if self._bisections[unit].probe is None:
            self._charges[unit] = 0
        self.suspects.appendleft(unit)

    def _quarantine(self, unit: int, reason: str) -> None:
        self.quarantined[unit] = self._last_reason = reason
        self._failures += 2
        self._bisections.pop(unit, None)

    def _give(self, worker: str, unit: int, now: float, *, alone: bool = False) -> tuple[str, Task]:
        task = self.task(unit)
        self.workers.give(worker, unit, now, alone=alone)
        return worker, task

    def _pause(self, tries: int) -> float:
        """Return seconds up to a bound that doubles (full jitter), so that thousands do not come back at once."""
        return self.random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**tries))
