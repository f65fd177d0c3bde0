"""Commits of units: their tables, then the videos table, which is the mark (`publish`)."""

from __future__ import annotations

from collections.abc import Sequence

from esv_ray.output.committed import read_mark
from esv_ray.output.layout import FOLDERS, PlannedUnit, table_url
from esv_ray.output.origin import origin_for
from esv_ray.output.publish import File, publish, replace
from esv_ray.output.results import UnitTables
from esv_ray.output.unit_files import UnitCounts, unit_files


def commit_unit(
    output: str,
    unit: PlannedUnit,
    job: str,
    tables: UnitTables,
    *,
    again: bool = False,
    folders: Sequence[str] = FOLDERS,
) -> UnitCounts:
    """Publish a unit's files, the mark last; files that another run of the same job published first are kept.

    Args:
        output: location of the output.
        unit: the unit.
        job: `Manifest.job`.
        tables: tables of all its rows.
        again: whether the unit is committed already, and its files are replaced.
        folders: of the tables of this kind of work; the mark's is the first.

    Returns:
        Counts of the tables.

    Raises:
        JobError: a file of another job is in the way.
        DataError: the storage refuses; the unit is not committed then.
    """
    origin = origin_for(unit, job)
    files = unit_files(tables, unit.rows, origin, folders)
    to_publish = [
        File(table_url(output, folder, unit), data, f"write the table {folder}")
        for folder, data in files.tables.items()
    ]
    mark = File(table_url(output, folders[0], unit), files.videos, "write the videos table")

    def marked() -> list[str]:
        checksums = read_mark(output, unit, job, folders).checksums
        return [checksums[folder] for folder in files.tables]

    if again:
        replace(to_publish, mark)
    else:
        publish(to_publish, mark, marked=marked, check_owner=origin.check_file)
    return files.footer.counts
