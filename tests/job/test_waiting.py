"""Runs of units: every unit is done once, and workers do not decode the same row group."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.job.scheduling.scheduler import Scheduler
from esv_ray.job.scheduling.waiting import Waiting


def decoded(scheduler: Scheduler, workers: int, units_of_group: int) -> int:
    """Units that workers of one speed decode: to read a unit, all from the place where the worker is in its group."""
    at: dict[str, tuple[int, int]] = {}  # group, and the units of it that are decoded
    for number in range(workers):
        scheduler.worker_ready(f"w{number}")
    running: list[tuple[str, int]] = []
    total = 0
    while not scheduler.finished:
        running += [(worker, task.unit) for worker, task in scheduler.assign(0.0)]
        worker, unit = running.pop(0)
        group, place = divmod(unit, units_of_group)
        before = at.get(worker, (-1, 0))
        start = before[1] if before[0] == group and before[1] <= place else 0
        total += place + 1 - start
        at[worker] = (group, place + 1)
        scheduler.unit_done(worker, unit, 0.0)
    return total


@pytest.mark.parametrize(("workers", "groups", "most"), [(1, 24, 1.0), (2, 24, 1.1), (8, 24, 1.3), (2, 1, 2.5)])
def test_workers_do_not_decode_each_others_row_groups(workers: int, groups: int, most: float) -> None:
    """Two workers that took units in turn decoded twice as much as one, and eight eight times."""
    units = groups * 16
    of_group = {unit: unit // 16 for unit in range(units)}
    scheduler = Scheduler(dict.fromkeys(range(units), 5), groups=of_group)
    assert decoded(scheduler, workers, 16) <= most * units
    if workers > 1 and groups > 1:
        assert decoded(Scheduler(dict.fromkeys(range(units), 5)), workers, 16) > 1.9 * units


@given(st.lists(st.integers(1, 9), max_size=8), st.lists(st.integers(0, 3), max_size=60), st.integers(0, 5))
def test_every_unit_is_taken_once(runs: Sequence[int], takers: Sequence[int], lost: int) -> None:
    groups: dict[int, int] = {}
    for number, size in enumerate(runs):
        groups |= dict.fromkeys(range(len(groups), len(groups) + size), number)
    waiting = Waiting(range(len(groups)), groups)
    taken = []
    for step, taker in enumerate(takers):
        if step % 7 == lost:
            waiting.release(f"w{taker}")
        if waiting:
            taken.append(waiting.take(f"w{taker}"))
        assert sorted([*taken, *waiting]) == list(range(len(groups)))
        assert len(waiting) == len(list(waiting))
    while waiting:
        taken.append(waiting.take("last"))
    assert sorted(taken) == list(range(len(groups)))


def test_no_worker_waits_while_another_holds_units() -> None:
    """The second half of its run is taken, then that of the other: never from one worker alone."""
    waiting = Waiting(range(8), dict.fromkeys(range(8), "group"))
    assert [waiting.take(worker) for worker in ("a", "b", "c", "a", "b", "c", "a", "b")] == [0, 4, 2, 1, 5, 3, 7, 6]


def test_a_unit_that_waits_again_is_done_first_and_alone() -> None:
    waiting = Waiting(range(3), dict.fromkeys(range(3), "group"))
    assert waiting.take("a") == 0
    waiting.appendleft(9)
    waiting.append(8)
    assert [waiting.take("b"), waiting.take("a"), waiting.take("b"), waiting.take("b")] == [9, 1, 8, 2]


def test_what_a_lost_worker_had_before_it_is_done_next() -> None:
    waiting = Waiting(range(6), {unit: unit // 3 for unit in range(6)})
    assert waiting.take("a") == 0
    waiting.release("a")
    assert [waiting.take("b") for _ in range(5)] == [1, 2, 3, 4, 5]


def test_a_run_in_which_another_driver_is_comes_last_and_parted() -> None:
    """Two drivers side by side would compute each unit twice, up to the end of the run."""
    waiting = Waiting(range(10), {unit: unit // 8 for unit in range(10)})
    assert waiting.take("a") == 0
    waiting.leave("a", Random(1))
    rest = [waiting.take("a") for _ in range(9)]
    assert rest[:2] == [8, 9]
    assert sorted(rest[2:]) == list(range(1, 8))
    assert rest[2:] != sorted(rest[2:])
    waiting.leave("a", Random(1))
    assert not waiting
