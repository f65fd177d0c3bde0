"""Verification of an output: whether it is complete and consistent, which units to recompute; and its repair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from esv_ray import storage
from esv_ray.errors import DataError, JobError, StorageError
from esv_ray.input.files import list_files
from esv_ray.input.units import Unit
from esv_ray.output.committed import check_table, list_tables, strays_of
from esv_ray.output.layout import ASIDE, FOLDERS, RUN, SUCCESS, VIDEOS
from esv_ray.output.manifest import BrokenManifestError, Manifest, existing_manifest
from esv_ray.output.success import read_success
from esv_ray.output.unit_files import NO_COUNTS, UnitCounts
from esv_ray.output.verify.input import input_problems
from esv_ray.output.verify.unit import verify_unit
from esv_ray.spec_values import digits


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        problems: one line each; empty for a good output.
        notes: checks that could not be done, one line each.
        redo: names of committed units to recompute.
        strays: files of the tables that are not in the plan, below the output.
        wrong_success: whether _SUCCESS is wrong.
        wrong_manifest: whether run.json is damaged; nothing else is checked then.
        counts: counts of all committed units.
        units, committed: number of units in the plan, and of committed ones.
        worst_gap: largest efficiency gap of an exact row, 0 without exact rows.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    redo: tuple[str, ...]
    strays: tuple[str, ...]
    wrong_success: bool
    wrong_manifest: bool
    counts: UnitCounts
    units: int
    committed: int
    worst_gap: float


def verify_output(output: str, features: str | None = None) -> Verification:
    """Check an output: counts against the plan and the input's footers, ids, checksums, schemas, efficiency, _SUCCESS.

    Args:
        output: location of the output; its content is not trusted.
        features: location of the feature table; None: that of run.json, if it is trusted (`check_near`).

    Raises:
        DataError: there is no output, the feature table that the user gives does not exist, or the storage refuses.
    """
    if features is not None:
        list_files(features)  # refuses a location without Parquet files
    try:
        manifest = existing_manifest(output)
    except BrokenManifestError as error:
        return Verification((str(error),), (), (), (), False, True, NO_COUNTS, 0, 0, 0.0)
    names = list_tables(output, FOLDERS)
    strays = strays_of(names, manifest)
    problems = [f"{stray}: not in run.json" for stray in strays]
    units = [unit for unit in manifest.units if unit.name in names[VIDEOS]]
    redo: list[str] = []
    total, worst = NO_COUNTS, 0.0
    ids, repeats = _Ids(), 0
    for unit in units:
        try:
            findings = verify_unit(output, manifest, unit)
        except StorageError:
            raise  # the unit may be intact
        except (DataError, JobError) as error:
            problems.append(str(error))
            redo.append(unit.name)
            continue
        if findings.problems:
            problems += findings.problems
            redo.append(unit.name)
        repeated = list(ids.problems(unit, findings.videos))
        repeats += len(repeated)
        problems += repeated
        total += findings.counts
        worst = float(np.maximum(worst, findings.worst_gap))  # unlike max it keeps NaN
    for folder in manifest.folders[1:]:
        unmarked = [unit for unit in manifest.units if unit.name in names[folder] - names[VIDEOS]]
        for unit, problem in _unmarked_problems(output, folder, unmarked, manifest.job):
            problems.append(problem)
            redo.append(unit.name)
    success = _success_problems(output, manifest, total, len(manifest.units) - len(units), repeats)
    problems += success
    mismatches, notes = input_problems(output, manifest, features)
    return Verification(
        problems=(*problems, *mismatches),
        notes=tuple(notes),
        redo=tuple(dict.fromkeys(redo)),
        strays=strays,
        wrong_success=any(SUCCESS in problem and "missing although" not in problem for problem in success),
        wrong_manifest=False,
        counts=total,
        units=len(manifest.units),
        committed=len(units),
        worst_gap=worst,
    )


def repair_output(output: str, verification: Verification) -> tuple[str, ...]:
    """Move wrong files aside, so that the next run of the job recomputes their units; nothing is deleted.

    All files of a unit are moved to ``<output>/_aside/N/``, where N counts repairs. The mark is moved first, so that
    an interrupted repair leaves a unit that is not committed.

    Returns:
        The files that were moved, below the output.

    Raises:
        DataError: the storage refuses.
    """
    names = [f"{folder}/{name}" for name in verification.redo for folder in FOLDERS]
    unfinished = verification.wrong_success or verification.wrong_manifest or bool(names)
    names = [SUCCESS] * unfinished + [RUN] * verification.wrong_manifest + names + list(verification.strays)
    existing = [name for name in names if storage.is_taken(storage.join(output, name))]
    if not existing:
        return ()
    before = storage.list_names(storage.join(output, ASIDE), "list the files moved aside")
    number = 1 + max((digits(name) or 0 for name in before), default=0)
    for name in existing:
        aside = storage.join(output, ASIDE, f"{number:06d}", name)
        storage.move(storage.join(output, name), aside, "move a file aside")
    return tuple(existing)


def _unmarked_problems(output: str, folder: str, units: Sequence[Unit], job: str) -> Iterator[tuple[Unit, str]]:
    """Yield files of another job without a mark; those of this job are of a run killed before it wrote the mark."""
    for unit in units:
        try:
            check_table(output, folder, unit, job)
        except StorageError:
            raise
        except (DataError, JobError) as error:
            yield unit, str(error)


def _success_problems(output: str, manifest: Manifest, total: UnitCounts, missing: int, repeats: int) -> list[str]:
    problems = []
    try:
        success = read_success(output)
    except StorageError:
        raise
    except DataError as error:
        return [str(error)]
    if missing:
        problems.append(f"{missing} of {len(manifest.units)} units are not committed; run the job again to resume")
        if success is not None:
            problems.append("_SUCCESS exists although units are missing")
    elif success is None and not repeats:  # the job does not write it then
        problems.append("_SUCCESS is missing although every unit is committed; run the job again")
    elif success is not None and success != {"units": len(manifest.units), **total.asdict()}:
        problems.append(f"_SUCCESS says {dict(success)}, the tables say {total.asdict()}")
    return problems


@dataclass(frozen=True)
class _Ids:
    """Ids of the units so far: the file and the unit of each, and the unit of each (id, length) that did not fail."""

    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    places: dict[tuple[str, int], str] = field(default_factory=dict)

    def problems(self, unit: Unit, videos: pa.Table) -> Iterator[str]:
        """Yield ids that also occur in another file. Within a file, a row with a repeated id is failed."""
        location = f"videos/{unit.name}"
        columns = (videos.column(name).to_pylist() for name in ("video_id", "n_elements", "status"))
        reported = set()
        for video_id, n, status in zip(*columns, strict=True):
            own = (unit.source, location)
            file, place = self.files.setdefault(video_id, own) if video_id else own
            if status != "failed" and (video_id, n) in self.places:
                files = ": it is in two files of the feature table" if file != unit.source else ""
                yield f"{location}: video {video_id!r} at {n} elements is in {self.places[video_id, n]} too{files}"
                reported.add(video_id)
            elif file != unit.source and video_id not in reported:
                reported.add(video_id)
                yield f"{location}: video {video_id!r} is in {place} too: it is in two files of the feature table"
            if status != "failed":
                self.places[video_id, n] = location
