"""A seekable file over a function that reads exact ranges."""

from __future__ import annotations

import io
from collections.abc import Callable


class RangeFile(io.RawIOBase):
    """A file of known size; each read is one call of a function, and nothing is read ahead."""

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]) -> None:
        """Create the file.

        Args:
            size: bytes.
            read_range: returns the bytes from a position on, given the position and their number.
        """
        self._size, self._read_range, self._position = size, read_range, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; reads nothing."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"expected a position >= 0, got {start + offset}")
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, fewer only at the end of the file."""
        remaining = max(0, self._size - self._position)
        count = remaining if size is None or size < 0 else min(size, remaining)
        data = self._read_range(self._position, count) if count else b""
        self._position += len(data)
        return data

    readall = read

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read the next bytes into a buffer."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
