"""Which unit runs on which worker: a pure state machine without Ray and without a clock; time is an argument.

Rules (each was learned from measured failures of real jobs):
- A worker gets work only once it said that it is ready; two units in flight hide its I/O behind its compute.
- When a worker dies or makes no progress, its units in flight are suspects. A suspect runs alone on its worker, and
  only a death while alone is charged to it. An error in the computation of a unit is charged at once.
- A unit charged twice is looked into (`inquest`): rows are computed alone, and not committed, until the videos at
  fault are found. Then the unit runs again without them: they are its `failed` rows.
- A unit in which no video alone is at fault is quarantined: left uncommitted, told, and tried by the next run.
- Faults of storage pass: such a unit is tried again after a random pause. A node that was taken away charges nobody.
- Where nothing succeeds any more the run stops, rather than to go through a million units.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from esv_ray.job.scheduling.bisection import Inquest, Rows
from esv_ray.job.scheduling.workers import MOST_IN_FLIGHT, Crew

MOST_TRIES = 5  # of a unit that meets faults of storage, each of which was retried below already
MOST_CHARGES = 2  # of a whole unit, after which it is looked into
MOST_FAILED_STARTS = 5  # one after another
HOPELESS_FAILURES, HOPELESS_DEATHS = 8, 40  # without any success in between; a unit given up counts twice
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_SHARE_ALONE = 4  # one in so many workers is kept free for suspects, while others wait

Fault = Literal["input", "refused", "storage", "compute"]


@dataclass(frozen=True)
class Task:
    """What a worker is asked.

    Attributes:
        unit: its number.
        probe: rows start..stop to be computed and not committed; None: the unit, to be committed.
        condemned: rows that fail, and why, whatever else.
    """

    unit: int
    probe: Rows | None = None
    condemned: tuple[tuple[int, str], ...] = ()


@dataclass
class Scheduler:
    """State of a run.

    Attributes:
        sizes: rows of each unit that is to be done.
        stall_s: seconds without progress after which a worker counts as hung; None: never.
        room: workers that the cluster holds as it is now; None: unknown. Others that are starting wait for nodes.
        waiting: units not yet given out, in plan order.
        suspects: units that must run alone.
        crew: workers that are ready, and their units.
        starting: workers that were asked for and are not ready.
        done: finished units.
        quarantined: units given up, and why.
        condemned: (unit, row) of the videos found at fault, and why.
    """

    sizes: Mapping[int, int]
    stall_s: float | None = None
    random: Random = field(default_factory=lambda: Random(0))  # noqa: S311  # pauses, not secrets
    room: int | None = None
    waiting: deque[int] = field(default_factory=deque)
    suspects: deque[int] = field(default_factory=deque)
    crew: Crew = field(default_factory=Crew)
    starting: set[str] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    quarantined: dict[int, str] = field(default_factory=dict)
    condemned: dict[tuple[int, int], str] = field(default_factory=dict)
    failed_starts: int = 0
    _paused: list[tuple[float, int]] = field(default_factory=list)  # a heap: when, unit
    _tries: dict[int, int] = field(default_factory=dict)
    _charges: dict[int, int] = field(default_factory=dict)
    _inquests: dict[int, Inquest] = field(default_factory=dict)
    _next_start: float = 0.0
    _failures: int = 0  # units quarantined and videos condemned since the last success
    _deaths: int = 0  # charged ones since the last success
    _why: str = ""

    def __post_init__(self) -> None:
        self.waiting.extend(self.sizes)

    @property
    def finished(self) -> bool:
        """Every unit is done or quarantined."""
        return len(self.done) + len(self.quarantined) == len(self.sizes)

    @property
    def hopeless(self) -> str | None:
        """Why going on makes no sense, if so."""
        if self.failed_starts >= MOST_FAILED_STARTS and not self.in_flight and not self.starting:
            return f"no actor can be started ({self.failed_starts} tries): {self._why}"
        if self._failures >= HOPELESS_FAILURES or self._deaths >= HOPELESS_DEATHS:
            return f"nothing succeeds any more: {self._why}"
        return None

    @property
    def in_flight(self) -> Mapping[str, list[int]]:
        """Units of each ready worker, oldest first."""
        return self.crew.in_flight

    @property
    def busy(self) -> int:
        """Workers with work."""
        return len(self.crew.seen)

    def idle_s(self, now: float) -> float:
        """Seconds after which something is due that no worker reports: the end of a pause."""
        due = [self._paused[0][0]] if self._paused else []
        due += [self._next_start] if self._next_start > now else []
        return max(0.0, min(due) - now) if due else float("inf")

    @property
    def _soon_ready(self) -> int:
        starting = len(self.starting)
        return starting if self.room is None else max(0, min(starting, self.room - len(self.in_flight)))

    @property
    def _useful(self) -> int:
        """Workers that could have work now or soon."""
        return self.busy + len(self.waiting) + len(self.suspects) + len(self._paused)

    # Workers ----------------------------------------------------------------------------------------------------------

    def to_start(self, most: int, now: float) -> int:
        """How many workers to start now, of at most so many; none while a pause after failed starts lasts."""
        if now < self._next_start or self.failed_starts >= MOST_FAILED_STARTS:
            return 0
        return max(0, min(most, self._useful) - len(self.in_flight) - len(self.starting))

    def spare(self) -> list[str]:
        """Workers that no unit is left for: those that are not ready yet, then idle ones. They are to be given back."""
        idle = [*sorted(self.starting), *self.crew.room[0]]
        return idle[: max(0, len(self.in_flight) + len(self.starting) - self._useful)]

    def worker_starting(self, worker: str) -> None:
        """A worker was asked for."""
        self.starting.add(worker)

    def worker_ready(self, worker: str) -> None:
        """A worker said that it is ready."""
        self.crew.join(worker)
        self.starting.discard(worker)
        self.failed_starts = 0

    def start_failed(self, worker: str, reason: str, now: float) -> None:
        """A worker ended before it was ready; the pause before the next start grows."""
        self.starting.discard(worker)
        self.failed_starts += 1
        self._why = reason
        self._next_start = now + self._pause(self.failed_starts)

    def worker_lost(self, worker: str, reason: str, now: float, *, charged: bool = True) -> list[int]:
        """A worker died, or was ended.

        Args:
            worker: which; one that was never ready, or has no work, is fine.
            reason: why, for the record of what is given up.
            now: seconds.
            charged: whether a unit can be at fault; not when its node was taken away.

        Returns:
            The units that were in flight on it; they wait again, as suspects if charged.
        """
        self.starting.discard(worker)
        units, alone = self.crew.leave(worker)
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
        """A worker showed that its work goes on."""
        self.crew.progress(worker, now)

    def stalled(self, now: float) -> list[str]:
        """Workers with work that showed no progress for `stall_s`; they are to be ended, and lost."""
        return [] if self.stall_s is None else self.crew.stalled(now, self.stall_s)

    def silent(self, now: float, after_s: float) -> list[float]:
        """When each worker with work that showed no progress for so long last did."""
        return [seen for seen in self.crew.seen.values() if now - seen >= after_s]

    # Units ------------------------------------------------------------------------------------------------------------

    def assign(self, now: float) -> list[tuple[str, Task]]:
        """Give out work: (worker, task) pairs, now in flight. The least busy workers first."""
        while self._paused and self._paused[0][0] <= now:
            _, unit = heapq.heappop(self._paused)
            (self.suspects if unit in self._inquests else self.waiting).append(unit)
        given: list[tuple[str, Task]] = []
        while self.suspects and (worker := self.crew.free()) is not None:
            given.append(self._give(worker, self.suspects.popleft(), now, alone=True))
        # Some workers run empty, so that suspects need not wait for the end of the job.
        kept_free = max(1, len(self.in_flight) // _SHARE_ALONE) - len(self.crew.alone)
        self.crew.drain(min(len(self.suspects), kept_free))
        for ahead in range(MOST_IN_FLIGHT):
            # The last units are not queued behind others where workers that are about to be ready could take them.
            kept = self._soon_ready if ahead else 0
            while len(self.waiting) > kept and (worker := self.crew.free(ahead)) is not None:
                given.append(self._give(worker, self.waiting.popleft(), now))
        return given

    def unit_done(self, worker: str, unit: int, now: float) -> None:
        """A worker did what it was asked: a unit is committed, or rows of it have been computed without harm."""
        task = self.task(unit)
        self.crew.release(worker, unit, now)
        if len(task.condemned) < self.sizes[unit]:
            self._failures = self._deaths = 0  # something was computed
        if task.probe is None:
            self.done.add(unit)
            self._inquests.pop(unit, None)
        else:
            self._inquests[unit].cleared()
            self._go_on(unit)

    def unit_failed(self, worker: str, unit: int, reason: str, fault: Fault, now: float) -> None:
        """A worker reported an error.

        Args:
            worker: which.
            unit: which.
            reason: for the record.
            fault: `input`: the unit's rows cannot be had, trying again is no use; `refused`: the storage takes
                nothing, trying again is no use; `storage`: it may pass; `compute`: a video may be at fault.
            now: seconds.
        """
        self.crew.release(worker, unit, now)
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
            self._failures = before  # of this file or that: others may be well

    def task(self, unit: int) -> Task:
        """What is to be asked of a worker about a unit now."""
        inquest = self._inquests.get(unit)
        if inquest is None:
            return Task(unit)
        return Task(unit, inquest.next, tuple(sorted(inquest.condemned.items())))

    def _charge(self, unit: int, reason: str) -> None:
        """A fault that was nobody else's."""
        self._why = reason
        inquest = self._inquests.get(unit)
        if inquest is None or inquest.next is None:
            self._charges[unit] = self._charges.get(unit, 0) + 1
            if self._charges[unit] < MOST_CHARGES:
                self.suspects.append(unit)
                return
            if inquest is not None and not inquest.again():
                self._quarantine(unit, f"{reason}; no video of it alone is at fault")
                return
            if inquest is None:
                self._inquests[unit] = inquest = Inquest(self.sizes[unit])
            self.suspects.append(unit)
            return
        row = inquest.guilty(reason)
        if row is not None:
            self.condemned[unit, row] = reason
            self._failures += 1
        self._go_on(unit)

    def _go_on(self, unit: int) -> None:
        """The next step of an inquest; at its end the unit runs as a whole, without the condemned."""
        if self._inquests[unit].next is None:
            self._charges[unit] = 0
        self.suspects.appendleft(unit)

    def _quarantine(self, unit: int, reason: str) -> None:
        self.quarantined[unit] = self._why = reason
        self._failures += 2
        self._inquests.pop(unit, None)

    def _give(self, worker: str, unit: int, now: float, *, alone: bool = False) -> tuple[str, Task]:
        task = self.task(unit)
        self.crew.give(worker, unit, now, alone=alone)
        return worker, task

    def _pause(self, tries: int) -> float:
        """Seconds: anything up to a bound that doubles (full jitter), so that thousands do not come back at once."""
        return self.random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**tries))
