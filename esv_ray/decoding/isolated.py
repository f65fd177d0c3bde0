"""Decoding in a process of its own: a file that crashes its decoder, or makes it hang, costs its own frames only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from esv_ray import machine
from esv_ray.decoding import messages
from esv_ray.decoding.frames import Request, Sizes, VideoFrame, sizes_of
from esv_ray.decoding.media_file import Source
from esv_ray.decoding.process import DecodingProcess, EndedError
from esv_ray.decoding.protocol import Video, VideoSummary
from esv_ray.decoding.selection import span_of
from esv_ray.decoding.sources import DOING, open_source
from esv_ray.errors import DataError, EsvError, SpecError, short_text

_STOP_S = 2.0
"""Seconds that a process has to stop giving frames that are no longer wanted."""


class IsolatedDecoder:
    """Decodes videos in one process after another; see `protocol.Decoder`.

    The process serves all videos that are opened one after another, and is started again after a crash.
    """

    def __init__(self, implementation: str, threads: int, patience: float, memory: int | None = None) -> None:
        """Create the decoder; its process starts with the first video.

        Args:
            implementation: ``module:name`` of what opens a video (`in_process.OpenVideo`).
            threads: that decode one video.
            patience: seconds without progress after which the process is ended.
            memory: most bytes of the process; None: most of the memory of this machine.
        """
        self._implementation, self._threads, self._patience = implementation, threads, patience
        self._memory = machine.host_memory() if memory is None else memory
        self._process: DecodingProcess | None = None
        self._is_busy = False

    @contextmanager
    def open(self, source: str) -> Iterator[Video]:
        """Open a video; see `protocol.Decoder.open`."""
        if self._is_busy:
            raise ValueError("a decoder opens one video at a time")
        self._is_busy = True
        try:
            with open_source(source) as file:
                video = IsolatedVideo(self, file)
                try:
                    yield video
                finally:
                    video.close()
        finally:
            self._is_busy = False

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def process(self) -> DecodingProcess:
        """Return the process for the next video; start it if there is none that runs.

        Raises:
            JobError: it does not start.
        """
        if self._process is not None and self._process.has_ended():
            self.close()
        if self._process is None:
            self._process = DecodingProcess(self._implementation, self._threads, self._memory, self._patience)
        return self._process


class IsolatedVideo:
    """An open video in a decoding process; see `protocol.Video`."""

    def __init__(self, decoder: IsolatedDecoder, source: Source) -> None:
        """Open the video in the process.

        Raises:
            DataError: it is no video, has no video stream, or ends its decoder.
            JobError: the process does not start.
        """
        self._decoder, self._source = decoder, source
        self._summary = VideoSummary()
        self._turn = 0  # of the latest iteration
        self._running = 0  # the turn whose frames the process gives; 0: none
        self._failure: EsvError | None = None  # of reading the file
        self._is_open = False
        self._open()

    @property
    def source(self) -> str:
        """Path or URL."""
        return self._source.name

    def summary(self) -> VideoSummary:
        """Return what came out of the latest iteration, and end it."""
        self._stop()
        return self._summary

    def frames(
        self, request: Request, *, start: float | None = None, end: float | None = None, resize: Sizes = None
    ) -> Iterator[VideoFrame]:
        """Yield the requested frames; see `protocol.Video.frames`."""
        span_of(start, end)
        sizes = sizes_of(resize)
        self._stop()
        self._turn += 1
        self._summary = VideoSummary()
        return self._frames(self._turn, messages.encode_order(messages.Order(request, start, end, sizes)))

    def close(self) -> None:
        """Close the video; the process stays for the next one."""
        self._stop()
        self._turn += 1
        if self._is_open:
            self._is_open = False
            with suppress(DataError):  # the process is started again for the next video
                self._send(messages.CLOSE)

    def _frames(self, turn: int, order: bytes) -> Iterator[VideoFrame]:
        if turn != self._turn:
            return
        if not self._is_open:  # the process was ended, since it did not stop
            self._open()
        self._send(messages.GET, order)
        self._running = turn
        try:
            while True:
                kind, content = self._answer()
                if isinstance(content, VideoFrame):
                    yield content
                    if turn != self._running:
                        return
                elif kind == messages.END:
                    self._end(content)
                    return
        finally:
            if turn == self._running:
                self._stop()

    def _open(self) -> None:
        self._process = self._decoder.process()
        with self._blaming():
            self._process.open(self._source)
        kind, _ = self._answer()
        if kind != messages.OPENED:
            raise self._blamed("sent nonsense")
        self._is_open = True

    def _send(self, kind: bytes, content: bytes = b"") -> None:
        with self._blaming():
            self._process.send(kind, content)

    def _answer(self, patience: float | None = None) -> tuple[bytes, bytes | VideoFrame]:
        """Return the next answer.

        Raises:
            DataError: the video has an error, or the process is gone; a `StorageError` if its file cannot be read.
        """
        with self._blaming():
            kind, content = self._process.answer(self._give, patience)
        if kind == messages.ERROR and not isinstance(content, VideoFrame):
            self._running = 0
            raise self._error(content)
        return kind, content

    def _error(self, content: bytes) -> Exception:
        """Return the error that the process reports."""
        failure, self._failure = self._failure, None
        if failure is not None:
            return failure
        try:
            described = json.loads(content)
            kind, text, summary = described["kind"], str(described["text"]), described["summary"]
            self._summary = VideoSummary() if summary is None else messages.decode_summary(summary.encode())
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._blamed("sent nonsense")
        if kind == "bug":
            return RuntimeError(f"{self.source}: {text}")
        return SpecError(text) if kind == "spec" else DataError(text)

    def _end(self, content: bytes) -> None:
        self._running = 0
        try:
            self._summary = messages.decode_summary(content)
        except ValueError:
            raise self._blamed("sent nonsense") from None

    def _stop(self) -> None:
        """End an iteration that runs; a process that does not stop soon is ended."""
        if not self._running:
            return
        with suppress(DataError):
            self._send(messages.STOP)
            while self._running:
                kind, content = self._answer(_STOP_S)
                if kind == messages.END and not isinstance(content, VideoFrame):
                    self._end(content)
        self._running = 0

    def _give(self, start: int, count: int) -> bytes | None:
        """Return a part of the video's file for the process; None if it cannot be read."""
        try:
            self._source.file.seek(start)
            return self._source.file.read(min(count, max(0, self._source.size - start)))
        except EsvError as error:
            self._failure = error
        except OSError as error:
            self._failure = DataError(f"{self.source}: cannot {DOING}: {short_text(error)}")
        return None

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Turn the end of the process into an error of the video."""
        try:
            yield
        except EndedError as error:
            raise self._blamed(str(error)) from error

    def _blamed(self, what: str) -> DataError:
        self._running, self._is_open = 0, False
        self._decoder.close()
        return DataError(f"{self.source}: expected a video, got a file whose decoder {what}")
