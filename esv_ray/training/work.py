"""Training as a kind of work (`job.work`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from esv_ray.core.threads import torch_settings
from esv_ray.errors import JobError
from esv_ray.job.driver import run_work
from esv_ray.job.progress import Report
from esv_ray.job.result import JobResult
from esv_ray.job.work import Finished, RowCounts, RunUnit
from esv_ray.output.finish import finish_units
from esv_ray.output.layout import TRAINING_FOLDERS
from esv_ray.spec import ClusterSpec
from esv_ray.spec_train import TrainSpec
from esv_ray.training.bundle import Trained, finish_training, read_trained
from esv_ray.training.planning import PlannedTraining, plan_training, private_locations, training_folder
from esv_ray.training.run_file import FILE, HeadUnit, Written
from esv_ray.training.unit import run_unit
from esv_ray.training.workplace import OpenWorkplace


@dataclass(frozen=True)
class TrainingWorkPlan:
    """A planned training (`job.work.WorkPlan`)."""

    planned: PlannedTraining

    @property
    def units(self) -> Sequence[HeadUnit]:
        """All heads."""
        return self.planned.plan.units

    @property
    def pending(self) -> Sequence[HeadUnit]:
        """Heads to train."""
        return self.planned.pending

    @property
    def retried(self) -> Mapping[int, tuple[int, ...]]:
        """Failed heads to train again."""
        return self.planned.retried

    @property
    def open_workplace(self) -> OpenWorkplace:
        """Function that opens an actor's workplace."""
        return OpenWorkplace(self.planned.spec, self.planned.plan.written, self.planned.data)

    @property
    def run_unit(self) -> RunUnit:
        """Function that trains and commits a head."""
        return run_unit

    def finish(self, expected: Collection[str]) -> Finished:
        """Count committed heads; if all are trained, merge them into the bundle and write _SUCCESS."""
        spec, plan = self.planned.spec, self.planned.plan
        folder = training_folder(spec.output)
        if FILE.read(folder) is None:  # the whole output was removed meanwhile: the next run resumes
            FILE.commit(folder, plan.written)
        stored = FILE.read(folder)
        if stored is None or stored.keys != plan.written.keys:
            raise JobError(
                f"{spec.output}: another training has replaced run.json; two cannot share an output: choose a "
                "different --output for one of them, and move this one's tables away"
            )
        ended = finish_units(folder, plan, expected, folders=TRAINING_FOLDERS)
        if ended.finished and not ended.counts.failed:
            finish_training(spec, plan, self.planned.data)
        return Finished(RowCounts(**ended.counts.outcomes), ended.failed, ended.missing, "", ended.finished)


@dataclass(frozen=True)
class TrainingWork:
    """A request for a model (`job.work.Work`)."""

    spec: TrainSpec

    @property
    def output(self) -> str:
        """Location of the bundle, in whose folder `training` the tables are."""
        return self.spec.output

    @property
    def cluster(self) -> ClusterSpec:
        """Where the job runs."""
        return self.spec.cluster

    @property
    def threads(self) -> int:
        """Torch threads of an actor."""
        return self.spec.threads

    @property
    def max_failed(self) -> float:
        """Largest share of failed heads of a successful training: a model needs all of them."""
        return 0.0

    @property
    def noun(self) -> str:
        """Noun for a row, in messages."""
        return "head"

    @property
    def in_process(self) -> bool:
        """Whether all heads are trained in this process: on request, or if a location exists only in this process."""
        return self.spec.cluster.actors == 0 or bool(private_locations(self.spec))

    def plan(self, *, retry_failed: bool, actor_memory: Callable[[], int]) -> TrainingWorkPlan:
        """Check the training, and plan it or load its plan from the output."""
        return TrainingWorkPlan(plan_training(self.spec, retry_failed=retry_failed))


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Attributes:
        job: how it ended.
        output: the bundle.
        plan: its plan: numbers of videos, and notes.
        trained: evaluation of the heads and of F; None if a head is missing, so that there is no bundle.
    """

    job: JobResult
    output: str
    plan: Written
    trained: Trained | None

    @property
    def videos(self) -> int:
        """Number of training videos."""
        return self.plan.videos

    @property
    def validation_videos(self) -> int:
        """Number of validation videos."""
        return self.plan.validation_videos

    @property
    def left_out(self) -> int:
        """Rows that broke the feature table's contract or had no label."""
        return self.plan.left_out

    @property
    def notes(self) -> tuple[str, ...]:
        """One line per omission or warning."""
        return tuple(self.plan.notes)

    @property
    def accuracy(self) -> dict[int, float | None]:
        """Accuracy of each head on random subsequences of the validation videos; None if all are shorter."""
        return {} if self.trained is None else self.trained.of_kept_heads("accuracy")

    @property
    def epochs(self) -> dict[int, int]:
        """Epochs of each head, up to its best."""
        kept = {} if self.trained is None else self.trained.of_kept_heads("best_epoch")
        return {scale: int(epoch or 0) for scale, epoch in kept.items()}

    @property
    def accuracy_f(self) -> float:
        """Accuracy of the multi-scale model F on full validation videos; NaN if there is no bundle."""
        return float("nan") if self.trained is None else self.trained.of_f("accuracy")


def train(spec: TrainSpec, report: Report = lambda progress: None, *, retry_failed: bool = False) -> TrainResult:
    """Train heads f^1 .. f^n_max and write a model bundle.

    Args:
        spec: the training (`spec_train.load_train_spec`).
        report: called with the progress, often.
        retry_failed: train failed heads again; the others are unchanged.

    Returns:
        How the training ended. If something is left, run it again to resume.

    Raises:
        EsvError: the request is wrong (nothing is half-written), or no actor can be started.
    """
    work = TrainingWork(spec)
    # The settings of a workplace in this process end with the job.
    with torch_settings() if work.in_process else nullcontext():
        result = run_work(work, report, retry_failed=retry_failed)
    written = FILE.read(training_folder(spec.output))
    assert written is not None, "the job has written its plan"
    trained = read_trained(spec.output) if result.exit_code == 0 else None
    return TrainResult(result, spec.output, written, trained)
