"""A unit of an extraction: decode, encode, commit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from time import perf_counter

from esv_ray.errors import JobError
from esv_ray.extraction.pipeline import extract_rows
from esv_ray.extraction.tables import Extracted, Failed, schemas_of, unit_tables, written
from esv_ray.extraction.units import VideoUnit
from esv_ray.extraction.workplace import Workplace
from esv_ray.input.reasons import reason_kind
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.job.work import Failures, RowCounts, UnitReport, all_failures
from esv_ray.output.commits import commit_unit
from esv_ray.output.committed import committed_counts
from esv_ray.output.layout import EXTRACTION_FOLDERS
from esv_ray.output.retried import with_retried


def run_unit(
    place: Workplace,
    unit: VideoUnit,
    task: Task,
    *,
    retried: Sequence[int] | None = None,
    compute: Executor | None = None,
) -> UnitReport:
    """Extract the videos of a unit and commit them, or extract some without a commit (`Task.probe`).

    Args:
        place: the backbone and the decoders.
        unit: unit of the plan.
        task: what to do with it.
        retried: videos of the committed unit to extract again; None: the unit is not committed yet.
        compute: runs the backbone on one thread; None: the calling thread.

    Raises:
        EsvError: the storage refuses; the unit is not committed.
        Exception: whatever the backbone raises.
    """
    output, plan = place.spec.output, place.plan
    if task.probe is None and retried is None:
        # By another driver of this job, or by an actor that was given up and still works.
        earlier = committed_counts(output, unit, plan.job, plan.folders)
        if earlier is not None:
            return UnitReport(RowCounts(**earlier.outcomes), already_committed=True)
    to_do = list(range(unit.rows)) if retried is None else list(retried)
    poisoned = {to_do[row]: reason for row, reason in task.poisoned}
    only = to_do if task.probe is None else to_do[slice(*task.probe)]
    pieces = extract_rows(place, unit.clips, poisoned=poisoned, only=only, compute=compute)
    if task.probe is not None:
        return UnitReport(read_s=pieces.decode_s, compute_s=pieces.compute_s)
    if place.stopped.is_set():
        raise JobError("stopped")
    begun = perf_counter()
    counts = _commit(place, unit, pieces.outcomes, retried)
    place.heartbeat.beat()
    return UnitReport(counts, pieces.decode_s, pieces.compute_s, perf_counter() - begun, _by_kind(pieces.outcomes))


def _commit(
    place: Workplace, unit: VideoUnit, outcomes: Sequence[Extracted | Failed], retried: Sequence[int] | None
) -> RowCounts:
    """Commit the outcomes of a unit, or merge those of some of its videos into what is committed."""
    spec, plan = place.spec, place.plan
    info = table_info(place)
    further = plan.written.further
    schemas = schemas_of(place.backbone.info, spec.dtype, labelled=plan.written.labelled, further=further)
    tables = unit_tables(unit.clips, outcomes, schemas, plan.folders, info, further)
    if retried is not None:
        ids = [clip.video_id for clip in unit.clips]
        merged = with_retried(spec.output, unit, tables, ids, retried, schemas)
        tables = {folder: written(folder, table, info) for folder, table in merged.items()}
    committed = commit_unit(spec.output, unit, plan.job, tables, again=retried is not None, folders=EXTRACTION_FOLDERS)
    if retried is None:
        return RowCounts(**committed.outcomes)
    failed = sum(isinstance(outcome, Failed) for outcome in outcomes)
    return RowCounts(len(retried), len(retried) - failed, 0, failed)


def table_info(place: Workplace) -> dict[str, object]:
    """Return what the metadata of the features says: how frames were made into them."""
    keys = place.plan.written.keys
    sampling = {name: keys[name] for name in ("frames", "fps", "clip", "stride", "decoder") if keys[name] is not None}
    return {**place.plan.written.backbone, **sampling}


def _by_kind(outcomes: Sequence[Extracted | Failed]) -> dict[str, Failures]:
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Failed)]
    return all_failures({reason_kind(reason): Failures(1, reason)} for reason in reasons)
