"""Ids of videos: read as text from any type, limited in length, and checked for repetitions."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.input.columns import LONGEST_ID, bytes_of, is_text, is_uuid, plain_array


def read_ids(column: pa.ChunkedArray) -> tuple[list[str], dict[int, str]]:
    """Return the id of each row, "" where there is none, and the faults by row."""
    # As bytes: some writers do not check that strings are UTF-8, and Arrow would refuse the whole column.
    ids, faults = [""] * len(column), {}
    row = 0
    for chunk in column.chunks:
        plain = plain_ids(pa.chunked_array([chunk])).combine_chunks()
        long = pc.and_(pc.is_valid(chunk), pc.is_null(plain)).to_pylist()
        for video_id, too_long in zip(plain.to_pylist(), long, strict=True):
            try:
                ids[row] = (video_id or b"").decode()
            except UnicodeDecodeError:
                faults[row] = "video_id is not UTF-8"
            if not video_id:
                faults[row] = f"video_id is longer than {LONGEST_ID} bytes" if too_long else "video_id is null or empty"
            row += 1
    return ids, faults


def plain_ids(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ids as bytes, decoded where they are dictionary-encoded (categories); null where too long."""
    chunks = []
    for chunk in ids.chunks:
        if pa.types.is_dictionary(chunk.type):
            # Before they are decoded: every row may refer to one long entry.
            chunks.append(_short(as_bytes(chunk.dictionary)).take(chunk.indices))
        else:
            chunks.append(_short(as_bytes(chunk)))
    return pa.chunked_array(chunks, pa.large_binary())


def as_bytes(ids: pa.Array) -> pa.Array:
    """Return ids as the bytes of their text: integers in decimal, UUIDs in their usual form."""
    if is_uuid(ids.type):
        text = [None if value is None else str(UUID(bytes=value)) for value in ids.storage.to_pylist()]
        return pa.array(text, pa.large_string()).cast(pa.large_binary())
    ids = plain_array(ids)
    return bytes_of(ids if is_text(ids.type) else ids.cast(pa.string()))


def constant(value: str | None, rows: int) -> pa.Array:
    """Return the value that a directory names, (rows,) times."""
    return pa.repeat(pa.scalar(value, pa.string()), rows)


def cut_text(text: pa.Array, most: int) -> pa.Array:
    """Return text cut to a number of bytes."""
    plain = text.cast(pa.large_binary())
    if not pc.any(pc.greater(pc.binary_length(plain), most)).as_py():
        return text
    cut = [None if value is None else value[:most] for value in plain.to_pylist()]
    return pa.array(cut, pa.binary()).view(text.type)


def repeated_rows(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the rows that repeat an id of an earlier row, ascending; nulls and empty ids do not count."""
    filled = pc.fill_null(plain_ids(ids).combine_chunks(), b"")
    codes = filled.dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    return np.flatnonzero(again & pc.not_equal(filled, b"").to_numpy(zero_copy_only=False))


def _short(ids: pa.Array) -> pa.Array:
    long = pc.fill_null(pc.greater(pc.binary_length(ids), LONGEST_ID), False)
    if not pc.any(long).as_py():
        return ids
    # Not by pc.if_else, which keeps a buffer with the ids that are left out.
    kept = [None if too_long else value.as_py() for value, too_long in zip(ids, long.to_pylist(), strict=True)]
    return pa.array(kept, pa.large_binary())
