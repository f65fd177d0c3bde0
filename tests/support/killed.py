"""Drivers that are killed at a given write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from esv_ray import storage
from esv_ray.output.layout import PROGRESS

WRITES = ("commit_new", "replace", "remove")


class Killed(BaseException):
    """The driver is gone from here on: no operation of it reaches the storage."""


class Mortal:
    """Storage whose n-th write kills, before or after it is done."""

    def __init__(self, patch: pytest.MonkeyPatch, last: float = float("inf"), *, done: bool = False) -> None:
        self.writes: list[str] = []
        self.last, self.done = last, done
        for name in WRITES:
            patch.setattr(storage, name, self._mortal(getattr(storage, name)))

    def _mortal(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def write(url: str, *arguments: Any, **options: Any) -> Any:
            if url.endswith(PROGRESS):
                return None  # of another thread, which writes when it will; nothing depends on it
            self.writes.append(url)
            if len(self.writes) > self.last or (len(self.writes) == self.last and not self.done):
                raise Killed
            found = operation(url, *arguments, **options)
            if len(self.writes) == self.last:
                raise Killed
            return found

        return write
