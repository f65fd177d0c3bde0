"""The decoding process of `isolated`: ``python -m esv_ray.decoding.child``.

It opens no path, no location and no connection: it gets the files of videos through the socket that it inherits.
"""

from __future__ import annotations

import io
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

from esv_ray.decoding import messages
from esv_ray.decoding.media_file import Source
from esv_ray.decoding.protocol import Video
from esv_ray.errors import DataError, EsvError, SpecError, one_line

_ALIVE_S = 0.5
"""Seconds between two signs of progress."""
_PARENT_S = 2.0
"""Seconds between two looks whether the parent process is still there."""


class Settings(NamedTuple):
    """The arguments of the process.

    Attributes:
        implementation: ``module:name`` of what opens a video (`in_process.OpenVideo`).
        threads: that decode one video.
        memory: most bytes of the process.
        orders: file descriptor of the socket on which orders come.
        answers: file descriptor of the pipe for the answers.
        parent: number of the parent process.
    """

    implementation: str
    threads: int
    memory: int
    orders: int
    answers: int
    parent: int


class _StoppedError(Exception):
    """The frames are no longer wanted."""


class _Link:
    """The connection to the parent."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = socket.socket(fileno=orders), answers
        self._sent = 0.0
        self._files: list[int] = []
        self._is_stopped = False

    def send(self, kind: bytes, *content: bytes | memoryview) -> None:
        """Send a message whole; end the process if the parent is gone."""
        parts = [memoryview(part).cast("B") for part in content if len(part)]
        parts.insert(0, memoryview(messages.HEAD.pack(kind, sum(map(len, parts)))))
        try:
            while parts:
                done = os.writev(self._answers, parts)
                while parts and done >= len(parts[0]):
                    done -= len(parts.pop(0))
                if parts:
                    parts[0] = parts[0][done:]
        except BrokenPipeError:
            os._exit(0)
        self._sent = time.monotonic()

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next order; end the process if the parent is gone."""
        kind, length = messages.HEAD.unpack(self._exactly(messages.HEAD.size))
        return kind, self._exactly(length)

    def file(self) -> BinaryIO:
        """Return the file that came with the latest order."""
        return os.fdopen(self._files.pop(), "rb", buffering=0)

    def ask(self, start: int, count: int) -> bytes:
        """Return a part of the video's file, which the parent reads.

        Raises:
            DataError: the parent cannot; it knows why.
        """
        self.send(messages.READ, messages.PART.pack(start, count))
        while True:
            kind, content = self.receive()
            if kind == messages.DATA:
                return content
            if kind == messages.NO_DATA:
                raise DataError("the file cannot be read")
            self._is_stopped |= kind == messages.STOP

    def begin(self) -> None:
        """Begin a new order of frames."""
        self._is_stopped = False

    def progress(self) -> None:
        """Say that the work goes on.

        Raises:
            _StoppedError: it is no longer wanted.
        """
        if time.monotonic() - self._sent > _ALIVE_S:
            self.send(messages.ALIVE)
            self.check_wanted()

    def check_wanted(self) -> None:
        """Look for an order to stop, without waiting for one.

        Raises:
            _StoppedError: there is one.
        """
        while not self._is_stopped and select.select([self._orders], [], [], 0)[0]:
            self._is_stopped = self.receive()[0] == messages.STOP
        if self._is_stopped:
            raise _StoppedError

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part, files, _, _ = socket.recv_fds(self._orders, min(count - len(data), 2**20), 1)
            self._files += files
            if not part:
                os._exit(0)
            data += part
        return bytes(data)


class _AskedFile(io.RawIOBase):
    """A file that the parent reads."""

    def __init__(self, link: _Link, size: int) -> None:
        self._link, self._size, self._position = link, size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        self._position = offset + (self._size if whence == io.SEEK_END else 0)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, fewer only at the end of the file."""
        remaining = max(0, self._size - self._position)
        count = remaining if size is None or size < 0 else min(size, remaining)
        data = self._link.ask(self._position, count) if count else b""
        self._position += len(data)
        return data


def _serve(link: _Link, settings: Settings) -> NoReturn:
    module, _, name = settings.implementation.partition(":")
    open_video = getattr(import_module(module), name)
    link.send(messages.HELLO)
    with ExitStack() as opened:
        video: Video | None = None
        while True:
            kind, content = link.receive()
            try:
                if kind == messages.OPEN:
                    video = None
                    opened.close()
                    described = json.loads(content)
                    file = cast(BinaryIO, _AskedFile(link, described["size"])) if described["remote"] else link.file()
                    opened.callback(file.close)
                    source = Source(described["name"], described["size"], file, described["remote"])
                    video = open_video(source, settings.threads, link.progress)
                    opened.callback(video.close)
                    link.send(messages.OPENED)
                elif kind == messages.GET and video is not None:
                    _give_frames(link, video, content)
                elif kind == messages.CLOSE:
                    video = None
                    opened.close()
            except Exception as error:  # all are reported to the parent
                link.send(messages.ERROR, messages.encode_json(_described(error, settings, video)))


def _give_frames(link: _Link, video: Video, content: bytes) -> None:
    link.begin()
    order = messages.decode_order(content)
    with suppress(_StoppedError):
        for frame in video.frames(order.request, start=order.start, end=order.end, resize=order.sizes):
            link.check_wanted()
            height, width, _ = frame.image.shape
            link.send(messages.IMAGE, messages.FRAME.pack(frame.index, frame.time, height, width), frame.image.data)
    link.send(messages.END, messages.encode_summary(video.summary()))


def _described(error: Exception, settings: Settings, video: Video | None) -> dict[str, Any]:
    summary = None if video is None else messages.encode_summary(video.summary()).decode()
    if isinstance(error, MemoryError):
        limit = f"the {settings.memory / 1e9:.1f} GB of memory of a decoding process"
        return {"kind": "data", "text": f"expected a video that needs at most {limit}", "summary": summary}
    kind = "spec" if isinstance(error, SpecError) else "data" if isinstance(error, EsvError) else "bug"
    text = str(error) if isinstance(error, EsvError) else one_line(error)
    return {"kind": kind, "text": text, "summary": summary}


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even while a decoder hangs."""
    while os.getppid() == parent:
        time.sleep(_PARENT_S)
    os._exit(0)


def _limit(memory: int) -> None:
    """Limit the memory of this process, let it be the first to end where the machine has none left, dump no core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory if hard < 0 else min(memory, hard), hard))
    with suppress(OSError):  # not Linux, or no /proc
        Path("/proc/self/oom_score_adj").write_text("1000")


def main(arguments: list[str]) -> NoReturn:
    """Serve the parent process until it closes the connection."""
    settings = Settings(*json.loads(arguments[0]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with, args=(settings.parent,), daemon=True).start()
    _limit(settings.memory)
    _serve(_Link(settings.orders, settings.answers), settings)


if __name__ == "__main__":
    main(sys.argv[1:])
