"""Attribution as a kind of work (`job.work`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from esv_ray.attribution.checks import runs_here
from esv_ray.attribution.planning import PlannedJob, plan_job
from esv_ray.attribution.unit import run_unit
from esv_ray.attribution.workplace import OpenWorkplace
from esv_ray.core.threads import torch_settings
from esv_ray.errors import SpecError
from esv_ray.input.units import Unit
from esv_ray.job.driver import run_work
from esv_ray.job.progress import CHECKING, Progress, Report
from esv_ray.job.result import JobResult
from esv_ray.job.work import Finished, RowCounts, RunUnit
from esv_ray.output.finish import finish_job
from esv_ray.spec import ClusterSpec, JobSpec


@dataclass(frozen=True)
class AttributionPlan:
    """A planned attribution (`job.work.WorkPlan`)."""

    job: PlannedJob

    @property
    def units(self) -> Sequence[Unit]:
        """All units."""
        return self.job.manifest.units

    @property
    def pending(self) -> Sequence[Unit]:
        """Units to do."""
        return self.job.pending

    @property
    def retried(self) -> Mapping[int, tuple[int, ...]]:
        """Failed rows of committed units to compute again."""
        return self.job.retried

    @property
    def open_workplace(self) -> OpenWorkplace:
        """Function that opens an actor's workplace."""
        manifest = self.job.manifest
        return OpenWorkplace(self.job.spec, manifest.job, str(manifest.model["digest"]), manifest.baseline)

    @property
    def run_unit(self) -> RunUnit:
        """Function that reads, computes and commits a unit."""
        return run_unit

    def finish(self, expected: Collection[str]) -> Finished:
        """Count committed rows, and write _SUCCESS if all units are committed."""
        ended = finish_job(self.job.spec.output, self.job.manifest, expected)
        repeated = ended.repeats.describe()
        return Finished(RowCounts(**ended.counts.outcomes), ended.failed, ended.missing, repeated, ended.finished)


@dataclass(frozen=True)
class AttributionWork:
    """A request for attributions (`job.work.Work`).

    Attributes:
        spec: the job.
        report: called with the progress of planning.
    """

    spec: JobSpec
    report: Report = lambda progress: None

    @property
    def output(self) -> str:
        """Location of the tables."""
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
        """Whether all units run in this process."""
        return runs_here(self.spec)

    def plan(self, *, retry_failed: bool, actor_memory: Callable[[], int]) -> AttributionPlan:
        """Check the job, and plan it or load its plan from the output."""

        def files(done: int, total: int) -> None:
            self.report(Progress(total=0, resumed=0, stage=CHECKING, stage_done=done, stage_total=total))

        return AttributionPlan(plan_job(self.spec, retry_failed=retry_failed, measure=actor_memory, report=files))


def run_job(spec: JobSpec, report: Report = lambda progress: None, *, retry_failed: bool = False) -> JobResult:
    """Attribute a feature table.

    Args:
        spec: the job (`load_spec`).
        report: called often, with the progress so far.
        retry_failed: compute failed videos again; completed ones are unchanged.

    Returns:
        How the job ended. If something is left, run it again to resume.

    Raises:
        EsvError: the request is wrong (nothing is half-written), or no actor can be started.
    """
    if not isinstance(spec, JobSpec):
        raise SpecError(f"spec: expected a spec of esv_ray.load_spec, got {type(spec).__name__}")
    # The settings of a workplace in this process end with the job.
    with torch_settings() if runs_here(spec) else nullcontext():
        return run_work(AttributionWork(spec, report), report, retry_failed=retry_failed)
