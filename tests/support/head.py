"""The head of a Ray cluster on this machine, started as a user starts it: `ray start --head`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path(sys.executable).parent


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_head(folder: Path, *options: str, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of a head on loopback, with all that it started below a folder of its own.

    Its name must be short: the paths of Ray's sockets have a bound.
    """
    temporary = folder / "ray"
    command = [str(PROGRAMS / "ray"), "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1"]
    command += [f"--temp-dir={temporary}", "--object-store-memory=80000000", *options]
    settings = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", **environment}
    with subprocess.Popen(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            told = []
            for line in process.stdout:
                told.append(line)
                if "block forever" in line:
                    break
            else:
                raise AssertionError("".join(told[-20:]))
            yield f"127.0.0.1:{port}"
        finally:
            _kill_all(str(temporary))
            process.kill()


def _kill_all(temporary: str) -> None:
    """Whatever names this cluster's folder: some of it is in sessions of its own."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                named = temporary.encode() in (entry / "cmdline").read_bytes()
                if named or temporary.encode() in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:  # it ended meanwhile
                continue
