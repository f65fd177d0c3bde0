"""Check an extraction and plan it once; every later run must match the plan."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from esv_ray import storage
from esv_ray.decoding import open_decoder
from esv_ray.errors import DataError, JobError, StorageError, one_line
from esv_ray.extraction.backbones.backbone import BackboneInfo
from esv_ray.extraction.backbones.opening import open_backbone
from esv_ray.extraction.run_file import (
    CLIPS,
    ExtractionPlan,
    Written,
    check_same,
    clips_url,
    commit_run,
    plan_of,
    read_run,
)
from esv_ray.extraction.same_videos import check_same_videos
from esv_ray.extraction.several import check_folder, mark_folder
from esv_ray.extraction.thumbnails import check_installed
from esv_ray.extraction.units import VideoUnit, units_of, videos_of_unit
from esv_ray.extraction.videos.clip import clips_checksum, clips_file
from esv_ray.extraction.videos.columns import schema_of
from esv_ray.extraction.videos.finding import FoundVideos, find_videos
from esv_ray.input.class_names import classes_csv
from esv_ray.input.files import UNFINISHED
from esv_ray.input.table_classes import CLASSES
from esv_ray.job.resources import check_cluster
from esv_ray.output.committed import failed_rows
from esv_ray.output.layout import ASIDE, EXTRACTION_FOLDERS, PROGRESS, SUBMISSIONS, SUCCESS
from esv_ray.output.success import remove_success
from esv_ray.spec_extract import ExtractSpec, extract_keys

# Increased when the same spec gives other features or files; an older output is then refused.
RESULTS_VERSION = 3
OWN_NAMES = frozenset({*EXTRACTION_FOLDERS, CLIPS, PROGRESS, SUCCESS, ASIDE, SUBMISSIONS, UNFINISHED, CLASSES})
"""Names that an output may hold before it has a run.json."""


@dataclass(frozen=True)
class CheckedTable:
    """The table of one backbone, as it can be written.

    Attributes:
        spec: the extraction of this backbone alone.
        info: of the backbone.
        plan: that of run.json, or a new one.
        planned: whether run.json is on storage.
        failed: numbers of the failed videos of each committed unit, by the unit's number.
    """

    spec: ExtractSpec
    info: BackboneInfo
    plan: ExtractionPlan
    planned: bool
    failed: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class CheckedExtraction:
    """An extraction that can run.

    Attributes:
        spec: the extraction.
        found: its videos.
        tables: one for each backbone; all have the same units.
    """

    spec: ExtractSpec
    found: FoundVideos
    tables: tuple[CheckedTable, ...]

    @property
    def units(self) -> tuple[VideoUnit, ...]:
        """All units."""
        return self.tables[0].plan.units

    @property
    def pending(self) -> tuple[VideoUnit, ...]:
        """Units that are not committed yet in some table."""
        return tuple(unit for unit in self.units if any(unit.index not in table.failed for table in self.tables))

    @property
    def failed(self) -> Mapping[int, tuple[int, ...]]:
        """Videos that failed for some table, of each unit that is committed in some table."""
        indexes = dict.fromkeys(index for table in self.tables for index in table.failed)
        rows = {index: {row for table in self.tables for row in table.failed.get(index, ())} for index in indexes}
        return {index: tuple(sorted(found)) for index, found in rows.items()}


@dataclass(frozen=True)
class PlannedExtraction:
    """An extraction whose run.json is on storage.

    Attributes:
        spec: the extraction.
        plans: run.json of each table, and its units.
        pending: units to do, in plan order: those not yet committed, and those of `retried`.
        retried: videos of units that are extracted again, by the unit's number (`unit.run_unit`).
        notes: what the user should know, one line each.
    """

    spec: ExtractSpec
    plans: tuple[ExtractionPlan, ...]
    pending: tuple[VideoUnit, ...]
    retried: Mapping[int, tuple[int, ...]]
    notes: tuple[str, ...]

    @property
    def units(self) -> tuple[VideoUnit, ...]:
        """All units."""
        return self.plans[0].units


def private_locations(spec: ExtractSpec) -> list[str]:
    """Return the locations that are in the memory of this process, where no actor can read them."""
    weights = [each.weights for each in spec.extractions if each.weights]
    return [url for url in (spec.videos, spec.output, *weights) if storage.in_this_process(url)]


def check_extraction(spec: ExtractSpec) -> CheckedExtraction:
    """Check that an extraction can run, and return its plan; nothing is written.

    Raises:
        EsvError: the request is wrong or another output is in the way.
    """
    check_cluster(spec.cluster, private_locations(spec))
    if spec.thumbnails:
        check_installed()
    open_decoder(spec.decoder, isolated=False).close()
    infos = [open_backbone(each).info for each in spec.extractions]
    found = find_videos(spec.videos, spec.labels, spec.classes)
    check_folder(spec)
    written = [read_run(each.output) for each in spec.extractions]
    unit = _videos_of_unit(spec, found, written)
    parts = zip(spec.extractions, infos, written, strict=True)
    return CheckedExtraction(spec, found, tuple(_checked(*part, found, unit) for part in parts))


def _videos_of_unit(spec: ExtractSpec, found: FoundVideos, written: Sequence[Written | None]) -> int:
    """Return the number of videos of a unit, which all tables share: that of those that are planned already.

    Raises:
        JobError: it differs between tables.
        DataError: there would be too many units.
    """
    planned = {each.unit: table.output for each, table in zip(written, spec.extractions, strict=True) if each}
    if len(planned) > 1:
        listed = ", ".join(f"{unit} of {output}" for unit, output in planned.items())
        raise JobError(
            f"{spec.output}: expected tables with as many videos in a unit, got {listed}; extract their backbones one "
            "by one, each into the folder of its table"
        )
    return next(iter(planned), None) or videos_of_unit(len(found.clips), spec.compute.unit)


def _checked(
    spec: ExtractSpec, info: BackboneInfo, written: Written | None, found: FoundVideos, unit: int
) -> CheckedTable:
    """Check the table of one backbone."""
    keys: dict[str, object] = {**extract_keys(spec), "digest": info.digest, "results_version": RESULTS_VERSION}
    keys |= {"names": None if found.names is None else list(found.names), "list_columns": dict(found.further)}
    if written is None:
        plan = _new_plan(spec, info, found, keys, unit)
        return CheckedTable(spec, info, plan, False, _adoptable(spec.output, plan))
    check_same(spec.output, written, keys)
    plan = plan_of(spec.output, written)
    check_same_videos(spec, plan, found)
    return CheckedTable(spec, info, plan, True, failed_rows(spec.output, plan, EXTRACTION_FOLDERS))


def plan_extraction(spec: ExtractSpec, *, retry_failed: bool) -> PlannedExtraction:
    """Check an extraction, load or commit its plan, and list its pending units.

    Writes run.json and the list of videos of each table, and removes _SUCCESS of those with pending units.

    Args:
        spec: the extraction.
        retry_failed: whether failed videos are extracted again.

    Raises:
        EsvError: the request is wrong or another output is in the way; nothing is written then.
    """
    checked = check_extraction(spec)
    mark_folder(spec)
    for table in checked.tables:
        if not table.planned:
            _write_beside(table, checked.found)
            if not commit_run(table.spec.output, table.plan.written):  # another driver was first
                return plan_extraction(spec, retry_failed=retry_failed)
    retried = _retried(checked) if retry_failed else {}
    left = {unit.index for unit in checked.pending} | retried.keys()
    for table in checked.tables:
        again = retry_failed and any(table.failed.values())
        if again or len(table.failed) < len(checked.units):
            mark_unfinished(table.spec.output)
            remove_success(table.spec.output)
    pending = tuple(unit for unit in checked.units if unit.index in left)
    plans = tuple(table.plan for table in checked.tables)
    return PlannedExtraction(spec, plans, pending, retried, checked.found.notes)


def _retried(checked: CheckedExtraction) -> dict[int, tuple[int, ...]]:
    """Return the failed videos of units that have some; all videos, where a table still lacks the unit."""
    whole = {unit.index: tuple(range(unit.rows)) for unit in checked.pending}
    return {index: whole.get(index, rows) for index, rows in checked.failed.items() if rows}


def mark_unfinished(output: str) -> None:
    """Mark the table as incomplete: readers of feature tables refuse it."""
    content = json.dumps({"written by": "esv extract"}).encode()
    storage.commit_new(storage.join(output, UNFINISHED), content, "mark the table as incomplete")


def mark_finished(output: str) -> None:
    """Remove the mark of an incomplete table."""
    storage.remove(storage.join(output, UNFINISHED), "complete the table")


def _new_plan(
    spec: ExtractSpec, info: BackboneInfo, found: FoundVideos, keys: dict[str, object], unit: int
) -> ExtractionPlan:
    """Return the plan of an extraction whose output has none yet."""
    storage.check_vacant(spec.output, OWN_NAMES)
    storage.check_writable(spec.output, "write the feature table")
    checksum = clips_checksum(found.clips)
    written = Written(
        spec=spec.model_dump(mode="json"),
        keys=json.loads(json.dumps(keys)),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("esv-ray", "torch", "ray", "pyarrow", "numpy")},
        },
        backbone=info.asdict(),
        videos=len(found.clips),
        clips=checksum,
        unit=unit,
        labelled=found.labelled,
        names=None if found.names is None else list(found.names),
        further=dict(found.further),
    )
    return ExtractionPlan(written, units_of(found.clips, checksum, written.unit))


def _write_beside(table: CheckedTable, found: FoundVideos) -> None:
    """Write what belongs to a new plan, but run.json."""
    output = table.spec.output
    mark_unfinished(output)
    listed = clips_file(found.clips, schema_of(found.further))
    storage.commit_new(clips_url(output, table.plan.written.clips), listed, "write the list of videos")
    if found.names is not None:
        storage.replace(storage.join(output, CLASSES), classes_csv(found.names), "write the classes")


def _adoptable(output: str, plan: ExtractionPlan) -> Mapping[int, tuple[int, ...]]:
    """Return the failed videos of tables without a run.json, which was removed.

    Raises:
        JobError: not all are of this extraction, which could then resume.
    """
    try:
        return failed_rows(output, plan, EXTRACTION_FOLDERS)
    except StorageError:
        raise
    except (JobError, DataError) as error:
        raise JobError(
            f"{output}: expected an empty or absent folder for the table, found one without a run.json that does not "
            f"belong to this extraction ({one_line(error)}); choose another --out, or move it away"
        ) from None
