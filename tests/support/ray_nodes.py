"""A Ray cluster whose nodes tests add and remove, and the driver of a job on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.jobs import attribute
from tests.support.preloaded import Process
from tests.support.processes import wait_until


class Nodes:
    """A head without cores, and nodes of one core.

    Attributes:
        address: the head's.
        raylets: process ids of the nodes' raylets, in the order in which the nodes were added.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._read()

    def _read(self) -> None:
        assert self.process.stdout is not None
        state = json.loads(next(line for line in self.process.stdout if line.startswith("{")))
        self.address: str = state["address"]
        self.raylets: list[int] = state["raylets"]

    def ask(self, change: str) -> None:
        """`add` a node; `remove` the last one, which ends without a word; `settle`: wait until all nodes are alive."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{change}\n")
        self.process.stdin.flush()
        self._read()

    def resize(self, number: int) -> None:
        """Add or remove nodes until there are so many, all of them alive."""
        while len(self.raylets) > number:
            self.ask("remove")
        while len(self.raylets) < number:
            self.ask("add")
        self.ask("settle")


@contextmanager
def cluster_of(number: int) -> Iterator[Nodes]:
    """Run a cluster in a process of its own."""
    command = [sys.executable, "-m", "tests.support.nodes", str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Nodes(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


def actors_of(raylet: int) -> list[int]:
    """Return the processes of unit actors that a node's raylet started."""
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
    """Return whether a process uses hardly any processor time for two seconds, or has ended."""
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
        self.process = Process([*command, "--log", str(log)])

    def wait(self, reached: Callable[[], object]) -> None:
        """Wait for a condition while it runs."""
        wait_until(lambda: reached() or self.process.poll() is not None)
        assert self.process.poll() is None, f"it ended first: {self.process.communicate()}"

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def done(self) -> list[dict[str, Any]]:
        """Return the lines of its log about units that are done."""
        return [event for event in self.events() if event["event"] == "done"]

    def recomputed(self) -> int:
        """Return the number of units that were in flight when their actor was lost, and were given out again."""
        return len({event["unit"] for event in self.events() if event["event"] == "fault"})

    def at_work(self) -> bool:
        """Return whether two actors have each done a unit."""
        return len({event["worker"] for event in self.done()}) == 2

    def progress(self) -> dict[str, Any]:
        """Return the progress file."""
        file = self.out / "progress.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def end(self) -> str:
        """Wait until it has ended well; return what it wrote to standard error."""
        _, err = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, err
        return err
