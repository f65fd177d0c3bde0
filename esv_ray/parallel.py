"""Threads that never delay the end of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

READERS = 16
"""Threads for requests of small objects, such as footers, where latency counts and not bandwidth."""

_P = ParamSpec("_P")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class DaemonThreads(Executor):
    """A fixed number of daemon threads that run submitted calls in order.

    The interpreter joins the threads of a `ThreadPoolExecutor` when it exits, even those that wait for a store that
    does not answer. It does not join these.
    """

    def __init__(self, count: int, name: str) -> None:
        """Start the threads.

        Args:
            count: number of threads.
            name: prefix of the threads' names.
        """
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._count = count
        self._closed = False
        for index in range(count):
            Thread(target=_run_calls, args=(self._calls,), name=f"{name}-{index}", daemon=True).start()

    def submit(self, fn: Callable[_P, _Result], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_Result]:
        """Queue a call; return its future."""
        if self._closed:
            raise RuntimeError("these threads are closed")
        future: Future[_Result] = Future()
        self._calls.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Accept no more calls. Never waits for running calls: wait for their futures instead."""
        if self._closed:
            return
        self._closed = True
        while cancel_futures and not self._calls.empty():
            call = self._calls.get()
            if call is not None:
                call[0].cancel()
        for _ in range(self._count):
            self._calls.put(None)


def _run_calls(calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (call := calls.get()) is not None:
        future, work = call
        if future.set_running_or_notify_cancel():
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        del call, future, work  # a waiting thread must not keep a result alive


def in_parallel(work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int) -> list[_Result]:
    """Apply a function to every item in daemon threads.

    After an error, or an interrupt of the caller, no further call begins, and running calls are not waited for: `work`
    must be harmless if it ends later or never.

    Args:
        work: the function.
        items: its arguments.
        threads: most threads.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: the error of the first failed item in their order.
    """
    listed = list(items)
    if not listed:
        return []
    pool = DaemonThreads(min(threads, len(listed)), "esv-parallel")
    try:
        return [future.result() for future in [pool.submit(work, item) for item in listed]]
    finally:
        pool.shutdown(cancel_futures=True)
