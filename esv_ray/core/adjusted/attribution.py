"""Attribution of a batch of videos by the adjusted estimator.

For each size: evaluate the head at the plan's subsequences; fit its surrogate, whose means over the subsets of any X
are closed forms; compute F of the same subsequences and of longer ones; softmax; read out the ESVs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.adjusted.errors import HeadErrors
from esv_ray.core.adjusted.features import add_means
from esv_ray.core.adjusted.joint import JointValues
from esv_ray.core.adjusted.marginals import combine, estimates_by_size
from esv_ray.core.attribution import Attribution, elements_first, relabel_positions
from esv_ray.core.games.model import Scorer, VideoModel
from esv_ray.core.spread import per_video, per_video_and_scale
from esv_ray.core.workspace import Workspace

if TYPE_CHECKING:
    from esv_ray.core.adjusted.plan import AdjustedPlan, Size


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch of videos and the plan: fixed while its sizes are processed.

    Attributes:
        scorer: the model's scorer.
        features: (n, B, D).
        n_classes: C.
        columns: width of the scorer's scores; columns beyond C are idle.
        rows: subsequences per chunk.
        plan: the plan.
        relabelling: (B, n), or None.
        workspace: buffers.
    """

    scorer: Scorer
    features: Tensor
    n_classes: int
    columns: int
    rows: int
    plan: AdjustedPlan
    relabelling: Tensor | None
    workspace: Workspace

    @property
    def size(self) -> int:
        """B."""
        return self.features.shape[1]


@torch.no_grad()
def attribute_adjusted(
    model: VideoModel,
    features: Tensor,
    plan: AdjustedPlan,
    *,
    relabelling: Tensor | None = None,
    workspace: Workspace | None = None,
    marginals: bool = False,
) -> Attribution:
    """Compute the ESVs of B videos of equal length by the adjusted estimator.

    Arguments and errors as for `exact.attribution.attribute`.

    Raises:
        ValueError: marginals are requested, and the plan was built without them.
    """
    if marginals and plan.mixes is None:
        raise ValueError("marginals: the plan was built without them; build it with marginals=True")
    workspace = workspace or Workspace(features.device, model.dtype)
    columns = model.scorer.columns(model.n_classes)
    rows = max(1, workspace.working_set // (len(features) * columns * workspace.itemsize))
    elements = elements_first(model, features, plan.n, relabelling)
    batch = _Batch(model.scorer, elements, model.n_classes, columns, rows, plan, relabelling, workspace)
    recursive, width = batch.scorer.scales is not None, batch.size * columns

    # Weighted sum of the surrogates' means of the heads so far. Fresh memory of this size costs as much as the products
    # in it.
    means = workspace.take("means", (plan.terms, width)).zero_()
    errors = HeadErrors(plan, batch.scorer, batch.n_classes, means, batch.size)
    esv = workspace.zeros((plan.n, width))
    residuals: list[Tensor] = []  # residual contrasts of the values of each size
    *sizes, full = plan.sizes
    estimates: list[tuple[Tensor, Tensor]] | None = [] if marginals and plan.joint is None else None
    together = None if plan.joint is None else JointValues(sizes, plan.joint, width, means)
    for index, size in enumerate(sizes):
        scale = _evaluate_heads(batch, size)
        weights, contrasts = _fit_surrogate(batch, size, scale, means) if recursive else (None, None)
        kept = None if together is None else together.of(index)
        gathered = _read_out(batch, size, scale, weights, estimates, kept)
        if together is None:
            esv += gathered[: plan.n]
            gathered = gathered[plan.n :]
        residuals.append(gathered)
        errors.add(size, scale, contrasts)
    by_size: Tensor | None = None
    if together is not None:
        esv, by_size = together.read_out()
    prior = F.pad(workspace.like(model.prior), (0, columns - model.n_classes))
    scale = _evaluate_heads(batch, full)
    weights = _fit_surrogate(batch, full, scale, means)[0] if recursive else None
    if weights is not None:
        add_means(plan, full, weights, 0, scale.view(1, -1))
    scores = _values(batch, scale.view(1, -1)).view(batch.size, columns).clone()
    errors.add(full, scale, None)
    if estimates is not None:
        by_size = estimates_by_size(plan, estimates, scores.reshape(-1))
    esv += ((scores - prior) / plan.n).view(-1)
    gaps = esv.sum(dim=0).view_as(scores) - (scores - prior)
    own_esv = per_video(esv, batch.size, model.n_classes, relabelling)
    spread = errors.spread(residuals, relabelling, own_esv)
    return Attribution(
        esv=own_esv,
        stderr=spread.stderr(own_esv),
        scores=scores[:, : model.n_classes].contiguous(),
        gaps=gaps.abs().amax(dim=1),
        evaluations=plan.evaluations(batch.scorer.scales),
        exact=False,
        spread=spread,
        marginals=None if by_size is None else _marginals(batch, by_size, prior, scores),
    )


def _marginals(batch: _Batch, estimates: Tensor, prior: Tensor, scores: Tensor) -> Tensor:
    """Return marginals (B, n, n, C) from the estimates of sizes and the values of the empty and the full sequence."""
    out = combine(batch.plan, estimates, prior.repeat(batch.size), scores.reshape(-1))
    return per_video_and_scale(out, batch.size, batch.n_classes, batch.relabelling)


def _evaluate_heads(batch: _Batch, size: Size) -> Tensor:
    """Return the scores (N, B, columns) of a size's subsequences; idle columns are zero.

    A size without elements has no head: its scores are left uninitialized.
    """
    scale = batch.workspace.take("scale", (size.count, batch.size, batch.columns))
    if not size.evaluated:
        return scale
    scorer = batch.scorer
    prepared = scorer.prepare(batch.features, size.k, batch.workspace)
    rows = max(1, batch.rows * batch.columns // (batch.columns + scorer.width(size.k)))
    for start in range(0, size.count, rows):
        stop = min(start + rows, size.count)
        positions = relabel_positions(size.positions(start, stop), batch.relabelling) if scorer.ordered else None
        # Ordered scorers look at positions alone.
        member = scale[:0, 0] if scorer.ordered else size.memberships(start, stop, batch.plan.n, scale.dtype)
        scorer.scores(prepared, positions, member, scale[start:stop])
    scale[..., batch.n_classes :] = 0
    return scale


def _fit_surrogate(batch: _Batch, size: Size, scale: Tensor, means: Tensor) -> tuple[Tensor, Tensor | None]:
    """Fit the surrogate of a size's head, and add its means to those of the shorter heads.

    Args:
        batch: the batch.
        size: the size.
        scale: (N, B * columns) scores of its head.
        means: (P, B * columns) weighted sum of the means of the shorter heads' surrogates; updated in place.

    Returns:
        Weights (P, B * columns) of the surrogates' features in F at this size, and the head's residual contrasts
        (L, B * columns), or None.
    """
    assert batch.scorer.scales is not None, "surrogates are of heads"
    scales = size.scales / batch.scorer.scales.divisor(size.k)
    weights = batch.workspace.take("weights", tuple(means.shape))
    head_scores, terms = scale.view(size.count, -1), len(means)
    if size.fit is None:
        torch.mul(means, scales, out=weights)
        if size.single and size.evaluated:  # of one element each: a head's scores are its means
            means[: size.count].add_(head_scores, alpha=batch.scorer.scales.divisor(size.k))
        return weights, None
    own = batch.workspace.take("own means", (len(size.fit), head_scores.shape[1]))
    torch.mm(size.fit, head_scores, out=own)
    torch.mul(means, scales, out=weights)
    if size.borrowed:
        weights.addcmul_(own[:terms], scales, value=-size.borrowed)
    means += own[:terms]
    return weights, own[terms:].clone() if len(own) > terms else None


def _read_out(
    batch: _Batch,
    size: Size,
    scale: Tensor,
    weights: Tensor | None,
    estimates: list[tuple[Tensor, Tensor]] | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """Compute the values of a size's subsequences, and apply its read-out.

    Args:
        batch: the batch.
        size: the size.
        scale: (N, B, columns) scores of its head; overwritten by F.
        weights: (P, B * columns) of the surrogates' features in F; None for a model that scores every size itself.
        estimates: the size's operators `own` and `shared` applied to its values are appended to it; None: not needed.
        kept: (N, B * columns) to which the values are written; None: not needed.

    Returns:
        The read-out (rows of `Size.readout`, B * columns).
    """
    gathered = batch.workspace.zeros((size.readout.shape[0], batch.size * batch.columns))
    products = [] if estimates is None else _operators(size, gathered)
    for start in range(0, size.count, batch.rows):
        stop = min(start + batch.rows, size.count)
        out = scale[start:stop].view(stop - start, -1)
        if weights is not None:
            add_means(batch.plan, size, weights, start, out)
        values = _values(batch, out)
        gathered.addmm_(size.readout[:, start:stop], values)
        for operator, product in products:
            product.addmm_(operator[:, start:stop], values)
        if kept is not None:
            kept[start:stop] = values
    if estimates is not None:
        estimates.append((products[0][1], products[1][1]))
    return gathered


def _operators(size: Size, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the operators of a size's estimates, each with zeros for its product."""
    assert size.own is not None, "checked at the start"
    assert size.shared is not None, "checked at the start"
    return [(operator, like.new_zeros((len(operator), like.shape[1]))) for operator in (size.own, size.shared)]


def _values(batch: _Batch, out: Tensor) -> Tensor:
    """Return the values (R, B * columns) of scores F; idle columns are zero."""
    if not batch.scorer.softmax:
        return out
    scores = out.view(len(out), batch.size, batch.columns)
    scores[..., batch.n_classes :] = -torch.inf
    values = batch.workspace.take("values", tuple(scores.shape))
    return torch.softmax(scores, dim=-1, out=values).view(len(out), -1)
