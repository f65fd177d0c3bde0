"""Decoders that end badly, for tests of their isolation; each opens a file of any content."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from esv_ray.decoding import Request, Resize, VideoFrame, VideoSummary
from esv_ray.decoding.media_file import Source


class Scripted:
    """A video of black frames; the content of its file says what happens after the first of them."""

    def __init__(self, source: Source, threads: int, progress: Callable[[], None]) -> None:
        self._name, self._progress = source.name, progress
        self._script = source.file.read().decode()
        self._is_slow = True
        if self._script == "crash at the start":
            os.kill(os.getpid(), signal.SIGSEGV)

    @property
    def source(self) -> str:
        return self._name

    def frames(
        self, request: Request, *, start: float | None = None, end: float | None = None, resize: Resize | None = None
    ) -> Iterator[VideoFrame]:
        for index in range(3):
            yield VideoFrame(index, index / 25, np.full((2, 2, 3), os.getpid() % 256, np.uint8))
            self._happen()

    def summary(self) -> VideoSummary:
        return VideoSummary(shown=3, lost=7, notes=("a note",))

    def close(self) -> None:
        pass

    def _happen(self) -> None:
        match self._script:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(600)
            case "slow":  # but it goes on
                for _ in range(8 if self._is_slow else 0):
                    time.sleep(0.5)
                    self._progress()
                self._is_slow = False
            case "memory":
                np.ones(2**31, np.uint8)  # 2 GiB
            case "bug":
                raise KeyError("a bug")
            case "nonsense":
                answers = int(sys.argv[1].split(",")[4])
                os.write(answers, b"\xff" * 100)
