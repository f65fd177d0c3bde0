"""Reading and writing in a forecast: bytes, rows, and seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esv_ray import storage
from esv_ray.core.games.model import VideoModel
from esv_ray.core.games.randomised import count_layers
from esv_ray.forecast.further import bytes_per_row, rows_per_video
from esv_ray.forecast.work import LengthWork
from esv_ray.input.columns import feature_itemsize
from esv_ray.input.files import InputFile
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.sizes import decoding_bytes
from esv_ray.input.units import Unit
from esv_ray.output.layout import folders_of
from esv_ray.spec import JobSpec
from esv_ray.spec_values import top_k

ADVISED_BYTES = 64_000_000  # of a row group, compressed

# Bytes written (zstd), measured on outputs of 2 to 64 units, C = 9 to 174, n = 4 to 30: the real size is within ERROR
# of the estimate where ids are short. An id that does not compress (a UUID) adds its length to both files.
ERROR = 0.25
_FILE, _ROW, _STDERR, _ID = 2300, 3.9, {"exact": 0.0, "adjusted": 3.2, "algorithm1": 3.6}, 6
_VIDEOS_FILE, _VIDEO, _SCORE, _DIFFERENCE = 4800, 10, 3.45, 3.6  # the last one of misclassified sampled videos

# Assumed rates, which the report states as assumed: bytes per second from a disk, from an object store, and of
# decoding; seconds per commit of a unit (two files that are synced, or two conditional puts), per attribution row and
# per video row.
_HELD_BYTE = 4  # bytes in which Parquet holds a byte of an image
_DISK, _STORE, _DECODED = 400e6, 60e6, 600e6
_COMMIT_DISK_S, _COMMIT_STORE_S, _ROW_S, _VIDEO_S = 0.015, 0.15, 4e-7, 3e-5


@dataclass(frozen=True)
class RowGroup:
    """A row group of the feature table, and what reading it takes.

    Attributes:
        file: its location.
        index: of the row group in the file.
        rows: number of rows.
        compressed: bytes of the columns that are read, on storage.
        decoded: bytes of its features as numbers.
        decoding: bytes of memory that decoding takes, at most.
    """

    file: str
    index: int
    rows: int
    compressed: int
    decoded: int
    decoding: int


@dataclass(frozen=True)
class OutputSize:
    """What is written for the units that are left; least and most, since the kept classes of a video may coincide.

    Attributes:
        files: one per unit and table.
        video_rows: one row per video and length.
        attribution_rows_least, attribution_rows_most: one row per video, length, class and element.
        further_rows_least, further_rows_most: rows of each further table, by its folder.
        bytes_least, bytes_most: including the error of the estimate.
    """

    files: int
    video_rows: int
    attribution_rows_least: int
    attribution_rows_most: int
    further_rows_least: Mapping[str, int]
    further_rows_most: Mapping[str, int]
    bytes_least: int
    bytes_most: int


def row_groups_of(spec: JobSpec, files: Sequence[InputFile], footers: Sequence[Footer]) -> list[RowGroup]:
    """Return the row groups of a feature table."""
    computed = {"float32": 4, "float64": 8}[spec.compute.dtype]
    row_groups = []
    for file, footer in zip(files, footers, strict=True):
        size = feature_itemsize(footer.schema.field("features").type)
        held, result = (size, computed) if footer.shape is None else (_HELD_BYTE, size)
        for index, group in enumerate(footer.groups):
            decoding = group.compressed + decoding_bytes(group.values, held, result_itemsize=result)
            row_groups.append(RowGroup(file.url, index, group.rows, group.compressed, group.values * size, decoding))
    return row_groups


def unread(row_groups: Sequence[RowGroup], pending: Sequence[Unit]) -> list[RowGroup]:
    """Return the row groups that hold a unit not yet committed: they are read whole."""
    places = {(rows.file.url, rows.row_group) for unit in pending for rows in unit.ranges}
    return [group for group in row_groups if (group.file, group.index) in places]


def reading_bytes(row_groups: Sequence[RowGroup], pending: Sequence[Unit]) -> int:
    """Return the most memory that reading takes: the largest row group as fetched, and two of its units decoded."""
    by_place = {(group.file, group.index): group for group in row_groups}
    most, local = 0, bool(pending) and storage.is_local(storage.open_location(pending[0].source)[0])
    for unit in pending:
        fetched = decoded = 0
        for rows in unit.ranges:
            group = by_place[rows.file.url, rows.row_group]
            fetched = max(fetched, 0 if local else group.compressed)
            decoded += 2 * (group.decoding - group.compressed) * rows.rows // max(1, group.rows)
        most = max(most, fetched + decoded)
    return most


def class_counts(spec: JobSpec, n_classes: int, labelled: bool) -> tuple[int, int]:
    """Return the least and the most classes kept per video, if each video of a labelled table has a label."""
    ids = {choice for choice in spec.classes if isinstance(choice, int)}
    counts = [len(ids)] if ids else []
    for choice in spec.classes:
        if choice == "all":
            return n_classes, n_classes
        if choice == "predicted" and not any(isinstance(other, str) and top_k(other) for other in spec.classes):
            counts.append(1)
        elif choice == "label":
            counts.append(int(labelled))
        elif isinstance(choice, str) and (k := top_k(choice)) is not None:
            counts.append(min(k, n_classes))
    return max(counts, default=0), min(n_classes, sum(counts))


def output_size(
    spec: JobSpec, work: Sequence[LengthWork], pending: Sequence[Unit], classes: tuple[int, int], model: VideoModel
) -> OutputSize:
    """Estimate what is written for the units that are left.

    Args:
        spec: the job.
        work: by length.
        pending: units not yet committed.
        classes: kept per video, least and most (`class_counts`).
        model: the job's.
    """
    tables, layers = len(folders_of(spec.tables)), count_layers(model)
    attributed = [length for length in work if length.stages]
    row_counts, byte_counts, further = [], [], []
    for kept, differing in zip(classes, (0, 1), strict=True):
        rows = Counter({length.n: length.pending * length.n * kept * len(spec.methods) for length in attributed})
        size = sum(
            rows[length.n] * (_ROW + _STDERR[length.stages[-1].kind] / len(spec.methods)) for length in attributed
        )
        size += sum(length.pending for length in attributed) * (_ID + _VIDEO + _SCORE * model.n_classes)
        sampled = [length for length in attributed if length.stages[-1].kind != "exact"]
        size += differing * sum(length.pending * length.n * _DIFFERENCE for length in sampled)
        counts = Counter[str](dict.fromkeys(spec.tables, 0))
        for length in attributed:
            own = rows_per_video(spec, layers, length.n, kept, least=not differing)
            counts.update({table: length.pending * count for table, count in own.items()})
        further.append(dict(counts))
        size += sum(count * bytes_per_row(table) for table, count in counts.items())
        size += len(spec.tables) * sum(length.pending for length in attributed) * _ID
        row_counts.append(rows.total())
        byte_counts.append(size + len(pending) * (_FILE * (tables - 1) + _VIDEOS_FILE))
    return OutputSize(
        files=tables * len(pending),
        video_rows=sum(length.pending for length in work),
        attribution_rows_least=row_counts[0],
        attribution_rows_most=row_counts[1],
        further_rows_least=further[0],
        further_rows_most=further[1],
        bytes_least=int((1 - ERROR) * byte_counts[0]),
        bytes_most=int((1 + ERROR) * byte_counts[1]),
    )


def read_seconds(row_groups: Sequence[RowGroup], features: str) -> float:
    """Return the seconds to read and decode row groups one after the other, at assumed rates."""
    rate = _DISK if storage.is_local(storage.open_location(features)[0]) else _STORE
    return sum(group.compressed / rate + group.decoded / _DECODED for group in row_groups)


def write_seconds(size: OutputSize, output: str) -> float:
    """Return the seconds to make tables and commit units one after the other, at assumed rates."""
    commit = _COMMIT_DISK_S if storage.is_local(storage.open_location(output)[0]) else _COMMIT_STORE_S
    rows = size.attribution_rows_most + sum(size.further_rows_most.values())
    return size.files / 2 * commit + rows * _ROW_S + size.video_rows * _VIDEO_S
