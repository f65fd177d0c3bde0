"""Retries: which faults of stores are tried again, how often and for how long.

This is the only retrying of the project. A try is repeated after a random part of a growing pause ("full jitter"), so
that a thousand workers that were refused at the same time do not try again at the same time.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TypeVar

from esv_ray.errors import EsvError, SpecError
from esv_ray.storage.transport.answers import is_store_error, is_transient
from esv_ray.storage.transport.messages import data_error

T = TypeVar("T")

VARIABLE = "ESV_STORAGE"
"""The environment variable that changes `RetryPolicy`, e.g. ``ESV_STORAGE=tries=4,seconds=20,read=5``."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and for how long an operation is tried.

    Attributes:
        tries: most tries of one operation, the first included.
        seconds: time after which no further try begins; a running try ends by its own timeouts.
        first, longest: seconds; the pause before try k + 1 is drawn from 0 to ``min(longest, first * 2 ** (k - 1))``.
        connect, read: seconds that the client of a store waits for a connection and for the next bytes of an answer.
        request: seconds that one request may take in all, plus one for every `rate` bytes that it moves.
        rate: bytes per second.
    """

    tries: int = 10
    seconds: float = 60.0
    first: float = 0.1
    longest: float = 10.0
    connect: float = 10.0
    read: float = 30.0
    request: float = 60.0
    rate: float = 20_000.0


def retry_policy() -> RetryPolicy:
    """Return the policy of this process: the default, changed by the environment variable `VARIABLE`.

    Raises:
        SpecError: the variable is malformed.
    """
    return _parsed(os.environ.get(VARIABLE, ""))


@lru_cache
def _parsed(text: str) -> RetryPolicy:
    kinds = {field.name: int if field.name == "tries" else float for field in fields(RetryPolicy)}
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
    return RetryPolicy(**values)  # type: ignore[arg-type]


# Python reads more: digits of any script, 1_000.
_NUMBERS = {int: re.compile(r"[0-9]{1,9}"), float: re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")}

# Tests replace these.
pause: Callable[[float], None] = time.sleep
clock: Callable[[], float] = time.monotonic
draw: Callable[[float], float] = lambda most: random.uniform(0.0, most)  # noqa: E731, S311


def attempt(url: str, doing: str, work: Callable[[], T], *, policy: RetryPolicy | None = None) -> T:
    """Call a function that uses a store; call it again after transient faults.

    Args:
        url: the location.
        doing: what is being done, e.g. "read the model".
        work: the function, which starts from the beginning each time; errors that are not the store's go through.
        policy: how often it is called; None: the policy of the process.

    Raises:
        DataError: the store refuses, or did not recover in time; one line says what was being done where, the last
            fault, how often it was tried, and what to do.
    """
    policy = policy or retry_policy()
    started = clock()
    tried = 0
    while True:
        tried += 1
        try:
            return work()
        except EsvError:
            raise
        except Exception as error:
            if not is_store_error(error):
                raise
            delay = draw(min(policy.longest, policy.first * 2.0 ** (tried - 1)))
            spent = clock() - started
            if not is_transient(error) or tried >= policy.tries or spent + delay > policy.seconds:
                raise data_error(url, doing, error, tried, spent) from error
        pause(delay)


@contextmanager
def locating(url: str, doing: str) -> Iterator[None]:
    """Turn what a store's client raises into a `DataError`; no retry, since a ``with`` block cannot be run again.

    For work on the file of a `reader`, which retries its own reads.
    """
    try:
        yield
    except EsvError:
        raise
    except Exception as error:
        if not is_store_error(error):
            raise
        raise data_error(url, doing, error) from error
