"""Page headers of a Parquet column chunk, read before Arrow decodes anything.

A footer may say three values where a page holds two billion, and a page of a few bytes can hold as many (run lengths).
So only the page headers limit the memory that decoding takes (parquet-format, PageHeader).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from esv_ray.errors import DataError
from esv_ray.input.parquet.thrift import I32, STRUCT, read_struct

_DATA, _DATA_V2 = 0, 3
_FIRST_READ, _LARGEST_HEADER = 2**10, 2**24  # bytes; statistics may contain long values; the second is Arrow's limit
_PADDING = 100  # bytes that Arrow reads after a chunk, since some old writers stored sizes that are too small

Bytes = Callable[[int, int], bytes]  # reads bytes of a file: position, most bytes


@dataclass(frozen=True)
class ChunkSize:
    """Values and sizes of the pages of a column chunk.

    Attributes:
        values: number of values, nulls included.
        largest: bytes of its largest page, uncompressed.
    """

    values: int
    largest: int


def chunk_size(read: Bytes, start: int, size: int, promised: int) -> ChunkSize:
    """Return values and sizes of the pages of a column chunk, from their headers.

    Args:
        read: reads bytes of the file.
        start: position of the first page.
        size: bytes of all pages.
        promised: number of values, by the footer; pages after the one that completes them are never decoded.

    Raises:
        DataError: a page header is malformed.
    """
    values = largest = 0
    at, stop = start, start + size
    while values < promised and at < stop + _PADDING:
        try:
            header, length = _header(read, at, stop + _PADDING - at)
        except DataError:
            if at >= stop:
                break
            raise
        largest = max(largest, header.uncompressed, header.compressed)
        values += header.values
        at += length + header.compressed
    return ChunkSize(values, largest)


@dataclass(frozen=True)
class _Header:
    values: int  # 0 for pages other than data pages
    uncompressed: int
    compressed: int


def _header(read: Bytes, at: int, most: int) -> tuple[_Header, int]:
    """Read the page header at a position; return it and its number of bytes."""
    size = min(_FIRST_READ, most)
    while True:
        data = read(at, size)
        try:
            fields, length = read_struct(data)
            break
        except IndexError:
            if len(data) < size or size >= min(most, _LARGEST_HEADER):
                raise DataError(f"the page header at byte {at} does not end") from None
            size = min(8 * size, most, _LARGEST_HEADER)
    kind = fields.get((1, I32))
    data_page = fields.get(({_DATA: 5, _DATA_V2: 8}.get(kind, -1), STRUCT)) if isinstance(kind, int) else None
    without = None if kind in (_DATA, _DATA_V2) else 0
    values = data_page.get((1, I32)) if isinstance(data_page, dict) else without
    sizes = (values, fields.get((2, I32)), fields.get((3, I32)))
    valid = [number for number in sizes if isinstance(number, int) and number >= 0]
    if len(valid) < len(sizes):
        raise DataError(f"the page header at byte {at} has no sizes")
    return _Header(*valid), length
