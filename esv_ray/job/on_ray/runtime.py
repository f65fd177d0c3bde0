"""The Ray runtime of a driver: connected, or started on this machine."""

from __future__ import annotations

import json
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
from esv_ray.spec import ClusterSpec
from esv_ray.spec_values import digits

# Ray keeps the first token that a process uses, so every runtime of this process has the same.
_TOKEN = secrets.token_hex(32)

_LAST_PORT = 2**16 - 1
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of calls of a lost actor; the run reports them
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# A local runtime listens on loopback only, and requires a token even there; without one in the environment Ray would
# write one to the home folder. The first variable is the switch by which Ray listens on loopback only on desktops.
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": _TOKEN,
}


def check_address(cluster: ClusterSpec) -> None:
    """Check that something answers at a cluster's address before anything is planned: Ray itself tries for minutes.

    Raises:
        SpecError: nothing answers, or the port is not valid.
    """
    host, colon, port = (cluster.address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # this machine, `auto`, or a form that Ray judges itself
    number = digits(port, 5)
    if number is None or number > _LAST_PORT:
        raise SpecError(
            f"cluster.address: expected HOST:PORT, a port from 0 to {_LAST_PORT} in digits 0-9, "
            f"got {cluster.address!r:.100}"
        )
    try:
        socket.create_connection((host, number), timeout=10).close()
    except OSError as error:
        raise _unreachable(cluster, error, "; is the cluster up?") from error


def _unreachable(cluster: ClusterSpec, error: Exception, advice: str = "") -> SpecError:
    return SpecError(f"cluster.address: cannot reach Ray at {cluster.address}: {one_line(error)}{advice}")


@contextmanager
def ray_runtime(cluster: ClusterSpec, threads: int) -> Iterator[None]:
    """Connect a Ray runtime: the one that this process has, the one at the address, or a new one on this machine.

    Args:
        cluster: where the job runs.
        threads: cores of an actor; a new runtime has enough for its actors.

    Raises:
        SpecError: the address cannot be reached, or this machine lacks what a runtime needs.
        IncompleteError: a runtime could not be started here.
    """
    local = cluster.address is None
    with _environment({**_ALWAYS, **(_LOCAL if local else {})}), ExitStack() as own:
        import ray  # not before: it reads some of these variables when it is imported

        if ray.is_initialized():
            yield
            return
        if local:
            own.enter_context(_local_settings())
            quieten()
            check_limits(gpus() or cores() if cluster.actors == "auto" else cluster.actors)
            options = _local_options(cluster, threads, own.enter_context(own_runtime()))
        else:
            options = {"address": cluster.address}
        try:
            with _own_sigterm_handler():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises a bare Exception, too, if one of its processes ends while it starts
            if local:
                raise IncompleteError(
                    f"cannot start Ray on this machine: {one_line(error)}; run again to resume, {WITHOUT_RAY}"
                ) from error
            raise _unreachable(cluster, error) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _local_settings() -> Iterator[None]:
    """Apply `_LOCAL` also to a Ray that was imported before, as in a notebook: it reads them when it is imported."""
    from ray import _raylet
    from ray._private import ray_constants

    compiled: Any = _raylet  # without types
    if (
        os.environ["RAY_AUTH_MODE"] == "token"
        and compiled.get_authentication_mode() != compiled.AuthenticationMode.TOKEN
    ):
        compiled.Config.initialize(json.dumps({"AUTH_MODE": "token"}))
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] != "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM: Ray installs one that raises SystemExit, and leaves it installed."""
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


def _local_options(cluster: ClusterSpec, threads: int, folder: Path) -> dict[str, Any]:
    return {
        "address": "local",
        "num_cpus": max(cores(), threads * (1 if cluster.actors == "auto" else cluster.actors)),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder),
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while; those that the user set are unchanged."""
    missing = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
