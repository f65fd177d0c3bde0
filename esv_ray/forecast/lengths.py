"""How long the videos of a job are, and whether their ids are unique: from footers, or from the columns themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError
from esv_ray.input.columns import plain_type
from esv_ray.input.files import InputFile
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.id_columns import read_group_ids
from esv_ray.input.parquet.opening import OpenedFile, open_file
from esv_ray.input.parquet.row_groups import RowGroupReader
from esv_ray.input.units import Unit
from esv_ray.spec import JobSpec

_ROWS = 1024  # taken at once
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
    files: Sequence[InputFile], footers: Sequence[Footer], left: Sequence[Unit], budget: int
) -> Lengths:
    """Lengths of all videos: reads the features columns, some rows at a time.

    Args:
        files: of the feature table.
        footers: theirs.
        left: units not yet committed.
        budget: bytes that decoding a row group may take; the videos of one that could take more count as frameless.

    Raises:
        DataError: a file cannot be read.
    """
    ranges: dict[tuple[str, int], list[Unit]] = {}
    for unit in left:
        ranges.setdefault((unit.file.url, unit.row_group), []).append(unit)
    videos, still, frameless = Counter[int](), Counter[int](), 0
    for file, footer in zip(files, footers, strict=True):
        with closing(open_file(file)) as opened:
            for index, group in enumerate(footer.groups):
                lengths = _lengths_of(opened, index, group.rows, budget)
                pending = np.zeros(len(lengths), dtype=bool)
                for unit in ranges.get((file.url, index), []):
                    pending[unit.start : unit.stop] = True
                videos.update(lengths[lengths > 0].tolist())
                still.update(lengths[pending & (lengths > 0)].tolist())
                frameless += int((lengths == 0).sum())
    return Lengths("rows", videos, still, frameless)


def _lengths_of(opened: OpenedFile, row_group: int, rows: int, budget: int) -> npt.NDArray[np.int64]:
    """(rows,) frames of each video of a row group; 0 where there are none, or where they are too many to decode."""
    lengths = np.zeros(rows, dtype=np.int64)
    reader = RowGroupReader(opened, row_group, budget, 4)
    for start in range(0, 0 if reader.refusal else rows, _ROWS):
        taken = reader.take(start, min(start + _ROWS, rows)).table.column("features")
        lengths[start : start + len(taken)] = pc.list_value_length(taken).fill_null(0).to_numpy()
    return lengths


def itemsize_of(schema: pa.Schema) -> int:
    """Bytes of a number of the features."""
    frame = plain_type(plain_type(schema.field("features").type).value_type)
    return int(plain_type(frame.value_type).bit_width) // 8


def lengths_asked(spec: JobSpec, frames: int) -> list[int]:
    """The numbers of elements at which a video of so many frames is attributed (as `wanted.requested`)."""
    if spec.frames == "all":
        return [frames]
    if spec.short == "skip":
        return [n for n in spec.frames if n <= frames]
    return sorted({min(n, frames) for n in spec.frames})


def repeated_ids(files: Sequence[InputFile], budget: int) -> RepeatedIds:
    """Ids that stand more than once: reads the video_id columns, which are in memory together.

    Args:
        files: of the feature table.
        budget: bytes that the ids of a row group may take.

    Raises:
        DataError: a file cannot be read, or its ids take more memory.
    """
    parts = []
    for number, file in enumerate(files):
        with closing(open_file(file)) as opened:
            for row_group in range(len(opened.footer.groups)):
                found = read_group_ids(opened, row_group, budget)
                if found is None:
                    where = f"{file.url}, row group {row_group}"
                    raise DataError(f"{where}: its ids take more than {budget} bytes; raise compute.memory_budget")
                ids = found.ids.combine_chunks().drop_null()
                ids = ids.filter(pc.greater(pc.binary_length(ids), 0))  # a row without an id fails, and repeats none
                parts.append(pa.table({"id": ids, "file": pa.array(np.full(len(ids), number, dtype=np.int32))}))
    if not parts:
        return RepeatedIds(0, 0, {})
    table = pa.concat_tables(parts)
    counted = table.group_by("id").aggregate([("file", "count"), ("file", "count_distinct")])
    times, places = counted.column("file_count"), counted.column("file_count_distinct")
    across, within = pc.greater(places, 1), pc.greater(times, places)
    named = counted.filter(pc.or_(across, within)).column("id").slice(0, _NAMED)
    where = table.filter(pc.is_in(table.column("id"), value_set=named)).to_pylist()
    examples = {
        name.decode(errors="replace"): tuple(sorted({files[row["file"]].url for row in where if row["id"] == name}))
        for name in named.to_pylist()
    }
    return RepeatedIds(pc.sum(across).as_py() or 0, pc.sum(within).as_py() or 0, examples)
