"""The end of a job: what is committed is counted against the plan, then _SUCCESS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, JobError
from esv_ray.parallel import in_parallel
from esv_ray.tables.manifest import Manifest, commit_success, committed_names, read_success, videos_url
from esv_ray.tables.unit_files import NO_COUNTS, UnitCounts, UnitFooter, footer_of
from esv_ray.tables.units import Unit

_READERS = 16  # footers are small: latency, not bandwidth
_NAMED = 10


@dataclass(frozen=True)
class JobCounts:
    """What is committed: counts, and (video_id, reason) of the first failed videos."""

    counts: UnitCounts
    failed: tuple[tuple[str, str], ...]


def finish_job(output: str, manifest: Manifest) -> JobCounts:
    """Count what is committed; publish _SUCCESS if that is everything.

    Raises:
        JobError: counts disagree with the plan or with an earlier _SUCCESS.
        DataError: the storage refuses.
    """
    done = committed_names(output)
    units = [unit for unit in manifest.units if unit.name in done]
    footers = read_footers_of(output, units)
    total = NO_COUNTS
    for footer in footers:
        total += footer.counts
    if len(units) == len(manifest.units):
        earlier = read_success(output)
        if earlier is None:
            commit_success(output, total, len(units))
        elif earlier != {"units": len(units), **total.asdict()}:
            raise JobError(f"{output}: _SUCCESS disagrees with the tables; run `esv verify {output}`")
    suspects = [unit for unit, footer in zip(units, footers, strict=True) if footer.failed]
    return JobCounts(total, _first_failed(output, suspects))


def read_footers_of(output: str, units: Sequence[Unit]) -> list[UnitFooter]:
    """What the marks of committed units say.

    Raises:
        JobError: one is of other rows than the plan says.
        DataError: one is unreadable, or the storage refuses.
    """
    return in_parallel(lambda unit: _footer(output, unit), units, threads=_READERS)


def _footer(output: str, unit: Unit) -> UnitFooter:
    where = videos_url(output, unit)
    doing = "read the videos table"
    with storage.locating(where, doing), storage.reader(where, doing) as file:
        try:
            footer = footer_of(pq.read_metadata(file), where)
        except pa.ArrowException as error:
            raise DataError(f"{where}: expected a Parquet file: {' '.join(str(error).split())[:200]}") from None
    counts, covers = footer.counts, footer.covers
    if counts.rows != unit.rows or covers != unit.covers:
        raise JobError(
            f"{where}: expected {unit.rows} input rows, {unit.covers} (file, group, start, stop) of the plan, got "
            f"{counts.rows}, {covers}; move the file aside and run again"
        )
    return footer


def _first_failed(output: str, units: Sequence[Unit]) -> tuple[tuple[str, str], ...]:
    named: dict[tuple[str, str], None] = {}  # once, at however many lengths
    for unit in units:
        if len(named) >= _NAMED:
            break
        where = videos_url(output, unit)
        doing = "read the videos table"
        with storage.locating(where, doing), storage.reader(where, doing) as file:
            try:
                table = pq.read_table(file, columns=["video_id", "status", "reason"])
            except pa.ArrowException as error:
                raise DataError(f"{where}: not readable: {' '.join(str(error).split())[:200]}") from None
        rows = [row for row in table.to_pylist() if row["status"] == "failed"]
        named |= dict.fromkeys((row["video_id"], row["reason"]) for row in rows)
    return tuple(named)[:_NAMED]
