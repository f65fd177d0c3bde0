"""Ray's job client: connected, and what it raises in words."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from esv_ray.errors import JobError, SpecError, one_line
from esv_ray.submit.polling import SilentError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in this order
_ANSWER_S = (10.0, 120.0)  # to connect; between two pieces of an answer: Ray's client would wait for ever
_FAILS = re.compile(r"Request failed with status code 5\d\d")  # of a head that starts, or a proxy before none


def connect(address: str | None) -> JobSubmissionClient:
    """Ray's job client.

    Args:
        address: ``http://head:8265``; None or ``auto``: the environment's RAY_API_SERVER_ADDRESS, or its RAY_ADDRESS
            where that is such an address, or this machine's cluster.

    Raises:
        SpecError: no such cluster, or a token that is missing or wrong. SilentError where it does not answer.
        JobError: the client's packages are not installed.
    """
    url, whose = _url(address)
    _knock(url, whose)
    if "RAY_AUTH_MODE" not in os.environ and {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_MODE"] = "token"  # who has a token means it to be used
    with in_words(url), _without(_VARIABLES):
        from ray.dashboard.modules.job import sdk

        for name in (sdk.__name__, "ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.WARNING)  # else they tell of every connection and upload

        class Client(sdk.JobSubmissionClient):
            """With a bound for every answer."""

            def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
                return super()._do_request(method, endpoint, timeout=_ANSWER_S, **more)

        return Client(url)


def _url(address: str | None) -> tuple[str, str]:
    """Where the cluster is, and who says so."""
    if address is not None and address != "auto":
        return _with_scheme(address), "--address"
    first, second = (os.environ.get(name, "") for name in _VARIABLES)
    if first:
        return _with_scheme(first), _VARIABLES[0]
    if second.startswith(("http://", "https://")):
        return second, _VARIABLES[1]
    passed_over = f" ({_VARIABLES[1]} is no dashboard's)" if second else ""
    return "http://127.0.0.1:8265", f"no --address is given{passed_over}"


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


@contextmanager
def _without(variables: tuple[str, ...]) -> Iterator[None]:
    """Ray's client would take them for the address, whatever it is given."""
    taken = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)


def _knock(url: str, whose: str) -> None:
    """Whether somebody is there at all."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        parts, host, port = None, None, None
    if parts is not None and "@" in parts.netloc:
        raise SpecError(f"{whose}: expected http://HOST:8265 without user and password; a token is RAY_AUTH_TOKEN")
    if parts is None or not host or not port or parts.scheme not in ("http", "https"):
        raise SpecError(f"{whose}: expected the address of a cluster's dashboard, http://HOST:8265, got {url:.100}")
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S[0]).close()
    except (OSError, OverflowError) as error:
        raise SilentError(
            f"{whose}: no cluster answers at {url}: {one_line(error)}; is it up, and is this the port of its "
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
        if isinstance(error, OSError):
            raise SilentError(
                f"{url}: the cluster does not answer: {text}; is this its dashboard (8265), and no proxy in between?"
            ) from error
        kind = SilentError if _FAILS.search(str(error)) else SpecError
        raise kind(f"{url}: not a Ray cluster's job server, or it fails: {text}") from error


def _reason(error: Exception) -> str:
    """The last line of the traceback that a job server's refusal holds, or all of what was raised."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
    return f"{lines[-1]:.400}" if lines and "Traceback" in lines[0] else one_line(error)


def _faults() -> tuple[type[Exception], ...]:
    """What Ray's client raises; Ray is imported by whoever met one."""
    from ray.exceptions import RayError

    return (RayError, RuntimeError, OSError, ValueError)
