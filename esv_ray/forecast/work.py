"""What of a forecast is compute: at which lengths, by which estimator, at what price in evaluations and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp

from esv_ray.attribution.plan_cache import is_kept
from esv_ray.attribution.workplace import job_engine
from esv_ray.core.cost import Outlook, outlook
from esv_ray.core.engine import Engine
from esv_ray.core.estimator import Resolved, recipe_for
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import SpecError
from esv_ray.forecast.lengths import Lengths, lengths_asked
from esv_ray.spec import JobSpec

_LOAD_S = 0.05  # of a plan that is kept on this machine


@dataclass(frozen=True)
class LengthWork:
    """What a job does at one length.

    Attributes:
        n: elements.
        videos: that are attributed at it.
        left: of them, those not yet committed.
        stages: plans of a video, one after the other until a tolerance is met; one without a tolerance.
        refused: why it does not fit in memory, so that its videos fail; None: it does.
        memory: bytes that a batch takes, its plan included.
        batches: videos that are computed together, by stage, where there are as many.
    """

    n: int
    videos: int
    left: int
    stages: tuple[Outlook, ...]
    refused: str | None
    memory: int
    batches: tuple[int, ...]

    def together(self, stage: int, rows: float) -> float:
        """Videos that a stage computes together on average, where so many of a unit are of this length on average."""
        return rows / max(1 - exp(-rows), rows / self.batches[stage]) if rows else 1.0

    @property
    def evaluations(self) -> int:
        """Head evaluations of a video, the fewest."""
        return self.stages[0].evaluations if self.stages else 0

    @property
    def evaluations_most(self) -> int:
        """Head evaluations of a video that never meets the tolerance."""
        return sum(stage.evaluations for stage in self.stages)


def work_by_length(spec: JobSpec, model: VideoModel, lengths: Lengths) -> tuple[list[LengthWork], int]:
    """What a job does at each length, ascending; and how many videos it skips at some length.

    Args:
        spec: the job, its memory budget fixed.
        model: on its device, in its dtype.
        lengths: of the videos.

    Raises:
        SpecError: the model has no logits, and they are asked for.
    """
    asked, left, skipped = Counter[int](), Counter[int](), 0
    for frames, videos in lengths.videos.items():
        wanted = lengths_asked(spec, frames)
        skipped += videos * (spec.frames != "all" and spec.short == "skip" and len(wanted) < len(spec.frames))
        for n in wanted:
            asked[n] += videos
            left[n] += lengths.left[frames]
    engines = _engines(spec, model)
    return [_of_length(spec, engines, n, asked[n], left[n]) for n in sorted(asked)], skipped


def _engines(spec: JobSpec, model: VideoModel) -> Callable[[int], Engine]:
    """The engine of each stage, by its iterations."""
    made: dict[int, Engine] = {}

    def of(iterations: int) -> Engine:
        if iterations not in made:
            update = {"iterations": iterations, "tolerance": None}
            estimator = spec.estimator.model_copy(update=update)
            made[iterations] = job_engine(spec.model_copy(update={"estimator": estimator}), model)
        return made[iterations]

    return of


def _of_length(spec: JobSpec, engines: Callable[[int], Engine], n: int, videos: int, left: int) -> LengthWork:
    asked = spec.estimator
    try:
        engines(asked.iterations).check(n)
    except SpecError as error:
        return LengthWork(n, videos, left, (), str(error), 0, ())
    stages, batches, iterations = [], [], asked.iterations
    while True:
        engine = engines(iterations)
        kind = engine.kind(n)
        stages.append(_outlook(engine, kind, n))
        batches.append(engine.fitting(n, stages[-1].largest, stages[-1].terms))
        later = min(2 * iterations, asked.max_iterations)
        if asked.tolerance is None or kind == "exact" or later == iterations or not _fits(engines(later), n):
            break
        iterations = later
    return LengthWork(n, videos, left, tuple(stages), None, engine.needed_bytes(n, batches[-1]), tuple(batches))


def _outlook(engine: Engine, kind: Resolved, n: int) -> Outlook:
    told = outlook(engine.estimator, kind, n, engine.model.n_max)
    if kind == "exact":  # lattices are made in little time
        return told
    recipe = recipe_for(replace(engine.estimator, kind=kind), n, n_max=engine.model.n_max)
    return replace(told, plan_s=_LOAD_S) if is_kept(recipe) else told


def _fits(engine: Engine, n: int) -> bool:
    try:
        engine.check(n)
    except SpecError:
        return False
    return True


def all_stages(work: Sequence[LengthWork]) -> list[Outlook]:
    """Every plan that is needed."""
    return [stage for one in work for stage in one.stages]
