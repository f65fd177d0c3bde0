"""Time per video: from measurements of `esv bench` or of this machine, interpolated to other lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

from esv_ray.core.cost import PlanCost
from esv_ray.core.games.heads import MultiScale
from esv_ray.core.games.model import VideoModel
from esv_ray.core.scales import equal_scales
from esv_ray.errors import SpecError
from esv_ray.estimator import Resolved


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a multi-scale model whose heads have one hidden layer."""

    feature_dim: int
    hidden: int
    n_classes: int
    n_max: int

    def flops(self, n: int, evaluations: float) -> float:
        """Return the operations of both layers' matrix products for a video of n elements."""
        pairs = sum(s * (n - s + 1) for s in range(1, min(self.n_max, n) + 1))
        return 2.0 * self.hidden * (evaluations * self.n_classes + pairs * self.feature_dim)


@dataclass(frozen=True)
class Timing:
    """A measurement.

    Attributes:
        kind: estimator.
        n: elements.
        evaluations: head evaluations per video.
        video_s: seconds per video.
        batch_s: seconds per batch, on top of those of its videos.
    """

    kind: Resolved
    n: int
    evaluations: int
    video_s: float
    batch_s: float = 0.0


@dataclass(frozen=True)
class Timings:
    """Measurements of one run.

    Attributes:
        measured: one per estimator and length.
        source: where they come from, as shown to the user.
        device: `cpu` or `cuda`.
        threads: of torch.
        matmul: precision of matrix products.
        size: of the measured model; None: the job's own model.
    """

    measured: tuple[Timing, ...]
    source: str
    device: str
    threads: int
    matmul: str
    size: ModelSize | None = None


# A plan's cost and the mean batch -> seconds per video, and the measurement that they come from.
TimePerVideo = Callable[[PlanCost, float], tuple[float, str]]


def time_per_video(timings: Timings, model: VideoModel) -> TimePerVideo:
    """Return a function that estimates the time per video of a plan.

    Measurements of the same estimator are interpolated between the next fewer and the next more evaluations: the
    logarithm of seconds per evaluation is linear in the logarithm of evaluations. Outside the measured range, seconds
    per evaluation are those of the nearest measurement. For measurements of a model of other sizes, floating-point
    operations take the place of evaluations.

    Raises:
        SpecError: they are of a model that this one cannot be compared with.
    """
    size = model_size(model)
    if timings.size is not None and size is None:
        raise SpecError(
            f"{timings.source}: expected a model of heads with one hidden layer, which is what `esv bench` measures, "
            "got a different model; omit --bench to measure it on this machine"
        )
    scaled = has_other_sizes(timings, model)

    def work(size: ModelSize | None, n: int, evaluations: float) -> float:
        return size.flops(n, evaluations) if scaled and size is not None else float(evaluations)

    def estimate(plan: PlanCost, batch: float) -> tuple[float, str]:
        if not plan.evaluations:  # shorter than every head
            return 0.0, "no evaluations"
        # Of two measurements with as many evaluations, the one of the nearer length comes first.
        points = sorted(
            (work(timings.size, at.n, at.evaluations), abs(at.n - plan.n), at.n, at.video_s + at.batch_s / batch)
            for at in _of_kind(timings, plan)
        )
        return _interpolated([(at, n, seconds) for at, _, n, seconds in points], work(size, plan.n, plan.evaluations))

    return estimate


def _of_kind(timings: Timings, plan: PlanCost) -> list[Timing]:
    """Return the measurements of a plan's estimator.

    Raises:
        SpecError: there are none.
    """
    same = [timing for timing in timings.measured if timing.kind == plan.kind]
    if not same:
        kinds = ", ".join(sorted({timing.kind for timing in timings.measured})) or "none"
        raise SpecError(
            f"{timings.source}: expected measurements of the estimator {plan.kind}, which is used at n = {plan.n}, "
            f"got {kinds}; run esv bench --estimator {plan.kind} -n {plan.n}, or leave --bench out"
        )
    return same


def has_other_sizes(timings: Timings, model: VideoModel) -> bool:
    """Return whether measurements are of a model of other sizes."""
    return timings.size is not None and timings.size != model_size(model)


def model_size(model: VideoModel) -> ModelSize | None:
    """Return the sizes of a model of heads with one hidden layer; None for any other model."""
    scorer = model.scorer
    if not isinstance(scorer, MultiScale) or not scorer.padded:
        return None
    n_max = scorer.scales.n_max
    if scorer.scales != equal_scales(n_max) or any(head.n_rest != 1 for head in scorer.heads.values()):
        return None
    return ModelSize(scorer.feature_dim, scorer.width(1), model.n_classes, n_max)


def _interpolated(points: Sequence[tuple[float, int, float]], target: float) -> tuple[float, str]:
    """Return the seconds at an amount of work, and which points they come from.

    Args:
        points: (work, n, seconds), ascending in work.
        target: amount of work.
    """
    below = [point for point in points if point[0] <= target]
    above = [point for point in points if point[0] > target]
    if below and (not above or below[-1][0] == target):
        at, n, seconds = next(point for point in points if point[0] == below[-1][0])
        return seconds * target / at, f"n = {n}" + ("" if at == target else ", scaled")
    at, n, seconds = above[0]
    if not below:
        return seconds * target / at, f"n = {n}, scaled"
    before, n_before, seconds_before = below[-1]
    share = log(target / before) / log(at / before)
    rate = exp((1 - share) * log(seconds_before / before) + share * log(seconds / at))
    return rate * target, f"between n = {n_before} and {n}"
