"""A cluster of several nodes on this machine: nodes join, are lost, or are stopped and come back as zombies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from esv_ray.output.verify.output import verify_output
from esv_ray.submit.status import read_status, status_lines
from tests.support.bundles import python_bundle
from tests.support.jobs import all_of, run
from tests.support.processes import wait_until
from tests.support.ray_nodes import Driver, Nodes, actors_of, at_rest, cluster_of

pytestmark = pytest.mark.xdist_group("clusters")

OPTIONS = ("compute.unit=1", "frames=3")
# Units of 8, 8, 4 and 20 videos, one at a time: the last one leaves the other actor idle for a while.
UNEVEN = ("compute.unit=20", "compute.batch=1", "frames=3")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with cluster_of(0) as nodes:
        yield nodes


@pytest.fixture
def two_nodes(cluster: Nodes) -> Nodes:
    cluster.resize(2)
    return cluster


@pytest.fixture
def held(tmp_path: Path) -> str:
    """A model that stops after some units until `quick` is there: an actor has work in flight when it is lost."""
    return python_bundle(tmp_path / "held", "held", fixed=str(tmp_path / "quick"))


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """A model that is slow until `quick` is there."""
    return python_bundle(tmp_path / "slow", "slow", fixed=str(tmp_path / "quick"))


def check_tables(features: str, model: str, tmp_path: Path, *options: str) -> None:
    """Both tables are those of an undisturbed run."""
    (tmp_path / "quick").touch()
    run(features, model, tmp_path / "clean", *options)
    assert all_of(tmp_path / "out") == all_of(tmp_path / "clean")
    assert verify_output(str(tmp_path / "out")).problems == ()


def waits(driver: Driver) -> bool:
    progress = driver.progress()
    return progress.get("state") == "running" and "a node with 1 core" in str(progress["waiting_for"])


@pytest.mark.slow
def test_nodes_that_join_are_used_and_nodes_that_leave_are_done_without(
    cluster: Nodes, features: str, held: str, tmp_path: Path
) -> None:
    cluster.resize(0)
    # First it waits for a node to ask for the memory budget, or else for one to start an actor on.
    for options in (OPTIONS, (*OPTIONS, "compute.memory_budget=200000000")):
        driver = Driver(cluster.address, features, held, tmp_path / "out", tmp_path / "log", *options)
        driver.wait(partial(waits, driver))
        told = list(status_lines(read_status(str(tmp_path / "out")), time.time()))
        if options == OPTIONS:
            assert told[0].strip() == "running: the job has not checked its input yet"
            driver.process.send_signal(signal.SIGTERM)
            assert driver.process.wait(60) == 130
            assert driver.progress()["state"] == "interrupted"
            ended = list(status_lines(read_status(str(tmp_path / "out")), time.time()))
            assert [line.strip() for line in ended[:-1]] == ["interrupted: the job has not checked its input yet"]
            assert not (tmp_path / "out" / "run.json").exists()
    assert told[0].strip().startswith("running: 0 of 40 videos")
    cluster.ask("add")
    driver.wait(lambda: len(driver.done()) >= 2)
    assert {line["worker"] for line in driver.done()} == {"actor-0"}, "it starts with what is ready"
    cluster.ask("add")
    driver.wait(driver.at_work)
    assert [len(actors_of(raylet)) for raylet in cluster.raylets] == [1, 1]
    cluster.ask("remove")
    driver.wait(lambda: driver.recomputed() > 0)
    (tmp_path / "quick").touch()
    driver.end()
    assert driver.recomputed() <= 2
    check_tables(features, held, tmp_path, *options)


@pytest.mark.slow
def test_a_lost_node_costs_what_it_had_in_flight(two_nodes: Nodes, features: str, held: str, tmp_path: Path) -> None:
    driver = Driver(two_nodes.address, features, held, tmp_path / "out", tmp_path / "log", *OPTIONS)
    driver.wait(driver.at_work)
    two_nodes.ask("remove")
    driver.wait(lambda: driver.recomputed() > 0)
    (tmp_path / "quick").touch()
    driver.end()
    assert driver.recomputed() <= 2, "at most the two units that its actor had in flight"
    check_tables(features, held, tmp_path, *OPTIONS)


@pytest.mark.slow
def test_a_stopped_node_that_comes_back_does_no_harm(
    two_nodes: Nodes, features: str, held: str, tmp_path: Path
) -> None:
    """Stopped with its actor in the middle of a unit, declared dead, and let go on when the others are done."""
    driver = Driver(two_nodes.address, features, held, tmp_path / "out", tmp_path / "log", *OPTIONS)
    driver.wait(driver.at_work)
    raylet = two_nodes.raylets[-1]
    (actor,) = actors_of(raylet)
    for pid in (actor, raylet):
        os.kill(pid, signal.SIGSTOP)
    (tmp_path / "quick").touch()
    driver.end()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/part-*")}
    for pid in (actor, raylet):
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: at_rest(actor))
    os.kill(actor, signal.SIGKILL)  # nobody else asks about it any more
    two_nodes.ask("remove")  # its raylet has ended, or does when it hears that it was declared dead
    assert 0 < driver.recomputed() <= 2
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "what it still commits changes nothing"
    check_tables(features, held, tmp_path, *OPTIONS)


@pytest.mark.slow
def test_actors_spread_over_nodes_and_idle_ones_are_given_back(
    two_nodes: Nodes, features: str, slow: str, tmp_path: Path
) -> None:
    driver = Driver(two_nodes.address, features, slow, tmp_path / "out", tmp_path / "log", *UNEVEN)
    driver.wait(lambda: [len(actors_of(raylet)) for raylet in two_nodes.raylets] == [1, 1])
    driver.wait(lambda: sum(len(actors_of(raylet)) for raylet in two_nodes.raylets) == 1)
    assert len(driver.done()) < 4, "it goes on with one"
    (tmp_path / "quick").touch()
    driver.end()
    assert driver.recomputed() == 0, "nobody is charged for what was given back"
    check_tables(features, slow, tmp_path, *UNEVEN)
