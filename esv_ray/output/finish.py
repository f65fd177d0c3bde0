"""The end of a job: check that every unit of the plan is in storage, then write _SUCCESS."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import JobError
from esv_ray.output.committed import check_no_strays, committed_units, find_committed, list_tables, read_footers_of
from esv_ray.output.files import parquet_errors
from esv_ray.output.layout import FOLDERS, Plan, PlannedUnit, table_url
from esv_ray.output.manifest import Manifest, commit_manifest, read_manifest
from esv_ray.output.repeats import NO_REPEATS, Repeats, find_repeats
from esv_ray.output.success import commit_success, read_success
from esv_ray.output.unit_files import NO_COUNTS, UnitCounts, UnitFooter

_NAMED = 10
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each further look-up of committed units that are not seen
_MOST_LOOKED_FOR = 1000  # units that are looked up again; if more are missing, the folder was removed


@dataclass(frozen=True)
class JobCounts:
    """The state of an output at the end of a run.

    Attributes:
        counts: counts of the units that are seen.
        failed: (video_id, reason) of the first failed videos.
        missing: names of units that were committed and are not seen: removed since, or lost by the storage.
        repeats: ids in several files of the feature table.
        finished: whether every unit of the plan is seen, no id is in two files, and _SUCCESS is seen too.
    """

    counts: UnitCounts
    failed: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    repeats: Repeats
    finished: bool


def finish_job(
    output: str, manifest: Manifest, expected: Collection[str], *, pause: Callable[[float], None] = time.sleep
) -> JobCounts:
    """Count committed rows; write _SUCCESS if every unit of the plan is committed and every id is in one file.

    Args:
        output: location of the output.
        manifest: plan of the job; if run.json was removed in the meantime, it is written again.
        expected: names of the units that this run or an earlier one committed; those that are not seen are looked up
            again, by name and for a limited time.
        pause: sleeps for a number of seconds.

    Raises:
        JobError: another job's plan or files are in the way, or counts disagree with an earlier _SUCCESS.
        DataError: the storage refuses.
    """
    _keep_manifest(output, manifest)

    def repeats_of(footers: Mapping[int, UnitFooter]) -> Repeats:
        return find_repeats(output, [manifest.units[index] for index in footers], list(footers.values()))

    return finish_units(output, manifest, expected, repeats_of=repeats_of, pause=pause)


def finish_units(
    output: str,
    plan: Plan,
    expected: Collection[str],
    *,
    folders: Sequence[str] = FOLDERS,
    repeats_of: Callable[[Mapping[int, UnitFooter]], Repeats] = lambda footers: NO_REPEATS,
    pause: Callable[[float], None] = time.sleep,
) -> JobCounts:
    """Finish an output whose plan is on storage; as `finish_job`, for any kind of work.

    Args:
        output: location of the output.
        plan: of its job.
        expected: names of the units that this run or an earlier one committed.
        folders: that an output of this kind of work may have; the mark's is the first.
        repeats_of: finds ids that are in several files of the input, from the footers of the marks by unit.
        pause: sleeps for a number of seconds.

    Raises:
        JobError: another job's files are in the way, or counts disagree with an earlier _SUCCESS.
        DataError: the storage refuses.
    """
    listed = list_tables(output, folders)
    check_no_strays(output, listed, plan)
    committed = {unit.name for unit in committed_units(output, plan.units, plan.folders, listed)}
    absent = [unit for unit in plan.units if unit.name in expected and unit.name not in committed]
    missing = _find_missing(output, absent, plan.folders, pause)
    committed |= {unit.name for unit in absent} - {unit.name for unit in missing}
    units = [unit for unit in plan.units if unit.name in committed]
    footers = read_footers_of(output, units, plan.job, beside=plan.folders[1:], folders=folders)
    total = sum((footer.counts for footer in footers), start=NO_COUNTS)
    repeats = repeats_of({unit.index: footer for unit, footer in zip(units, footers, strict=True)})
    finished = len(units) == len(plan.units) and not repeats.number
    if finished:
        _publish_success(output, total, len(units), folders)
    suspects = [
        table_url(output, folders[0], unit) for unit, footer in zip(units, footers, strict=True) if footer.failed
    ]
    return JobCounts(total, _first_failed(suspects), tuple(unit.name for unit in missing), repeats, finished)


def _keep_manifest(output: str, manifest: Manifest) -> None:
    """Write run.json again if the whole output was removed during the job, so that the next run resumes."""
    stored = read_manifest(output)
    if stored is None:
        commit_manifest(output, manifest)
        stored = read_manifest(output)
    if stored is None or (stored.job, stored.units) != (manifest.job, manifest.units):
        raise JobError(
            f"{output}: another job has replaced run.json; two jobs cannot share an output: choose a different output "
            "for one of them, and move this one's tables away"
        )


def _find_missing(
    output: str, absent: Sequence[PlannedUnit], folders: Sequence[str], pause: Callable[[float], None]
) -> Sequence[PlannedUnit]:
    """Look units up by name, several times; return those that remain missing."""
    for seconds in (0.0, *_PAUSES_S):
        if not absent or (seconds and len(absent) > _MOST_LOOKED_FOR):
            break
        pause(seconds)
        present = {unit.name for unit in find_committed(output, absent, folders)}
        absent = [unit for unit in absent if unit.name not in present]
    return absent


def _publish_success(output: str, total: UnitCounts, units: int, folders: Sequence[str]) -> None:
    if read_success(output, folders) is None:
        commit_success(output, total, units)
    stored = read_success(output, folders)
    if stored is None:
        raise JobError(
            f"{output}: _SUCCESS was written but cannot be found: the storage lost a write that it had accepted; "
            "check the storage, then run again"
        )
    if stored != {"units": units, **total.asdict()}:
        raise JobError(f"{output}: _SUCCESS disagrees with the tables; run `esv verify --repair {output}`")


def _first_failed(urls: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return (id, reason) of the first failed rows of some marks: (video_id, reason) of videos tables."""
    named: dict[tuple[str, str], None] = {}  # once, although a video may fail at several lengths
    for url in urls:
        if len(named) >= _NAMED:
            break
        doing = "read the videos table"
        with storage.locating(url, doing), storage.reader(url, doing) as file, parquet_errors(url):
            parquet = pq.ParquetFile(file)
            first = parquet.schema_arrow.names[0]  # the ids: of every kind of work
            table = parquet.read(columns=[first, "status", "reason"])
        rows = [row for row in table.to_pylist() if row["status"] == "failed"]
        named |= dict.fromkeys((row[first], row["reason"]) for row in rows)
    return tuple(named)[:_NAMED]
