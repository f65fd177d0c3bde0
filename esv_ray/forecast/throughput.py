"""How long a video takes: from figures of `esv bench`, or measured here, interpolated to other lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

from esv_ray.core.cost import PlanCost
from esv_ray.core.estimator import Resolved
from esv_ray.core.games.heads import MultiScale
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import SpecError


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a multi-scale model of heads with one hidden layer."""

    feature_dim: int
    hidden: int
    n_classes: int
    n_max: int

    def flops(self, n: int, evaluations: float) -> float:
        """Of both layers' products for a video of n elements."""
        pairs = sum(s * (n - s + 1) for s in range(1, min(self.n_max, n) + 1))
        return 2.0 * self.hidden * (evaluations * self.n_classes + pairs * self.feature_dim)


@dataclass(frozen=True)
class Figure:
    """What was measured at n elements: seconds a video, and seconds a batch of them."""

    kind: Resolved
    n: int
    evaluations: int
    video_s: float
    batch_s: float = 0.0


@dataclass(frozen=True)
class Figures:
    """Figures of one run.

    Attributes:
        found: the figures.
        source: where they are from, in words.
        device: `cpu` or `cuda`.
        threads: of torch.
        matmul: precision of products.
        size: of the model that was measured; None: the job's own.
    """

    found: tuple[Figure, ...]
    source: str
    device: str
    threads: int
    matmul: str
    size: ModelSize | None = None


# From what a plan will be, and how many videos go together on average, to seconds a video, and how that is known.
Pace = Callable[[PlanCost, float], tuple[float, str]]


def pace_of(figures: Figures, model: VideoModel) -> Pace:
    """The pace at which a model works, by figures.

    Figures of the same estimator are interpolated in seconds by evaluation between the next fewer and next more
    evaluations; beyond the outermost that figure's own holds. With figures of a model of other sizes floating-point
    operations take the place of evaluations.

    Raises:
        SpecError: they are of a model that this one cannot be compared with.
    """
    size = size_of(model)
    if figures.size is not None and size is None:
        raise SpecError(
            f"{figures.source}: expected a model of heads with one hidden layer, which is what `esv bench` measures, "
            "got another; leave --bench out to measure it here"
        )
    scaled = other_sizes(figures, model)

    def work(of: ModelSize | None, n: int, evaluations: float) -> float:
        return of.flops(n, evaluations) if scaled and of is not None else float(evaluations)

    def pace(asked: PlanCost, together: float) -> tuple[float, str]:
        same = [one for one in figures.found if one.kind == asked.kind]
        if not same:
            known = ", ".join(sorted({one.kind for one in figures.found})) or "none"
            raise SpecError(
                f"{figures.source}: expected figures of the estimator {asked.kind}, which n = {asked.n} comes down to, "
                f"got {known}; run esv bench --estimator {asked.kind} -n {asked.n}, or leave --bench out"
            )
        # By the length nearest where two figures are of as many evaluations.
        points = sorted(
            (
                work(figures.size, one.n, one.evaluations),
                abs(one.n - asked.n),
                one.n,
                one.video_s + one.batch_s / together,
            )
            for one in same
        )
        target = work(size, asked.n, asked.evaluations)
        return _interpolated([(at, n, seconds) for at, _, n, seconds in points], target)

    return pace


def other_sizes(figures: Figures, model: VideoModel) -> bool:
    """Whether figures are of a model of other sizes."""
    return figures.size is not None and figures.size != size_of(model)


def size_of(model: VideoModel) -> ModelSize | None:
    """Sizes of a model of heads with one hidden layer; None of any other."""
    scorer = model.scorer
    if not isinstance(scorer, MultiScale) or not scorer.padded:
        return None
    if any(head.n_rest != 1 for head in scorer.heads):
        return None
    return ModelSize(model.feature_dim, scorer.width(1), model.n_classes, scorer.n_max)


def _interpolated(points: Sequence[tuple[float, int, float]], target: float) -> tuple[float, str]:
    """Seconds at an amount of work, from (work, n, seconds) ascending in work; and from which."""
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
