"""What the page headers of a Parquet column chunk say, read before Arrow decodes anything.

A footer may promise three values where a page holds two thousand million, and a page of a few bytes may hold that many
(run lengths), so that only the pages' own headers bound what decoding takes (parquet-format, PageHeader).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from esv_ray.errors import DataError
from esv_ray.input.parquet.thrift import I32, STRUCT, read_struct

_DATA, _DATA_V2 = 0, 3
_FIRST_READ, _LARGEST_HEADER = 2**10, 2**24  # bytes; statistics may hold long values; Arrow's own limit
_PADDING = 100  # bytes that Arrow reads beyond a chunk, whose size some old writers told too small

Bytes = Callable[[int, int], bytes]  # of a file: position, most bytes


@dataclass(frozen=True)
class ChunkSize:
    """What decoding a column chunk meets.

    Attributes:
        values: nulls included.
        largest: bytes of its largest page, uncompressed.
    """

    values: int
    largest: int


def chunk_size(read: Bytes, start: int, size: int, promised: int) -> ChunkSize:
    """Values and sizes of the pages of a column chunk, told by their headers.

    Args:
        read: gives bytes of the file.
        start: of the first page.
        size: bytes of all pages.
        promised: values, by the footer; what comes behind the page that completes them is never decoded.

    Raises:
        DataError: a header is none.
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
    values: int  # 0: of a page that is no data page
    uncompressed: int
    compressed: int


def _header(read: Bytes, at: int, most: int) -> tuple[_Header, int]:
    """The page header at a position, and how many bytes it takes."""
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
    found = [number for number in sizes if isinstance(number, int) and number >= 0]
    if len(found) < len(sizes):
        raise DataError(f"the page header at byte {at} tells no sizes")
    return _Header(*found), length
