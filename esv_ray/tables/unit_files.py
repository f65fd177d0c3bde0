"""The two files of a unit: their bytes, and what the footer of the videos file, the mark of the unit, says of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import DataError
from esv_ray.tables.results import UnitTables

_FOOTER_KEY = b"esv_ray"


@dataclass(frozen=True)
class UnitCounts:
    """How a unit's input rows fared; stands in the footer of its videos file.

    Attributes:
        rows: input rows.
        ok, skipped, failed: input rows: failed if it failed at any length, else skipped if at any, else ok.
        video_rows, attribution_rows: rows written.
    """

    rows: int
    ok: int
    skipped: int
    failed: int
    video_rows: int
    attribution_rows: int

    def __add__(self, other: UnitCounts) -> UnitCounts:
        return UnitCounts(*(a + b for a, b in zip(self.astuple(), other.astuple(), strict=True)))

    def astuple(self) -> tuple[int, ...]:
        """The counts in the order of the attributes."""
        return self.rows, self.ok, self.skipped, self.failed, self.video_rows, self.attribution_rows

    def asdict(self) -> dict[str, int]:
        """The counts by name."""
        return dict(zip(self.__dataclass_fields__, self.astuple(), strict=True))


NO_COUNTS = UnitCounts(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class UnitFooter:
    """What stands in the footer of a videos file.

    Attributes:
        counts: of the unit.
        covers: which rows of the plan they are (`Unit.covers`).
        failed: rows of the unit that failed, 0 = first.
        attributions: SHA-256 of the attributions file.
    """

    counts: UnitCounts
    covers: tuple[int, ...]
    failed: tuple[int, ...]
    attributions: str


@dataclass(frozen=True)
class UnitFiles:
    """The two files of a unit, and what the footer of the videos file says.

    Attributes:
        attributions, videos: their bytes.
        footer: counts, and which rows failed.
    """

    attributions: bytes
    videos: bytes
    footer: UnitFooter


def unit_files(tables: UnitTables, rows: int, covers: Sequence[int] = ()) -> UnitFiles:
    """The two files of a unit. The same tables give the same bytes.

    Args:
        tables: of the unit.
        rows: number of its input rows.
        covers: which rows of the plan they are (`Unit.covers`).
    """
    status = np.array(tables.videos.column("status").to_pylist(), dtype=object)
    failed = np.unique(tables.video_rows[status == "failed"])
    skipped = np.setdiff1d(tables.video_rows[status == "skipped"], failed)
    counts = UnitCounts(
        rows=rows,
        ok=rows - len(failed) - len(skipped),
        skipped=len(skipped),
        failed=len(failed),
        video_rows=tables.videos.num_rows,
        attribution_rows=tables.attributions.num_rows,
    )
    attributions = _serialised(tables.attributions)
    footer = UnitFooter(counts, tuple(covers), tuple(failed.tolist()), hashlib.sha256(attributions).hexdigest())
    told = {"counts": counts.asdict(), "covers": covers, "failed": footer.failed, "attributions": footer.attributions}
    videos = tables.videos.replace_schema_metadata({_FOOTER_KEY: json.dumps(told).encode()})
    return UnitFiles(attributions, _serialised(videos), footer)


def footer_of(metadata: pq.FileMetaData, where: str) -> UnitFooter:
    """What stands in the footer of a videos file.

    Raises:
        DataError: the file is not one of ours.
    """
    try:
        told = json.loads((metadata.metadata or {})[_FOOTER_KEY])
        counts, covers, failed = UnitCounts(**told["counts"]), tuple(told["covers"]), tuple(told["failed"])
        if not all(type(count) is int and count >= 0 for count in (*counts.astuple(), *covers, *failed)):
            raise ValueError(told)
        return UnitFooter(counts, covers, failed, str(told["attributions"]))
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{where}: expected a videos file of esv_ray, its footer has no counts") from None


def _serialised(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # A dictionary of numbers that hardly repeat is made and thrown away: 24 us a video with C = 174, 5 without.
    words = [field.name for field in table.schema if not pa.types.is_floating(field.type) and field.name != "scores"]
    pq.write_table(table, sink, compression="zstd", use_dictionary=words, write_page_checksum=True)
    return bytes(sink.getvalue())
