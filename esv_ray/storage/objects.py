"""Reading objects: whole, or exact ranges of them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import DataError
from esv_ray.parallel import in_parallel
from esv_ray.storage.location import is_local, open_location
from esv_ray.storage.range_file import RangeFile
from esv_ray.storage.transport import requests
from esv_ray.storage.transport.bounds import RequestLimits
from esv_ray.storage.transport.faults import attempt

MOST_BYTES = 2**32
"""Most bytes of an object of unknown size: more than any that this project writes."""
_GAP = 2**18  # bytes; ranges nearer to each other than this are read in one request
_RANGE_READERS = 8  # threads; more save no time where bandwidth counts


def read_bytes(url: str, doing: str, most: int = MOST_BYTES) -> bytes:
    """Read the whole content of one object.

    Args:
        url: its location.
        doing: what is being done, for the error.
        most: most bytes; a larger object is refused before it is read, or cut off if its store gave another size.

    Raises:
        DataError: it does not exist, cannot be read, or is too large.
    """
    fs, path = open_location(url)
    return attempt(url, doing, lambda: content(fs, path, url, doing, most))


def content(fs: AbstractFileSystem, path: str, url: str, doing: str, most: int = MOST_BYTES) -> bytes:
    """Try `read_bytes` once; errors of the store's client go through."""
    size = _size(fs, path)
    if size is not None and size > most:
        raise _too_large(url, doing, most, str(size))
    # One byte more shows an object that is longer: too large, or replaced in the meantime.
    if size is None or is_local(fs):
        data = requests.cat_whole(fs, path, most if size is None else size)
    else:
        data = requests.cat(fs, path, 0, size + 1) if size else b""
    if len(data) > most:
        raise _too_large(url, doing, most, "more")
    if size is not None and len(data) != size:
        raise ConnectionError(f"expected {size} bytes, got {len(data)}")
    return data


def _too_large(url: str, doing: str, most: int, got: str) -> DataError:
    return DataError(
        f"cannot {doing}: {url}: expected at most {most} bytes, got {got}; check that the location is right"
    )


def exists(url: str) -> bool:
    """Return whether an object exists.

    Raises:
        DataError: the store does not say.
    """
    fs, path = open_location(url)
    return attempt(url, "look up", lambda: is_there(fs, path))


def is_taken(url: str) -> bool:
    """Return whether anything has this name: an object, a folder, on a disk also a broken link.

    Raises:
        DataError: the store does not say.
    """
    fs, path = open_location(url)
    return os.path.lexists(path) if is_local(fs) else exists(url)


def is_there(fs: AbstractFileSystem, path: str) -> bool:
    """Return whether an object exists; ``fs.exists`` returns False for every error."""
    try:
        requests.info(fs, path)
    except FileNotFoundError:
        return False
    return True


def reader(url: str, doing: str, size: int | None = None) -> BinaryIO:
    """Open an object for reading exact ranges, e.g. by ``pyarrow.parquet.ParquetFile``.

    On an object store every read is one ranged request, which is retried after transient faults and checked for its
    number of bytes. Nothing is read ahead: s3fs's own file read 52 MB where 9 MB were needed.

    Args:
        url: its location.
        doing: what is being done, for the errors.
        size: bytes; None: ask the store.

    Raises:
        DataError: it does not exist or cannot be opened; the methods of the file raise it, too.
    """
    fs, path = open_location(url)
    if is_local(fs):
        return attempt(url, doing, lambda: requests.in_time(lambda: Path(path).open("rb"), RequestLimits()))
    if size is None:
        size = attempt(url, doing, lambda: _size(fs, path))
    if size is None:  # some web servers do not say
        return io.BytesIO(read_bytes(url, doing))

    def read_range(start: int, count: int) -> bytes:
        return attempt(url, doing, lambda: _read_range(fs, path, start, count))

    return cast(BinaryIO, RangeFile(size, read_range))


def read_ends(urls: Sequence[str], doing: str, most: int) -> list[bytes] | None:
    """Read the last bytes of many small files of a disk, in one step of the thread that bounds the time.

    A step for each file would take ten times as long as the reading.

    Args:
        urls: their locations.
        doing: what is being done, for the errors.
        most: bytes of each; fewer of a smaller file.

    Returns:
        The bytes of each; None if they are not on a disk, or one cannot be read: then only `reader` says why.
    """
    places = [open_location(url) for url in urls]
    if not all(is_local(fs) for fs, _ in places):
        return None
    limits = RequestLimits(gives=most * len(urls))
    return attempt(urls[0], doing, lambda: requests.in_time(lambda: _ends([path for _, path in places], most), limits))


def _ends(paths: Sequence[str], most: int) -> list[bytes] | None:
    ends = []
    for path in paths:
        try:
            with Path(path).open("rb", buffering=0) as file:
                file.seek(-min(most, file.seek(0, io.SEEK_END)), io.SEEK_END)
                ends.append(file.read(most))
        except OSError:
            return None
    return ends


def read_ranges(url: str, doing: str, size: int, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """Read ranges of an object in parallel, those near each other in one request.

    Args:
        url: its location.
        doing: what is being done, for the errors.
        size: bytes of the object.
        ranges: first byte and end of each.

    Returns:
        First byte and content of each range that was read; together they cover the ranges asked for.

    Raises:
        DataError: it does not exist or cannot be read.
    """

    def read(part: tuple[int, int]) -> tuple[int, bytes]:
        start, stop = part
        with reader(url, doing, size) as file:
            file.seek(start)
            return start, file.read(stop - start)

    return in_parallel(read, _joined(ranges), threads=_RANGE_READERS)


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges (first byte, end) that are near each other."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= _GAP:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _size(fs: AbstractFileSystem, path: str) -> int | None:
    entry = requests.info(fs, path)
    if entry["type"] == "directory":
        raise IsADirectoryError(path)
    size: int | None = entry["size"]
    return None if entry["type"] == "other" else size  # a pipe has no size


def _read_range(fs: AbstractFileSystem, path: str, start: int, size: int) -> bytes:
    """Try to read a range once; errors of the store's client go through."""
    data = requests.cat(fs, path, start, start + size)
    if len(data) != size:
        raise ConnectionError(f"expected {size} bytes from {start}, got {len(data)}")
    return data
