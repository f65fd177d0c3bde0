"""Verification of a feature table that an extraction wrote: complete, and as it was committed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from esv_ray import storage
from esv_ray.errors import DataError, JobError, StorageError
from esv_ray.extraction.run_file import ExtractionPlan, plan_of, read_run
from esv_ray.extraction.units import VideoUnit
from esv_ray.output.committed import committed_units, list_tables, read_mark, strays_of
from esv_ray.output.files import open_parquet
from esv_ray.output.layout import EXTRACTION_FOLDERS, table_url
from esv_ray.output.origin import origin_for
from esv_ray.output.success import read_success
from esv_ray.output.unit_files import NO_COUNTS, UnitCounts


@dataclass(frozen=True)
class TableVerification:
    """The result of a verification.

    Attributes:
        problems: one line each; empty for a good table.
        counts: of all committed units.
        units, committed: number of units in the plan, and of committed ones.
    """

    problems: tuple[str, ...]
    counts: UnitCounts
    units: int
    committed: int


def is_extraction(output: str) -> bool:
    """Return whether an output is a feature table that an extraction wrote.

    Raises:
        DataError: the storage refuses.
    """
    try:
        return read_run(output) is not None
    except JobError:
        return False
    except StorageError:
        raise
    except DataError:  # damaged: of which work, nobody can say
        return False


def verify_table(output: str) -> TableVerification:
    """Check counts against the plan, origins, checksums and rows of all files, and _SUCCESS.

    Args:
        output: folder of the table; its content is not trusted.

    Raises:
        DataError: the plan is damaged, or the storage refuses.
    """
    written = read_run(output)
    assert written is not None, "the caller has looked"
    plan = plan_of(output, written)
    listed = list_tables(output, EXTRACTION_FOLDERS)
    problems = [f"{stray}: not in run.json" for stray in strays_of(listed, plan)]
    committed = committed_units(output, plan.units, plan.folders, listed)
    total = NO_COUNTS
    for unit in committed:
        try:
            counts = read_mark(output, unit, plan.job, EXTRACTION_FOLDERS).counts
            problems += _table_problems(output, plan, unit)
            total += counts
        except StorageError:
            raise
        except (DataError, JobError) as error:
            problems.append(str(error))
    problems += _success_problems(output, total, len(plan.units), len(committed))
    return TableVerification(tuple(problems), total, len(plan.units), len(committed))


def _table_problems(output: str, plan: ExtractionPlan, unit: VideoUnit) -> Iterator[str]:
    """Yield what is wrong with the files of a unit beside its mark."""
    mark = read_mark(output, unit, plan.job, EXTRACTION_FOLDERS)
    for folder in plan.folders:
        url = table_url(output, folder, unit)
        data = storage.read_bytes(url, "read the output")
        origin_for(unit, plan.job).check_file(data, url)
        if folder in mark.checksums and hashlib.sha256(data).hexdigest() != mark.checksums[folder]:
            yield f"{folder}/{unit.name}: not the file that was committed with its videos (its checksum differs)"
            continue
        rows = open_parquet(data, url).metadata.num_rows
        if rows != mark.counts.written[folder]:
            yield f"{folder}/{unit.name}: expected {mark.counts.written[folder]} rows by its mark, got {rows}"


def _success_problems(output: str, total: UnitCounts, units: int, committed: int) -> Iterator[str]:
    success = read_success(output, EXTRACTION_FOLDERS)
    if committed < units:
        yield f"{units - committed} of {units} units are not committed; run the same esv extract again to resume"
        if success is not None:
            yield "_SUCCESS exists although units are missing"
    elif success is None:
        yield "_SUCCESS is missing although every unit is committed; run the same esv extract again"
    elif success != {"units": units, **total.asdict()}:
        yield f"_SUCCESS says {dict(success)}, the tables say {total.asdict()}"
