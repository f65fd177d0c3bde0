"""The smallest kind of work: squares of numbers, some of which are poisonous; two tables and a mark a unit."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from esv_ray import storage
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.job.work import Finished, Heartbeat, RowCounts, RunUnit, UnitReport
from esv_ray.output.publish import File, checksum, publish, replace
from esv_ray.spec import ClusterSpec

DIES, RAISES, HANGS = 100, 200, 300  # added to a number, what it does


@dataclass(frozen=True)
class Numbers:
    """A unit: numbers first .. first + rows - 1."""

    index: int
    rows: int
    source: str = "numbers"
    group: int = 0

    @property
    def name(self) -> str:
        return f"{self.index:03d}.json"


@dataclass(frozen=True)
class Squares:
    """A request for squares, which is its own plan.

    Attributes:
        poison: what is added to some of the numbers.
        antidote: a file; while it is there, nothing is poisonous.
    """

    output: str
    cluster: ClusterSpec
    antidote: Path
    poison: Mapping[int, int] = field(default_factory=dict)
    numbers: int = 40
    rows: int = 8
    threads: int = 1
    noun: str = "number"
    max_failed: float = 0.2
    retried: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    pending: Sequence[Numbers] = ()

    @property
    def in_process(self) -> bool:
        return self.cluster.actors == 0

    @property
    def units(self) -> list[Numbers]:
        return [Numbers(index, self.rows) for index in range(self.numbers // self.rows)]

    @property
    def open_workplace(self) -> Callable[[str], Desk]:
        return partial(Desk, self)

    @property
    def run_unit(self) -> RunUnit:
        return run_unit

    def plan(self, *, retry_failed: bool, actor_memory: Callable[[], int]) -> Squares:
        assert actor_memory() > 0
        failed = {unit.index: self.mark(unit)["failed"] for unit in self.units if self.is_committed(unit)}
        retried = {index: tuple(rows) for index, rows in failed.items() if rows and retry_failed}
        pending = [unit for unit in self.units if unit.index not in failed or unit.index in retried]
        return Squares(**{**vars(self), "retried": retried, "pending": pending})

    def finish(self, expected: Collection[str]) -> Finished:
        there = [unit for unit in self.units if self.is_committed(unit)]
        failed = sum(len(self.mark(unit)["failed"]) for unit in there)
        rows = sum(unit.rows for unit in there)
        missing = tuple(sorted(set(expected) - {unit.name for unit in there}))
        return Finished(RowCounts(rows, rows - failed, 0, failed), (), missing, "", len(there) == len(self.units))

    def url(self, table: str, unit: Numbers) -> str:
        return storage.join(self.output, table, unit.name)

    def is_committed(self, unit: Numbers) -> bool:
        return storage.exists(self.url("marks", unit))

    def mark(self, unit: Numbers) -> dict[str, list[int]]:
        return json.loads(storage.read_bytes(self.url("marks", unit), "read"))  # type: ignore[no-any-return]

    def value(self, number: int) -> int:
        poison = 0 if self.antidote.exists() else self.poison.get(number, 0)
        if poison == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        if poison == HANGS:
            time.sleep(1000)
        if poison == RAISES:
            raise RuntimeError("poison")
        return number * number


@dataclass
class Desk:
    """The workplace."""

    work: Squares
    device: str
    heartbeat: Heartbeat = field(default_factory=Heartbeat)

    def stop(self) -> None:
        """Nothing runs for long."""


def run_unit(place: Desk, unit: Numbers, task: Task, *, retried: Sequence[int] | None, compute: Executor) -> UnitReport:
    work, to_do = place.work, list(range(unit.rows) if retried is None else retried)
    if task.probe is None and retried is None and work.is_committed(unit):
        return UnitReport(already_committed=True)
    failed = {to_do[row] for row, _ in task.poisoned}
    asked = to_do if task.probe is None else to_do[slice(*task.probe)]
    rows = [row for row in (asked if task.probe else range(unit.rows)) if row not in failed]
    squares = compute.submit(lambda: [work.value(unit.index * unit.rows + row) for row in rows]).result()
    place.heartbeat.beat()
    if task.probe is not None:
        return UnitReport()
    tables = [File(work.url(name, unit), json.dumps(values).encode(), "write") for name, values in
              (("rows", rows), ("squares", squares))]  # fmt: skip
    sums = [checksum(table.data) for table in tables]
    mark = File(work.url("marks", unit), json.dumps({"failed": sorted(failed), "sums": sums}).encode(), "write")
    if retried is None:
        publish(tables, mark, marked=lambda: work.mark(unit)["sums"], check_owner=lambda data, url: None)  # type: ignore[return-value, arg-type]
    else:
        replace(tables, mark)
    return UnitReport(RowCounts(len(to_do), len(to_do) - len(failed), 0, len(failed)))
