"""Extraction as a kind of work (`job.work`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from esv_ray.core.threads import torch_settings
from esv_ray.errors import JobError
from esv_ray.extraction.planning import PlannedExtraction, mark_finished, plan_extraction, private_locations
from esv_ray.extraction.run_file import ExtractionPlan, commit_run, read_run
from esv_ray.extraction.unit import counts_of, run_unit
from esv_ray.extraction.units import VideoUnit
from esv_ray.extraction.workplace import OpenWorkplace
from esv_ray.job.driver import run_work
from esv_ray.job.progress import Report
from esv_ray.job.result import JobResult
from esv_ray.job.work import Finished, RowCounts, RunUnit
from esv_ray.output.committed import failed_rows
from esv_ray.output.finish import JobCounts, finish_units
from esv_ray.output.layout import EXTRACTION_FOLDERS
from esv_ray.spec import ClusterSpec
from esv_ray.spec_extract import ExtractSpec

_log = logging.getLogger("esv_ray")


@dataclass(frozen=True)
class ExtractionWorkPlan:
    """A planned extraction (`job.work.WorkPlan`)."""

    planned: PlannedExtraction

    @property
    def units(self) -> Sequence[VideoUnit]:
        """All units."""
        return self.planned.units

    @property
    def pending(self) -> Sequence[VideoUnit]:
        """Units to do."""
        return self.planned.pending

    @property
    def retried(self) -> Mapping[int, tuple[int, ...]]:
        """Failed videos of committed units to extract again."""
        return self.planned.retried

    @property
    def open_workplace(self) -> OpenWorkplace:
        """Function that opens an actor's workplace."""
        return OpenWorkplace(self.planned.spec, tuple(plan.written for plan in self.planned.plans))

    @property
    def run_unit(self) -> RunUnit:
        """Function that extracts and commits a unit."""
        return run_unit

    def finish(self, expected: Collection[str]) -> Finished:
        """Count committed videos, and write _SUCCESS of each table all of whose units are committed."""
        spec, plans = self.planned.spec, self.planned.plans
        pairs = list(zip(spec.extractions, plans, strict=True))
        ended = [_finish(table.output, plan, expected) for table, plan in pairs]
        if len(ended) == 1:
            (one,) = ended
            return Finished(RowCounts(**one.counts.outcomes), one.failed, one.missing, "", one.finished)
        rows: dict[int, set[int]] = {}  # failed ones of each unit that all tables have
        by_table = [failed_rows(table.output, plan, EXTRACTION_FOLDERS) for table, plan in pairs]
        for unit in plans[0].units:
            if all(unit.index in failed for failed in by_table):
                rows[unit.index] = {row for failed in by_table for row in failed[unit.index]}
        videos = sum(plans[0].units[index].rows for index in rows)
        failed = [(index, row) for index, found in rows.items() for row in found]
        counts = counts_of(videos, failed, [each.counts for each in ended])
        first = dict(pair for each in reversed(ended) for pair in each.failed)
        missing = dict.fromkeys(name for each in ended for name in each.missing)
        return Finished(counts, tuple(first.items()), tuple(missing), "", all(each.finished for each in ended))


def _finish(output: str, plan: ExtractionPlan, expected: Collection[str]) -> JobCounts:
    """Count the committed videos of a table, and write its _SUCCESS if all units are committed."""
    if read_run(output) is None:  # the whole output was removed meanwhile: the next run resumes
        commit_run(output, plan.written)
    stored = read_run(output)
    if stored is None or (stored.keys, stored.clips) != (plan.written.keys, plan.written.clips):
        raise JobError(
            f"{output}: another extraction has replaced run.json; two cannot share an output: choose a different --out "
            "for one of them, and move this one's tables away"
        )
    ended = finish_units(output, plan, expected, folders=EXTRACTION_FOLDERS)
    if ended.finished:
        mark_finished(output)
    return ended


@dataclass(frozen=True)
class ExtractionWork:
    """A request for features (`job.work.Work`)."""

    spec: ExtractSpec

    @property
    def output(self) -> str:
        """Location of the table."""
        return self.spec.output

    @property
    def cluster(self) -> ClusterSpec:
        """Where the job runs."""
        return self.spec.cluster

    @property
    def threads(self) -> int:
        """Torch threads of an actor."""
        return self.spec.compute.threads

    @property
    def max_failed(self) -> float:
        """Largest share of failed videos of a successful job."""
        return self.spec.max_failed

    @property
    def noun(self) -> str:
        """What a row is."""
        return "video"

    @property
    def in_process(self) -> bool:
        """Whether all units run in this process: on request, or if no other one can see a location."""
        return self.spec.cluster.actors == 0 or bool(private_locations(self.spec))

    def plan(self, *, retry_failed: bool, actor_memory: Callable[[], int]) -> ExtractionWorkPlan:
        """Check the extraction, and plan it or load its plan from the output."""
        planned = plan_extraction(self.spec, retry_failed=retry_failed)
        for note in planned.notes:
            _log.warning("%s", note)
        return ExtractionWorkPlan(planned)


def extract(spec: ExtractSpec, report: Report = lambda progress: None, *, retry_failed: bool = False) -> JobResult:
    """Extract the features of videos into a feature table.

    Args:
        spec: the extraction (`spec_extract.load_extract_spec`).
        report: called with the progress, often.
        retry_failed: extract failed videos again; completed ones are unchanged.

    Returns:
        How the job ended. If something is left, run it again to resume.

    Raises:
        EsvError: the request is wrong (nothing is half-written), or no actor can be started.
    """
    work = ExtractionWork(spec)
    # The settings of a workplace in this process end with the job.
    with torch_settings() if work.in_process else nullcontext():
        return run_work(work, report, retry_failed=retry_failed)
