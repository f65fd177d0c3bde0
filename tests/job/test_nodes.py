"""A cluster of several nodes on this machine: one is lost, one is stopped and comes back as a zombie."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from esv_ray.output.verify.output import verify_output
from tests.job.test_exactly_once import all_of, attribute, run
from tests.support.bundles import python_bundle
from tests.support.job_factories import CONSENT

OPTIONS = (CONSENT, "compute.unit=1", "frames=3")


class Nodes:
    """A head and nodes of one core; the raylets are their processes' numbers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._told()

    def _told(self) -> None:
        assert self.process.stdout is not None
        told = json.loads(next(line for line in self.process.stdout if line.startswith("{")))
        self.address: str = told["address"]
        self.raylets: list[int] = told["raylets"]

    def ask(self, what: str) -> None:
        """`add` a node, or `remove` the last one, which is gone without a word."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        self._told()


@contextmanager
def cluster_of(number: int) -> Iterator[Nodes]:
    command = [sys.executable, "-m", "tests.support.nodes", str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Nodes(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with cluster_of(2) as some:
        yield some


def wait_for(what: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def actors_of(raylet: int) -> list[int]:
    """Processes of unit actors that a node's raylet started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                title = (entry / "cmdline").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            if parent == raylet and title.startswith(b"ray::UnitActor"):
                found.append(int(entry.name))
    return found


def at_rest(pid: int) -> bool:
    """Whether a process uses hardly any processor for two seconds, or has ended."""
    used = []
    for _ in range(2):
        try:
            used.append(sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])))
        except OSError:
            return True
        time.sleep(2)
    return used[1] - used[0] < 0.2 * os.sysconf("SC_CLK_TCK")


class Driver:
    """`esv attribute` on the cluster, in a process of its own."""

    def __init__(self, address: str, features: str, bundle: str, out: Path, log: Path, *options: str) -> None:
        self.out, self.log = out, log
        command = attribute(features, bundle, out, *options, f"cluster.address={address}")
        self.process = subprocess.Popen([*command, "--log", str(log)], stderr=subprocess.PIPE, text=True)

    def done(self) -> list[dict[str, Any]]:
        """Lines of the log, of units that are done."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == "done"]

    def at_work(self) -> bool:
        """Two actors have done something, and much is left."""
        assert self.process.poll() is None, f"it ended first: {self.end()}"
        return len({line["worker"] for line in self.done()}) == 2

    def told(self) -> dict[str, Any]:
        """The progress file."""
        file = self.out / "progress.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def end(self) -> str:
        _, told = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, told
        return told


def recomputed(log: Path) -> int:
    """Units that were in flight when their actor was lost, and were given out again."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return len({line["unit"] for line in lines if line["event"] == "fault"})


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """A model that is slow until `quick` is there, so that an actor has work in flight when it is lost."""
    return python_bundle(tmp_path / "slow", "slow", fixed=str(tmp_path / "quick"))


def test_a_lost_node_costs_what_it_had_in_flight(nodes: Nodes, features: str, slow: str, tmp_path: Path) -> None:
    driver = Driver(nodes.address, features, slow, tmp_path / "out", tmp_path / "log", *OPTIONS)
    wait_for(driver.at_work)
    nodes.ask("remove")
    wait_for(lambda: recomputed(tmp_path / "log") > 0)
    (tmp_path / "quick").touch()
    driver.end()
    assert recomputed(tmp_path / "log") <= 2, "at most the two units that its actor had in flight"
    run(features, slow, tmp_path / "clean", *OPTIONS)
    assert all_of(tmp_path / "out") == all_of(tmp_path / "clean")
    assert verify_output(str(tmp_path / "out")).problems == ()


def test_a_stopped_node_that_comes_back_does_no_harm(nodes: Nodes, features: str, slow: str, tmp_path: Path) -> None:
    """Stopped with its actor in the middle of a unit, declared dead, and let go on when the others are done."""
    driver = Driver(nodes.address, features, slow, tmp_path / "out", tmp_path / "log", *OPTIONS)
    wait_for(driver.at_work)
    raylet = nodes.raylets[-1]
    (actor,) = actors_of(raylet)
    for pid in (actor, raylet):
        os.kill(pid, signal.SIGSTOP)
    (tmp_path / "quick").touch()
    driver.end()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/part-*")}
    for pid in (actor, raylet):
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: at_rest(actor))
    os.kill(actor, signal.SIGKILL)  # nobody else asks about it any more
    assert 0 < recomputed(tmp_path / "log") <= 2
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "what it still commits changes nothing"
    run(features, slow, tmp_path / "clean", *OPTIONS)
    assert all_of(tmp_path / "out") == all_of(tmp_path / "clean")
    assert verify_output(str(tmp_path / "out")).problems == ()
