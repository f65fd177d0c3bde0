"""A feature table's file as Arrow reads it: some ranges fetched from an object store together, others as asked for."""

from __future__ import annotations

import io
from collections.abc import Sequence

from esv_ray import storage
from esv_ray.input.files import InputFile
from esv_ray.parallel import in_parallel

_DOING = "read the feature table"
_GAP = 2**18  # bytes that are rather fetched than asked for in two requests
_FETCHERS = 8
_TAIL = 100  # bytes that Arrow may read behind a chunk


class Fetched(io.RawIOBase):
    """A file whose ranges may be fetched at once; what was not fetched is read when it is asked for."""

    def __init__(self, file: InputFile) -> None:
        self._of = file
        self._file = storage.reader(file.url, _DOING, file.size)
        self._local = storage.is_local(storage.open_location(file.url)[0])
        self._kept: list[tuple[int, bytes]] = []
        self._footer = file.size, b""
        self._place = 0

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch ranges (first byte, bytes) from an object store, in place of those fetched before; not from a disk."""
        if self._local:
            return
        joined = _joined([(start, min(start + size + _TAIL, self._of.size)) for start, size in ranges])

        def get(piece: tuple[int, int]) -> tuple[int, bytes]:
            file = storage.reader(self._of.url, _DOING, self._of.size)
            file.seek(piece[0])
            return piece[0], file.read(piece[1] - piece[0])

        self._kept = []
        self._kept = in_parallel(get, joined, threads=_FETCHERS)

    def put_footer(self, start: int, data: bytes) -> None:
        """Give other bytes from a place to the end."""
        self._footer = start, data

    def at(self, place: int, size: int) -> bytes:
        """At most so many bytes from a place on."""
        start, footer = self._footer
        if place + size <= start:
            return self._stored(place, size)
        before = self._stored(place, start - place) if place < start else b""
        return before + footer[max(0, place - start) : place + size - start]

    def _stored(self, place: int, size: int) -> bytes:
        for start, data in self._kept:
            if start <= place and place + size <= start + len(data):
                return data[place - start : place - start + size]
        self._file.seek(place)
        return self._file.read(size)

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        left = max(0, self._of.size - self._place)
        data = self.at(self._place, left if size is None or size < 0 else min(size, left))
        self._place += len(data)
        return data

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position, bytes from the start."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        self._place = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._of.size}[whence] + offset
        return self._place

    def close(self) -> None:
        """Let go of the file and of what was fetched."""
        self._kept = []
        self._file.close()
        super().close()


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (first, last), those near each other made one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= _GAP:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined
