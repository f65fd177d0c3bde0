"""A unit of an extraction: decode, encode, commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from time import perf_counter

from esv_ray.errors import JobError
from esv_ray.extraction.pipeline import extract_rows
from esv_ray.extraction.tables import Extracted, Failed, schemas_of, unit_tables, written
from esv_ray.extraction.units import VideoUnit
from esv_ray.extraction.workplace import Target, Workplace
from esv_ray.input.reasons import reason_kind
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.job.work import Failures, RowCounts, UnitReport, all_failures
from esv_ray.output.commits import commit_unit
from esv_ray.output.committed import is_committed, read_mark
from esv_ray.output.layout import EXTRACTION_FOLDERS
from esv_ray.output.retried import with_retried
from esv_ray.output.unit_files import UnitCounts, UnitFooter

Outcomes = Sequence[Extracted | Failed]


def run_unit(
    place: Workplace,
    unit: VideoUnit,
    task: Task,
    *,
    retried: Sequence[int] | None = None,
    compute: Executor | None = None,
) -> UnitReport:
    """Extract the videos of a unit and commit them, or extract some without a commit (`Task.probe`).

    A unit has files in each table, which are committed one after another. Those that are committed are kept.

    Args:
        place: the backbones and the decoders.
        unit: unit of the plan.
        task: what to do with it.
        retried: videos to extract again that failed, and to extract in tables whose unit is not committed; None: the
            unit is not committed in some table, and failed videos are left.
        compute: runs the backbones on one thread; None: the calling thread.

    Raises:
        EsvError: the storage refuses; the unit is not committed.
        Exception: whatever a backbone raises.
    """
    # Committed by earlier runs; by another driver of this job, or by an actor that was given up and still works.
    marks = [_mark(target, unit) for target in place.targets]
    if task.probe is None and retried is None and None not in marks:
        there = [mark for mark in marks if mark is not None]
        failed = {row for mark in there for row in mark.failed}
        return UnitReport(counts_of(unit.rows, failed, [mark.counts for mark in there]), already_committed=True)
    to_do = list(range(unit.rows)) if retried is None else list(retried)
    poisoned = {to_do[row]: reason for row, reason in task.poisoned}
    probed = to_do if task.probe is None else to_do[slice(*task.probe)]
    left = [_left(unit, mark, retried) for mark in marks]
    only = [[row for row in probed if row in rows] for rows in left]
    pieces = extract_rows(place, unit.clips, poisoned=poisoned, only=only, compute=compute)
    if task.probe is not None:
        return UnitReport(read_s=pieces.decode_s, compute_s=pieces.compute_s)
    if place.stopped.is_set():
        raise JobError("stopped")
    begun = perf_counter()
    committed = []
    for target, mark, outcomes in zip(place.targets, marks, pieces.outcomes, strict=True):
        again = None if mark is None else [outcome.row for outcome in outcomes]
        if again is None or again:
            committed.append(_commit(target, unit, outcomes, again))
        place.heartbeat.beat()
    failed = {row for outcomes in pieces.outcomes for row in _failed(outcomes)}
    if retried is None:
        failed |= {row for mark in marks if mark is not None for row in mark.failed}
    counts = counts_of(len(to_do), failed, committed if retried is None else [])
    return UnitReport(counts, pieces.decode_s, pieces.compute_s, perf_counter() - begun, _by_kind(pieces.outcomes))


def _mark(target: Target, unit: VideoUnit) -> UnitFooter | None:
    """Return the mark of a unit in a table; None if it is not committed there."""
    output, plan = target.spec.output, target.plan
    if not is_committed(output, unit, plan.folders):
        return None
    return read_mark(output, unit, plan.job, plan.folders)


def _left(unit: VideoUnit, mark: UnitFooter | None, retried: Sequence[int] | None) -> frozenset[int]:
    """Return the videos of a unit that a table lacks: all before the commit, those that failed if they are retried."""
    if mark is None:
        return frozenset(range(unit.rows))
    return frozenset() if retried is None else frozenset(mark.failed)


def _commit(target: Target, unit: VideoUnit, outcomes: Outcomes, again: Sequence[int] | None) -> UnitCounts:
    """Commit the outcomes of a unit in a table, or merge those of some of its videos into what is committed."""
    spec, plan = target.spec, target.plan
    info = table_info(target)
    further = plan.written.further
    schemas = schemas_of(target.backbone.info, spec.dtype, labelled=plan.written.labelled, further=further)
    tables = unit_tables(unit.clips, outcomes, schemas, plan.folders, info, further)
    if again is not None:
        ids = [clip.video_id for clip in unit.clips]
        merged = with_retried(spec.output, unit, tables, ids, again, schemas)
        tables = {folder: written(folder, table, info) for folder, table in merged.items()}
    return commit_unit(spec.output, unit, plan.job, tables, again=again is not None, folders=EXTRACTION_FOLDERS)


def table_info(target: Target) -> dict[str, object]:
    """Return what the metadata of the features says: how frames were made into them."""
    keys = target.plan.written.keys
    sampling = {name: keys[name] for name in ("frames", "fps", "clip", "stride", "decoder") if keys[name] is not None}
    return {**target.plan.written.backbone, **sampling}


def counts_of(rows: int, failed: Collection[object], tables: Sequence[UnitCounts]) -> RowCounts:
    """Return the counts of videos, of which some failed for at least one table, and of the rows of all tables."""
    each = [RowCounts(written=counts.outcomes["written"]) for counts in tables]
    return replace(sum(each, RowCounts()), rows=rows, ok=rows - len(failed), failed=len(failed))


def _failed(outcomes: Outcomes) -> set[int]:
    return {outcome.row for outcome in outcomes if isinstance(outcome, Failed)}


def _by_kind(several: Sequence[Outcomes]) -> dict[str, Failures]:
    """Return the failed videos by kind of reason; a video that failed for several tables once."""
    reasons: dict[int, str] = {}
    for outcomes in several:
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                reasons.setdefault(outcome.row, outcome.reason)
    return all_failures({reason_kind(reason): Failures(1, reason)} for reason in reasons.values())
