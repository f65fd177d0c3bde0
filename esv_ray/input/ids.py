"""Ids of videos: read as text from their plain form (`columns`), limited in length, and checked for repetitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.input.columns import LONGEST_ID


def read_ids(column: pa.ChunkedArray) -> tuple[list[str], dict[int, str]]:
    """Return the id of each row, "" where there is none, and the faults by row."""
    ids, faults = [""] * len(column), {}
    for row, video_id in enumerate(column.to_pylist()):
        if not video_id:
            faults[row] = "video_id is null or empty"
        elif len(video_id) > LONGEST_ID:
            faults[row] = f"video_id is longer than {LONGEST_ID} bytes"
        else:
            try:
                ids[row] = video_id.decode()
            except UnicodeDecodeError:
                faults[row] = "video_id is not UTF-8"
    return ids, faults


def constant(value: str | None, rows: int) -> pa.Array:
    """Return text that a directory names, (rows,) times, in its plain form."""
    return pa.repeat(pa.scalar(None if value is None else value.encode(), pa.large_binary()), rows)


def short_ids(ids: pa.Array) -> pa.Array:
    """Return ids, null where they are too long."""
    long = pc.fill_null(pc.greater(pc.binary_length(ids), LONGEST_ID), False)
    if not pc.any(long).as_py():
        return ids
    # Not by pc.if_else, which keeps a buffer with the ids that are left out.
    kept = [None if too_long else value.as_py() for value, too_long in zip(ids, long.to_pylist(), strict=True)]
    return pa.array(kept, pa.large_binary())


def repeated_rows(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the rows that repeat an id of an earlier row, ascending; nulls and empty ids do not count."""
    filled = pc.fill_null(ids.combine_chunks(), b"")
    codes = filled.dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    return np.flatnonzero(again & pc.not_equal(filled, b"").to_numpy(zero_copy_only=False))
