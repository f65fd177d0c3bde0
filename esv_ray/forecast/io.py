"""What of a forecast is reading and writing: bytes, rows, row groups that are too large, and seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from esv_ray import storage
from esv_ray.forecast.lengths import itemsize_of
from esv_ray.forecast.work import LengthWork
from esv_ray.input.files import InputFile
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.sizes import decoding_bytes
from esv_ray.input.units import Unit
from esv_ray.spec import JobSpec, top_k

ADVISED_BYTES = 64_000_000  # of a row group, compressed

# Bytes of what is written (zstd), measured on outputs of 2 to 64 units, C = 9 to 174, n = 4 to 30: within ERROR of what
# was written where ids are short; an id that does not compress (a UUID) adds its length to both files.
ERROR = 0.25
_FILE, _ROW, _STDERR, _ID = 2300, 3.9, {"exact": 0.0, "adjusted": 3.2, "algorithm1": 3.6}, 6
_VIDEOS_FILE, _VIDEO, _SCORE = 4400, 10, 3.45

# Seconds, assumed and told so: bytes a second from a disk and from an object store, of decoding; and for each commit
# of a unit, two files that are synced, or two conditional puts; rows that are made into tables.
_DISK, _STORE, _DECODED = 400e6, 60e6, 600e6
_COMMIT_DISK_S, _COMMIT_STORE_S, _ROW_S, _VIDEO_S = 0.015, 0.15, 4e-7, 3e-5


@dataclass(frozen=True)
class Partition:
    """A row group: where, and what reading it takes.

    Attributes:
        file, row_group: where.
        rows: of it.
        compressed: bytes of our columns on storage.
        decoded: bytes of its features as numbers.
        decoding: bytes that decoding it takes at most.
    """

    file: str
    row_group: int
    rows: int
    compressed: int
    decoded: int
    decoding: int


@dataclass(frozen=True)
class Written:
    """What is written for the units that are left; fewest and most, since classes may coincide.

    Attributes:
        files: two a unit.
        video_rows: a row for each video and length.
        attribution_rows_least, attribution_rows_most: a row for each video, length, class and element.
        bytes_least, bytes_most: with the error of the estimate.
    """

    files: int
    video_rows: int
    attribution_rows_least: int
    attribution_rows_most: int
    bytes_least: int
    bytes_most: int


def partitions_of(spec: JobSpec, files: Sequence[InputFile], footers: Sequence[Footer]) -> list[Partition]:
    """The row groups of a feature table."""
    made = {"float32": 4, "float64": 8}[spec.compute.dtype]
    found = []
    for file, footer in zip(files, footers, strict=True):
        size = itemsize_of(footer.schema)
        for index, group in enumerate(footer.groups):
            decoding = group.compressed + decoding_bytes(group.values, size, result_itemsize=made)
            decoded = group.values * size
            found.append(Partition(file.url, index, group.rows, group.compressed, decoded, decoding))
    return found


def unread(partitions: Sequence[Partition], left: Sequence[Unit]) -> list[Partition]:
    """The row groups in which something is left: they are read whole."""
    wanted = {(unit.file.url, unit.row_group) for unit in left}
    return [one for one in partitions if (one.file, one.row_group) in wanted]


def reading_bytes(partitions: Sequence[Partition], left: Sequence[Unit]) -> int:
    """Memory for reading, at most: the bytes of the largest row group that is fetched, and two units decoded."""
    by_place = {(one.file, one.row_group): one for one in partitions}
    most = 0
    for unit in left:
        group = by_place[unit.file.url, unit.row_group]
        fetched = 0 if storage.is_local(storage.open_location(unit.file.url)[0]) else group.compressed
        most = max(most, fetched + 2 * (group.decoding - group.compressed) * unit.rows // max(1, group.rows))
    return most


def classes_of(spec: JobSpec, n_classes: int, labelled: bool) -> tuple[int, int]:
    """Classes that are kept of a video, fewest and most, if each video has a label where the table has labels."""
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


def written(work: Sequence[LengthWork], left: Sequence[Unit], classes: tuple[int, int], n_classes: int) -> Written:
    """What is written for the units that are left."""
    videos = sum(one.left for one in work)
    sides, totals = [], []
    for kept in classes:
        rows = Counter({one.n: one.left * one.n * kept for one in work if one.stages})
        size = sum(rows[one.n] * (_ROW + _STDERR[one.stages[-1].kind]) for one in work if one.stages)
        size += sum(one.left for one in work if one.stages) * (_ID + _VIDEO + _SCORE * n_classes)
        sides.append(rows.total())
        totals.append(size + len(left) * (_FILE + _VIDEOS_FILE))
    return Written(
        files=2 * len(left),
        video_rows=videos,
        attribution_rows_least=sides[0],
        attribution_rows_most=sides[1],
        bytes_least=int((1 - ERROR) * totals[0]),
        bytes_most=int((1 + ERROR) * totals[1]),
    )


def read_seconds(partitions: Sequence[Partition], features: str) -> float:
    """Seconds to read and decode row groups, one after the other, by assumed rates."""
    rate = _DISK if storage.is_local(storage.open_location(features)[0]) else _STORE
    return sum(one.compressed / rate + one.decoded / _DECODED for one in partitions)


def write_seconds(told: Written, output: str) -> float:
    """Seconds to make tables and commit units, one after the other, by assumed rates."""
    commit = _COMMIT_DISK_S if storage.is_local(storage.open_location(output)[0]) else _COMMIT_STORE_S
    return told.files / 2 * commit + told.attribution_rows_most * _ROW_S + told.video_rows * _VIDEO_S
