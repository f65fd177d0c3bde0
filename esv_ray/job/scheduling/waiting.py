"""Waiting units, in runs that are cheap to do one after the other on one worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import groupby
from random import Random


class Waiting:
    """Waiting units: a queue of runs, and what is left of the run that each worker is in.

    A worker that reads rows of a row group has decoded all rows before them. If workers took the units of a group in
    turn, each of them would decode all of it: two workers took twice, and ten ten times the time of one. So a worker
    goes on with its run. When no run is left, it takes the second half of another worker's. No step looks at all
    workers, of which there may be thousands.
    """

    def __init__(self, units: Iterable[int], groups: Mapping[int, Hashable]) -> None:
        """Queue units.

        Args:
            units: numbers of the units, in the order in which they are to be done.
            groups: units of one group that follow one another are a run; a unit without a group is one itself.
        """
        self._runs = deque(deque(run) for _, run in groupby(units, key=lambda unit: groups.get(unit, (unit,))))
        self._held: dict[str, deque[int]] = {}  # never empty; the one to share next comes first
        self._count = sum(map(len, self._runs))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (unit for runs in (self._runs, self._held.values()) for run in runs for unit in run)

    def append(self, unit: int) -> None:
        """Add a unit behind the others."""
        self._runs.append(deque([unit]))
        self._count += 1

    def appendleft(self, unit: int) -> None:
        """Add a unit before the others."""
        self._runs.appendleft(deque([unit]))
        self._count += 1

    def take(self, worker: str) -> int:
        """Return the next unit for a worker; there must be one."""
        run = self._held.pop(worker, None) or (self._runs.popleft() if self._runs else self._half())
        unit = run.popleft()
        if run:
            self._held[worker] = run
        self._count -= 1
        return unit

    def release(self, worker: str) -> None:
        """Put back what is left of the run of a worker that is lost."""
        run = self._held.pop(worker, None)
        if run is not None:
            self._runs.appendleft(run)

    def leave(self, worker: str, random: Random) -> None:
        """Leave the run that a worker is in for later: another driver of the job is in it.

        What is left is parted anywhere and its second part comes first, or the two drivers would go on side by side.
        """
        run = list(self._held.pop(worker, ()))
        place = random.randrange(len(run)) if run else 0
        self._runs.extend(deque(part) for part in (run[place:], run[:place]) if part)

    def _half(self) -> deque[int]:
        """Take the second half of the run of another worker, or its last unit."""
        other = next(iter(self._held))
        run = self._held.pop(other)
        taken = deque(run.pop() for _ in range((len(run) + 1) // 2))
        taken.reverse()
        if run:
            self._held[other] = run  # behind those that were not shared lately
        return taken
