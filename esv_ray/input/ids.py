"""Ids of videos, read as text from their plain form (`plain`)."""

from __future__ import annotations

import pyarrow as pa

from esv_ray.input.plain import LONGEST_ID


def read_ids(column: pa.Array) -> tuple[list[str], dict[int, str]]:
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


def check_ids(ids: list[str], faults: dict[int, str], directory: str | None) -> None:
    """Add a fault for each row whose id differs from that of its folder."""
    for row, video_id in enumerate(ids):
        if row not in faults and video_id != directory:
            faults[row] = f"video_id {video_id!r:.60}, but its folder is video_id={directory!r:.60}"
