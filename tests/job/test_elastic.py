"""Clusters whose nodes come and go while a job runs: what joins is used, what is idle is given back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest

from esv_ray.output.verify.output import verify_output
from esv_ray.submit.status import read_status, status_lines
from tests.job.test_exactly_once import all_of, run
from tests.job.test_nodes import Driver, actors_of, cluster_of, recomputed, wait_for
from tests.support.autoscaled import autoscaled_cluster
from tests.support.bundles import python_bundle
from tests.support.job_factories import CONSENT

LONG = (CONSENT, "compute.unit=1", "frames=3")
# Units of 8, 8, 4 and 20 videos, one at a time: the last one leaves the other actor idle for a while.
UNEVEN = (CONSENT, "compute.unit=20", "compute.batch=1", "frames=3")


@pytest.fixture
def slow(tmp_path: Path) -> str:
    return python_bundle(tmp_path / "slow", "slow", fixed=str(tmp_path / "quick"))


def undisturbed(features: str, slow: str, tmp_path: Path, *options: str) -> dict[str, bytes]:
    (tmp_path / "quick").touch()
    run(features, slow, tmp_path / "clean", *options)
    return all_of(tmp_path / "clean")


def waits(driver: Driver) -> bool:
    told = driver.told()
    return told.get("state") == "running" and "a node with 1 core" in str(told["waiting_for"])


def test_nodes_that_join_are_used_and_nodes_that_leave_are_done_without(
    features: str, slow: str, tmp_path: Path
) -> None:
    with cluster_of(0) as nodes:
        # First it waits for a node to ask for the memory budget, or else for one to start an actor on.
        for options in (LONG, (*LONG, "compute.memory_budget=200000000")):
            driver = Driver(nodes.address, features, slow, tmp_path / "out", tmp_path / "log", *options)
            wait_for(partial(waits, driver))
            told = list(status_lines(read_status(str(tmp_path / "out")), time.time()))
            if options == LONG:
                assert told[0].strip() == "running: the job is not planned yet"
                driver.process.send_signal(signal.SIGTERM)
                assert driver.process.wait(60) == 130
                assert driver.told()["state"] == "interrupted"
                ended = list(status_lines(read_status(str(tmp_path / "out")), time.time()))
                assert [line.strip() for line in ended[:-1]] == ["interrupted: the job is not planned yet"]
                assert not (tmp_path / "out" / "run.json").exists()
        assert told[0].strip().startswith("running: 0 of 40 videos")
        nodes.ask("add")
        wait_for(lambda: len(driver.done()) >= 2)
        assert {line["worker"] for line in driver.done()} == {"actor-0"}, "it starts with what is ready"
        nodes.ask("add")
        wait_for(driver.at_work)
        assert [len(actors_of(raylet)) for raylet in nodes.raylets] == [1, 1]
        nodes.ask("remove")
        driver.end()
    assert recomputed(tmp_path / "log") <= 2
    assert all_of(tmp_path / "out") == undisturbed(features, slow, tmp_path, *options)
    assert verify_output(str(tmp_path / "out")).problems == ()


def test_actors_spread_over_nodes_and_idle_ones_are_given_back(features: str, slow: str, tmp_path: Path) -> None:
    with cluster_of(2) as nodes:
        driver = Driver(nodes.address, features, slow, tmp_path / "out", tmp_path / "log", *UNEVEN)
        wait_for(lambda: [len(actors_of(raylet)) for raylet in nodes.raylets] == [1, 1])
        wait_for(lambda: sum(len(actors_of(raylet)) for raylet in nodes.raylets) == 1)
        assert len(driver.done()) < 4, "it goes on with one"
        assert driver.process.poll() is None
        driver.end()
    assert recomputed(tmp_path / "log") == 0, "nobody is charged for what was given back"
    assert all_of(tmp_path / "out") == undisturbed(features, slow, tmp_path, *UNEVEN)


@pytest.fixture
def growing(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # the driver, too, keeps to loopback
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token_hex(32))
    # A short name: the paths of Ray's sockets have a bound.
    with autoscaled_cluster(tmp_path_factory.mktemp("as"), 2) as address:
        yield address


def test_an_autoscaler_grows_from_zero_and_shrinks_at_the_tail(
    growing: str, features: str, slow: str, tmp_path: Path
) -> None:
    driver = Driver(
        growing, features, slow, tmp_path / "out", tmp_path / "log", *UNEVEN, "cluster.actors=2"
    )  # the memory budget, too, waits for a node
    wait_for(lambda: len({line["worker"] for line in driver.done()}) == 2)
    wait_for(lambda: driver.told().get("actors", {}).get("ready") == 1)
    driver.end()
    assert all_of(tmp_path / "out") == undisturbed(features, slow, tmp_path, *UNEVEN)
