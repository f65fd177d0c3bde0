"""Faults of stores: which of them pass, how long they are waited out, and the one line in which the others are told.

This is the only retrying of the project. A try is repeated after a random part of a growing pause ("full jitter"), so
that a thousand workers that were refused together do not come back together.
"""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import TypeVar

from esv_ray.errors import DataError, EsvError, SpecError, StorageError
from esv_ray.storage.transport.answers import (
    CLOCK_CODES,
    DENIED_CODES,
    BeyondError,
    RefusedError,
    answer,
    is_full,
    is_unsigned,
    of_a_store,
    passes,
    region_of,
    short,
)
from esv_ray.storage.transport.clients import how_to_sign_in

T = TypeVar("T")

VARIABLE = "ESV_STORAGE"
"""The environment variable that changes `Patience`, e.g. ``ESV_STORAGE=tries=4,seconds=20,read=5``."""


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
        kind = kinds.get(name.strip())
        written = kind is not None and _NUMBERS[kind].fullmatch(value.strip())
        values[name.strip()] = kind(value) if kind is not None and written else -1
    if any(not 0 < value < float("inf") for name, value in values.items() if name in kinds) or values.keys() - kinds:
        raise SpecError(
            f"{VARIABLE}: expected name=number,... with positive numbers of {', '.join(kinds)}; got {text!r}"
        )
    return Patience(**values)  # type: ignore[arg-type]


# Python reads more: digits of any script, 1_000.
_NUMBERS = {int: re.compile(r"[0-9]{1,9}"), float: re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")}

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
                raise told(url, doing, error, tried, spent) from error
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
        raise told(url, doing, error, 1, 0.0) from error


def told(url: str, doing: str, error: Exception, tried: int, spent: float) -> DataError:
    """Make the one line. What is not there is a matter of the data; everything else, of the storage."""
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
    if is_full(error):
        too_large = getattr(error, "errno", None) == errno.EFBIG
        hint = "raise the limit of a file's size (ulimit -f, or the disk's own)" if too_large else "free some room"
        return StorageError(
            f"cannot {doing}: {url}: {short(error)}; {hint}",
            passing=False,
            full=True,
        )
    lasting = partial(StorageError, passing=False)
    status, code = answer(error) or (0, "")
    region = region_of(error)
    if region is not None:
        hint = f"set AWS_DEFAULT_REGION={region}" if region else "set AWS_DEFAULT_REGION, and check the endpoint"
        return lasting(f"cannot {doing}: {url}: the bucket is in another region ({short(error)}); {hint}")
    sign_in = how_to_sign_in(url)
    if is_unsigned(error):
        return lasting(f"cannot {doing}: {url}: {short(error)}; set the credentials{sign_in or ' of the client'}")
    if code in CLOCK_CODES:
        return lasting(f"cannot {doing}: access to {url} was denied ({short(error)}); set the clock of this machine")
    if status == 405:
        return lasting(f"cannot {doing}: {url}: {short(error)}; check the endpoint: it does not know this request")
    if status == 407:
        return lasting(f"cannot {doing}: {url}: {short(error)}; check the proxy (HTTPS_PROXY) and its credentials")
    # gcsfs says so in words alone.
    denied = isinstance(error, PermissionError) or str(error).startswith("Forbidden")
    if denied or status in (401, 403) or code in DENIED_CODES:
        return lasting(
            f"cannot {doing}: access to {url} was denied ({short(error)}); check the credentials and permissions"
            f"{sign_in}"
        )
    if status == 400 and code in ("", "400"):  # an answer to HEAD has no body, and so no reason
        return lasting(
            f"cannot {doing}: {url}: {short(error)}, without a reason; check the credentials{sign_in}: a store "
            "answers so to an expired or malformed token, too; then the endpoint and the region"
        )
    if status in (404, 410):
        return DataError(f"cannot {doing}: {url} was not found ({short(error)}); check the location")
    if isinstance(error, RefusedError):
        return lasting(f"cannot {doing}: {url}: {short(error)}; the client needs it: check the credentials{sign_in}")
    if not isinstance(error, OSError):
        return lasting(f"cannot {doing}: {url}: {short(error)}; check the endpoint, the credentials and the network")
    if isinstance(error, IsADirectoryError):
        return DataError(f"cannot {doing}: {url}: expected a file, got a folder; give the location of a file in it")
    if isinstance(error, NotADirectoryError):
        return DataError(f"cannot {doing}: {url}: expected a folder above it, got a file; check the location")
    # Without a number it is what Arrow says of broken data; some numbers say that the location is another thing.
    is_data = error.errno in (None, errno.ENAMETOOLONG)
    return (DataError if is_data else lasting)(f"cannot {doing}: {url}: {short(error)}")
