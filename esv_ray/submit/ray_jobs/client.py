"""Connect Ray's job client, and turn its exceptions into one-line errors."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from esv_ray.errors import JobError, SpecError, one_line
from esv_ray.submit.polling import UnreachableError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in this order
_NO_ADDRESS = "no --address is given"
_TIMEOUT_S = (10.0, 120.0)  # to connect; between two parts of an answer. Without them Ray's client waits forever
_SERVER_ERROR = re.compile(r"Request failed with status code 5\d\d")  # a head that starts, or a proxy without one


def connect(address: str | None) -> JobSubmissionClient:
    """Return Ray's job client.

    Args:
        address: ``http://head:8265``; None or ``auto``: the environment's RAY_API_SERVER_ADDRESS, or its RAY_ADDRESS
            if that is such an address, or this machine's cluster.

    Raises:
        SpecError: there is no such cluster, or a token is missing or wrong. UnreachableError if it does not answer.
        JobError: the client's packages are not installed.
    """
    url, origin = _cluster_url(address)
    _probe(url, origin)
    with client_errors(url), _environment(_token_mode(), without=VARIABLES):
        from ray.dashboard.modules.job import sdk

        for name in (sdk.__name__, "ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they log every connection and upload

        class Client(sdk.JobSubmissionClient):
            """A client whose requests have a timeout."""

            def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
                return super()._do_request(method, endpoint, timeout=_TIMEOUT_S, **more)

        return Client(url)


def _cluster_url(address: str | None) -> tuple[str, str]:
    """Return the URL of the cluster's dashboard, and the option or variable that it comes from."""
    if address is not None and address != "auto":
        return _with_scheme(address), "--address"
    first, second = (os.environ.get(name, "") for name in VARIABLES)
    if first:
        return _with_scheme(first), VARIABLES[0]
    if second.startswith(("http://", "https://")):
        return second, VARIABLES[1]
    ignored = f" ({VARIABLES[1]} is not the URL of a dashboard)" if second else ""
    return "http://127.0.0.1:8265", f"{_NO_ADDRESS}{ignored}"


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def _token_mode() -> dict[str, str]:
    """Return the variable that makes Ray send its token, if one is set."""
    has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    return {"RAY_AUTH_MODE": "token"} if has_token and "RAY_AUTH_MODE" not in os.environ else {}


@contextmanager
def _environment(settings: Mapping[str, str], without: tuple[str, ...]) -> Iterator[None]:
    """Change this process's environment while Ray's client is made, and restore it.

    The client reads the token once and keeps it in its headers. It prefers addresses of variables to the one given.

    Args:
        settings: variables to set.
        without: variables to remove.
    """
    before = {name: os.environ.get(name) for name in (*settings, *without)}
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _probe(url: str, origin: str) -> None:
    """Check that an address is valid and that something listens there.

    Raises:
        SpecError: it is not valid. UnreachableError if nothing listens.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        parts, host, port = None, None, None
    if parts is not None and "@" in parts.netloc:
        raise SpecError(f"{origin}: expected http://HOST:8265 without user and password; set RAY_AUTH_TOKEN to a token")
    if parts is None or not host or not port or parts.scheme not in ("http", "https"):
        raise SpecError(f"{origin}: expected the address of a cluster's dashboard, http://HOST:8265, got {url:.100}")
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_S[0]).close()
    except (OSError, OverflowError) as error:
        advice = "check that the cluster is running and that this is the port of its dashboard (default 8265)"
        if origin.startswith(_NO_ADDRESS):
            advice = f"give --address http://HEAD:8265, set {VARIABLES[0]}, or use --kubernetes"
        raise UnreachableError(f"{origin}: cannot reach a cluster at {url}: {one_line(error)}; {advice}") from error


@contextmanager
def client_errors(url: str) -> Iterator[None]:
    """Turn what Ray's client raises into one-line errors.

    Raises:
        JobError: the client's packages are not installed.
        SpecError: the cluster refuses. UnreachableError if it does not answer.
    """
    try:
        yield
    except (ImportError, ModuleNotFoundError) as error:
        raise JobError(f"Ray's job client is not installed ({error}): pip install 'esv-ray[cluster]'") from error
    except _ray_exceptions() as error:
        text = _reason(error)
        if "ray[default]" in text:
            raise JobError("Ray's job client is not installed: pip install 'esv-ray[cluster]'") from error
        if type(error).__name__ == "AuthenticationError":
            raise SpecError(
                f"{url}: the cluster refuses the token; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the cluster's"
            ) from error
        if isinstance(error, OSError):
            raise UnreachableError(
                f"{url}: the cluster does not answer: {text}; is this its dashboard (8265), and no proxy in between?"
            ) from error
        kind = UnreachableError if _SERVER_ERROR.search(str(error)) else SpecError
        raise kind(f"{url}: the request failed: {text}; check that this is the dashboard of a Ray cluster") from error


def _reason(error: Exception) -> str:
    """Return the last line of the traceback in a job server's refusal, or the whole error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
    return f"{lines[-1]:.400}" if lines and "Traceback" in lines[0] else one_line(error)


def _ray_exceptions() -> tuple[type[Exception], ...]:
    """Return what Ray's client raises; called after it raised something, when Ray is imported already."""
    from ray.exceptions import RayError

    return (RayError, RuntimeError, OSError, ValueError)
