"""The Ray runtime of a driver, and the signals that end it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray

from esv_ray.cluster.state import one_line
from esv_ray.errors import JobError
from esv_ray.spec import JobSpec

_OBJECT_STORE_BYTES = 100 * 2**20  # nothing but reports passes through it


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """A scheduler's polite stop ends the run as Ctrl-C does: actors are stopped, what is committed stays."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's matter
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ray_runtime(spec: JobSpec) -> Iterator[None]:
    """A Ray runtime: the one that is there, the one at the address, or a new one on this machine alone."""
    if ray.is_initialized():
        yield
        return
    # Set before Ray reads them. Without a mode, a local start writes a token to the home folder.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # calls of an actor that was given up; we tell ourselves
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if spec.cluster.address is None:
        wished = spec.cluster.actors
        cpus = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
        options |= {
            "address": "local",
            "num_cpus": max(cpus or 1, 0 if wished == "auto" else wished * spec.compute.threads),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",  # nothing listens beyond loopback unless asked
        }
    else:
        options["address"] = spec.cluster.address
    try:
        ray.init(**options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)  # again: Ray installs one of its own, which exits at once
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = spec.cluster.address or "this machine"
        raise JobError(f"cluster.address: cannot start or reach Ray at {where}: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()
