"""Commands in processes of their own, which are sent signals; and whatever they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from tests.support.preloaded import DUMP, Process

MARK = "ESV_TEST_MARK"
ENDED = "esv: interrupted"
RESUMES = "; run the same command again to resume"
LONGEST_S = 240.0  # for what a loaded machine does in seconds


def wait_until(reached: Callable[[], object], why: str = "", *, every_s: float = 0.01) -> None:
    """Until a condition holds."""
    deadline = time.monotonic() + LONGEST_S
    while not reached():
        assert time.monotonic() < deadline, why
        time.sleep(every_s)


class Command:
    """`esv ...` in a session of its own, and all processes that descend from it, by a mark in their environment."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        open_files: int | None = None,
        new_interpreter: bool = False,
    ) -> None:
        """Start the command.

        Args:
            arguments: of `esv`.
            environment: variables beside those of this process.
            open_files: limit of open files, in a new interpreter.
            new_interpreter: whether the test is about the start itself: imports, locales, variables of Python.
        """
        self.mark = uuid4().hex
        self.resumes = arguments[0] in ("attribute", "demo", "train") or arguments[:2] == ("import", "features")
        whole = {**os.environ, **(environment or {}), MARK: self.mark}
        limit = [] if open_files is None else ["prlimit", f"--nofile={open_files}:{open_files}"]
        self.process: subprocess.Popen[str] | Process = (
            subprocess.Popen(
                [*limit, sys.executable, "-m", "esv_ray", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=whole,
                start_new_session=True,
            )
            if limit or new_interpreter
            else Process(arguments, environment=whole)
        )

    def pids(self, *, named: str = "") -> set[int]:
        """Its processes whose command line holds a text."""
        found = set()
        mark, own = f"{MARK}={self.mark}".encode(), str(self.process.pid)  # a fork's /proc/PID/environ has no mark
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and (entry.name == own or mark in (entry / "environ").read_bytes()):
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
        try:
            wait_until(lambda: reached() or self.process.poll() is not None)
        except AssertionError:
            raise AssertionError(f"not reached: {self._stopped()}") from None
        assert self.process.poll() is None, self.process.communicate()

    def _stopped(self) -> tuple[str, str]:
        """Return the output of a command that stands still, with what its threads were doing, and end it."""
        if isinstance(self.process, Process):
            self.process.send_signal(DUMP)
            time.sleep(2)
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        return self.process.communicate(timeout=LONGEST_S)

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
        # A command that goes on where it stopped says so, once it has begun.
        assert err.splitlines()[-1] in (ENDED, *([ENDED + RESUMES] if self.resumes else [])), err
        assert err.count(ENDED) == 1
        assert "Traceback" not in out + err
        assert "Exception ignored" not in err
        assert took < 30, "minutes without a deadline; ten seconds, and the slowness of a loaded machine"
        return took


OURS = "ESV_TEST_PROCESS"
"""A variable with another value in every process of the tests, inherited by all that it starts."""


def mark_ours() -> None:
    """Mark this process and all that it starts from now on."""
    os.environ[OURS] = uuid4().hex


def ours() -> Iterator[Path]:
    """Yield the entries in /proc of this process and of all that it started, whatever tests run beside it."""
    mark = f"{OURS}={os.environ[OURS]}".encode()
    yield Path("/proc/self")
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it ended meanwhile
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes():
                yield entry


def actor_pids() -> set[int]:
    """Return the processes of unit actors that descend from this one."""
    pids = set()
    for entry in ours():
        with suppress(OSError):  # it ended meanwhile
            if (entry / "cmdline").read_bytes().startswith(b"ray::UnitActor"):
                pids.add(int(entry.resolve().name))
    return pids


def listening() -> set[tuple[str, str]]:
    """Return (address, port), in the kernel's hexadecimal, of the listening sockets of all that descends from this."""
    sockets = set()
    for entry in ours():
        with suppress(OSError):  # it ended meanwhile
            sockets |= {name for file in (entry / "fd").iterdir() if (name := _link(file)).startswith("socket:")}
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in sockets:
                address, _, port = columns[1].partition(":")
                found.add((address, port))
    return found


def is_loopback(socket: tuple[str, str]) -> bool:
    """Return whether an address is 127.x.x.x, also mapped into IPv6, or ::1; the kernel writes words in host order."""
    address = socket[0]
    mapped = "0000000000000000FFFF0000"
    ipv4 = address if len(address) == 8 else address.removeprefix(mapped) if address.startswith(mapped) else None
    return ipv4.endswith("7F") if ipv4 else address == "00000000000000000000000001000000"


def _link(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:  # it was closed meanwhile
        return ""
