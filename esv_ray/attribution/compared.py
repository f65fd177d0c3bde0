"""What the tables say of a video, and how two computations of it differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.output.ranges import Ranges

_REAL = ("scores", "efficiency_gap")  # columns of the videos table that are compared within rounding
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class VideoValues:
    """The rows of one video in both tables.

    Attributes:
        exact: by length, and by length and class, what must be the same: of the videos table, and frames and elements.
        real: likewise what rounding may change, by column; NaN in the place of nulls.
    """

    exact: Mapping[tuple[int, ...], Mapping[str, object]]
    real: Mapping[tuple[int, ...], Mapping[str, Float32Array]]


_NOTHING = VideoValues({}, {})


def same_bits(a: VideoValues | None, b: VideoValues | None) -> bool:
    """Whether two computations of a video agree to the last bit."""
    return a is not None and b is not None and a.exact == b.exact and _bits(a) == _bits(b)


def _bits(values: VideoValues) -> dict[tuple[int, ...], dict[str, bytes]]:
    return {key: {name: column.tobytes() for name, column in of.items()} for key, of in values.real.items()}


def values_of(videos: pa.Table, attributions: pa.Table, ids: Sequence[str]) -> dict[str, VideoValues]:
    """What two tables of a unit say of some of its videos, rows that failed left out.

    Args:
        videos, attributions: of the contract's schemas.
        ids: of the videos.
    """
    wanted = pa.array(ids, pa.string())
    exact: dict[str, dict[tuple[int, ...], Mapping[str, object]]] = {video_id: {} for video_id in ids}
    real: dict[str, dict[tuple[int, ...], Mapping[str, Float32Array]]] = {video_id: {} for video_id in ids}
    mine = videos.filter(
        pc.and_(pc.is_in(videos.column("video_id"), wanted), pc.not_equal(videos.column("status"), "failed"))
    )
    for row in mine.to_pylist():
        video_id, key = row.pop("video_id"), (row["n_elements"],)
        real[video_id][key] = {name: _real(row.pop(name)) for name in _REAL}
        exact[video_id][key] = row
    mine = attributions.filter(pc.is_in(attributions.column("video_id"), wanted))
    groups = mine.group_by(["video_id", "n_elements", "class"], use_threads=False).aggregate(
        [(name, "list") for name in ("element", "frame_index", "esv", "stderr")]
    )
    for row in groups.to_pylist():
        video_id, pair = row["video_id"], (row["n_elements"], row["class"])
        exact[video_id][pair] = {name: row[f"{name}_list"] for name in ("element", "frame_index")}
        real[video_id][pair] = {name: _real(row[f"{name}_list"]) for name in ("esv", "stderr")}
    return {video_id: VideoValues(exact[video_id], real[video_id]) for video_id in ids if exact[video_id]}


def _real(value: Any) -> Float32Array:
    given = [] if value is None else value if isinstance(value, list) else [value]
    return np.array([np.nan if one is None else one for one in given], dtype=np.float32)


def differences(
    where: str, committed: Mapping[str, VideoValues], found: Mapping[str, VideoValues], ranges: Ranges
) -> list[str]:
    """How recomputed videos differ from committed ones by more than rounding, one line a video, length and column.

    Args:
        where: the unit, for people.
        committed, found: by id.
        ranges: of the job.
    """
    problems = []
    for video_id in sorted({*committed, *found}):
        before, now = committed.get(video_id, _NOTHING), found.get(video_id, _NOTHING)
        problems += [f"{where}: video {video_id!r} {told}" for told in _of_video(before, now, ranges)]
    return problems


def _of_video(committed: VideoValues, found: VideoValues, ranges: Ranges) -> Iterator[str]:
    for key in sorted({*committed.exact, *found.exact}):
        name = f"at {key[0]} elements" + (f", class {key[1]}" if len(key) > 1 else "")
        if key not in found.exact:
            yield f"{name}: committed, but not found when it is recomputed"
        elif key not in committed.exact:
            yield f"{name}: found when it is recomputed, but not committed"
        else:
            before, now = committed.exact[key], found.exact[key]
            for column in [column for column in before if before[column] != now[column]]:
                yield f"{name}: {column} is {before[column]!r:.60}, recomputed it is {now[column]!r:.60}"
    for n in sorted({key[0] for key in committed.real}):
        yield from (f"at {n} elements: {told}" for told in _of_length(n, committed.real, found.real, ranges))


def _of_length(
    n: int,
    committed: Mapping[tuple[int, ...], Mapping[str, Float32Array]],
    found: Mapping[tuple[int, ...], Mapping[str, Float32Array]],
    ranges: Ranges,
) -> Iterator[str]:
    """Real columns at one length, the largest difference over its classes."""
    keys = [key for key in committed if key[0] == n and key in found]
    sizes = [np.abs(committed[key]["esv"]).max(initial=0.0) for key in keys if len(key) > 1]
    # Of probabilities values are of order one; of logits rounding goes with their size.
    allowed = ranges.rounding * max([1.0, *(float(size) for size in sizes if np.isfinite(size))])
    for column in ("scores", "efficiency_gap", "esv", "stderr"):
        worst = 0.0
        for key in keys:
            if column in committed[key]:
                worst = float(np.maximum(worst, _distance(committed[key][column], found[key][column])))
        if not worst <= allowed:
            yield f"{column} differs by {worst:.2g} when it is recomputed, rounding explains {allowed:.1g}"


def _distance(a: Float32Array, b: Float32Array) -> float:
    """Largest difference; NaN stands for nulls, which are the same where both are."""
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return float("nan")
    return float(np.abs(a.astype(np.float64) - b)[~np.isnan(a)].max(initial=0.0))
