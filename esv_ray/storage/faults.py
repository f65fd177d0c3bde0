"""Faults of stores: which of them pass, how long they are waited out, and the one line in which the others are told.

This is the only retrying of the project. A try is repeated after a random part of a growing pause ("full jitter"), so
that a thousand workers that were refused together do not come back together.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import TypeVar

from esv_ray.errors import DataError, EsvError, SpecError, StorageError

T = TypeVar("T")

VARIABLE = "ESV_STORAGE"
"""The environment variable that changes `Patience`, e.g. ``ESV_STORAGE=tries=4,seconds=20,read=5``."""

# What a client of a store raises comes from one of these packages, or is an OSError.
_CLIENTS = {
    "adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "requests", "s3fs", "urllib3",
}  # fmt: skip

# By name, because a store's client need not be installed, and because botocore takes a while to import.
_PASSING = {
    "ChecksumError",  # gcsfs: the bytes do not have the hash they were announced with
    "ChunkedEncodingError",
    "ClientConnectionError",
    "ClientPayloadError",  # aiohttp: a body ended too early
    "ConnectionError",  # of botocore and requests; not the built-in one alone
    "CredentialRetrievalError",  # botocore: the metadata service of a machine, or STS, did not answer
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "MetadataRetrievalError",
    "ProxyError",  # gcsfs says so of a 502
    "ProtocolError",
    "ResponseParserError",  # a refusal of an overloaded server that is no XML
    "ServiceRequestError",  # azure: the request did not arrive
    "ServiceResponseError",  # azure: the answer did not arrive
    "Timeout",
    "TransportError",
}
_LASTING = {"ClientConnectorCertificateError", "ClientSSLError", "SSLError", "InvalidURL"}
_PASSING_NUMBERS = {
    errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.EINTR, errno.EIO, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENOBUFS,
    errno.EPIPE, errno.ESTALE, errno.ETIMEDOUT, getattr(errno, "EREMOTEIO", errno.EIO),
}  # fmt: skip
# Refusals with a status of 400 that say that the request arrived damaged or late.
_PASSING_CODES = {
    "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentSHA256Mismatch",
}  # fmt: skip
_NAME_UNKNOWN = {"gaierror"}
_NAME_SERVER_BUSY = -3  # EAI_AGAIN; every other answer of the resolver lasts


@dataclass(frozen=True)
class Patience:
    """How long faults are waited out.

    Attributes:
        tries: of one operation, the first included.
        seconds: after which no further try begins; one that was begun ends by its own time-outs.
        first, longest: seconds; the pause before try k + 1 is drawn from 0 to ``min(longest, first * 2 ** (k - 1))``.
        connect, read: seconds that the client of a store waits for a connection and for the next bytes of an answer.
        request: seconds that one request may take in all, and one more for every `rate` bytes that it moves.
        rate: bytes a second.
    """

    tries: int = 10
    seconds: float = 60.0
    first: float = 0.1
    longest: float = 10.0
    connect: float = 10.0
    read: float = 30.0
    request: float = 60.0
    rate: float = 20_000.0


def patience() -> Patience:
    """The patience of this process: the default, changed by the environment variable `VARIABLE`.

    Raises:
        SpecError: it says something else.
    """
    return _parsed(os.environ.get(VARIABLE, ""))


@lru_cache
def _parsed(text: str) -> Patience:
    kinds = {field.name: int if field.name == "tries" else float for field in fields(Patience)}
    values = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            values[name.strip()] = kinds[name.strip()](value)
        except (KeyError, ValueError):
            values[name.strip()] = -1
    if any(not 0 < value < float("inf") for name, value in values.items() if name in kinds) or values.keys() - kinds:
        raise SpecError(
            f"{VARIABLE}: expected name=number,... with positive numbers of {', '.join(kinds)}; got {text!r}"
        )
    return Patience(**values)  # type: ignore[arg-type]


class BeyondError(OSError):
    """A store sends more than was asked for, goes on without end, or says what no store says."""


# What tests replace.
pause: Callable[[float], None] = time.sleep
clock: Callable[[], float] = time.monotonic
draw: Callable[[float], float] = lambda most: random.uniform(0.0, most)  # noqa: E731, S311


def attempt(url: str, doing: str, work: Callable[[], T], *, waits: Patience | None = None) -> T:
    """Do something with a store; again while its faults are such as pass.

    Args:
        url: the location.
        doing: what is being done, e.g. "read the model".
        work: does it, from the start each time; whatever it raises that is no store's fault goes through.
        waits: the patience; that of the process if None.

    Raises:
        DataError: the store refuses, or did not recover in time; one line says what was being done where, the last
            fault, how often it was tried, and how to go on.
    """
    waits = waits or patience()
    begun = clock()
    tried = 0
    while True:
        tried += 1
        try:
            return work()
        except EsvError:
            raise
        except Exception as error:
            if not of_a_store(error):
                raise
            rest = draw(min(waits.longest, waits.first * 2.0 ** (tried - 1)))
            spent = clock() - begun
            if not passes(error) or tried >= waits.tries or spent + rest > waits.seconds:
                raise _told(url, doing, error, tried, spent) from error
        pause(rest)


@contextmanager
def locating(url: str, doing: str) -> Iterator[None]:
    """Turn whatever a store's client raises into one `DataError`, at once: a ``with`` block cannot be run again.

    For work on what a `reader` reads, which waits faults out itself.
    """
    try:
        yield
    except EsvError:
        raise
    except Exception as error:
        if not of_a_store(error):
            raise
        raise _told(url, doing, error, 1, 0.0) from error


def of_a_store(error: BaseException) -> bool:
    """Whether an exception is what a store, or the client of one, says; others are nobody's to translate."""
    return isinstance(error, OSError) or any(
        kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__
    )


def passes(error: BaseException) -> bool:
    """Whether a fault may be gone at the next try: servers overloaded or restarted, connections and bodies cut."""
    said = _answer(error)
    if said is not None:
        status, code = said
        return status in (408, 409, 429) or (status >= 500 and status not in (501, 505)) or code in _PASSING_CODES
    for cause in _causes(error):
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _LASTING:
            return False
        if names & _NAME_UNKNOWN:  # what is not in the name service is misspelled; but it may be busy
            return getattr(cause, "errno", None) == _NAME_SERVER_BUSY
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING_NUMBERS
    return bool({kind.__name__ for kind in type(error).__mro__} & _PASSING)


def _answer(error: BaseException) -> tuple[int, str] | None:
    """HTTP status and code of the refusal, where there was an answer: s3fs keeps botocore's error as the cause."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = str(response.get("Error", {}).get("Code", ""))
            if isinstance(status, int) or code:
                return status if isinstance(status, int) else 0, code
        # azure, aiohttp, gcsfs; the "code" that aiohttp gives an answer it could not read is its own.
        client = type(cause).__module__.partition(".")[0]
        status = getattr(cause, {"azure": "status_code", "aiohttp": "status", "gcsfs": "code"}.get(client, ""), None)
        if isinstance(status, int | str) and str(status).isdecimal() and int(status) >= 400:
            return int(status), ""
    return None


def _status(error: BaseException) -> int:
    """HTTP status of the refusal, or 0."""
    return (_answer(error) or (0, ""))[0]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was made of: its cause, or what botocore and aiohttp keep of the connection's."""
    waiting: list[object] = [error]
    seen: list[BaseException] = []
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        told = getattr(one, "kwargs", None)
        waiting += [
            one.__cause__,
            getattr(one, "os_error", None),
            told.get("error") if isinstance(told, dict) else None,
        ]


def short(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _told(url: str, doing: str, error: Exception, tried: int, spent: float) -> DataError:
    """The one line. What is not there is a matter of the data; everything else, of the storage."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"cannot {doing}: {url} was not found; check the location")
    if isinstance(error, BeyondError):
        return StorageError(
            f"cannot {doing}: {url}: {short(error)}; check the location and what answers there (endpoint, proxy)",
            passing=False,
        )
    if passes(error):
        times = f"{tried} tries in {spent:.0f} s" if tried > 1 else "1 try"
        return StorageError(
            f"cannot {doing}: {url}: {short(error)} ({times}); check the endpoint and the network, then run again: "
            "what is committed stays",
            passing=True,
        )
    # gcsfs says so in words alone.
    if isinstance(error, PermissionError) or _status(error) in (401, 403) or str(error).startswith("Forbidden"):
        return StorageError(
            f"cannot {doing}: access to {url} was denied ({short(error)}); check the credentials and permissions",
            passing=False,
        )
    if not isinstance(error, OSError):
        hint = "check the endpoint, the credentials and the network"
        return StorageError(f"cannot {doing}: {url}: {short(error)}; {hint}", passing=False)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"cannot {doing}: {url}: {short(error)}; free some room", passing=False)
    # Without a number it is what Arrow says of broken data; some numbers say that the location is another thing.
    kind = (
        DataError
        if error.errno in (None, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
        else partial(StorageError, passing=False)
    )
    return kind(f"cannot {doing}: {url}: {short(error)}")
