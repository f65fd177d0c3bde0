"""The bytes of a video as FFmpeg reads them.

FFmpeg never opens a name: it reads the bytes of a file that this project has opened. So no name, whatever its
characters, is taken for a protocol of FFmpeg (``concat:``, ``http:``), a pattern of images or an option.
"""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

from esv_ray.errors import DataError, short_text

AHEAD = 2**21
"""Bytes that one request to a store reads."""
WHOLE = 2**25
"""Most bytes of an object that is read in one request and kept in memory."""


class Source(NamedTuple):
    """An open file.

    Attributes:
        name: as the user gave it, for errors.
        size: bytes.
        file: positioned anywhere; reads exactly what is asked for.
        remote: whether each read is a request to a store.
    """

    name: str
    size: int
    file: BinaryIO
    remote: bool


class MediaFile:
    """A file as PyAV reads it: ahead where reads cost a request, and with wrong positions refused as in C."""

    def __init__(self, source: Source) -> None:
        """Start at the beginning of an open file."""
        self._source, self._file, self._size = source, source.file, source.size
        self._ahead = (source.size if source.size <= WHOLE else AHEAD) if source.remote else 0
        self._position = self._start = 0
        self._block = memoryview(b"")

    def read(self, count: int) -> bytes:
        """Return some of the next bytes, at most `count`; none at the end.

        Raises:
            DataError: the file cannot be read.
        """
        if not self._start <= self._position < self._start + len(self._block):
            if self._position >= self._size:
                return b""
            try:
                self._file.seek(self._position)
                block = self._file.read(max(count, self._ahead))
            except OSError as error:
                raise DataError(f"{self._source.name}: cannot read the video: {short_text(error)}") from error
            self._start, self._block = self._position, memoryview(block)
        begin = self._position - self._start
        data = bytes(self._block[begin : begin + count])
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position and return it; -22 (EINVAL) for a position before the start, as damaged files ask for."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(whence)
        if base is None or not 0 <= base + offset < 2**63:
            return -22
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position
