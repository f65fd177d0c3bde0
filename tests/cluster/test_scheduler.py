"""The scheduler alone: its rules by example, and its laws under random faults."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esv_ray.cluster.scheduler import MOST_ERRORS, MOST_IN_FLIGHT, MOST_SOLO_DEATHS, Scheduler


def test_only_ready_workers_get_work_two_units_each() -> None:
    scheduler = Scheduler.of(range(10))
    assert scheduler.assign() == []
    scheduler.worker_ready("a")
    scheduler.worker_ready("b")
    assert scheduler.assign() == [("a", 0), ("b", 1), ("a", 2), ("b", 3)]
    assert scheduler.assign() == []
    scheduler.unit_done("a", 0)
    assert scheduler.assign() == [("a", 4)]


def test_units_of_a_dead_worker_run_alone_and_only_then_are_charged() -> None:
    scheduler = Scheduler.of([0, 1])
    scheduler.worker_ready("a")
    scheduler.assign()
    assert scheduler.worker_lost("a", "died") == [0, 1]
    assert not scheduler.quarantined
    scheduler.worker_ready("b")
    assert scheduler.assign() == [("b", 0)], "a suspect runs alone"
    scheduler.unit_done("b", 0)
    assert scheduler.assign() == [("b", 1)]
    for worker in ("c", "d"):
        scheduler.worker_lost("b" if worker == "c" else "c", "died again")
        scheduler.worker_ready(worker)
        scheduler.assign()
    assert scheduler.quarantined == {1: "died again"}
    assert scheduler.done == {0}
    assert scheduler.finished


def test_a_preempted_node_charges_nobody() -> None:
    scheduler = Scheduler.of([0])
    for attempt in range(10):
        scheduler.worker_ready(f"w{attempt}")
        scheduler.assign()
        scheduler.worker_lost(f"w{attempt}", "node taken away", charged=False)
    assert list(scheduler.waiting) == [0]


def test_errors_are_retried_unless_final() -> None:
    scheduler = Scheduler.of([0, 1])
    scheduler.worker_ready("a")
    scheduler.assign()
    scheduler.unit_failed("a", 1, "the model changed", final=True)
    for _ in range(MOST_ERRORS):
        scheduler.unit_failed("a", 0, "storage is slow", final=False)
        scheduler.assign()
    assert scheduler.quarantined == {1: "the model changed", 0: "storage is slow"}
    assert scheduler.finished


def test_a_zombies_work_is_not_done_again() -> None:
    scheduler = Scheduler.of([0])
    scheduler.worker_ready("a")
    scheduler.assign()
    scheduler.worker_lost("a", "node does not answer")
    scheduler.already_done(0)
    assert scheduler.done == {0}
    assert scheduler.finished
    scheduler.worker_ready("b")
    with pytest.raises(ValueError, match="known already"):
        scheduler.worker_ready("b")


@settings(max_examples=150, deadline=None)
@given(
    units=st.integers(0, 30),
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    deadly=st.sets(st.integers(0, 29), max_size=3),
    broken=st.sets(st.integers(0, 29), max_size=3),
)
def test_every_unit_ends_once_whatever_happens(
    units: int, workers: int, seed: int, deadly: set[int], broken: set[int]
) -> None:
    """Deadly units kill their worker, broken ones report errors, and workers die for no reason now and then."""
    chance = random.Random(seed)
    scheduler = Scheduler.of(range(units))
    names = iter(range(10**6))
    for _ in range(workers):
        scheduler.worker_ready(str(next(names)))
    executions = 0
    accidents = 10
    while not scheduler.finished:
        executions += len(scheduler.assign())
        everywhere = [*scheduler.waiting, *scheduler.suspects, *scheduler.done, *scheduler.quarantined]
        everywhere += [unit for own in scheduler.in_flight.values() for unit in own]
        assert sorted(everywhere) == list(range(units)), "each unit is in exactly one place"
        assert all(len(own) <= MOST_IN_FLIGHT for own in scheduler.in_flight.values())
        worker, unit = chance.choice([(w, u) for w, own in scheduler.in_flight.items() for u in sorted(own)])
        accident = accidents > 0 and chance.random() < 0.1
        if unit in deadly or accident:
            accidents -= accident
            scheduler.worker_lost(worker, "died", charged=not (accident and chance.random() < 0.5))
            scheduler.worker_ready(str(next(names)))
        elif unit in broken:
            scheduler.unit_failed(worker, unit, "broken", final=chance.random() < 0.5)
        else:
            scheduler.unit_done(worker, unit)
    assert scheduler.done | set(scheduler.quarantined) == set(range(units))
    good = set(range(units)) - deadly - broken
    lost_by_accident = good & set(scheduler.quarantined)
    assert len(lost_by_accident) <= 10 // MOST_SOLO_DEATHS, "only repeated deaths alone can take a good unit"
    most = MOST_ERRORS + MOST_SOLO_DEATHS + 1
    assert executions <= units + most * len(deadly | broken) + (2 + MOST_SOLO_DEATHS) * (10 + len(deadly) * most) * 2
