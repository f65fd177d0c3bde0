"""The ids of a whole file, read within a budget, and the rows that repeat an id."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError
from esv_ray.input.parquet.opening import OpenedFile
from esv_ray.input.parquet.sizes import ROWS_AT_ONCE, checked_size
from esv_ray.input.plain import constant, short_ids

_ID_BYTES = 48  # of an id in addition to its text: offset, code, share of a hash table
_TOO_LARGE = (
    "the ids of its row group, with those before it in the file, take more memory than compute.memory_budget = {}: "
    "write smaller files, or shorter ids"
)


class FileIds(NamedTuple):
    """The result of checking the ids of a file.

    Attributes:
        repeated: rows of the file that repeat an earlier id, ascending.
        refusals: row groups whose ids take too much memory, and why.
    """

    repeated: npt.NDArray[np.int64]
    refusals: dict[int, str]


class GroupIds(NamedTuple):
    """Ids of a row group.

    Attributes:
        ids: (rows,) large binary.
        n_bytes: bytes of memory.
    """

    ids: pa.ChunkedArray
    n_bytes: int


def read_file_ids(opened: OpenedFile, budget: int) -> FileIds:
    """Find the rows of a file that repeat an id.

    Args:
        opened: the file; `OpenedFile.fetch` of the ids saves requests.
        budget: bytes that the ids of all its row groups may take together.

    Raises:
        DataError: ids are broken, or a row group has more rows than fit in memory.
    """
    url, groups = opened.footer.file.url, opened.footer.groups
    ids, refusals, n_bytes = [], {}, 0
    single = sum(group.rows for group in groups) == 1  # nothing repeats: only the memory is checked
    for index, group in enumerate(groups):
        read = read_group_ids(opened, index, budget - n_bytes, decode=not single)
        if read is None:
            refusals[index] = _TOO_LARGE.format(budget)
            if 8 * group.rows > budget - n_bytes:
                raise DataError(f"{url}: expected row groups of fewer rows, got {group.rows}")
            read = GroupIds(pa.chunked_array([pa.nulls(group.rows, pa.large_binary())]), 8 * group.rows)
        ids += read.ids.chunks
        n_bytes += read.n_bytes
    return FileIds(repeated_rows(pa.chunked_array(ids, pa.large_binary())), refusals)


def read_group_ids(opened: OpenedFile, row_group: int, budget: int, *, decode: bool = True) -> GroupIds | None:
    """Read the ids of a row group as bytes; None if they exceed the memory budget.

    Args:
        opened: the file.
        row_group: number of the row group.
        budget: bytes.
        decode: whether to read them; else they are null, if they would not exceed the budget.

    Raises:
        DataError: they are broken.
    """
    footer = opened.footer
    group = footer.groups[row_group]
    if "video_id" in group.chunks:
        return _decoded_ids(opened, row_group, budget, decode=decode)
    value = footer.file.named["video_id"]
    n_bytes = group.rows * (_ID_BYTES + len(value or ""))
    return GroupIds(pa.chunked_array([short_ids(constant(value, group.rows))]), n_bytes) if n_bytes <= budget else None


def _decoded_ids(opened: OpenedFile, row_group: int, budget: int, *, decode: bool) -> GroupIds | None:
    footer, location = opened.footer, opened.location(row_group)
    group = footer.groups[row_group]
    chunk = group.chunks["video_id"]
    n_bytes = chunk.size + _ID_BYTES * chunk.values
    if n_bytes > budget:
        return None
    size = checked_size(opened.source.at, group, "video_id", location)
    n_bytes += 2 * size.largest
    longest = max(size.largest, footer.text_widths.get("video_id", 0))
    rows = min(ROWS_AT_ONCE, (budget - n_bytes) // (4 * longest + 1))
    if rows < 1:
        return None
    if not decode:
        return GroupIds(pa.chunked_array([pa.nulls(group.rows, pa.large_binary())]), n_bytes)
    parts: list[pa.Array] = []
    for batch in opened.batches(row_group, ["video_id"], rows):
        parts.append(short_ids(batch.column("video_id").combine_chunks()))
        n_bytes += pc.sum(pc.binary_length(parts[-1])).as_py() or 0
        if n_bytes > budget:
            return None
    if sum(map(len, parts)) != group.rows:
        raise DataError(f"{location}: has fewer rows than its footer says; write the file again")
    return GroupIds(pa.chunked_array(parts, pa.large_binary()), n_bytes)


def repeated_rows(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the rows that repeat an id of an earlier row, ascending; nulls and empty ids do not count."""
    if len(ids) < 2:
        return np.zeros(0, np.int64)
    filled = pc.fill_null(ids.combine_chunks(), b"")
    codes = filled.dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    return np.flatnonzero(again & pc.not_equal(filled, b"").to_numpy(zero_copy_only=False))
