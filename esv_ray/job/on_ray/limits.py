"""Limits of this machine and user, checked before Ray starts here: Ray itself hangs or aborts."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from esv_ray.errors import SpecError
from esv_ray.machine import startable, too_few_threads

OBJECT_STORE_BYTES = 100 * 2**20  # only reports pass through it

WITHOUT_RAY = "or set cluster.actors to 0, which needs no Ray"

# Measured with Ray 2.60: its own processes take about 150 threads, a worker 32, and Ray starts a worker in advance.
_OWN_THREADS, _WORKER_THREADS = 160, 40
_OWN_FILES, _WORKER_FILES = 60, 2  # of the process with the most open files
_ADDRESS_BYTES = 4 * 2**30  # a worker with torch takes 3.1


def check_limits(actors: int) -> None:
    """Check that Ray can start on this machine.

    Args:
        actors: number of actors.

    Raises:
        SpecError: it cannot; the message names the limit, and how to run without Ray.
    """
    why = next(_objections(max(2, actors)), None)
    if why is not None:
        raise SpecError(f"cannot start Ray on this machine: {why}")


def _objections(workers: int) -> Iterator[str]:
    if sys.platform == "linux" and not Path("/proc/self/stat").exists():
        yield "expected /proc, through which Ray finds its processes, found none; mount it"
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=10).close()
    except OSError as error:
        got = error.strerror or error
        yield f"expected a loopback interface, got {got}; bring it up (ip link set lo up), {WITHOUT_RAY}"
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < _ADDRESS_BYTES:
        yield f"expected {_gib(_ADDRESS_BYTES)} of address space for each process, got {_gib(space)}; raise ulimit -v"
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size != resource.RLIM_INFINITY and size < OBJECT_STORE_BYTES:
        most = OBJECT_STORE_BYTES
        yield f"expected files of up to {most} bytes, got a limit of {size}; raise ulimit -f, {WITHOUT_RAY}"
    files = _OWN_FILES + _WORKER_FILES * workers
    limit = _most_files(files)
    if limit < files:
        yield f"expected {files} open files for each process, got a limit of {limit}; raise ulimit -n, {WITHOUT_RAY}"
    threads = _OWN_THREADS + _WORKER_THREADS * workers
    available = startable(threads)
    if available < threads:
        yield f"{too_few_threads(threads, available)}, {WITHOUT_RAY}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _most_files(needed: int) -> int:
    """Return how many files a process of this user may open, after raising this process's own limit to that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed and (hard == resource.RLIM_INFINITY or hard > soft):
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return needed if soft == resource.RLIM_INFINITY else soft
