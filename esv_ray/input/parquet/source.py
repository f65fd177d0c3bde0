"""The bytes of a feature table's file: its tail and the ranges of a row group are kept, others are read as needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.input.files import InputFile
from esv_ray.parallel import in_parallel

_DOING = "read the feature table"
_GAP = 2**18  # bytes; ranges nearer to each other than this are read in one request
_THREADS = 8
_TAIL = 100  # bytes that Arrow may read after a column chunk


class FileSource:
    """A file of the table, read in exact ranges. One thread at a time."""

    def __init__(self, file: InputFile) -> None:
        self.size = file.size
        self._url = file.url
        self._file = storage.reader(file.url, _DOING, file.size)
        self._local = storage.is_local(storage.open_location(file.url)[0])
        self._ranges: list[tuple[int, bytes]] = []
        self._tail = file.size, b""

    def at(self, start: int, size: int) -> bytes:
        """Return `size` bytes from a position on, fewer only at the end of the file."""
        tail_start, tail = self._tail
        if start + size <= tail_start:
            return self._stored(start, size)
        before = self._stored(start, tail_start - start) if start < tail_start else b""
        return before + tail[max(0, start - tail_start) : start + size - tail_start]

    def keep_tail(self, start: int, data: bytes) -> None:
        """Keep the bytes from a position to the end of the file; they may differ from the stored ones."""
        self._tail = start, data

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges (first byte, bytes) of an object in parallel and keep them in place of the earlier ones.

        Ranges of a file on a disk are read when they are used.
        """
        self._ranges = []
        if not self._local:
            joined = _joined([(start, min(start + size + _TAIL, self.size)) for start, size in ranges])
            self._ranges = in_parallel(self._read_range, joined, threads=_THREADS)

    def stream(self) -> storage.RangeFile:
        """Return a file object for Arrow."""
        return storage.RangeFile(self.size, self.at)

    def close(self) -> None:
        """Close the file and drop the bytes that are kept."""
        self._ranges = []
        self._file.close()

    def _read_range(self, part: tuple[int, int]) -> tuple[int, bytes]:
        start, stop = part
        with storage.reader(self._url, _DOING, self.size) as file:
            file.seek(start)
            return start, file.read(stop - start)

    def _stored(self, start: int, size: int) -> bytes:
        for first, data in self._ranges:
            if first <= start and start + size <= first + len(data):
                return data[start - first : start - first + size]
        self._file.seek(start)
        return self._file.read(size)


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges (first byte, end) that are near each other."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= _GAP:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


@contextmanager
def decoding(location: str) -> Iterator[None]:
    """Turn what Arrow raises on broken Parquet into a `DataError`."""
    try:
        with storage.locating(location, _DOING):
            yield
    except (pa.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{location}: expected a Parquet file: {short_text(error)}") from None
