"""Forward passes of a network of images: they are the cost of a job, so a forecast says what other settings take."""

from __future__ import annotations

from esv_ray.core.cost import plan_cost
from esv_ray.core.games.model import VideoModel
from esv_ray.core.games.modules import VariableLength
from esv_ray.estimator import Estimator
from esv_ray.forecast.records import LengthEstimate, Passes

_SMALL = (32, 16, 8)
"""Values of m of the adjusted estimator that are compared, with one iteration."""


def passes_of(model: VideoModel, by_length: tuple[LengthEstimate, ...]) -> Passes | None:
    """Return the passes at the length with the most work; None if the model runs no network for each subsequence.

    Args:
        model: of the job.
        by_length: the work of the job.
    """
    if model.shape is None or not isinstance(model.scorer, VariableLength):
        return None
    works = [length.work for length in by_length if length.work.stages]
    work = max(works, key=lambda work: work.videos * work.evaluations, default=None)
    if work is None or work.kind is None:
        return None
    adjusted = {m: plan_cost(Estimator("adjusted", m, 1), "adjusted", work.n, None).evaluations for m in _SMALL}
    fewer = {m: count for m, count in adjusted.items() if count < work.evaluations}
    return Passes(work.n, work.kind, work.evaluations, 2**work.n - 1, fewer)
