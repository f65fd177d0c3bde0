"""Attribution of a batch of videos over lattices: heads, recursion, softmax and operators.

Everything is laid out (subsequence, video, ...), so that indices into a lattice serve all videos of a batch; work goes
scale by scale in chunks of subsequences that stay in the cache, and only two scales of values are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras, elements_first
from esv_ray.core.exact import marginals as per_scale
from esv_ray.core.exact.scores import ScaleScores
from esv_ray.core.games.model import Scorer, VideoModel
from esv_ray.core.spread import Spread, per_video, per_video_and_scale
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Output

if TYPE_CHECKING:
    from esv_ray.core.exact.plan import LatticePlan


@torch.no_grad()
def attribute(
    model: VideoModel,
    features: Tensor,
    plan: LatticePlan,
    *,
    output: Output = "probability",
    relabelling: Tensor | None = None,
    workspace: Workspace | None = None,
    extras: Extras = NO_EXTRAS,
) -> Attribution:
    """Compute the ESVs of a batch of videos of equal length.

    Args:
        model: gives values to subsequences; `features` and `plan` are on its device and in its dtype.
        features: (B, n, D); of a model of images uint8.
        plan: for n elements.
        output: the game: softmax(F), or F itself.
        relabelling: (B, n) for each video a permutation: element j of the plan is element relabelling[b, j] of
            the video. Makes the sampling errors of videos that share a plan independent. None: the identity.
        workspace: buffers, kept from batch to batch; None: new ones.
        extras: what to return besides ESVs; values only if the plan is exact.

    Raises:
        ValueError: the features have another number of elements than the plan.
    """
    workspace = workspace or Workspace(features.device, model.dtype)
    elements = elements_first(model, features, plan.n, relabelling)
    scorer, n_classes, batch = model.scorer, model.n_classes, len(features)
    # Columns of the scorer: classes, then idle ones, which stay zero from here on.
    empty = F.pad(workspace.like(model.empty_value(output)), (0, scorer.columns(n_classes) - n_classes))
    kept: list[Tensor] | None = [] if extras.values and plan.exact else None
    walk = _LatticeWalk(model, output, elements, len(empty), plan, relabelling, workspace, kept)
    marginals = empty.new_zeros((plan.n, plan.n, batch * len(empty))) if extras.marginals else None
    single: list[Tensor] = []
    if plan.operator is not None and walk.is_small:
        pooled, scores = _apply_at_once(walk, plan.operator, empty, marginals)
    else:
        pooled, single, scores = _apply_operators(walk, empty, marginals)
    esv, spread = per_video(pooled, batch, n_classes, relabelling), None
    if single:
        bound = 1.0 if scorer.probabilities and output == "probability" else inf
        spread = _spread_of_iterations(torch.stack(single), batch, n_classes, relabelling, bound)
    gaps = pooled.sum(dim=0).view_as(scores) - (scores - empty)  # (B, columns)
    return Attribution(
        esv=esv,
        stderr=None if spread is None else spread.stderr(esv),
        scores=scores[:, :n_classes].contiguous(),
        gaps=gaps.abs().amax(dim=1),
        evaluations=plan.evaluations(scorer.scales),
        exact=plan.exact,
        spread=spread,
        marginals=None if marginals is None else per_video_and_scale(marginals, batch, n_classes, relabelling),
        values=None if kept is None else tuple(kept),
    )


def _apply_at_once(
    walk: _LatticeWalk, operator: Tensor, empty: Tensor, marginals: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Apply the operator of a small full lattice to all its values together.

    In a small model, a single video of eight elements takes 1.4 ms scale by scale, nearly all of it for the many steps,
    and 0.8 so. Too few values are added up for a baseline to matter (`_LatticeWalk.scales`).

    Args:
        walk: the batch and the plan.
        operator: (n, N).
        empty: (columns,) value of the empty sequence.
        marginals: as for `_apply_operators`.

    Returns:
        ESVs (n, B * columns), and the scores (B, columns) of the full sequence.
    """
    values = walk.all_values()
    none, rows = empty.repeat(values.shape[1]), values.view(len(values), -1)
    if marginals is not None:
        counts = [len(scale) for scale in walk.plan.lattices[0].scales]
        for s, part in enumerate(torch.split(rows, counts), start=1):
            per_scale.add_scale(marginals, walk.plan.pooled, s, walk.plan.membership(0, s, 0, len(part)) @ part)
        per_scale.finish(marginals, walk.plan.pooled, [torch.zeros_like(none)] * len(marginals), none)
    esv = torch.addmm(walk.plan.pooled.constant[0, :, None] * none, operator, rows)
    return esv, values[-1].clone()  # out of the buffer, which the next batch overwrites


def _apply_operators(
    walk: _LatticeWalk, empty: Tensor, marginals: Tensor | None = None
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Apply a plan's operators to the values on its lattices.

    Args:
        walk: the batch and the plan.
        empty: (columns,) value of the empty sequence.
        marginals: (n, n, B * columns) zeros, to which the marginal contributions are written; None: not requested.

    Returns:
        ESVs (n, B * columns) pooled over iterations, those of each iteration alone (as `LatticePlan.single`), and the
        scores (B, columns) of the full sequence.
    """
    plan = walk.plan
    n, batch, _ = walk.features.shape
    pooled = empty.new_zeros((n, batch * len(empty)))
    single = [torch.zeros_like(pooled) for _ in plan.single]
    scores = empty.new_zeros((batch, len(empty)))
    operators = [(pooled, plan.pooled), *zip(single, plan.single, strict=True)]
    # Views of each scale, made together: (n, 1).
    of_scales = [
        (esv, (weights.within + weights.without)[..., None].unbind(), weights.without[..., None].unbind())
        for esv, weights in operators
    ]

    baselines = [empty.repeat(batch)]  # (B * columns,) of each scale, from s = 1
    for iteration in range(len(plan.lattices)):
        used = [of_scales[0], *of_scales[iteration + 1 : iteration + 2]]
        for s, sums in enumerate(walk.scales(iteration, baselines), start=1):
            with_element, total = sums[:n], sums[n]
            for esv, both, without in used:
                # within * (sum with the element) - without * (total - sum with the element)
                esv.addcmul_(with_element, both[s])
                esv.addcmul_(total, without[s], value=-1)
            if marginals is not None:
                per_scale.add_scale(marginals, plan.pooled, s, sums)
            if s == n:
                scores += (total + baselines[n - 1]).view_as(scores) / len(plan.lattices)
    # (n + 1, B * columns), the value of the empty sequence twice
    constants = torch.stack([baselines[0], *baselines[:n]])
    for esv, weights in operators:
        esv.addmm_(weights.constant.t(), constants)
    if marginals is not None:
        per_scale.finish(marginals, plan.pooled, baselines, baselines[0])
    return pooled, single, scores


def _spread_of_iterations(
    single: Tensor, batch: int, n_classes: int, relabelling: Tensor | None, bound: float
) -> Spread:
    """Return the spread of the mean over T iterations (T, n, B * columns), from their deviations."""
    times, n, columns = single.shape
    rows = (single - single.mean(dim=0)).view(times * n, batch, columns // batch)[..., :n_classes]
    weights = torch.eye(n, dtype=rows.dtype, device=rows.device).repeat(1, times) / (times * (times - 1))
    return Spread(rows, weights, relabelling, bound=bound)


@dataclass(frozen=True, eq=False)
class _LatticeWalk:
    """A batch of videos evaluated on the lattices of a plan, scale by scale.

    Attributes:
        model: the model.
        output: the game.
        features: (n, B, D).
        columns: width of the scorer's scores.
        plan: the plan.
        relabelling: (B, n), or None.
        workspace: buffers.
        kept: takes the values (N_s, B, columns) of each scale; None: they are not kept.
    """

    model: VideoModel
    output: Output
    features: Tensor
    columns: int
    plan: LatticePlan
    relabelling: Tensor | None
    workspace: Workspace
    kept: list[Tensor] | None

    @property
    def scorer(self) -> Scorer:
        """The model's scorer."""
        return self.model.scorer

    @property
    def is_small(self) -> bool:
        """Whether the values of a full lattice may be taken together: they stay in the cache, and no scale is empty."""
        scales, (n, batch, _) = self.scorer.scales, self.features.shape
        lengths = scales is None or scales.shortest == 1
        return lengths and 4 * batch * self.columns * 2**n * self.workspace.itemsize <= self.workspace.working_set

    def all_values(self) -> Tensor:
        """Return the values (N, B, columns) of all subsequences of the plan's lattice, by scale, in a buffer."""
        lattice, scorer = self.plan.lattices[0], self.scorer
        counts = [len(scale) for scale in lattice.scales]
        out = self.workspace.take("all scores", (sum(counts), self.features.shape[1], self.columns))
        previous: Tensor | None = None
        for s, current in enumerate(torch.split(out, counts), start=1):
            scale, rows = self._scale(0, s, previous), self._rows(s)
            for start in range(0, len(current), rows):
                stop = min(start + rows, len(current))
                # Ordered scorers look at positions alone.
                member = current[:0, 0] if scorer.ordered else self.plan.membership(0, s, start, stop)
                scale.write(start, stop, member, current[start:stop])
            previous = None if scorer.scales is None else current
        if scorer.softmax and self.output == "probability":
            torch.softmax(out, dim=-1, out=out)
        else:
            out[..., self.model.n_classes :] = 0
        if self.kept is not None:
            self.kept.extend(part.clone() for part in torch.split(out, counts))
        return out

    def scales(self, iteration: int, baselines: list[Tensor]) -> Iterator[Tensor]:
        """Yield for s = 1..n the sums of values (n + 1, B * columns): with each element, and over all subsequences.

        A baseline (B * columns,) of the scale, the mean value of the scale before, is subtracted from the values. The
        first iteration appends it to `baselines`. A class that is nearly sure has thousands of values near one, whose
        float32 sums all round in one direction (efficiency gap 3e-5 at n = 15 on trained heads without it, 1e-6 with).
        """
        n, batch, _ = self.features.shape
        lattice, scales = self.plan.lattices[iteration], self.scorer.scales
        previous: Tensor | None = None
        for s, scale in enumerate(lattice.scales, start=1):
            if scales is not None and s < scales.shortest:  # all have the value of the empty sequence
                if len(baselines) == s:
                    baselines.append(baselines[s - 1])
                if self.kept is not None:
                    self.kept.append(baselines[0].view(batch, -1).expand(len(scale), -1, -1))
                yield self.workspace.zeros((n + 1, batch * self.columns))
                continue
            # F of the whole scale, if the next one needs it, with one row more than there are subsequences:
            # zeros, for parents that were not sampled.
            current = None
            if scales is not None and s < n:
                current = self.workspace.take(f"scale {s % 2}", (len(scale) + 1, batch, self.columns))
                if not lattice.full:
                    current[len(scale)] = 0
            sums = self._sums(iteration, s, previous, current, baselines[s - 1])
            if len(baselines) == s:
                baselines.append(torch.add(baselines[s - 1], sums[n], alpha=1 / len(scale)))
            previous = current
            yield sums

    def _sums(
        self, iteration: int, s: int, previous: Tensor | None, current: Tensor | None, baseline: Tensor
    ) -> Tensor:
        """Return the sums of one scale; F of its subsequences is written to `current`, unless that is None.

        The multi-scale score F (`Scales`) is built in place: heads write their share, then the parents' is added.
        """
        n, batch, _ = self.features.shape
        scale, count = self._scale(iteration, s, previous), len(self.plan.lattices[iteration].scales[s - 1])
        rows = self._rows(s)
        sums = self.workspace.empty((n + 1, batch * self.columns))
        if self.kept is not None:
            self.kept.append(self.workspace.empty((count, batch, self.columns)))
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            member = self.plan.membership(iteration, s, start, stop)
            if current is None:
                out = self.workspace.take("scores", (stop - start, batch, self.columns))
            else:
                out = current[start:stop]
            scale.write(start, stop, member, out)
            values = self._values(out, baseline, None if self.kept is None else self.kept[-1][start:stop])
            sums.addmm_(member, values, beta=0 if start == 0 else 1)
        return sums

    def _rows(self, s: int) -> int:
        """Return the number of subsequences of a chunk."""
        row_bytes = self.features.shape[1] * (self.columns + self.scorer.width(s)) * self.workspace.itemsize
        return max(1, self.workspace.working_set // row_bytes)

    def _scale(self, iteration: int, s: int, previous: Tensor | None) -> ScaleScores:
        """Return the scores of one scale."""
        scorer, prepared = self.scorer, None
        if scorer.scales is None or scorer.scales.has_head(s):
            prepared = scorer.prepare(self.features, s, self.workspace)
        return ScaleScores(scorer, self.plan.lattices[iteration], s, prepared, previous, self.relabelling)

    def _values(self, out: Tensor, baseline: Tensor, kept: Tensor | None) -> Tensor:
        """Return values minus the baseline, (R, B * columns), of scores F (R, B, columns); idle columns are zero.

        The values themselves are written to `kept` (R, B, columns), unless that is None.
        """
        if self.scorer.softmax and self.output == "probability":
            values = torch.softmax(out, dim=-1, out=self.workspace.take("values", tuple(out.shape)))
            if kept is not None:
                kept.copy_(values)
            return values.view(len(out), -1).sub_(baseline)
        out[..., self.model.n_classes :] = 0
        if kept is not None:
            kept.copy_(out)
        return out.view(len(out), -1) - baseline
