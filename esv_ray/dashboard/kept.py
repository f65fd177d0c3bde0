"""Results that are made once and kept, also if several threads ask for one at the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Kept(Generic[_Result]):
    """A function whose latest results are kept. Errors are not: the next call tries again."""

    def __init__(self, make: Callable[..., _Result], most: int) -> None:
        """Keep nothing yet.

        Args:
            make: the function; its arguments are hashable.
            most: number of results that are kept.
        """
        self._make, self._most = make, most
        self._results: OrderedDict[Hashable, Future[_Result]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *key: Hashable) -> _Result:
        """Return the result for some arguments; wait for it if another thread makes it."""
        with self._lock:
            kept = self._results.get(key)
            if kept is None:
                made: Future[_Result] = Future()
                self._results[key] = made
                if len(self._results) > self._most:
                    self._results.popitem(last=False)
            else:
                self._results.move_to_end(key)
        if kept is not None:
            return kept.result()
        try:
            made.set_result(self._make(*key))
        except BaseException as error:
            made.set_exception(error)
            with self._lock:
                if self._results.get(key) is made:
                    del self._results[key]
            raise
        return made.result()
