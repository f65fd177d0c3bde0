"""Ray's job client: connected, and what it raises in words."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from esv_ray.errors import JobError, SpecError, one_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def connect(address: str | None) -> JobSubmissionClient:
    """Ray's job client.

    Args:
        address: ``http://head:8265``; None: the environment's RAY_API_SERVER_ADDRESS, or this machine's cluster.

    Raises:
        SpecError: no such cluster, or a token that is missing or wrong.
        JobError: the client's packages are not installed.
    """
    given = None if address == "auto" else address
    url = given or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265"
    url = url if "://" in url else f"http://{url}"
    _knock(url)
    if "RAY_AUTH_MODE" not in os.environ and {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_MODE"] = "token"  # who has a token means it to be used
    with in_words(url):
        from ray.dashboard.modules.job import sdk

        logging.getLogger(sdk.__name__).setLevel(logging.WARNING)  # else it tells of every connection that ends
        return sdk.JobSubmissionClient(url)


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
        raise SpecError(
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
        text = one_line(error)
        if "ray[default]" in text:
            raise JobError("Ray's job client is not installed: pip install 'esv-ray[cluster]'") from error
        if type(error).__name__ == "AuthenticationError":
            raise SpecError(
                f"{url}: the cluster refuses the token; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the cluster's"
            ) from error
        raise SpecError(f"{url}: not a Ray cluster's job server, or it fails: {text}") from error


def _faults() -> tuple[type[Exception], ...]:
    """What Ray's client raises; Ray is imported by whoever met one."""
    from ray.exceptions import RayError

    return (RayError, RuntimeError, OSError, ValueError)
