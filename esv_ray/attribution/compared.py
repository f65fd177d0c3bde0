"""Comparison of two computations of a video, by its rows in all tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.output.layout import (
    ATTRIBUTIONS,
    DISCARDS,
    INTERACTIONS,
    MARGINALS,
    ORDER,
    REPLACEMENTS,
    SANITY,
    SMOOTHNESS,
    VIDEOS,
)
from esv_ray.output.ranges import Ranges

_REAL = ("scores", "efficiency_gap")  # columns of the videos table compared within rounding
_SEQUENCE = ("video_id", "n_elements")
# By table: the columns that rows are grouped by, and those compared within rounding.
_GROUPS = {
    ATTRIBUTIONS: ((*_SEQUENCE, "method", "class"), ("esv", "stderr", "delta")),
    MARGINALS: ((*_SEQUENCE, "class"), ("marginal",)),
    INTERACTIONS: ((*_SEQUENCE, "class"), ("interaction",)),
    DISCARDS: ((*_SEQUENCE, "method", "order"), ("score", "best")),
    REPLACEMENTS: ((*_SEQUENCE, "method", "order", "replaced_by"), ("score",)),
    SMOOTHNESS: ((*_SEQUENCE, "class"), ("change",)),
    ORDER: ((*_SEQUENCE, "class"), ("score", "shuffled_score", "spearman")),
    SANITY: ((*_SEQUENCE, "class"), ("spearman",)),
}
_Key = tuple[Any, ...]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class VideoValues:
    """The rows of one video in all tables.

    Attributes:
        exact: values that must be equal, by (length,) for the videos table, by (length, group) for the others
            (`_GROUPS`).
        real: values that rounding may change, by the same keys and by column; NaN in place of null.
    """

    exact: Mapping[_Key, Mapping[str, object]]
    real: Mapping[_Key, Mapping[str, Float32Array]]


_NOTHING = VideoValues({}, {})


def same_bits(a: VideoValues | None, b: VideoValues | None) -> bool:
    """Return whether two computations of a video have the same bits."""
    return a is not None and b is not None and a.exact == b.exact and _bits(a) == _bits(b)


def _bits(values: VideoValues) -> dict[_Key, dict[str, bytes]]:
    return {key: {name: column.tobytes() for name, column in columns.items()} for key, columns in values.real.items()}


def values_of(tables: Mapping[str, pa.Table], ids: Sequence[str]) -> dict[str, VideoValues]:
    """Return the values of some videos of a unit, without failed rows.

    Args:
        tables: tables of the unit, by their folders.
        ids: ids of the videos.
    """
    chosen, videos = pa.array(ids, pa.string()), tables[VIDEOS]
    exact: dict[str, dict[_Key, Mapping[str, object]]] = {video_id: {} for video_id in ids}
    real: dict[str, dict[_Key, Mapping[str, Float32Array]]] = {video_id: {} for video_id in ids}
    mine = videos.filter(
        pc.and_(pc.is_in(videos.column("video_id"), chosen), pc.not_equal(videos.column("status"), "failed"))
    )
    for row in mine.to_pylist():
        video_id, key = row.pop("video_id"), (row["n_elements"],)
        real[video_id][key] = {name: _real(row.pop(name)) for name in _REAL}
        exact[video_id][key] = row
    for folder, table in tables.items():
        if folder == VIDEOS:
            continue
        keys, floats = list(_GROUPS[folder][0]), _GROUPS[folder][1]
        mine = table.filter(pc.is_in(table.column("video_id"), chosen))
        others = [name for name in table.column_names if name not in keys]
        for row in mine.group_by(keys, use_threads=False).aggregate([(name, "list") for name in others]).to_pylist():
            video_id = row["video_id"]
            key = (row["n_elements"], folder, *(row[name] for name in keys[2:]))
            exact[video_id][key] = {name: row[f"{name}_list"] for name in others if name not in floats}
            real[video_id][key] = {name: _real(row[f"{name}_list"]) for name in floats}
    return {video_id: VideoValues(exact[video_id], real[video_id]) for video_id in ids if exact[video_id]}


def _real(value: Any) -> Float32Array:
    values = [] if value is None else value if isinstance(value, list) else [value]
    return np.array([np.nan if number is None else number for number in values], dtype=np.float32)


def differences(
    location: str, committed: Mapping[str, VideoValues], recomputed: Mapping[str, VideoValues], ranges: Ranges
) -> list[str]:
    """Describe how recomputed videos differ from committed ones by more than rounding.

    Args:
        location: name of the unit in messages.
        committed, recomputed: values by id.
        ranges: ranges of the job's values.

    Returns:
        One line for each video, length and column.
    """
    problems = []
    for video_id in sorted({*committed, *recomputed}):
        before, now = committed.get(video_id, _NOTHING), recomputed.get(video_id, _NOTHING)
        problems += [f"{location}: video {video_id!r} {line}" for line in _of_video(before, now, ranges)]
    return problems


def _of_video(committed: VideoValues, recomputed: VideoValues, ranges: Ranges) -> Iterator[str]:
    for key in sorted({*committed.exact, *recomputed.exact}):
        name = f"at {key[0]} elements" + _named(key)
        if key not in recomputed.exact:
            yield f"{name}: committed, but absent when recomputed"
        elif key not in committed.exact:
            yield f"{name}: present when recomputed, but not committed"
        else:
            before, now = committed.exact[key], recomputed.exact[key]
            for column in [column for column in before if before[column] != now[column]]:
                yield f"{name}: {column} is {before[column]!r:.60}, but {now[column]!r:.60} when recomputed"
    for n in sorted({key[0] for key in committed.real}):
        yield from (f"at {n} elements: {line}" for line in _of_length(n, committed.real, recomputed.real, ranges))


def _named(key: _Key) -> str:
    """Return the group of a key as messages name it."""
    if len(key) == 1:
        return ""
    names = _GROUPS[key[1]][0][2:]
    table = "" if key[1] == ATTRIBUTIONS else f"{key[1]}, "
    return ", " + table + ", ".join(f"{name} {value}" for name, value in zip(names, key[2:], strict=True))


def _of_length(
    n: int,
    committed: Mapping[_Key, Mapping[str, Float32Array]],
    recomputed: Mapping[_Key, Mapping[str, Float32Array]],
    ranges: Ranges,
) -> Iterator[str]:
    """Compare real columns at one length, by the largest difference over its classes."""
    keys = [key for key in committed if key[0] == n and key in recomputed]
    sizes = [np.abs(committed[key]["esv"]).max(initial=0.0) for key in keys if "esv" in committed[key]]
    # Probabilities are of order one; rounding of logits grows with their size.
    allowed = ranges.rounding * max([1.0, *(float(size) for size in sizes if np.isfinite(size))])
    for column in dict.fromkeys((*_REAL, *(name for _, floats in _GROUPS.values() for name in floats))):
        worst = 0.0
        for key in keys:
            if column in committed[key]:
                worst = float(np.maximum(worst, _distance(committed[key][column], recomputed[key][column])))
        if not worst <= allowed:
            yield f"{column} differs by {worst:.2g} when recomputed; expected at most {allowed:.1g} by rounding"


def _distance(a: Float32Array, b: Float32Array) -> float:
    """Return the largest difference; NaN if one value is null and the other is not."""
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return float("nan")
    return float(np.abs(a.astype(np.float64) - b)[~np.isnan(a)].max(initial=0.0))
