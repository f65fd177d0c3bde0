"""Commands in processes of their own, which are sent signals; and whatever they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

MARK = "ESV_TEST_MARK"
ENDED = "esv: interrupted; run the same command again to resume"
LONGEST_S = 120.0  # for what a loaded machine does in seconds


def wait_until(reached: Callable[[], object], why: str = "") -> None:
    """Until a condition holds."""
    deadline = time.monotonic() + LONGEST_S
    while not reached():
        assert time.monotonic() < deadline, why
        time.sleep(0.01)


class Command:
    """`esv ...` in a session of its own, and all processes that descend from it, by a mark in their environment."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, open_files: int | None = None
    ) -> None:
        self.mark = uuid4().hex
        limit = [] if open_files is None else ["prlimit", f"--nofile={open_files}:{open_files}"]
        self.process = subprocess.Popen(
            [*limit, sys.executable, "-m", "esv_ray", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {}), MARK: self.mark},
            start_new_session=True,
        )

    def pids(self, *, named: str = "") -> set[int]:
        """Its processes whose command line holds a text."""
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    line = (entry / "cmdline").read_bytes()  # empty: a zombie
                    if line and named.encode() in line:
                        found.add(int(entry.name))
            except OSError:  # it ended meanwhile
                continue
        return found

    def handles(self, sign: signal.Signals) -> bool:
        """Whether its own handler of a signal is installed."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (caught,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(caught >> (sign - 1) & 1)

    def reach(self, reached: Callable[[], object]) -> None:
        """Wait for a stage of its work."""
        wait_until(lambda: reached() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def end(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error, once it has ended; no process of it is left."""
        try:
            out, err = self.process.communicate(timeout=LONGEST_S)
        finally:
            left = self.pids()
            for pid in left if self.process.returncode is None else ():
                os.kill(pid, signal.SIGKILL)
        assert self.process.returncode is not None
        wait_until(lambda: not self.pids(), "some of its processes live on")
        return self.process.returncode, out, err

    def interrupt(self, *signs: signal.Signals) -> float:
        """Send signals and check how it ends; seconds that it took."""
        begun = time.monotonic()
        for sign in signs:
            self.process.send_signal(sign)
        code, out, err = self.end()
        took = time.monotonic() - begun
        assert code == 130, (code, out, err)
        assert err.splitlines()[-1] == ENDED, err
        assert err.count(ENDED) == 1
        assert "Traceback" not in out + err
        assert "Exception ignored" not in err
        assert took < 30, "minutes without a deadline; ten seconds, and the slowness of a loaded machine"
        return took


def actor_pids() -> set[int]:
    """Processes of this machine that are unit actors."""
    pids = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            if title.startswith(b"ray::UnitActor"):
                pids.add(int(entry.name))
    return pids
