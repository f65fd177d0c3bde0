"""Ray's job client: connected, and what it raises in words."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from esv_ray.cluster.watch import SilentError
from esv_ray.errors import JobError, SpecError, one_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in this order
_SILENT = re.compile(r"Request failed with status code 50[234]")  # of a proxy before a head that is not there


def connect(address: str | None) -> JobSubmissionClient:
    """Ray's job client.

    Args:
        address: ``http://head:8265``; None or ``auto``: the environment's RAY_API_SERVER_ADDRESS, or its RAY_ADDRESS
            where that is such an address, or this machine's cluster.

    Raises:
        SpecError: no such cluster, or a token that is missing or wrong.
        JobError: the client's packages are not installed.
    """
    url = _url(address)
    _knock(url)
    if "RAY_AUTH_MODE" not in os.environ and {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_MODE"] = "token"  # who has a token means it to be used
    with in_words(url), _without(_VARIABLES):
        from ray.dashboard.modules.job import sdk

        logging.getLogger(sdk.__name__).setLevel(logging.WARNING)  # else it tells of every connection that ends
        return sdk.JobSubmissionClient(url)


def _url(address: str | None) -> str:
    if address is None or address == "auto":
        known = (os.environ.get(name, "") for name in _VARIABLES)
        address = next((url for url in known if url.startswith(("http://", "https://"))), "http://127.0.0.1:8265")
    return address if "://" in address else f"http://{address}"


@contextmanager
def _without(variables: tuple[str, ...]) -> Iterator[None]:
    """Ray's client would take them for the address, whatever it is given."""
    taken = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)


def _knock(url: str) -> None:
    """Ray's client itself would wait without a bound for a host that does not answer."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("http", "https"):
        raise SpecError(f"--address: expected the address of a cluster's dashboard, http://HOST:8265, got {url:.100}")
    try:
        socket.create_connection((host, port), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise SilentError(
            f"--address: no cluster answers at {url}: {one_line(error)}; is it up, and is this the port of its "
            "dashboard (8265)?"
        ) from error


@contextmanager
def in_words(url: str) -> Iterator[None]:
    """What Ray's client raises, in one line."""
    try:
        yield
    except (ImportError, ModuleNotFoundError) as error:
        raise JobError(f"Ray's job client is not installed ({error}): pip install 'esv-ray[cluster]'") from error
    except _faults() as error:
        text = _reason(error)
        if "ray[default]" in text:
            raise JobError("Ray's job client is not installed: pip install 'esv-ray[cluster]'") from error
        if type(error).__name__ == "AuthenticationError":
            raise SpecError(
                f"{url}: the cluster refuses the token; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the cluster's"
            ) from error
        if isinstance(error, OSError) or _SILENT.search(text):
            raise SilentError(f"{url}: the cluster does not answer: {text}") from error
        raise SpecError(f"{url}: not a Ray cluster's job server, or it fails: {text}") from error


def _reason(error: Exception) -> str:
    """The last line of the traceback that a job server's refusal holds, or all of what was raised."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
    return f"{lines[-1]:.400}" if lines and "Traceback" in lines[0] else one_line(error)


def _faults() -> tuple[type[Exception], ...]:
    """What Ray's client raises; Ray is imported by whoever met one."""
    from ray.exceptions import RayError

    return (RayError, RuntimeError, OSError, ValueError)
