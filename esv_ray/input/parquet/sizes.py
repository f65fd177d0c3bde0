"""Bound the memory for decoding a row group, from its page headers, before Arrow decodes anything.

Run lengths and dictionaries put any number of values into a few bytes, and no row can be skipped without decoding it.
So a row group counts by the values that its pages hold, not by those that the footer promises.
"""

from __future__ import annotations

from typing import NamedTuple

from esv_ray.errors import DataError
from esv_ray.input.columns import FLAT_COLUMNS
from esv_ray.input.parquet.footers import RowGroup
from esv_ray.input.parquet.pages import ChunkSize, chunk_size
from esv_ray.input.parquet.source import FileSource

ROWS_AT_ONCE = 2**16
"""Most rows that are decoded at a time."""
_LABEL_BYTES = 4  # labels and frame numbers become int32


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


def fetch_group(source: FileSource, group: RowGroup, budget: int, itemsize: int, location: str) -> GroupSize:
    """Fetch the needed columns of a row group, and decide whether decoding fits the budget.

    The memory of ids is checked earlier, when repeated ids are searched (`id_columns`).

    Args:
        source: the file.
        group: its row group.
        budget: bytes.
        itemsize: bytes of a number of the decoded features.
        location: the row group, for errors.

    Raises:
        DataError: a page header is broken.
    """
    needed, largest_pages = group.compressed, {}
    names = [name for name in group.chunks if needed <= budget or name in FLAT_COLUMNS]
    source.fetch([(group.chunks[name].start, group.chunks[name].size) for name in names])
    for name in names:
        size = checked_size(source, group, name, location)
        largest_pages[name] = size.largest
        if name == "video_id":
            needed += 2 * size.largest
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


def checked_size(source: FileSource, group: RowGroup, name: str, location: str) -> ChunkSize:
    """Return what the pages of a column chunk hold; a flat column must have one value per row.

    Raises:
        DataError: a page header is broken, or the number of values is wrong.
    """
    chunk = group.chunks[name]
    try:
        size = chunk_size(source.at, chunk.start, chunk.size, chunk.values)
        if name in FLAT_COLUMNS and size.values != group.rows:
            raise DataError(f"expected {group.rows} values, one per row, got pages of {size.values}")
    except DataError as error:
        raise DataError(f"{location}, column {name}: {error}; write the file again") from None
    return size
