"""Decoding in this process: fastest, but a file that crashes its decoder ends the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from esv_ray.decoding.media_file import Source
from esv_ray.decoding.protocol import Video
from esv_ray.decoding.sources import open_source

OpenVideo = Callable[[Source, int, Callable[[], None]], Video]
"""Opens a video, given its file, a number of threads, and what to call at each step of the work."""


class InProcessDecoder:
    """Decodes videos in this process; see `protocol.Decoder`."""

    def __init__(self, open_video: OpenVideo, threads: int) -> None:
        """Create the decoder from an implementation and the number of threads that decode one video."""
        self._open_video, self._threads = open_video, threads

    @contextmanager
    def open(self, source: str) -> Iterator[Video]:
        """Open a video; see `protocol.Decoder.open`."""
        with open_source(source) as file:
            video = self._open_video(file, self._threads, _nothing)
            try:
                yield video
            finally:
                video.close()

    def close(self) -> None:
        """Do nothing: the decoder holds nothing."""


def _nothing() -> None:
    """Take note of no progress."""
