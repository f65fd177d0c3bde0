"""Bound the memory for decoding a row group, from its page headers, before Arrow decodes anything.

A footer may say three values where a page holds two billion, and a page of a few bytes can hold as many: run lengths
and dictionaries put any number of values into a few bytes, and no row can be skipped without decoding it. So a row
group counts by the values that its pages hold (parquet-format, PageHeader), not by those that the footer promises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from esv_ray.errors import DataError
from esv_ray.input.parquet.chunks import RowGroup
from esv_ray.input.parquet.thrift import I32, STRUCT, read_struct
from esv_ray.input.plain import FLAT_COLUMNS

ROWS_AT_ONCE = 2**16
"""Most rows that are decoded at a time."""
_LABEL_BYTES = 4  # labels and frame numbers become int32
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


class GroupSize(NamedTuple):
    """The memory needed to decode a row group.

    Attributes:
        refusal: why the row group is not decoded, or None.
        largest_pages: bytes of the largest page of each inspected column, by name.
    """

    refusal: str | None
    largest_pages: dict[str, int]


def decoding_bytes(values: int, itemsize: int, largest_page: int = 0, result_itemsize: int = 0) -> int:
    """Return the most bytes that decoding a column chunk takes.

    Levels and values, twice while they grow (measured: 11 to 17 bytes a float32), and the result.

    Args:
        values: that its pages hold, nulls included.
        itemsize: bytes of a value in the file.
        largest_page: bytes of its largest page, uncompressed.
        result_itemsize: bytes of a value in the result; 0: no result.
    """
    return values * (2 * itemsize + 8 + result_itemsize) + 2 * largest_page


def group_size(
    read: Bytes,
    group: RowGroup,
    names: Collection[str],
    budget: int,
    itemsize: int,
    location: str,
    *,
    at_once: int | None = None,
) -> GroupSize:
    """Decide whether decoding a row group fits the budget.

    The memory of ids is checked earlier, when repeated ids are searched (`id_columns`).

    Args:
        read: reads bytes of the file.
        group: its row group.
        names: columns whose pages are looked at; the others count by their bytes on storage.
        budget: bytes.
        itemsize: bytes of a number of the decoded features.
        location: the row group, for errors.
        at_once: most values of the features that are decoded at a time (`row_starts`); the others are held as they are
            in the file, or as the result. None: all may be.

    Raises:
        DataError: a page header is broken.
    """
    needed, largest_pages = group.compressed, dict[str, int]()
    for name in names:
        size = checked_size(read, group, name, location)
        largest_pages[name] = size.largest
        if name == "video_id":
            needed += 2 * size.largest
        elif name == "features" and at_once is not None:
            own = group.chunks[name].itemsize
            needed += size.values * (own + itemsize) + decoding_bytes(at_once, own, size.largest)
        else:
            value_bytes = itemsize if name == "features" else _LABEL_BYTES
            needed += decoding_bytes(size.values, group.chunks[name].itemsize, size.largest, value_bytes)
    if needed <= budget:
        return GroupSize(None, largest_pages)
    refusal = (
        f"its row group takes up to {needed} bytes of memory when it is decoded, compute.memory_budget is {budget}: "
        "write smaller row groups, or leave absurdly long videos out"
    )
    return GroupSize(refusal, largest_pages)


def checked_size(read: Bytes, group: RowGroup, name: str, location: str) -> ChunkSize:
    """Return what the pages of a column of a row group hold; a flat column must have one value per row.

    Raises:
        DataError: a page header is broken, or the number of values is wrong.
    """
    chunk = group.chunks[name]
    try:
        size = chunk_size(read, chunk.start, chunk.size, chunk.values)
        if name in FLAT_COLUMNS and size.values != group.rows:
            raise DataError(f"expected {group.rows} values, one per row, got pages of {size.values}")
    except DataError as error:
        raise DataError(f"{location}, column {name}: {error}; write the file again") from None
    return size


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
    for _, header in page_headers(read, start, size, promised):
        largest = max(largest, header.uncompressed, header.compressed)
        values += header.values
    return ChunkSize(values, largest)


class PageHeader(NamedTuple):
    """The header of a page.

    Attributes:
        values: number of its values; 0 for pages other than data pages.
        uncompressed, compressed: bytes of the page.
        repetition_encoding: of its repetition levels, if it is a data page of the first kind.
        repetition_bytes: of its repetition levels, if it is a data page of the second kind.
    """

    values: int
    uncompressed: int
    compressed: int
    repetition_encoding: int | None
    repetition_bytes: int | None


def page_headers(read: Bytes, start: int, size: int, promised: int) -> Iterator[tuple[int, PageHeader]]:
    """Yield the position of each page of a column chunk behind its header, and the header.

    Arguments and errors as for `chunk_size`.
    """
    values, at, stop = 0, start, start + size
    while values < promised and at < stop + _PADDING:
        try:
            header, length = _header(read, at, stop + _PADDING - at)
        except DataError:
            if at >= stop:
                return
            raise
        yield at + length, header
        values += header.values
        at += length + header.compressed


def _header(read: Bytes, at: int, most: int) -> tuple[PageHeader, int]:
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
    levels = data_page if isinstance(data_page, dict) else {}
    encoding = levels.get((4, I32)) if kind == _DATA else None
    n_bytes = levels.get((6, I32)) if kind == _DATA_V2 else None
    repetition = (number if isinstance(number, int) and number >= 0 else None for number in (encoding, n_bytes))
    return PageHeader(*valid, *repetition), length
