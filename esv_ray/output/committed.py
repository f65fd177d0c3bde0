"""Committed units of a plan in storage, and the footers of their files.

Listings may be late, and stores may lose objects that they accepted. So a unit counts as committed only if all of its
files are seen, and a file that a listing lacks is looked up by its name before it counts as missing (issue 15).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import JobError
from esv_ray.output.files import parquet_errors
from esv_ray.output.layout import FOLDERS, Plan, PlannedUnit, table_url
from esv_ray.output.origin import origin_for, origin_of
from esv_ray.output.unit_files import UnitCounts, UnitFooter, footer_of
from esv_ray.parallel import READERS, in_parallel

_NAMED = 3
_Unit = TypeVar("_Unit", bound=PlannedUnit)

Listing = Mapping[str, frozenset[str]]
"""File names by folder of the output."""


def list_tables(output: str, folders: Sequence[str]) -> Listing:
    """List the files of some tables of an output; a folder that does not exist is empty.

    Raises:
        DataError: the storage refuses to list.
    """
    return {
        folder: frozenset(storage.list_names(storage.join(output, folder), "list the output")) for folder in folders
    }


def strays_of(listed: Listing, plan: Plan) -> tuple[str, ...]:
    """Return the files of tables that are not in the plan, except hidden ones, which readers of tables skip."""
    planned = frozenset(unit.name for unit in plan.units)
    return tuple(
        f"{folder}/{name}"
        for folder, names in listed.items()
        for name in sorted(names - planned if folder in plan.folders else names)
        if not name.startswith(("_", "."))
    )


def check_no_strays(output: str, listed: Listing, plan: Plan) -> None:
    """Refuse an output with files of another job.

    Raises:
        JobError: names them.
    """
    strays = strays_of(listed, plan)
    if strays:
        more = f" and {len(strays) - _NAMED} more" if len(strays) > _NAMED else ""
        raise JobError(
            f"{output}: expected the files of its job only, found {', '.join(strays[:_NAMED])}{more}; "
            f"`esv verify --repair {output}` moves them aside, then run the job again"
        )


def committed_units(
    output: str, units: Sequence[_Unit], folders: Sequence[str], listed: Listing | None = None
) -> list[_Unit]:
    """Find the units whose files all exist, in plan order.

    Args:
        output: location of the job's output.
        units: units of the plan.
        folders: folders of the job's tables (`Plan.folders`).
        listed: from `list_tables`; None: list now. A unit that only some of the listings name is looked up by name.

    Raises:
        DataError: the storage refuses.
    """
    listed = list_tables(output, folders) if listed is None else listed
    complete = frozenset.intersection(*(listed[folder] for folder in folders))
    partial = frozenset.union(*(listed[folder] for folder in folders)) - complete
    to_look_up = [unit for unit in units if unit.name in partial]
    committed = complete | {unit.name for unit in find_committed(output, to_look_up, folders)}
    return [unit for unit in units if unit.name in committed]


def find_committed(output: str, units: Sequence[_Unit], folders: Sequence[str]) -> list[_Unit]:
    """Look units up by name, and return those whose files all exist.

    Raises:
        DataError: the storage refuses.
    """
    if not units:
        return []
    results = in_parallel(lambda unit: is_committed(output, unit, folders), units, threads=READERS)
    return [unit for unit, committed in zip(units, results, strict=True) if committed]


def is_committed(output: str, unit: PlannedUnit, folders: Sequence[str]) -> bool:
    """Return whether all files of a unit exist. The mark is looked up first: if it is missing, one request suffices.

    Raises:
        DataError: the storage fails.
    """
    return all(storage.exists(table_url(output, folder, unit)) for folder in folders)


def committed_counts(output: str, unit: PlannedUnit, job: str, folders: Sequence[str]) -> UnitCounts | None:
    """Return the counts of a unit, or None if it is not committed; errors as for `read_footers_of`."""
    if not is_committed(output, unit, folders):
        return None
    return read_mark(output, unit, job, folders).counts


def failed_rows(output: str, plan: Plan, folders: Sequence[str] = FOLDERS) -> dict[int, tuple[int, ...]]:
    """Return the failed rows of each committed unit, by the unit's number.

    Args:
        output: location of the output.
        plan: of its job.
        folders: that an output of this kind of work may have; the mark's is the first.

    Raises:
        JobError: a file is of another job, or not in the plan.
        DataError: a mark is unreadable, or the storage refuses.
    """
    listed = list_tables(output, folders)
    check_no_strays(output, listed, plan)
    units = committed_units(output, plan.units, plan.folders, listed)
    footers = read_footers_of(output, units, plan.job, folders=folders)
    return {unit.index: footer.failed for unit, footer in zip(units, footers, strict=True)}


def read_footers_of(
    output: str,
    units: Sequence[PlannedUnit],
    job: str,
    *,
    beside: Sequence[str] = (),
    folders: Sequence[str] = FOLDERS,
) -> list[UnitFooter]:
    """Read the marks of committed units, and check that they are of this job.

    Args:
        output: location of the job's output.
        units: committed ones.
        job: `Plan.job`.
        beside: folders of other tables whose footers are checked too.
        folders: folders of the tables of this kind of work; the mark's is the first.

    Raises:
        JobError: a file is of another job, or of other rows than the plan says.
        DataError: a file is missing or unreadable, or the storage refuses.
    """

    def read(unit: PlannedUnit) -> UnitFooter:
        footer = read_mark(output, unit, job, folders)
        for folder in beside:
            check_table(output, folder, unit, job)
        return footer

    return in_parallel(read, units, threads=READERS)


def read_mark(output: str, unit: PlannedUnit, job: str, folders: Sequence[str] = FOLDERS) -> UnitFooter:
    """Read the footer of a unit's videos file, in the first of the folders; errors as for `read_footers_of`."""
    url = table_url(output, folders[0], unit)
    footer = footer_of(_metadata(url), url, folders)
    origin_for(unit, job).check(footer.origin, url)
    if footer.counts.rows != unit.rows:
        raise JobError(
            f"{url}: expected {unit.rows} input rows by run.json, got {footer.counts.rows}; `esv verify --repair` on "
            "the output moves it aside, then run the job again"
        )
    return footer


def check_table(output: str, folder: str, unit: PlannedUnit, job: str) -> None:
    """Check that a unit's file in a folder is of this job; errors as for `read_footers_of`."""
    url = table_url(output, folder, unit)
    origin_for(unit, job).check(origin_of(_metadata(url), url), url)


def _metadata(url: str) -> pq.FileMetaData:
    doing = "read the output"
    with storage.locating(url, doing), storage.reader(url, doing) as file, parquet_errors(url):
        return pq.read_metadata(file)
