"""Attribution of a batch of videos in logits, or of means of probabilities: heads, and fixed operators on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.attribution import Attribution, elements_first, relabel_positions
from esv_ray.core.games.model import VideoModel
from esv_ray.core.logit.marginals import combine, zero_estimates
from esv_ray.core.spread import Spread, per_video, per_video_and_scale
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Output

if TYPE_CHECKING:
    from esv_ray.core.logit.plan import LogitPlan, LogitScale


@torch.no_grad()
def attribute_logits(
    model: VideoModel,
    features: Tensor,
    plan: LogitPlan,
    *,
    output: Output = "logit",
    relabelling: Tensor | None = None,
    workspace: Workspace | None = None,
    marginals: bool = False,
) -> Attribution:
    """Compute ESVs of B videos of equal length, for values that are F. Arguments as for `exact.attribution.attribute`.

    Raises:
        SpecError: the model has no logits, or not for every class.
        ValueError: the features have another number of elements than the plan, or marginals are requested of a plan
            that was built without them.
    """
    workspace = workspace or Workspace(features.device, model.dtype)
    elements = elements_first(model, features, plan.n, relabelling)
    scorer, n_classes = model.scorer, model.n_classes
    n, batch, columns = plan.n, len(features), scorer.columns(n_classes)
    empty = workspace.like(model.empty_value(output))
    esv = workspace.zeros((n, batch * columns))
    full = workspace.zeros((batch * columns,))
    residuals = []
    estimates = zero_estimates(len(plan.scales), n, batch * columns, like=empty) if marginals else None
    for place, scale in enumerate(plan.scales):
        if scale.operator is not None:
            mean = None if estimates is None else (_mean_of(scale), estimates.means[place])
            product = _apply_operator(model, elements, scale, scale.operator, relabelling, workspace, mean)
            esv += product[:n]
            full += product[n]
            residuals.append(product[n + 1 :])
            if estimates is not None:
                torch.div(product[:n], scale.weight, out=estimates.contrasts[place])
            continue
        sums, count = _apply_operator(model, elements, scale, scale.member, relabelling, workspace), len(scale)
        full.add_(sums[n], alpha=scale.mean_weight / count)
        if estimates is not None:
            torch.div(sums[n], count, out=estimates.means[place])
        if scale.s < n:
            holding = count * scale.s // n  # subsequences with an element
            contrast = sums[:n] / holding - (sums[n] - sums[:n]) / (count - holding)
            esv.add_(contrast, alpha=scale.weight)
            if estimates is not None:
                estimates.contrasts[place] = contrast
    scores = full.view(batch, columns)[:, :n_classes].contiguous()
    values = per_video(esv, batch, n_classes, relabelling)  # (B, n, C)
    # The remainder of F(all) - F(none) is shared equally: efficiency holds whatever was sampled.
    values += ((scores - empty - values.sum(dim=1)) / n)[:, None]
    spread = None
    if not plan.exact:
        rows = torch.cat(residuals).view(-1, batch, columns)[..., :n_classes]
        spread = Spread(rows, plan.weights, relabelling)
    by_scale = None
    if estimates is not None:
        padded = F.pad(empty, (0, columns - n_classes)).repeat(batch)
        by_scale = per_video_and_scale(combine(estimates, padded, scorer.scales), batch, n_classes, relabelling)
    gaps = values.sum(dim=1) - (scores - empty)
    return Attribution(
        esv=values,
        stderr=None if spread is None else spread.stderr(values),
        scores=scores,
        gaps=gaps.abs().amax(dim=1),
        evaluations=plan.evaluations(scorer.scales),
        exact=plan.exact,
        spread=spread,
        marginals=by_scale,
    )


def _mean_of(scale: LogitScale) -> Tensor:
    """Return a scale's operator to its mean.

    Raises:
        ValueError: the plan was built without marginals.
    """
    if scale.mean is None:
        raise ValueError("marginals: the plan was built without them; build it with marginals=True")
    return scale.mean


def _apply_operator(
    model: VideoModel,
    elements: Tensor,
    scale: LogitScale,
    operator: Tensor,
    relabelling: Tensor | None,
    workspace: Workspace,
    mean: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return operator (K, N) @ f^s (N, B * columns), chunk by chunk; idle columns are zero.

    Args:
        model: the model.
        elements: features (n, B, D).
        scale: the N subsequences of length s.
        operator: (K, N).
        relabelling: (B, n), or None.
        workspace: buffers.
        mean: another operator (1, N), and zeros (B * columns,) to which its product is added; or None.
    """
    scorer, batch, columns = model.scorer, elements.shape[1], model.scorer.columns(model.n_classes)
    prepared = scorer.prepare(elements, scale.s, workspace)
    share = 1 if scorer.scales is None else scorer.scales.share(scale.s)  # heads give f^s / share
    row_bytes = batch * (columns + scorer.width(scale.s)) * workspace.itemsize
    rows = max(1, workspace.working_set // row_bytes)
    product = workspace.zeros((len(operator), batch * columns))
    for start in range(0, len(scale), rows):
        stop = min(start + rows, len(scale))
        out = workspace.take("scores", (stop - start, batch, columns))
        member = scale.member[:, start:stop].to(out.dtype)
        positions = relabel_positions(scale.elements[start:stop], relabelling) if scorer.ordered else None
        scorer.scores(prepared, positions, member, out)
        out[..., model.n_classes :] = 0
        product.addmm_(operator[:, start:stop].to(out.dtype), out.view(len(out), -1), alpha=share)
        if mean is not None:
            mean[1].addmv_(out.view(len(out), -1).t(), mean[0][0, start:stop], alpha=share)
    return product
