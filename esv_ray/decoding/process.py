"""A decoding process, from the side of the process that started it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from esv_ray.decoding import messages
from esv_ray.decoding.child import Settings
from esv_ray.decoding.frames import VideoFrame
from esv_ray.decoding.media_file import Source
from esv_ray.errors import JobError

_START_S = 120.0
"""Most seconds of a start; a second where nothing else runs."""
_PIPE_BYTES = 2**20  # what Linux lets any user have
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME")
# Beside the decoder's own threads none are needed.
_ENVIRONMENT = {"PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class EndedError(Exception):
    """The decoding process has ended, hangs, or sends nonsense; the text says which, e.g. ``crashed (SIGSEGV)``."""


class DecodingProcess:
    """A running process; it is started, not forked, since this process has threads."""

    def __init__(self, implementation: str, threads: int, memory: int, patience: float) -> None:
        """Start the process, and wait until it has imported its packages.

        Args:
            implementation: ``module:name`` of what opens a video.
            threads: that decode one video.
            memory: most bytes of the process.
            patience: seconds without progress after which it counts as hung.

        Raises:
            JobError: it does not start.
        """
        self._patience = patience
        self._orders, theirs = socket.socketpair()
        self._answers, answers = os.pipe()
        os.set_blocking(self._answers, False)
        _widen(self._answers)
        settings = Settings(implementation, threads, memory, theirs.fileno(), answers, os.getpid())
        command = [sys.executable, "-m", "esv_ray.decoding.child", json.dumps(settings)]
        with tempfile.TemporaryFile() as complaints:
            try:
                self._process = subprocess.Popen(  # noqa: S603  # this program
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    pass_fds=(theirs.fileno(), answers),
                    start_new_session=True,
                    env=_environment(),
                )
            except OSError as error:
                self._close()
                raise JobError(f"cannot start a decoding process: {error}") from error
            finally:
                theirs.close()
                os.close(answers)
            try:
                kind, length = self._head(time.monotonic() + max(_START_S, patience))
                if kind != messages.HELLO or length:
                    raise EndedError("sent nonsense")
            except EndedError as error:
                self.end()
                complaints.seek(0)
                said = complaints.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
                raise JobError(f"a decoding process does not start: it {error}; {said[-1] if said else ''}") from error

    def open(self, source: Source) -> None:
        """Send a video."""
        described = {"name": source.name, "size": source.size, "remote": source.remote}
        self.send(messages.OPEN, messages.encode_json(described), [] if source.remote else [source.file.fileno()])

    def send(self, kind: bytes, content: bytes = b"", files: Sequence[int] = ()) -> None:
        """Send an order.

        Raises:
            EndedError: the process is gone.
        """
        data = messages.HEAD.pack(kind, len(content)) + content
        try:
            sent = socket.send_fds(self._orders, [data], files) if files else 0
            self._orders.sendall(data[sent:])
        except OSError:
            raise EndedError(self._how_it_ended()) from None

    @property
    def number(self) -> int:
        """The process ID."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Return whether the process is gone."""
        return self._process.poll() is not None

    def answer(
        self, give: Callable[[int, int], bytes | None], patience: float | None = None
    ) -> tuple[bytes, bytes | VideoFrame]:
        """Return kind and content of the next answer; signs of progress and requests for bytes are dealt with.

        Args:
            give: reads a part of the video's file, given its first byte and their number; None: it cannot.
            patience: seconds to wait; None: those of the process.

        Raises:
            EndedError: the process is gone, makes no progress, or sends nonsense.
        """
        while True:
            kind, length = self._head(time.monotonic() + (patience or self._patience))
            if kind == messages.IMAGE:
                return kind, self._frame(length)
            if length > messages.MOST_TEXT:
                raise EndedError("sent nonsense")
            content = self._exactly(length)
            if kind == messages.READ:
                self._give(content, give)
            elif kind != messages.ALIVE:
                return kind, content

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _give(self, content: bytes, give: Callable[[int, int], bytes | None]) -> None:
        if len(content) != messages.PART.size:
            raise EndedError("sent nonsense")
        data = give(*messages.PART.unpack(content))
        self.send(messages.NO_DATA if data is None else messages.DATA, data or b"")

    def _frame(self, length: int) -> VideoFrame:
        if not messages.FRAME.size < length <= messages.MOST_IMAGE:
            raise EndedError("sent nonsense")
        try:
            index, seconds, height, width = messages.decode_frame(self._exactly(messages.FRAME.size))
        except ValueError:
            raise EndedError("sent nonsense") from None
        if length - messages.FRAME.size != height * width * 3:
            raise EndedError("sent nonsense")
        image = np.empty((height, width, 3), np.uint8)
        self._read_into(image.data.cast("B"), None)
        return VideoFrame(index, seconds, image)

    def _head(self, until: float | None) -> tuple[bytes, int]:
        data = bytearray(messages.HEAD.size)
        self._read_into(memoryview(data), until)
        kind, length = messages.HEAD.unpack(data)
        return kind, length

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        self._read_into(memoryview(data), None)
        return bytes(data)

    def _read_into(self, view: memoryview, until: float | None) -> None:
        """Fill a buffer; each byte that arrives is progress."""
        until = until or time.monotonic() + self._patience
        while len(view):
            try:
                count = os.readv(self._answers, [view])
            except BlockingIOError:
                if not select.select([self._answers], [], [], max(0.0, until - time.monotonic()))[0]:
                    raise EndedError(f"made no progress in {self._patience:g} s") from None
                continue
            if not count:
                raise EndedError(self._how_it_ended())
            view = view[count:]
            until = max(until, time.monotonic() + self._patience)

    def _how_it_ended(self) -> str:
        """Return how the process ended, e.g. ``crashed (SIGSEGV)``."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code == -signal.SIGKILL:
            return "was killed (SIGKILL), perhaps for want of memory"
        if code < 0:
            return f"crashed ({signal.Signals(-code).name})"
        return f"ended with exit code {code}"

    def _close(self) -> None:
        self._orders.close()
        os.close(self._answers)


def _widen(pipe: int) -> None:
    """Give a pipe room for an image, so that the decoder does not wait for each small part to be read."""
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (AttributeError, OSError):  # not Linux, or no room left for this user: slower
        return


def _environment() -> dict[str, str]:
    """Return the environment of the process: nothing that it does not need, above all no credentials."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = os.pathsep.join(str(Path(entry).absolute()) if entry else str(Path.cwd()) for entry in sys.path)
    return kept | _ENVIRONMENT | {"PYTHONPATH": path}
