"""Check an extraction and plan it once; every later run must match the plan."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from esv_ray import storage
from esv_ray.decoding import open_decoder
from esv_ray.errors import DataError, JobError, StorageError, count_of, one_line
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
from esv_ray.extraction.thumbnails import check_installed
from esv_ray.extraction.units import VideoUnit, units_of, videos_of_unit
from esv_ray.extraction.videos.clip import Clip, clips_checksum, clips_file
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
_NAMED = 3


@dataclass(frozen=True)
class CheckedExtraction:
    """An extraction that can run.

    Attributes:
        spec: the extraction.
        info: of its backbone.
        found: its videos.
        plan: that of run.json, or a new one.
        planned: whether run.json is on storage.
        failed: numbers of the failed videos of each committed unit, by the unit's number.
    """

    spec: ExtractSpec
    info: BackboneInfo
    found: FoundVideos
    plan: ExtractionPlan
    planned: bool
    failed: Mapping[int, tuple[int, ...]]

    @property
    def pending(self) -> tuple[VideoUnit, ...]:
        """Units that are not committed yet."""
        return tuple(unit for unit in self.plan.units if unit.index not in self.failed)


@dataclass(frozen=True)
class PlannedExtraction:
    """An extraction whose run.json is on storage.

    Attributes:
        spec: the extraction.
        plan: run.json, and its units.
        pending: units to do, in plan order: those not yet committed, and those of `retried`.
        retried: failed videos of committed units that are extracted again, by the unit's number.
        notes: what the user should know, one line each.
    """

    spec: ExtractSpec
    plan: ExtractionPlan
    pending: tuple[VideoUnit, ...]
    retried: Mapping[int, tuple[int, ...]]
    notes: tuple[str, ...]


def private_locations(spec: ExtractSpec) -> list[str]:
    """Return the locations that are in the memory of this process, where no actor can read them."""
    urls = (spec.videos, spec.output, *([spec.weights] if spec.weights else []))
    return [url for url in urls if storage.in_this_process(url)]


def check_extraction(spec: ExtractSpec) -> CheckedExtraction:
    """Check that an extraction can run, and return its plan; nothing is written.

    Raises:
        EsvError: the request is wrong or another output is in the way.
    """
    check_cluster(spec.cluster, private_locations(spec))
    if spec.thumbnails:
        check_installed()
    open_decoder(spec.decoder, isolated=False).close()
    info = open_backbone(spec).info
    found = find_videos(spec.videos, spec.labels, spec.classes)
    keys: dict[str, object] = {**extract_keys(spec), "digest": info.digest, "results_version": RESULTS_VERSION}
    keys |= {"names": None if found.names is None else list(found.names), "list_columns": dict(found.further)}
    written = read_run(spec.output)
    if written is None:
        plan = _new_plan(spec, info, found, keys)
        return CheckedExtraction(spec, info, found, plan, False, _adoptable(spec.output, plan))
    check_same(spec.output, written, keys)
    plan = plan_of(spec.output, written)
    _check_same_videos(spec, plan, found)
    return CheckedExtraction(spec, info, found, plan, True, failed_rows(spec.output, plan, EXTRACTION_FOLDERS))


def plan_extraction(spec: ExtractSpec, *, retry_failed: bool) -> PlannedExtraction:
    """Check an extraction, load or commit its plan, and list its pending units.

    Writes run.json and the list of videos, and removes _SUCCESS if units are pending.

    Args:
        spec: the extraction.
        retry_failed: whether failed videos are extracted again.

    Raises:
        EsvError: the request is wrong or another output is in the way; nothing is written then.
    """
    checked = check_extraction(spec)
    if not checked.planned:
        _write_beside(spec, checked)
        if not commit_run(spec.output, checked.plan.written):  # another driver was first
            checked = check_extraction(spec)
    failed, plan = checked.failed, checked.plan
    retried = {index: rows for index, rows in failed.items() if rows} if retry_failed else {}
    pending = tuple(unit for unit in plan.units if unit.index not in failed or unit.index in retried)
    if pending:
        mark_unfinished(spec.output)
        remove_success(spec.output)
    return PlannedExtraction(spec, plan, pending, retried, checked.found.notes)


def mark_unfinished(output: str) -> None:
    """Mark the table as incomplete: readers of feature tables refuse it."""
    content = json.dumps({"written by": "esv extract"}).encode()
    storage.commit_new(storage.join(output, UNFINISHED), content, "mark the table as incomplete")


def mark_finished(output: str) -> None:
    """Remove the mark of an incomplete table."""
    storage.remove(storage.join(output, UNFINISHED), "complete the table")


def _new_plan(spec: ExtractSpec, info: BackboneInfo, found: FoundVideos, keys: dict[str, object]) -> ExtractionPlan:
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
        unit=videos_of_unit(len(found.clips), spec.compute.unit),
        labelled=found.labelled,
        names=None if found.names is None else list(found.names),
        further=dict(found.further),
    )
    return ExtractionPlan(written, units_of(found.clips, checksum, written.unit))


def _write_beside(spec: ExtractSpec, checked: CheckedExtraction) -> None:
    """Write what belongs to a new plan, but run.json."""
    mark_unfinished(spec.output)
    clips, found = checked.plan.written.clips, checked.found
    storage.commit_new(
        clips_url(spec.output, clips), clips_file(found.clips, schema_of(found.further)), "write the list of videos"
    )
    if found.names is not None:
        storage.replace(storage.join(spec.output, CLASSES), classes_csv(found.names), "write the classes")


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


def _check_same_videos(spec: ExtractSpec, plan: ExtractionPlan, found: FoundVideos) -> None:
    """Refuse to continue with other videos than those of the plan.

    Raises:
        JobError: names the first that differ.
    """
    if clips_checksum(found.clips) == plan.written.clips:
        return
    planned = {clip.video_id: clip for unit in plan.units for clip in unit.clips}
    now = {clip.video_id: clip for clip in found.clips}
    differences = [
        *_named("added", [video_id for video_id in now if video_id not in planned]),
        *_named("removed", [video_id for video_id in planned if video_id not in now]),
        *_named("changed in path, label, times or other columns", _changed(planned, now)),
    ]
    raise JobError(
        f"{spec.output}: the videos of {spec.videos} changed since this extraction was planned: "
        f"{'; '.join(differences)}; put them back, or use another --out"
    )


def _changed(planned: Mapping[str, Clip], now: Mapping[str, Clip]) -> list[str]:
    return [video_id for video_id, clip in planned.items() if video_id in now and now[video_id] != clip]


def _named(what: str, ids: list[str]) -> list[str]:
    if not ids:
        return []
    more = ", ..." if len(ids) > _NAMED else ""
    return [f"{count_of(len(ids), 'video')} {what} ({', '.join(f'{each!r:.80}' for each in ids[:_NAMED])}{more})"]
