"""One batch of videos through a plan of logits: heads, and fixed operators on them."""

from __future__ import annotations

import torch
from torch import Tensor

from esv_ray.core.exact.attribution import Attribution, relabelled
from esv_ray.core.games.model import VideoModel
from esv_ray.core.logit.plan import LogitPlan, LogitScale
from esv_ray.core.memory import default_working_set
from esv_ray.core.spread import Spread, per_video
from esv_ray.core.workspace import Workspace


@torch.no_grad()
def attribute_logits(
    model: VideoModel,
    features: Tensor,
    plan: LogitPlan,
    *,
    relabelling: Tensor | None = None,
    working_set: int | None = None,
    workspace: Workspace | None = None,
) -> Attribution:
    """ESVs in logits of B videos of equal length. Arguments as for `attribution.attribute`.

    Raises:
        SpecError: the model has no logits, or not for every class.
    """
    batch, n, _ = features.shape
    if n != plan.n:
        raise ValueError(f"the plan is for {plan.n} elements, got features of {n}")
    scorer, n_classes = model.scorer, model.n_classes
    workspace = workspace or Workspace(features.device, features.dtype)
    if relabelling is not None and not scorer.ordered:
        features = features.take_along_dim(relabelling[:, :, None].long(), dim=1)
    elements_first, columns = features.transpose(0, 1).contiguous(), scorer.columns(n_classes)
    row_bytes = batch * columns * features.element_size()
    working_set = working_set or default_working_set(features.device)

    def asked(scale: LogitScale, operator: Tensor) -> Tensor:
        """operator (K, N) applied to f^s (N, B * columns), chunk by chunk; idle columns become zero."""
        prepared = scorer.prepare(elements_first, scale.s, workspace)
        share = 1 if scorer.n_max is None else scale.s  # heads give f^s / s
        rows = max(1, working_set // (row_bytes + batch * scorer.width(scale.s) * features.element_size()))
        found = features.new_zeros((len(operator), batch * columns))
        for start in range(0, len(scale), rows):
            stop = min(start + rows, len(scale))
            out = workspace.take("scores", (stop - start, batch, columns))
            member = scale.member[:, start:stop].to(out.dtype)
            positions = relabelled(scale.elements[start:stop], relabelling) if scorer.ordered else None
            scorer.scores(prepared, positions, member, out)
            out[..., n_classes:] = 0
            found.addmm_(operator[:, start:stop].to(out.dtype), out.view(len(out), -1), alpha=share)
        return found

    empty = model.value_of_nothing("logit").to(features)
    esv = features.new_zeros((n, batch * columns))
    full = features.new_zeros(batch * columns)
    residuals = []
    for scale in plan.scales:
        if scale.operator is not None:
            found = asked(scale, scale.operator)
            esv += found[:n]
            full += found[n]
            residuals.append(found[n + 1 :])
            continue
        sums, count = asked(scale, scale.member), len(scale)
        full.add_(sums[n], alpha=scale.mean_weight / count)
        if scale.s < n:
            holding = count * scale.s // n  # subsequences with an element
            esv.add_(sums[:n] / holding - (sums[n] - sums[:n]) / (count - holding), alpha=scale.weight)
    scores = full.view(batch, columns)[:, :n_classes].contiguous()
    values = per_video(esv, batch, n_classes, relabelling)  # (B, n, C)
    # What is left of F(all) - F(none) belongs to all elements alike: efficiency, whatever was sampled.
    values += ((scores - empty - values.sum(dim=1)) / n)[:, None]
    spread = None
    if not plan.exact:
        rows = torch.cat(residuals).view(-1, batch, columns)[..., :n_classes]
        spread = Spread(rows, plan.weights, relabelling)
    gaps = values.sum(dim=1) - (scores - empty)
    return Attribution(
        esv=values,
        stderr=None if spread is None else spread.stderr(values),
        scores=scores,
        gaps=gaps.abs().amax(dim=1),
        evaluations=plan.evaluations(scorer.n_max),
        exact=plan.exact,
        spread=spread,
    )
