"""The scheduler alone: its rules by example, its laws in worlds full of faults, and under any order of calls."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from esv_ray.bench.simulation import Simulation, World
from esv_ray.job.scheduling.scheduler import (
    MOST_CHARGES,
    MOST_FAILED_STARTS,
    MOST_TRIES,
    Fault,
    Scheduler,
    Task,
)
from esv_ray.job.scheduling.workers import MOST_IN_FLIGHT


def of(units: int, rows: int = 1, *, stall_s: float | None = None, seed: int = 0) -> Scheduler:
    return Scheduler(dict.fromkeys(range(units), rows), stall_s, Random(seed))


def given_out(scheduler: Scheduler, now: float = 0.0) -> list[tuple[str, int]]:
    return [(worker, task.unit) for worker, task in scheduler.assign(now)]


# Rules ----------------------------------------------------------------------------------------------------------------


def test_only_ready_workers_get_work_two_units_each() -> None:
    scheduler = of(10)
    assert given_out(scheduler) == []
    scheduler.worker_ready("a")
    scheduler.worker_ready("b")
    assert given_out(scheduler) == [("a", 0), ("b", 1), ("a", 2), ("b", 3)]
    assert given_out(scheduler) == []
    scheduler.unit_done("a", 0, 0.0)
    assert given_out(scheduler) == [("a", 4)]
    with pytest.raises(ValueError, match="known already"):
        scheduler.worker_ready("b")


def test_units_of_a_dead_worker_run_alone_and_only_then_are_charged() -> None:
    scheduler = of(2, rows=8)
    scheduler.worker_ready("a")
    scheduler.assign(0.0)
    assert scheduler.worker_lost("a", "died", 0.0) == [0, 1]
    scheduler.worker_ready("b")
    assert given_out(scheduler) == [("b", 0)], "a suspect runs alone"
    scheduler.unit_done("b", 0, 0.0)
    assert scheduler.assign(0.0) == [("b", Task(1))], "it may be committed: the worker looks first"
    for worker in ("c", "d"):
        scheduler.worker_lost("b" if worker == "c" else "c", "died again", 0.0)
        scheduler.worker_ready(worker)
        (given,) = scheduler.assign(0.0)
    assert given == ("d", Task(1, (0, 4))), "charged twice, it is looked into by halves"
    assert not scheduler.quarantined


def test_a_bisection_finds_the_video_and_the_unit_is_done_without_it() -> None:
    """One worker dies of row 5 of 8: a unit twice, log2(8) halves at most, the video twice."""
    scheduler = of(1, rows=8)
    deaths, probes, count = 0, [], 0
    scheduler.worker_ready("w0")
    while not scheduler.finished:
        ((worker, task),) = scheduler.assign(0.0)
        first, last = task.probe or (0, 8)
        probes.append(task.probe)
        if first <= 5 < last and 5 not in dict(task.poisoned):
            deaths, count = deaths + 1, count + 1
            scheduler.worker_lost(worker, "segfault", 0.0)
            scheduler.worker_ready(f"w{count}")
        else:
            scheduler.unit_done(worker, 0, 0.0)
    # (0, 4) is well, so that (4, 8) holds the offender and is not asked as a whole.
    assert probes == [None, None, (0, 4), (4, 6), (4, 5), (6, 8), (5, 6), (5, 6), None]
    assert deaths == 2 + 1 + 2
    assert task == Task(0, None, ((5, "segfault"),))
    assert (scheduler.poisoned, scheduler.done) == ({(0, 5): "segfault"}, {0})
    assert scheduler.hopeless is None


def test_a_unit_that_fails_only_as_a_whole_is_given_up_and_the_rest_goes_on() -> None:
    scheduler = of(3, rows=4)
    scheduler.worker_ready("a")
    while not scheduler.finished:
        for worker, task in scheduler.assign(0.0):
            if task.unit == 1 and task.probe is None:
                scheduler.unit_failed(worker, 1, "too much at once", "compute", 0.0)
            else:
                scheduler.unit_done(worker, task.unit, 0.0)
    assert scheduler.quarantined == {
        1: "too much at once; the unit fails as a whole: no single video causes the failure"
    }
    assert scheduler.done == {0, 2}
    assert scheduler.poisoned == {}


def test_a_preempted_node_charges_nobody() -> None:
    scheduler = of(1)
    for attempt in range(10):
        scheduler.worker_ready(f"w{attempt}")
        scheduler.assign(0.0)
        scheduler.worker_lost(f"w{attempt}", "node taken away", 0.0, charged=False)
    assert list(scheduler.waiting) == [0]
    scheduler.worker_ready("w")
    assert scheduler.assign(0.0) == [("w", Task(0))]


def test_faults_of_storage_are_tried_again_after_random_pauses_that_grow() -> None:
    longest = [0.0] * (MOST_TRIES - 1)
    for seed in range(200):
        scheduler = of(1, seed=seed)
        scheduler.worker_ready("a")
        now = 0.0
        for attempt in range(MOST_TRIES - 1):
            assert len(scheduler.assign(now)) == 1
            scheduler.unit_failed("a", 0, "503", "storage", now)
            pause = scheduler.idle_s(now)
            assert scheduler.assign(now + 0.99 * pause) == []
            assert 0 <= pause <= 2.0 ** (attempt + 1)
            longest[attempt] = max(longest[attempt], pause)
            now += pause
        assert len(scheduler.assign(now)) == 1
        scheduler.unit_failed("a", 0, "503", "storage", now)
        assert scheduler.quarantined == {0: "503"}
        assert scheduler.finished
    assert longest == sorted(longest)
    assert all(pause > 0.9 * 2.0 ** (attempt + 1) for attempt, pause in enumerate(longest)), "full jitter"


@pytest.mark.parametrize("fault", ["input", "refused"])
def test_what_does_not_pass_is_not_tried_again(fault: Fault) -> None:
    scheduler = of(2)
    scheduler.worker_ready("a")
    scheduler.assign(0.0)
    scheduler.unit_failed("a", 1, "no room", fault, 0.0)
    assert scheduler.quarantined == {1: "no room"}


def test_a_storage_that_refuses_everything_ends_the_run_at_once() -> None:
    scheduler = of(1000)
    scheduler.worker_ready("a")
    for _ in range(20):
        for worker, task in scheduler.assign(0.0):
            scheduler.unit_done(worker, task.unit, 0.0)
    count = 0
    while scheduler.hopeless is None:
        for worker, task in scheduler.assign(0.0):
            scheduler.unit_failed(worker, task.unit, "no room left", "refused", 0.0)
            count += 1
    assert count <= 6
    assert scheduler.hopeless == "nothing succeeds any more: no room left"


def test_a_changed_file_does_not_end_a_run_in_which_others_are_well() -> None:
    scheduler = of(100)
    scheduler.worker_ready("a")
    while not scheduler.finished and scheduler.hopeless is None:
        for worker, task in scheduler.assign(0.0):
            if 10 <= task.unit < 60:
                scheduler.unit_failed(worker, task.unit, "changed", "input", 0.0)
            else:
                scheduler.unit_done(worker, task.unit, 0.0)
    assert scheduler.done == {*range(10), *range(60, 100)}


def test_failed_starts_have_a_budget_and_pauses() -> None:
    scheduler = of(5)
    now, tries = 0.0, 0
    while scheduler.hopeless is None:
        while not scheduler.to_start(2, now):
            now += scheduler.idle_s(now)
        scheduler.worker_starting("w")
        scheduler.start_failed("w", "no such image", now)
        tries += 1
    assert tries == MOST_FAILED_STARTS
    assert scheduler.hopeless == f"no actor can be started ({MOST_FAILED_STARTS} tries): no such image"
    assert scheduler.to_start(2, now + 1e9) == 0


def test_no_more_workers_are_started_than_there_is_work() -> None:
    scheduler = of(3)
    assert scheduler.to_start(10, 0.0) == 3
    scheduler.worker_starting("a")
    assert scheduler.to_start(10, 0.0) == 2
    scheduler.worker_ready("a")
    scheduler.assign(0.0)
    assert scheduler.to_start(10, 0.0) == 1, "one waits"


def test_workers_that_no_unit_is_left_for_are_given_back() -> None:
    scheduler = of(3)
    for worker in ("a", "b", "c"):
        scheduler.worker_ready(worker)
    assert scheduler.spare() == [], "three units for three"
    assert given_out(scheduler) == [("a", 0), ("b", 1), ("c", 2)]
    scheduler.unit_done("b", 1, 0.0)
    assert scheduler.spare() == ["b"]
    assert scheduler.worker_lost("b", "given back", 0.0, charged=False) == []
    assert (scheduler.spare(), scheduler.to_start(3, 0.0)) == ([], 0)
    scheduler.worker_lost("a", "died", 0.0)
    assert scheduler.to_start(3, 0.0) == 1, "its unit needs a worker again"


def test_workers_that_never_became_ready_are_given_back_before_idle_ones() -> None:
    scheduler = of(2)
    scheduler.worker_ready("a")
    scheduler.worker_starting("late")
    given_out(scheduler)
    assert scheduler.spare() == [], "one unit waits for it"
    scheduler.unit_done("a", 0, 0.0)
    assert scheduler.spare() == ["late"], "who is ready takes the last one"


def test_the_last_units_are_not_queued_where_others_could_take_them() -> None:
    scheduler = of(3)
    scheduler.worker_ready("a")
    for worker in ("b", "c"):
        scheduler.worker_starting(worker)
    assert given_out(scheduler) == [("a", 0)]
    scheduler.worker_ready("b")
    scheduler.worker_ready("c")
    assert given_out(scheduler) == [("b", 1), ("c", 2)]


def test_workers_that_wait_for_nodes_keep_nobody_from_working_ahead() -> None:
    scheduler = of(3)
    scheduler.capacity = 1
    scheduler.worker_ready("a")
    for worker in ("b", "c"):
        scheduler.worker_starting(worker)
    assert given_out(scheduler) == [("a", 0), ("a", 1)]


def test_a_pause_of_storage_keeps_a_worker() -> None:
    scheduler = of(1)
    scheduler.worker_ready("a")
    given_out(scheduler)
    scheduler.unit_failed("a", 0, "503", "storage", 0.0)
    assert scheduler.spare() == []


def test_a_worker_without_progress_is_told() -> None:
    scheduler = of(3, stall_s=10.0)
    for name in "ab":
        scheduler.worker_ready(name)
    scheduler.assign(0.0)
    assert scheduler.stalled(9.9) == []
    scheduler.progress("a", 9.0)
    assert scheduler.stalled(10.0) == ["b"]
    scheduler.unit_done("b", 1, 10.0)
    assert scheduler.stalled(18.9) == [], "without work there is nothing to do"
    assert scheduler.stalled(19.0) == ["a"]
    assert of(3).stalled(1e9) == []


def test_suspects_need_not_wait_for_the_end() -> None:
    """A worker is let run empty for a suspect, while the others go on."""
    scheduler = of(1000)
    for name in "abcd":
        scheduler.worker_ready(name)
    scheduler.assign(0.0)
    scheduler.unit_failed("a", scheduler.in_flight["a"][0], "cannot", "compute", 0.0)
    suspect = scheduler.suspects[0]
    for _ in range(3):
        for worker in list(scheduler.in_flight):
            units = scheduler.in_flight[worker]
            if units and units[0] != suspect:
                scheduler.unit_done(worker, units[0], 0.0)
        scheduler.assign(0.0)
    assert [units for units in scheduler.in_flight.values() if suspect in units] == [[suspect]]
    assert sum(len(units) == MOST_IN_FLIGHT for units in scheduler.in_flight.values()) == 3


# Laws -----------------------------------------------------------------------------------------------------------------


def videos(units: int, rows: int) -> st.SearchStrategy[set[tuple[int, int]]]:
    return st.sets(st.tuples(st.integers(0, units - 1), st.integers(0, rows - 1)), max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    units=st.integers(0, 20),
    rows=st.integers(1, 40),
    workers=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    deadly=videos(20, 40),
    raising=videos(20, 40),
    hanging=videos(20, 40),
)
def test_exactly_the_videos_at_fault_are_poisoned(
    units: int,
    rows: int,
    workers: int,
    seed: int,
    deadly: set[tuple[int, int]],
    raising: set[tuple[int, int]],
    hanging: set[tuple[int, int]],
) -> None:
    """Without accidents every unit is done, and without exactly the videos that cannot be computed."""
    there = {(unit, row) for unit in range(units) for row in range(rows)}
    world = World(workers, deadly=deadly, raising=raising, hanging=hanging)
    scheduler = of(units, rows, stall_s=100.0)
    simulation = Simulation(scheduler, world, Random(seed))
    simulation.run()
    guilty = (deadly | raising | hanging) & there
    if scheduler.hopeless is None:
        assert set(scheduler.poisoned) == guilty
        assert scheduler.done == set(range(units))
        assert scheduler.quarantined == {}
        # A fault with two units in flight, each of them alone, halves and their siblings.
        per_video = 3 + MOST_CHARGES + 2 * math.ceil(math.log2(rows) + 1) + 3
        assert simulation.executions <= units + (2 + per_video) * len(guilty)
    else:
        assert len(guilty) >= 8, "given up only where nearly nothing is well"
    assert set(scheduler.poisoned) <= guilty


@settings(max_examples=200, deadline=None)
@given(
    units=st.integers(1, 30),
    rows=st.integers(1, 8),
    workers=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    deadly=videos(30, 8),
    chances=st.tuples(*[st.sampled_from([0.0, 0.05, 0.3])] * 4),
)
def test_accidents_cost_time_and_no_unit(
    units: int,
    rows: int,
    workers: int,
    seed: int,
    deadly: set[tuple[int, int]],
    chances: tuple[float, float, float, float],
) -> None:
    """Workers that die for no reason, nodes that are taken away, faults of storage, failed starts: all in turn."""
    deaths, preemptions, storage_faults, failed_starts = chances
    world = World(
        workers,
        deadly=deadly,
        deaths=deaths,
        preemptions=preemptions,
        storage_faults=storage_faults,
        failed_starts=failed_starts,
        most_accidents=12,
    )
    scheduler = of(units, rows, stall_s=100.0)
    simulation = Simulation(scheduler, world, Random(seed))
    simulation.run(lambda: consistent(scheduler))
    assert scheduler.finished or scheduler.hopeless
    if scheduler.hopeless is None:
        assert scheduler.done | set(scheduler.quarantined) == set(range(units))
        assert not scheduler.done & set(scheduler.quarantined)
        there = {(unit, row) for unit, row in deadly if unit < units and row < rows}
        assert {(unit, row) for unit, row in there if unit in scheduler.done} <= set(scheduler.poisoned)
        if not deaths:
            assert set(scheduler.poisoned) <= there, "a row is poisoned only by its own deaths"


def consistent(scheduler: Scheduler) -> None:
    """Each unit is in exactly one place; nobody has more than two; a suspect is alone; counts are right."""
    everywhere = [*scheduler.waiting, *scheduler.suspects, *scheduler.done, *scheduler.quarantined]
    everywhere += [unit for _, unit in scheduler._paused]
    everywhere += [unit for units in scheduler.in_flight.values() for unit in units]
    assert sorted(everywhere) == sorted(scheduler.sizes)
    for worker, units in scheduler.in_flight.items():
        assert len(units) <= MOST_IN_FLIGHT
        assert (worker in scheduler.workers.last_progress) == bool(units)
        alone = worker in scheduler.workers.alone
        assert not alone or units == [scheduler.workers.alone[worker]]
        room = [depth for depth, workers in enumerate(scheduler.workers.available) if worker in workers]
        full = len(units) == MOST_IN_FLIGHT
        assert room == ([] if alone or full or worker in scheduler.workers.draining else [len(units)])
        for unit in units:
            assert scheduler.task(unit).probe is None or alone, "probes run alone"
    known = set(scheduler.in_flight)
    assert (
        set(scheduler.workers.alone) | set(scheduler.workers.draining) | set(scheduler.workers.last_progress) <= known
    )
    assert not known & scheduler.starting


class AnyOrder(RuleBasedStateMachine):
    """Every call that a driver could make, in any order and at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(
            {unit: 1 + unit % 5 for unit in range(12)}, 50.0, Random(0), groups={unit: unit // 5 for unit in range(10)}
        )
        self.now = 0.0
        self.workers = 0

    def _pick(self, data: st.DataObject) -> tuple[str, int]:
        busy = [(worker, unit) for worker, units in self.scheduler.in_flight.items() for unit in units]
        return data.draw(st.sampled_from(busy))

    def _busy(self) -> bool:
        return any(self.scheduler.in_flight.values())

    @rule()
    def start(self) -> None:
        for _ in range(self.scheduler.to_start(4, self.now)):
            self.workers += 1
            self.scheduler.worker_starting(f"w{self.workers}")

    @precondition(lambda self: self.scheduler.starting)
    @rule(fails=st.booleans())
    def start_ends(self, fails: bool) -> None:
        worker = sorted(self.scheduler.starting)[0]
        if fails:
            self.scheduler.start_failed(worker, "no start", self.now)
        else:
            self.scheduler.worker_ready(worker)

    @rule()
    def give_back(self) -> None:
        for worker in self.scheduler.spare():
            assert self.scheduler.worker_lost(worker, "given back", self.now, charged=False) == []

    @rule()
    def assign(self) -> None:
        for _, task in self.scheduler.assign(self.now):
            first, last = task.probe or (0, self.scheduler.sizes[task.unit])
            assert 0 <= first < last <= self.scheduler.sizes[task.unit]
            assert not set(range(first, last)) & {row for row, _ in task.poisoned} or task.probe is None

    @precondition(_busy)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        self.scheduler.unit_done(*self._pick(data), self.now)

    @precondition(_busy)
    @rule(data=st.data(), fault=st.sampled_from(["input", "refused", "storage", "compute", "compute"]))
    def failed(self, data: st.DataObject, fault: Fault) -> None:
        self.scheduler.unit_failed(*self._pick(data), "broken", fault, self.now)

    @precondition(_busy)
    @rule(data=st.data(), charged=st.booleans())
    def lost(self, data: st.DataObject, charged: bool) -> None:
        worker, _ = self._pick(data)
        before = list(self.scheduler.in_flight[worker])
        assert self.scheduler.worker_lost(worker, "died", self.now, charged=charged) == before

    @rule(seconds=st.floats(0, 40))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds
        for worker in self.scheduler.stalled(self.now):
            self.scheduler.worker_lost(worker, "hung", self.now)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        consistent(self.scheduler)

    def teardown(self) -> None:
        """Whatever happened, once all goes well everything ends: done, but for what was given up."""
        self.scheduler._next_start, self.scheduler.failed_starts = 0.0, 0
        for worker in sorted(self.scheduler.starting):
            self.scheduler.worker_ready(worker)
        for _ in range(500):
            self.now += 100.0
            for _ in range(self.scheduler.to_start(2, self.now)):
                self.workers += 1
                self.scheduler.worker_ready(f"w{self.workers}")
            for worker, units in list(self.scheduler.in_flight.items()):
                for unit in list(units):
                    self.scheduler.unit_done(worker, unit, self.now)
            self.scheduler.assign(self.now)
        assert self.scheduler.finished


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase
