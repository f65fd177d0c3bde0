"""The files of a unit, one for each of its tables: their bytes and their footers.

All footers name the job and the rows of a file, so that a file of another job is recognized
(issue 15). The footer of the videos file, which marks the unit as committed, also holds the counts and the checksums
of the other files.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import DataError
from esv_ray.output.expanding import UnitTable
from esv_ray.output.layout import FOLDERS, VARIATIONS
from esv_ray.output.origin import FOOTER_KEY, Origin, content_of
from esv_ray.output.results import UnitTables

HASH_BYTES = 8  # two of 10^8 ids have equal hashes with probability 3e-4; then the ids themselves are compared


@dataclass(frozen=True)
class UnitCounts:
    """Counts of a unit's rows; part of the footer of its videos file.

    Attributes:
        rows: input rows.
        ok, skipped, failed: input rows by status; failed at any length counts first, then skipped at any.
        written: rows of each table, by the name of its folder.
    """

    rows: int
    ok: int
    skipped: int
    failed: int
    written: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: UnitCounts) -> UnitCounts:
        names = dict.fromkeys((*self.written, *other.written))
        written = {name: self.written.get(name, 0) + other.written.get(name, 0) for name in names}
        return UnitCounts(
            self.rows + other.rows,
            self.ok + other.ok,
            self.skipped + other.skipped,
            self.failed + other.failed,
            written,
        )

    @property
    def outcomes(self) -> dict[str, Any]:
        """What a job adds up, by the names of `job.work.RowCounts`: rows, those of each status, rows of the tables."""
        return {**self._of_rows(), "written": self._of_tables()}

    def asdict(self) -> dict[str, int]:
        """The counts by name; those of tables as `video_rows`."""
        return {**self._of_rows(), **self._of_tables()}

    def _of_rows(self) -> dict[str, int]:
        return {"rows": self.rows, "ok": self.ok, "skipped": self.skipped, "failed": self.failed}

    def _of_tables(self) -> dict[str, int]:
        return {rows_of(name): count for name, count in self.written.items()}


NO_COUNTS = UnitCounts(0, 0, 0, 0)


def rows_of(folder: str) -> str:
    """Return the name of the count of a table's rows, as `video_rows` of the folder `videos` or `_videos`."""
    return (folder if folder in VARIATIONS else folder.removeprefix("_").removesuffix("s")) + "_rows"


def counts_from(content: Mapping[str, int], folders: Sequence[str] = FOLDERS) -> UnitCounts:
    """Return the counts of their `asdict`, whose tables are in some of the folders.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    written = {name: content[rows_of(name)] for name in folders if rows_of(name) in content}
    counts = UnitCounts(content["rows"], content["ok"], content["skipped"], content["failed"], written)
    if counts.asdict() != content or not all(type(count) is int and count >= 0 for count in content.values()):
        raise ValueError(content)
    return counts


@dataclass(frozen=True)
class UnitFooter:
    """The footer of a videos file.

    Attributes:
        counts: counts of the unit.
        origin: the job and the rows.
        failed: failed rows of the unit, 0 = first.
        checksums: SHA-256 of the unit's other files, by their folders.
        ids: hashes of the unit's ids (`hash_ids`).
    """

    counts: UnitCounts
    origin: Origin
    failed: tuple[int, ...]
    checksums: Mapping[str, str]
    ids: bytes


@dataclass(frozen=True)
class UnitFiles:
    """The files of a unit.

    Attributes:
        tables: bytes of the files but that of the videos, by their folders.
        videos: bytes of the videos file.
        footer: footer of the videos file.
    """

    tables: Mapping[str, bytes]
    videos: bytes
    footer: UnitFooter


def unit_files(tables: UnitTables, rows: int, origin: Origin, folders: Sequence[str] = FOLDERS) -> UnitFiles:
    """Serialize a unit; the same tables give the same bytes.

    Args:
        tables: tables of the unit.
        rows: number of its input rows.
        origin: the job and the rows.
        folders: of the tables of this kind of work; the mark's is the first.
    """
    mark = folders[0]
    videos, video_rows, _ = tables[mark]
    status = np.array(videos.column("status").to_pylist(), dtype=object)
    failed = np.unique(video_rows[status == "failed"])
    skipped = np.setdiff1d(video_rows[status == "skipped"], failed)
    counts = UnitCounts(
        rows=rows,
        ok=rows - len(failed) - len(skipped),
        skipped=len(skipped),
        failed=len(failed),
        written={folder: table.table.num_rows for folder, table in tables.items()},
    )
    origin_fields = {"job": origin.job, "input": origin.input, "covers": origin.covers}
    files = {folder: _serialized(table, origin_fields) for folder, table in tables.items() if folder != mark}
    checksums = {folder: hashlib.sha256(data).hexdigest() for folder, data in files.items()}
    ids = hash_ids(videos.column(0).to_pylist())  # the first column of every mark
    footer = UnitFooter(counts, origin, tuple(failed.tolist()), checksums, ids)
    content = {**origin_fields, "counts": counts.asdict(), "failed": footer.failed, "checksums": checksums}
    content["ids"] = base64.b64encode(ids).decode()
    return UnitFiles(files, _serialized(tables[mark], content), footer)


def hash_ids(ids: Iterable[str]) -> bytes:
    """Return the hashes of the distinct ids of a unit, HASH_BYTES each, ascending; empty ids are left out."""
    hashes = {hashlib.sha256(video_id.encode()).digest()[:HASH_BYTES] for video_id in ids if video_id}
    return b"".join(sorted(hashes))


def footer_of(metadata: pq.FileMetaData, location: str, folders: Sequence[str] = FOLDERS) -> UnitFooter:
    """Parse the footer of a videos file, which is in the first of the folders of its kind of work.

    Raises:
        DataError: the file is not a videos file of esv_ray.
    """
    origin, content = content_of(metadata, location)
    try:
        counts, failed = counts_from(content["counts"], folders), tuple(content["failed"])
        checksums, mark = content["checksums"], folders[0]
        if not all(type(row) is int and row >= 0 for row in failed):
            raise ValueError(content)
        if set(checksums) != set(counts.written) - {mark} or mark not in counts.written:
            raise ValueError(content)
        ids = base64.b64decode(content["ids"], validate=True)
        if len(ids) % HASH_BYTES:
            raise ValueError(content)
        return UnitFooter(counts, origin, failed, {name: str(value) for name, value in checksums.items()}, ids)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(f"{location}: expected a videos file of esv_ray, its footer has no counts") from None


def _serialized(unit_table: UnitTable, footer: Mapping[str, object]) -> bytes:
    table, _, group_rows = unit_table
    metadata = {FOOTER_KEY: json.dumps(footer).encode(), **(table.schema.metadata or {})}
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    # Arrow builds and discards dictionaries of numbers that rarely repeat: 24 us per video with C = 174, 5 us without.
    words = [_leaf(field) for field in table.schema if not _rarely_repeats(field)]
    pq.write_table(
        table, sink, row_group_size=group_rows, compression="zstd", use_dictionary=words, write_page_checksum=True
    )
    return bytes(sink.getvalue())


def _leaf(field: pa.Field) -> str:
    """Return the name of a column; of lists of images the path of their bytes, which a dictionary stores as bytes."""
    kind, path = field.type, field.name
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, path = kind.value_type, f"{path}.list.element"
    return path if pa.types.is_uint8(kind) else str(field.name)


def _rarely_repeats(field: pa.Field) -> bool:
    return bool(pa.types.is_floating(field.type) or pa.types.is_binary(field.type) or field.name == "scores")
