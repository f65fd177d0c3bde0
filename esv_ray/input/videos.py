"""All videos of a feature table in memory, for training and convergence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from esv_ray.errors import DataError
from esv_ray.input.features import Contract, Video, videos_of
from esv_ray.input.files import list_files
from esv_ray.input.numbers import INT32_MAX
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import feature_dim_of, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.machine import host_memory

_ROWS = 1024  # rows decoded at a time
_SHOWN = 3  # reasons in a message


def read_videos(
    url: str, n_classes: int | None = None, budget: int | None = None, unlabelled: Collection[int] = ()
) -> tuple[list[Video], Counter[str]]:
    """Read all valid rows of a feature table, and count the others by reason.

    The first row of an id is valid, also if several files contain the id.

    Args:
        url: the table; D is that of its type or of its first rows.
        n_classes: C; None: any label >= 0.
        budget: bytes that the videos, and the decoding of a row group, may take; None: the memory of this machine.
        unlabelled: labels that mark videos without one.

    Raises:
        DataError: the table is unreadable, not a feature table, or too large.
    """
    budget = host_memory() if budget is None else budget
    footers = read_footers(list_files(url))
    dim = feature_dim_of(footers, budget)
    if dim is None:
        raise DataError(f"{url}: expected features (T, D), but no row has frames that all have the same size D")
    videos: dict[str, Video] = {}
    faults: Counter[str] = Counter()
    n_bytes = 0
    reader = UnitReader(Contract(dim, n_classes or INT32_MAX, unlabelled=unlabelled), budget)
    for unit in plan_units(footers, _ROWS):
        rows = read_rows(unit, reader)
        faults.update(rows.faults.values())
        for video in videos_of(rows):
            if video.video_id in videos:
                faults["video_id is repeated: an earlier file has it"] += 1
            else:
                videos[video.video_id] = video
        n_bytes += int(rows.n_frames[rows.valid].sum(dtype=np.int64)) * dim * 4
        if n_bytes > budget:
            raise DataError(
                f"{url}: expected features of at most {budget} bytes, the memory available; use fewer videos"
            )
    if not videos and not faults:
        raise DataError(f"{url}: expected videos, got a table without rows")
    return list(videos.values()), faults


def reasons(left_out: Counter[str]) -> str:
    """Describe why rows are left out: the most frequent reasons, with their numbers of rows."""
    most = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{rows}: {reason}" for reason, rows in most[:_SHOWN]]
    others = sum(rows for _, rows in most[_SHOWN:])
    return "; ".join([*shown, *([f"{others} for other reasons"] if others else [])])
