"""Lengths of a job's videos, and whether their ids are unique: from footers, or from the columns themselves."""

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
from esv_ray.input.files import InputFile
from esv_ray.input.frames import frame_counts
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.id_columns import read_group_ids
from esv_ray.input.parquet.opening import OpenedFile, open_file
from esv_ray.input.parquet.row_groups import RowGroupReader
from esv_ray.input.units import RowRange, Unit
from esv_ray.spec import JobSpec

_ROWS = 1024  # read at a time
_EXAMPLES = 5  # of repeated ids

LengthsFrom = Literal["row groups", "rows"]


@dataclass(frozen=True)
class Lengths:
    """Frames of the videos of a job.

    Attributes:
        source: `row groups`: every video counts with the mean length of its row group, since footers do not store
            lengths of single videos; `rows`: with its own length.
        videos: number of videos by their frames T.
        pending: likewise, of those not yet committed.
        frameless: number of videos without any frame, which are in neither.
    """

    source: LengthsFrom
    videos: Counter[int] = field(default_factory=Counter)
    pending: Counter[int] = field(default_factory=Counter)
    frameless: int = 0


@dataclass(frozen=True)
class RepeatedIds:
    """Ids that occur more than once in a feature table.

    Attributes:
        across_files: number of ids that occur in several files: each of their rows is attributed.
        within_files: number of ids that occur more than once in a file: all rows but the first fail.
        examples: some of them, with the files that they occur in.
    """

    across_files: int
    within_files: int
    examples: Mapping[str, tuple[str, ...]]


def lengths_from_footers(
    files: Sequence[InputFile], footers: Sequence[Footer], feature_dim: int, pending: Sequence[Unit]
) -> Lengths:
    """Return the mean lengths of row groups, weighted by their rows.

    Args:
        files: of the feature table.
        footers: of the files.
        feature_dim: D.
        pending: units not yet committed.
    """
    lengths, pending_rows = Lengths("row groups"), Counter[tuple[str, int]]()
    for unit in pending:
        for rows in unit.ranges:
            pending_rows[rows.file.url, rows.row_group] += rows.rows
    for file, footer in zip(files, footers, strict=True):
        for index, group in enumerate(footer.groups):
            if group.rows:
                mean = max(1, round(group.values / feature_dim / group.rows))
                lengths.videos[mean] += group.rows
                lengths.pending[mean] += pending_rows[file.url, index]
    return lengths


def lengths_from_rows(
    files: Sequence[InputFile], footers: Sequence[Footer], feature_dim: int, pending: Sequence[Unit], budget: int
) -> Lengths:
    """Read the lengths of all videos from the features columns, some rows at a time.

    Args:
        files: of the feature table.
        footers: of the files.
        feature_dim: D.
        pending: units not yet committed.
        budget: bytes that decoding a row group may take; videos of a row group that could take more count as frameless.

    Raises:
        DataError: a file cannot be read.
    """
    ranges: dict[tuple[str, int], list[RowRange]] = {}
    for rows in (rows for unit in pending for rows in unit.ranges):
        ranges.setdefault((rows.file.url, rows.row_group), []).append(rows)
    videos, pending_videos, frameless = Counter[int](), Counter[int](), 0
    for file, footer in zip(files, footers, strict=True):
        with closing(open_file(file)) as opened:
            for index, group in enumerate(footer.groups):
                lengths = _row_group_lengths(opened, index, group.rows, feature_dim, budget)
                mask = np.zeros(len(lengths), dtype=bool)
                for rows in ranges.get((file.url, index), []):
                    mask[rows.start : rows.stop] = True
                videos.update(lengths[lengths > 0].tolist())
                pending_videos.update(lengths[mask & (lengths > 0)].tolist())
                frameless += int((lengths == 0).sum())
    return Lengths("rows", videos, pending_videos, frameless)


def _row_group_lengths(
    opened: OpenedFile, row_group: int, rows: int, feature_dim: int, budget: int
) -> npt.NDArray[np.int64]:
    """Return the (rows,) frames of each video of a row group; 0 without frames, or with too many to decode."""
    lengths = np.zeros(rows, dtype=np.int64)
    reader = RowGroupReader(opened, row_group, budget, 4)
    for start in range(0, 0 if reader.refusal else rows, _ROWS):
        features = reader.take(start, min(start + _ROWS, rows)).table.column("features")
        lengths[start : start + len(features)] = frame_counts(features, feature_dim)
    return lengths


def requested_lengths(spec: JobSpec, frames: int) -> list[int]:
    """Return the numbers of elements at which a video of that many frames is attributed."""
    long_enough = [n for n in spec.frame_numbers if n <= frames]
    collapsed = spec.short == "all" and len(long_enough) < len(spec.frame_numbers)
    return sorted({*long_enough, *([frames] if spec.all_frames or collapsed else [])})


def repeated_ids(files: Sequence[InputFile], budget: int) -> RepeatedIds:
    """Read the video_id columns, all into memory, and find ids that occur more than once.

    Args:
        files: of the feature table.
        budget: bytes that the ids of a row group may take.

    Raises:
        DataError: a file cannot be read, or its ids take more memory.
    """
    parts = [part for number, file in enumerate(files) for part in _file_ids(file, number, budget)]
    if not parts:
        return RepeatedIds(0, 0, {})
    table = pa.concat_tables(parts)
    counts = table.group_by("id").aggregate([("file", "count"), ("file", "count_distinct")])
    row_counts, file_counts = counts.column("file_count"), counts.column("file_count_distinct")
    across, within = pc.greater(file_counts, 1), pc.greater(row_counts, file_counts)
    names = counts.filter(pc.or_(across, within)).column("id").slice(0, _EXAMPLES)
    rows = table.filter(pc.is_in(table.column("id"), value_set=names)).to_pylist()
    examples = {
        name.decode(errors="replace"): tuple(sorted({files[row["file"]].url for row in rows if row["id"] == name}))
        for name in names.to_pylist()
    }
    return RepeatedIds(pc.sum(across).as_py() or 0, pc.sum(within).as_py() or 0, examples)


def _file_ids(file: InputFile, number: int, budget: int) -> list[pa.Table]:
    """Return the ids of a file's row groups, each with the file's number."""
    tables = []
    with closing(open_file(file)) as opened:
        for row_group in range(len(opened.footer.groups)):
            column = read_group_ids(opened, row_group, budget)
            if column is None:
                location = f"{file.url}, row group {row_group}"
                raise DataError(f"{location}: its ids take more than {budget} bytes; raise compute.memory_budget")
            ids = column.ids.combine_chunks().drop_null()
            ids = ids.filter(pc.greater(pc.binary_length(ids), 0))  # a row without an id fails; it repeats no other
            tables.append(pa.table({"id": ids, "file": pa.array(np.full(len(ids), number, dtype=np.int32))}))
    return tables
