"""How long the videos of a job are, and whether their ids are unique: from footers, or from the columns themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray import storage
from esv_ray.spec import JobSpec
from esv_ray.tables.inputs import Footer, InputFile, open_parquet, readable
from esv_ray.tables.units import Unit

_BATCH_BYTES = 2**25  # of features that are decoded at once
_NAMED = 5  # repeated ids

LengthsFrom = Literal["row groups", "rows"]


@dataclass(frozen=True)
class Lengths:
    """Frames of the videos of a job.

    Attributes:
        of: `row groups`: each row counts with the mean length of its row group, all that footers tell; `rows`: its own.
        videos: number of videos by their frames T.
        left: likewise, of those not yet committed.
        frameless: videos without any frame, which are in neither.
    """

    of: LengthsFrom
    videos: Counter[int] = field(default_factory=Counter)
    left: Counter[int] = field(default_factory=Counter)
    frameless: int = 0


@dataclass(frozen=True)
class RepeatedIds:
    """Ids that stand more than once in a feature table.

    Attributes:
        across: ids that stand in several files: each of their rows is attributed.
        within: ids that stand more than once in a file: all rows but the first fail.
        examples: some of them, with the files that they stand in.
    """

    across: int
    within: int
    examples: Mapping[str, tuple[str, ...]]


def lengths_by_footers(
    files: Sequence[InputFile], footers: Sequence[Footer], feature_dim: int, left: Sequence[Unit]
) -> Lengths:
    """Mean lengths of row groups, weighted by their rows.

    Args:
        files: of the feature table.
        footers: theirs.
        feature_dim: D.
        left: units not yet committed.
    """
    found, rows_left = Lengths("row groups"), Counter[tuple[str, int]]()
    for unit in left:
        rows_left[unit.file.url, unit.row_group] += unit.rows
    for file, footer in zip(files, footers, strict=True):
        for index, group in enumerate(footer.groups):
            if group.rows:
                mean = max(1, round(group.values / feature_dim / group.rows))
                found.videos[mean] += group.rows
                found.left[mean] += rows_left[file.url, index]
    return found


def lengths_by_rows(
    files: Sequence[InputFile], footers: Sequence[Footer], feature_dim: int, left: Sequence[Unit]
) -> Lengths:
    """Lengths of all videos: reads the whole features column, some rows at a time; arguments as above.

    Raises:
        DataError: a file cannot be read.
    """
    ranges: dict[tuple[str, int], list[Unit]] = {}
    for unit in left:
        ranges.setdefault((unit.file.url, unit.row_group), []).append(unit)
    videos, still, frameless = Counter[int](), Counter[int](), 0
    for file, footer in zip(files, footers, strict=True):
        with open_parquet(file) as parquet, storage.locating(file.url, "read the lengths"), readable(file.url):
            for index, group in enumerate(footer.groups):
                if not group.rows:
                    continue
                row_bytes = max(1, group.values // group.rows * itemsize_of(footer.schema))
                batches = parquet.iter_batches(
                    max(1, _BATCH_BYTES // row_bytes), row_groups=[index], columns=["features"]
                )
                counts = [pc.list_value_length(batch.column(0)).fill_null(0).to_numpy(False) for batch in batches]
                lengths = np.concatenate(counts)
                pending = np.zeros(len(lengths), dtype=bool)
                for unit in ranges.get((file.url, index), []):
                    pending[unit.start : unit.stop] = True
                videos.update(lengths[lengths > 0].tolist())
                still.update(lengths[pending & (lengths > 0)].tolist())
                frameless += int((lengths == 0).sum())
    return Lengths("rows", videos, still, frameless)


def itemsize_of(schema: pa.Schema) -> int:
    """Bytes of a number of the features."""
    return int(schema.field("features").type.value_type.value_type.bit_width) // 8


def lengths_asked(spec: JobSpec, frames: int) -> list[int]:
    """The numbers of elements at which a video of so many frames is attributed (as `wanted.requested`)."""
    if spec.frames == "all":
        return [frames]
    if spec.short == "skip":
        return [n for n in spec.frames if n <= frames]
    return sorted({min(n, frames) for n in spec.frames})


def repeated_ids(files: Sequence[InputFile]) -> RepeatedIds:
    """Ids that stand more than once: reads the video_id columns, which are in memory together.

    Raises:
        DataError: a file cannot be read.
    """
    parts = []
    for number, file in enumerate(files):
        with open_parquet(file) as parquet, storage.locating(file.url, "read the ids"), readable(file.url):
            ids = parquet.read(columns=["video_id"]).column("video_id").cast(pa.large_string()).combine_chunks()
        ids = ids.drop_null()
        parts.append(pa.table({"id": ids, "file": pa.array(np.full(len(ids), number, dtype=np.int32))}))
    table = pa.concat_tables(parts)
    counted = table.group_by("id").aggregate([("file", "count"), ("file", "count_distinct")])
    times, places = counted.column("file_count"), counted.column("file_count_distinct")
    across, within = pc.greater(places, 1), pc.greater(times, places)
    named = counted.filter(pc.or_(across, within)).column("id").slice(0, _NAMED)
    where = table.filter(pc.is_in(table.column("id"), value_set=named)).to_pylist()
    examples = {
        name: tuple(sorted({files[row["file"]].url for row in where if row["id"] == name}))
        for name in named.to_pylist()
    }
    return RepeatedIds(pc.sum(across).as_py() or 0, pc.sum(within).as_py() or 0, examples)
