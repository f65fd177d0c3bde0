"""esv verify: whether an output is whole and consistent, which units to do again, and how to put them aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from esv_ray import storage
from esv_ray.errors import DataError, StorageError
from esv_ray.parallel import in_parallel
from esv_ray.tables.footers import read_footers
from esv_ray.tables.inputs import InputFile, check_unchanged
from esv_ray.tables.manifest import (
    SUCCESS,
    Manifest,
    committed_names,
    existing_manifest,
    read_success,
)
from esv_ray.tables.unit_files import NO_COUNTS, UnitCounts
from esv_ray.tables.units import Unit
from esv_ray.tables.verify_unit import verify_unit

FOLDERS = ("videos", "attributions")
_READERS = 16  # footers are small: latency, not bandwidth
ASIDE = "_aside"  # readers of tables pass over names that begin so


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        problems: one line each; none for a good output.
        notes: what could not be looked at, one line each.
        redo: names of committed units that are to be done again.
        strays: files of the tables that are in no plan, below the output.
        wrong_success: whether _SUCCESS says what is not so.
        counts: of all committed units.
        units, committed: of the plan, and of them there.
        worst_gap: largest efficiency gap of an exact row, 0 without any.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    redo: tuple[str, ...]
    strays: tuple[str, ...]
    wrong_success: bool
    counts: UnitCounts
    units: int
    committed: int
    worst_gap: float


def verify_output(output: str) -> Verification:
    """Check an output: counts against the plan and the input's footers, ids, checksums, schemas, efficiency, _SUCCESS.

    Raises:
        DataError: there is no output, or the storage refuses.
    """
    manifest = existing_manifest(output)
    names = {folder: committed_names(output, folder) for folder in FOLDERS}
    planned = {unit.name for unit in manifest.units}
    strays = tuple(
        f"{folder}/{name}"
        for folder in FOLDERS
        for name in sorted(names[folder] - planned)
        if name.endswith(".parquet")
    )
    problems = [f"{stray}: not in the plan" for stray in strays]
    units = [unit for unit in manifest.units if unit.name in names["videos"]]
    redo: list[str] = []
    total, worst = NO_COUNTS, 0.0
    ids = _Ids()
    for unit in units:
        try:
            found = verify_unit(output, manifest, unit)
        except StorageError:
            raise  # the unit may be well
        except DataError as error:
            problems.append(str(error))
            redo.append(unit.name)
            continue
        if found.problems:
            problems += found.problems
            redo.append(unit.name)
        problems += ids.problems(unit, found.videos)
        total += found.counts
        worst = max(worst, found.worst_gap)
    success = _success_problems(output, manifest, total, len(manifest.units) - len(units))
    problems += success
    told, notes = _input_problems(manifest)
    return Verification(
        problems=(*problems, *told),
        notes=tuple(notes),
        redo=tuple(redo),
        strays=strays,
        wrong_success=any(SUCCESS in problem and "missing although" not in problem for problem in success),
        counts=total,
        units=len(manifest.units),
        committed=len(units),
        worst_gap=worst,
    )


def repair_output(output: str, found: Verification) -> tuple[str, ...]:
    """Move aside what is wrong, so that the same job again does it anew; nothing is deleted.

    Both files of a unit go to ``<output>/_aside/N/``, N counting repairs; the mark goes first, so that a repair that is
    killed leaves a unit that is to be done.

    Returns:
        What was moved, below the output.

    Raises:
        DataError: the storage refuses.
    """
    names = [f"{folder}/{name}" for name in found.redo for folder in FOLDERS]
    names = [SUCCESS] * (found.wrong_success or bool(names)) + names + list(found.strays)
    there = [name for name in names if storage.exists(storage.join(output, name))]
    if not there:
        return ()
    before = storage.list_names(storage.join(output, ASIDE), "list what is aside")
    number = 1 + max((int(name) for name in before if name.isdecimal()), default=0)
    for name in there:
        aside = storage.join(output, ASIDE, f"{number:06d}", name)
        storage.move(storage.join(output, name), aside, "move a file aside")
    return tuple(there)


def _success_problems(output: str, manifest: Manifest, total: UnitCounts, missing: int) -> list[str]:
    problems = []
    try:
        success = read_success(output)
    except StorageError:
        raise
    except DataError as error:
        return [str(error)]
    if missing:
        problems.append(f"{missing} of {len(manifest.units)} units are not committed; run the job again to go on")
        if success is not None:
            problems.append("_SUCCESS is there although units are missing")
    elif success is None:
        problems.append("_SUCCESS is missing although every unit is committed; run the job again")
    elif success != {"units": len(manifest.units), **total.asdict()}:
        problems.append(f"_SUCCESS says {dict(success)}, the tables say {total.asdict()}")
    return problems


def _input_problems(manifest: Manifest) -> tuple[list[str], list[str]]:
    """The plan against the footers of the input, where that is still there: problems, and notes."""
    planned: dict[InputFile, Counter[int]] = {file: Counter() for file in manifest.files}
    for unit in manifest.units:
        planned[unit.file][unit.row_group] += unit.rows

    def look(file: InputFile) -> tuple[str | None, str | None]:
        try:
            check_unchanged(file)
            (footer,) = read_footers([file])
        except DataError as error:
            return None, f"not compared with the input: {error}"
        if {index: group.rows for index, group in enumerate(footer.groups) if group.rows} == planned[file]:
            return None, None
        rows = sum(group.rows for group in footer.groups)
        return f"{file.url}: expected its {rows} rows in the plan, got {planned[file].total()}; plan the job anew", None

    found = in_parallel(look, manifest.files, threads=_READERS)
    return [problem for problem, _ in found if problem], [note for _, note in found if note]


@dataclass(frozen=True)
class _Ids:
    """Ids met so far: the file and the unit that each comes from, and where each (id, length) not failed stands."""

    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    places: dict[tuple[str, int], str] = field(default_factory=dict)

    def problems(self, unit: Unit, videos: pa.Table) -> Iterator[str]:
        """Every video once. Within its file a repeated id is a failed row; in another file it is found here."""
        where = f"videos/{unit.name}"
        columns = (videos.column(name).to_pylist() for name in ("video_id", "n_elements", "status"))
        told = set()
        for video_id, n, status in zip(*columns, strict=True):
            own = (unit.file.url, where)
            file, place = self.files.setdefault(video_id, own) if video_id else own
            if status != "failed" and (video_id, n) in self.places:
                yield f"{where}: video {video_id!r} at {n} elements stands in {self.places[video_id, n]} too"
                told.add(video_id)
            elif file != unit.file.url and video_id not in told:
                told.add(video_id)
                yield f"{where}: video {video_id!r} stands in {place} too: it is in two files of the feature table"
            if status != "failed":
                self.places[video_id, n] = where
