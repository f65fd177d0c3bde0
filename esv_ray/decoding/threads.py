"""Threads that decode videos, each with a decoder of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import TypeVar

from esv_ray.decoding.protocol import Decoder
from esv_ray.decoding.registry import open_decoder
from esv_ray.parallel import DaemonThreads

_Result = TypeVar("_Result")


class DecodingThreads:
    """Threads that decode videos, each with a decoder that is opened once and used for many."""

    def __init__(self, name: str, count: int) -> None:
        """Start the threads.

        Args:
            name: of the decoder.
            count: number of threads.
        """
        self.count = count
        self._name = name
        self._threads = DaemonThreads(count, "esv-decode")
        self._idle: list[Decoder] = []
        self._lock = Lock()
        self._closed = False

    def submit(self, work: Callable[[Decoder], _Result]) -> Future[_Result]:
        """Queue work that is called with a decoder, which it has for itself."""
        return self._threads.submit(lambda: self._with_decoder(work))

    def close(self) -> None:
        """Take no more work, and close the decoders: those at work when it ends."""
        self._threads.shutdown(cancel_futures=True)
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.close()

    def _with_decoder(self, work: Callable[[Decoder], _Result]) -> _Result:
        with self._lock:
            decoder = self._idle.pop() if self._idle else None
        decoder = decoder or open_decoder(self._name, threads=1)
        try:
            return work(decoder)
        finally:
            with self._lock:
                kept = not self._closed
                if kept:
                    self._idle.append(decoder)
            if not kept:
                decoder.close()
