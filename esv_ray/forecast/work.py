"""Compute in a forecast: at which lengths, by which estimator, with how many evaluations and how much memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp

from esv_ray.attribution.plan_cache import is_cached
from esv_ray.attribution.workplace import check_fits, job_engine
from esv_ray.core.cost import PlanCost, plan_cost
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.core.games.randomised import count_layers
from esv_ray.core.recipe import recipe_for
from esv_ray.errors import SpecError
from esv_ray.estimator import Resolved
from esv_ray.forecast.further import by_other_methods, repeated, replaced_plans, shorter_plans
from esv_ray.forecast.lengths import Lengths, requested_lengths
from esv_ray.spec import JobSpec

_LOAD_S = 0.05  # to load a plan from this machine's cache


@dataclass(frozen=True)
class LengthWork:
    """What a job computes at one length.

    Attributes:
        n: elements.
        videos: that are attributed at this length.
        pending: of them, those not yet committed.
        stages: costs of a video's plans, one after the other until a tolerance is met; one without a tolerance.
        unfit_reason: why the length does not fit in memory, so that its videos fail; None if it fits.
        memory: bytes of a batch, including its plan.
        batch_sizes: most videos that each stage computes together.
        shorter: plans of what is left while elements are taken away (`further.shorter_plans`).
        replaced: plan of sequences with replaced elements (`further.replaced_plans`).
        repeated: how often a video is attributed once more for tables of variations, at most.
        compared_evaluations: head evaluations of other methods, per video (`further.by_other_methods`).
    """

    n: int
    videos: int
    pending: int
    stages: tuple[PlanCost, ...]
    unfit_reason: str | None
    memory: int
    batch_sizes: tuple[int, ...]
    shorter: tuple[tuple[PlanCost, int], ...] = ()
    replaced: tuple[tuple[PlanCost, int], ...] = ()
    repeated: int = 0
    compared_evaluations: int = 0

    @property
    def fits(self) -> bool:
        """Whether the length fits in memory."""
        return self.unfit_reason is None

    @property
    def kind(self) -> Resolved | None:
        """Estimator of the first stage; None if the length does not fit."""
        return self.stages[0].kind if self.stages else None

    @property
    def evaluations(self) -> int:
        """Fewest head evaluations per video."""
        return self.stages[0].evaluations if self.stages else 0

    @property
    def evaluations_most(self) -> int:
        """Head evaluations of a video that never meets the tolerance."""
        return sum(stage.evaluations for stage in self.stages)

    @property
    def shorter_evaluations(self) -> int:
        """Head evaluations per video of what is left while elements are taken away."""
        return sum(plan.evaluations * count for plan, count in self.shorter)

    @property
    def replaced_evaluations(self) -> int:
        """Head evaluations per video of sequences with replaced elements, at most."""
        return sum(plan.evaluations * count for plan, count in self.replaced)

    @property
    def repeated_evaluations(self) -> int:
        """Head evaluations per video of tables of variations, at most."""
        return self.repeated * self.evaluations

    def mean_batch(self, stage: int, videos: float) -> float:
        """Return the mean number of videos that a stage computes together.

        Args:
            stage: its index.
            videos: mean number of videos of this length in a unit.
        """
        return videos / max(1 - exp(-videos), videos / self.batch_sizes[stage]) if videos else 1.0


def work_by_length(spec: JobSpec, model: VideoModel, lengths: Lengths, classes: int) -> tuple[list[LengthWork], int]:
    """Return the work at each length, ascending, and the number of videos that are skipped at some length.

    Args:
        spec: the job, its memory budget fixed.
        model: on its device, in its dtype.
        lengths: of the videos.
        classes: kept per video, at most.

    Raises:
        SpecError: logits are asked for, and the model has none.
    """
    videos_at, pending_at, skipped = Counter[int](), Counter[int](), 0
    for frames, videos in lengths.videos.items():
        requested = requested_lengths(spec, frames)
        skipped += videos * (spec.short == "skip" and any(n > frames for n in spec.frame_numbers))
        for n in requested:
            videos_at[n] += videos
            pending_at[n] += lengths.pending[frames]
    engines = _engines(spec, model)
    any_length = model.scales is None
    work = [_length_work(spec, engines, n, videos_at[n], pending_at[n]) for n in sorted(videos_at)]
    for place, length in enumerate(work):
        if length.stages:
            compared = by_other_methods(spec, length.stages[0], classes, any_length=any_length)
            work[place] = replace(length, compared_evaluations=compared)
    return work, skipped


def _engines(spec: JobSpec, model: VideoModel) -> Callable[[int], Engine]:
    """Return a function that makes the engine for a number of iterations, once for each number."""
    cache: dict[int, Engine] = {}

    def engine(iterations: int) -> Engine:
        if iterations not in cache:
            update = {"iterations": iterations, "tolerance": None}
            estimator = spec.estimator.model_copy(update=update)
            cache[iterations] = job_engine(spec.model_copy(update={"estimator": estimator}), model)
        return cache[iterations]

    return engine


def _length_work(spec: JobSpec, engines: Callable[[int], Engine], n: int, videos: int, pending: int) -> LengthWork:
    estimator = spec.estimator
    try:
        check_fits(spec, engines(estimator.iterations), n)
    except SpecError as error:
        return LengthWork(n, videos, pending, (), str(error), 0, ())
    stages, batch_sizes, iterations = [], [], estimator.iterations
    while True:
        engine = engines(iterations)
        kind = engine.budget.kind(n)
        stages.append(_stage(engine, kind, n))
        batch_sizes.append(engine.fitting(n, stages[-1].largest, stages[-1].terms))
        doubled = min(2 * iterations, estimator.max_iterations)
        if estimator.tolerance is None or kind == "exact" or doubled == iterations or not _fits(engines(doubled), n):
            break
        iterations = doubled
    memory = engine.budget.needed_bytes(n, batch_sizes[-1])
    shorter, times = shorter_plans(spec, engine, n), repeated(spec, count_layers(engine.model), n)
    replaced = replaced_plans(spec, engine, n)
    return LengthWork(n, videos, pending, tuple(stages), None, memory, tuple(batch_sizes), shorter, replaced, times)


def _stage(engine: Engine, kind: Resolved, n: int) -> PlanCost:
    marginals = engine.extras.marginals
    stage = plan_cost(engine.estimator, kind, n, engine.model.scales, marginals=marginals)
    if kind == "exact":  # its plans are not cached: lattices are built quickly
        return stage
    estimator = replace(engine.estimator, kind=kind)
    recipe = recipe_for(estimator, n, scales=engine.model.scales, marginals=marginals)
    return replace(stage, plan_s=_LOAD_S) if is_cached(recipe) else stage


def _fits(engine: Engine, n: int) -> bool:
    try:
        engine.budget.check(n)
    except SpecError:
        return False
    return True


def all_stages(work: Sequence[LengthWork]) -> list[PlanCost]:
    """Return the costs of all plans that are needed."""
    own = [stage for length in work for stage in length.stages]
    return own + [plan for length in work for plan, _ in (*length.shorter, *length.replaced)]
