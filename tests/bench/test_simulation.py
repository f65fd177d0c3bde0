"""The simulated scheduler: the figures of a small one, and that faults are found in a large one."""

from __future__ import annotations

import re
import sys
from random import Random

import pytest

from esv_ray.bench import simulation
from esv_ray.bench.simulation import Simulation, World
from esv_ray.job.scheduling.scheduler import Scheduler


@pytest.mark.slow
def test_the_command_tells_its_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulation", "--units", "2000", "--workers", "50", "--rows", "64"])
    simulation.main()
    quiet, faulty, resumed = capsys.readouterr().out.strip().splitlines()
    assert "2000 tasks assigned, 2000 units done, 0 of 0 deadly videos found, 0 units quarantined" in quiet
    assert re.search(r"2000 units done, 2 of 2 deadly videos found, 0 units quarantined", faulty)
    assert re.match(r"resume of 2000 units: .*both folders listed and compared with the plan in [\d.]+ s", resumed)


@pytest.mark.slow
def test_a_large_job_full_of_faults_ends_well_and_nearly_as_fast() -> None:
    """A thousand workers of which some die, hang, are taken away or meet a failing store; simulated time is exact."""
    rows, units, workers = 256, 10_000, 1000
    deadly = {(unit, unit % rows) for unit in range(0, units, 2500)}
    hanging = {(unit, unit % rows) for unit in range(7, units, 5000)}
    world = World(
        workers, deadly=deadly, hanging=hanging, deaths=0.002, preemptions=0.002, storage_faults=0.01,
        failed_starts=0.01,
    )  # fmt: skip
    scheduler = Scheduler(dict.fromkeys(range(units), rows), stall_s=120.0)
    run = Simulation(scheduler, world, Random(3))
    run.run()
    assert scheduler.hopeless is None
    assert set(scheduler.poisoned) >= deadly | hanging
    assert len(scheduler.poisoned) <= len(deadly | hanging) + 1, "twice dead by accident is rare"
    assert len(scheduler.done) + len(scheduler.quarantined) == units
    assert len(scheduler.quarantined) <= 2
    assert run.executions < 1.1 * units
