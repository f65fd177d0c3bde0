"""The Ray runtime of a driver."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from esv_ray.errors import IncompleteError, SpecError, one_line
from esv_ray.job.on_ray.limits import OBJECT_STORE_BYTES, WITHOUT_RAY, check_limits
from esv_ray.job.on_ray.local_runtime import own_runtime, quieten
from esv_ray.machine import cores, gpus
from esv_ray.spec import JobSpec
from esv_ray.spec_values import digits

# Ray keeps the first token that a process used, so that every runtime of this process has the same.
_TOKEN = secrets.token_hex(32)

_LAST_PORT = 2**16 - 1
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # calls of an actor that was given up; we tell of them ourselves
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# A local runtime listens on loopback alone, and wants a token even there; without one in the environment Ray would
# write it to the home folder. The first name is the switch by which Ray keeps to loopback on desktops.
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": _TOKEN,
}


def check_address(spec: JobSpec) -> None:
    """Knock at a given cluster's door before anything is planned: Ray itself tries for minutes.

    Raises:
        SpecError: nobody answers, or its port is none.
    """
    host, colon, port = (spec.cluster.address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # this machine, `auto`, or a form that Ray judges itself
    number = digits(port, 5)
    if number is None or number > _LAST_PORT:
        raise SpecError(
            f"cluster.address: expected HOST:PORT, a port from 0 to {_LAST_PORT} in digits 0-9, "
            f"got {spec.cluster.address!r:.100}"
        )
    try:
        socket.create_connection((host, number), timeout=10).close()
    except OSError as error:
        raise SpecError(
            f"cluster.address: cannot reach Ray at {spec.cluster.address}: {one_line(error)}; is the cluster up?"
        ) from error


@contextmanager
def ray_runtime(spec: JobSpec) -> Iterator[None]:
    """A Ray runtime: the one that is there, the one at the address, or a new one on this machine alone.

    Raises:
        SpecError: none can be reached at the address, or this machine lacks what one needs.
        IncompleteError: none could be started here.
    """
    local = spec.cluster.address is None
    with _environment({**_ALWAYS, **(_LOCAL if local else {})}), ExitStack() as own:
        import ray  # not before: it reads some of these when it is imported

        if ray.is_initialized():
            yield
            return
        if local:
            quieten()
            check_limits(gpus() or cores() if spec.cluster.actors == "auto" else spec.cluster.actors)
        options = _local(spec, own.enter_context(own_runtime())) if local else _remote(spec)
        try:
            with _own_sigterm_handler():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises bare ones, too, where a process of its own ends while it starts
            if local:
                raise IncompleteError(
                    f"cannot start Ray on this machine: {one_line(error)}; run again to go on, {WITHOUT_RAY}"
                ) from error
            raise SpecError(
                f"cluster.address: cannot reach Ray at {spec.cluster.address}: {one_line(error)}"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM: Ray installs one that raises SystemExit, and leaves it there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _local(spec: JobSpec, folder: Path) -> dict[str, Any]:
    wished = spec.cluster.actors
    return {
        "address": "local",
        "num_cpus": max(cores(), spec.compute.threads * (1 if wished == "auto" else wished)),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder),
    }


def _remote(spec: JobSpec) -> dict[str, Any]:
    return {"address": spec.cluster.address}


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while; what the user set stays as it is."""
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
