"""Simulation of the scheduler without Ray: workers, faults and time, to check that it finishes and what it costs.

``python -m esv_ray.bench.simulation`` runs 100,000 units on 4,000 workers and prints the driver's time per unit, its
memory, and how long it takes to resume such a job.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from esv_ray import storage
from esv_ray.input.files import InputFile
from esv_ray.input.units import RowRange, Unit
from esv_ray.job.scheduling.scheduler import Scheduler, Task
from esv_ray.output.committed import committed_units
from esv_ray.output.layout import table_url
from esv_ray.output.manifest import Manifest, commit_manifest, read_manifest
from esv_ray.spec import fingerprint, job_keys, load_spec

Video = tuple[int, int]  # unit, row
_BEATS_S = 15.0  # seconds between heartbeats of the workers


@dataclass(frozen=True)
class World:
    """Faults and durations of a simulated run.

    Attributes:
        workers: number of requested workers.
        unit_s: seconds per unit; a probe takes its share of the rows.
        start_s: seconds until a worker is ready.
        deadly, raising, hanging: videos that kill their worker, raise an error, or never finish.
        deaths, preemptions, storage_faults: probabilities, per task.
        failed_starts: probability, per start.
        most_accidents: limit of random deaths, preemptions, storage faults and failed starts.
    """

    workers: int = 4
    unit_s: float = 30.0
    start_s: float = 5.0
    deadly: Collection[Video] = frozenset()
    raising: Collection[Video] = frozenset()
    hanging: Collection[Video] = frozenset()
    deaths: float = 0.0
    preemptions: float = 0.0
    storage_faults: float = 0.0
    failed_starts: float = 0.0
    most_accidents: float = float("inf")


@dataclass
class Simulation:
    """A simulated run.

    Attributes:
        scheduler: the scheduler under test.
        world: faults and durations.
        random: generator of the accidents.
        now: simulated time in seconds.
        executions: number of tasks that were started.
        accidents: number of random faults so far.
        driver_s: seconds of real time in the scheduler.
    """

    scheduler: Scheduler
    world: World
    random: Random
    now: float = 0.0
    executions: int = 0
    accidents: int = 0
    driver_s: float = 0.0
    _events: list[tuple[float, int, str, str, Task | None]] = field(default_factory=list)
    _count: int = 0
    _next_beats: float = 0.0
    _free: dict[str, float] = field(default_factory=dict)  # running workers: when each finishes its tasks

    def run(self, check: Callable[[], None] = lambda: None) -> None:
        """Run to the end; `check` is called after every step."""
        steps = 0
        while not (self.scheduler.finished or self.scheduler.hopeless):
            started = time.perf_counter()
            for _ in range(self.scheduler.to_start(self.world.workers, self.now)):
                self._start()
            assigned = self.scheduler.assign(self.now)
            self.driver_s += time.perf_counter() - started
            for worker, task in assigned:
                self._begin(worker, task)
            check()
            self._advance()
            steps += 1
            assert steps < 10_000_000, "the simulation does not end"

    def _start(self) -> None:
        self._count += 1
        worker = f"w{self._count}"
        self.scheduler.worker_starting(worker)
        failed = self._happens(self.world.failed_starts)
        self._at(self.now + self.world.start_s, "start failed" if failed else "ready", worker, None)

    def _begin(self, worker: str, task: Task) -> None:
        """Schedule the outcome of a task."""
        self.executions += 1
        rows = self.scheduler.sizes[task.unit]
        first, last = task.probe or (0, rows)
        begins = max(self.now, self._free[worker])
        ends = begins + self.world.unit_s * max(1, last - first) / max(1, rows) * self.random.uniform(0.8, 1.25)
        self._free[worker] = ends
        poisoned = {row for row, _ in task.poisoned}

        def holds(videos: Collection[Video]) -> bool:
            return any((task.unit, row) in videos for row in range(first, last) if row not in poisoned)

        if self.world.hanging and holds(self.world.hanging):
            self._free[worker] = float("inf")
        elif self.world.deadly and holds(self.world.deadly):
            self._at(ends, "died", worker, task)
        elif self.world.raising and holds(self.world.raising):
            self._at(ends, "compute", worker, task)
        elif self._happens(self.world.deaths):
            self._at(self.random.uniform(begins, ends), "died", worker, task)
        elif self._happens(self.world.preemptions):
            self._at(self.random.uniform(begins, ends), "preempted", worker, task)
        elif self._happens(self.world.storage_faults):
            self._at(ends, "storage", worker, task)
        else:
            self._at(ends, "done", worker, task)

    def _advance(self) -> None:
        """Advance the time to the next event, and process all events up to then."""
        quiet = self.now + 60.0 if self.scheduler.stall_s is None else self.now + self.scheduler.stall_s / 4
        pause = self.now + self.scheduler.idle_s(self.now)
        self.now = min(quiet, pause, *(event[0] for event in self._events[:1]))
        while self._events and self._events[0][0] <= self.now:
            _, _, kind, worker, task = heapq.heappop(self._events)
            if worker in self._free or task is None:
                started = time.perf_counter()
                self._handle(kind, worker, task)
                self.driver_s += time.perf_counter() - started
        if self.scheduler.stall_s is not None and self.now >= self._next_beats:
            self._next_beats = self.now + min(_BEATS_S, self.scheduler.stall_s / 4)
            started = time.perf_counter()
            for worker, units in self.scheduler.in_flight.items():
                if units and self._free[worker] < float("inf"):
                    self.scheduler.progress(worker, self.now)
            for worker in self.scheduler.stalled(self.now):
                self._lose(worker, "hung", charged=True)
            self.driver_s += time.perf_counter() - started

    def _handle(self, kind: str, worker: str, task: Task | None) -> None:
        if kind == "ready":
            self._free[worker] = self.now
            self.scheduler.worker_ready(worker)
        elif kind == "start failed":
            self.scheduler.start_failed(worker, "no start", self.now)
        elif kind in ("died", "preempted"):
            self._lose(worker, kind, charged=kind == "died")
        elif task is not None and kind == "done":
            self.scheduler.unit_done(worker, task.unit, self.now)
        elif task is not None:
            self.scheduler.unit_failed(worker, task.unit, kind, "storage" if kind == "storage" else "compute", self.now)

    def _lose(self, worker: str, reason: str, *, charged: bool) -> None:
        del self._free[worker]
        self.scheduler.worker_lost(worker, reason, self.now, charged=charged)

    def _at(self, when: float, kind: str, worker: str, task: Task | None) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, kind, worker, task))

    def _happens(self, chance: float) -> bool:
        happens = self.accidents < self.world.most_accidents and self.random.random() < chance
        self.accidents += happens
        return happens


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Run the scheduler with simulated workers and faults.")
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4_000)
    parser.add_argument("--rows", type=int, default=1_000, help="videos per unit")
    parser.add_argument("--listing", help="folder (URL) for the empty objects (default: a temporary one)")
    options = parser.parse_args()
    units, rows = options.units, options.rows
    random = Random(1)  # noqa: S311
    poison = {(random.randrange(units), random.randrange(rows)) for _ in range(units // 1000)}
    faulty = World(options.workers, deadly=poison, deaths=0.002, preemptions=0.002, storage_faults=0.005)
    for name, world in (("no faults", World(options.workers)), ("faults", faulty)):
        tracemalloc.start()
        scheduler = Scheduler(dict.fromkeys(range(units), rows), stall_s=600.0)
        simulation = Simulation(scheduler, world, Random(2))  # noqa: S311
        simulation.run()
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Run again for the time, since tracing memory is slow.
        timed = Simulation(Scheduler(dict.fromkeys(range(units), rows), stall_s=600.0), world, Random(2))  # noqa: S311
        timed.run()
        print(
            f"{name}: {units} units, {options.workers} workers: {1e6 * timed.driver_s / units:.0f} us of the driver "
            f"per unit, {size / 2**20:.0f} MB at most, {timed.executions} tasks assigned, {len(scheduler.done)} units "
            f"done, {len(scheduler.poisoned)} of {len(world.deadly)} deadly videos found, "
            f"{len(scheduler.quarantined)} units quarantined, {timed.now / 3600:.2f} h simulated (ideal "
            f"{units * world.unit_s / options.workers / 3600:.2f} h)"
        )
    with tempfile.TemporaryDirectory() as folder:
        _resume(options.listing or f"{folder}/out", units, rows)


def _resume(output: str, units: int, rows: int) -> None:
    """Measure how long it takes to read a large plan and to list the committed units."""
    file = InputFile("s3://bucket/features/part-0.parquet", 1, "version")
    plan = tuple(Unit(index, (RowRange(file, index, 0, rows, index * rows),)) for index in range(units))
    spec = load_spec({"features": "s3://bucket/features", "model": "s3://bucket/model", "output": output})
    keys = {**job_keys(spec), "model": "digest"}
    model = {"digest": "digest", "feature_dim": 1, "n_classes": 1, "n_max": None, "prior": [1.0]}
    manifest = Manifest(spec.model_dump(mode="json"), keys, fingerprint(keys), {}, model, (file,), plan)
    started = time.perf_counter()
    commit_manifest(output, manifest)
    planned = time.perf_counter() - started
    for count, unit in enumerate(plan, start=1):
        for url in (table_url(output, folder, unit) for folder in reversed(manifest.folders)):
            _touch(url)
        if count % 10_000 == 0:
            print(f"  {count} objects", file=sys.stderr)
    started = time.perf_counter()
    stored = read_manifest(output)
    read = time.perf_counter() - started
    started = time.perf_counter()
    assert stored is not None, "it was written above"
    done = committed_units(output, stored.units, stored.folders)
    listed = time.perf_counter() - started
    assert len(done) == units, "all were written above"
    print(
        f"resume of {units} units: run.json written {planned:.1f} s, read {read:.1f} s; both folders listed and "
        f"compared with the plan in {listed:.1f} s"
    )


def _touch(url: str) -> None:
    fs, path = storage.open_location(url)
    if storage.is_local(fs):  # without the sync of a commit, which is not measured
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    else:
        storage.replace(url, b"", "write an empty object")


if __name__ == "__main__":
    main()
