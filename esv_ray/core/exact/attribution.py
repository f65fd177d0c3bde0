"""One batch of videos through lattice, heads, recursion, softmax and operators: ESVs, standard errors, scores.

Everything is laid out (subsequence, video, ...), so that indices into a lattice serve all videos of a batch; work goes
scale by scale in chunks of subsequences that stay in the cache, and only two scales of values are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.estimator import Output
from esv_ray.core.exact.plan import Plan
from esv_ray.core.games.model import Scorer, VideoModel
from esv_ray.core.lattices.lattice import Lattice
from esv_ray.core.memory import default_working_set
from esv_ray.core.spread import Spread, per_video
from esv_ray.core.workspace import Workspace, counting


@dataclass(frozen=True)
class Attribution:
    """What was computed for a batch of B videos of n elements.

    Attributes:
        esv: (B, n, C) Element Shapley Values, in probability or in logits.
        stderr: (B, n, C) standard errors; None where exact, or from a single iteration of Algorithm 1.
        scores: (B, C) values of the full sequence; the mean over iterations where sampled.
        gaps: (B,) efficiency gaps: largest over classes of |sum of ESVs - (scores - prior)|.
        evaluations: head evaluations spent on each video.
        exact: whether every subsequence was looked at.
        iterations: of the sampling; 0 where exact.
        spread: what the standard errors are made of; None without.
        met: (B,) bool, in host memory, whether the standard errors met the estimator's tolerance; None without one.
    """

    esv: Tensor
    stderr: Tensor | None
    scores: Tensor
    gaps: Tensor
    evaluations: int
    exact: bool
    iterations: int = 0
    spread: Spread | None = None
    met: Tensor | None = None

    def relative_stderr(self, chosen: Tensor) -> Tensor:
        """(B,) mean standard error over mean |ESV|, elements of a class, the largest of the chosen classes (B, C)."""
        if self.exact:
            return self.gaps.new_zeros(len(self.gaps))
        if self.stderr is None:
            return self.gaps.new_full((len(self.gaps),), torch.inf)
        share = self.stderr.mean(dim=1) / self.esv.abs().mean(dim=1)  # (B, C)
        return torch.where(chosen, share, 0.0).amax(dim=1)

    def take(self, rows: Tensor) -> Attribution:
        """Some of the videos."""
        at = rows.to(self.esv.device)
        return replace(
            self,
            esv=self.esv[at],
            stderr=None if self.stderr is None else self.stderr[at],
            scores=self.scores[at],
            gaps=self.gaps[at],
            spread=None if self.spread is None else self.spread.take(at),
            met=None if self.met is None else self.met[rows],
        )


@torch.no_grad()
def attribute(
    model: VideoModel,
    features: Tensor,
    plan: Plan,
    *,
    output: Output = "probability",
    relabelling: Tensor | None = None,
    working_set: int | None = None,
    workspace: Workspace | None = None,
) -> Attribution:
    """ESVs of a batch of videos of equal length.

    Args:
        model: gives values to subsequences; `features` and `plan` are on its device and in its dtype.
        features: (B, n, D).
        plan: for n elements (`plan.plan_for`).
        output: the game: softmax(F), or F itself.
        relabelling: (B, n) for each video a permutation: element j of the plan is element relabelling[b, j] of
            the video. Makes the sampling errors of videos that share a plan independent. None: as they stand.
        working_set: bytes of a chunk's intermediate results; None: by the device.
        workspace: memory to work in, kept from batch to batch; None: new.
    """
    workspace = workspace or Workspace(features.device, features.dtype)
    working_set = working_set or default_working_set(features.device)
    batch, n, _ = features.shape
    if n != plan.n:
        raise ValueError(f"the plan is for {plan.n} elements, got features of {n}")
    scorer, n_classes = model.scorer, model.n_classes
    if relabelling is not None and not scorer.ordered:
        features = features.take_along_dim(relabelling[:, :, None].long(), dim=1)
    elements_first = features.transpose(0, 1).contiguous()  # (n, B, D)

    # Columns of the scorer: classes, then idle ones, which stay zero from here on.
    prior = F.pad(model.value_of_nothing(output).to(features), (0, scorer.columns(n_classes) - n_classes))
    columns = batch * len(prior)
    pooled = features.new_zeros((n, columns))
    single = [torch.zeros_like(pooled) for _ in plan.single]
    scores = features.new_zeros((batch, len(prior)))
    operators = [(pooled, plan.pooled), *zip(single, plan.single, strict=True)]
    for esv, weights in operators:
        esv += weights.constant[0][:, None] * prior.repeat(batch)

    baselines = [prior.repeat(batch)]  # (B * columns,) of each scale, from s = 1
    for iteration in range(len(plan.lattices)):
        walk = _Walk(model, output, elements_first, len(prior), plan, iteration, relabelling, working_set, workspace)
        used = [operators[0], *operators[iteration + 1 : iteration + 2]]
        for s, sums in enumerate(walk.scales(baselines), start=1):
            for esv, weights in used:
                # within * (sum with the element) - without * (total - sum with the element)
                esv.addcmul_(sums[:n], (weights.within[s] + weights.without[s])[:, None])
                esv.addcmul_(sums[n], weights.without[s][:, None], value=-1)
            if s == n:
                scores += (sums[n] + baselines[n - 1]).view_as(scores) / len(plan.lattices)
    for s, baseline in enumerate(baselines[:n], start=1):
        for esv, weights in operators:
            esv.addcmul_(baseline, weights.constant[s][:, None])

    esv, spread = per_video(pooled, batch, n_classes, relabelling), None
    if single:
        most = 1.0 if scorer.softmax and output == "probability" else inf
        spread = _between(torch.stack(single), batch, n_classes, relabelling, most)
    gaps = pooled.sum(dim=0).view_as(scores) - (scores - prior)  # (B, columns)
    return Attribution(
        esv=esv,
        stderr=None if spread is None else spread.stderr(esv),
        scores=scores[:, :n_classes].contiguous(),
        gaps=gaps.abs().amax(dim=1),
        evaluations=plan.evaluations(scorer.n_max),
        exact=plan.exact,
        spread=spread,
    )


def _between(single: Tensor, batch: int, n_classes: int, relabelling: Tensor | None, most: float) -> Spread:
    """Spread of the mean over T iterations (T, n, B * columns), from their deviations."""
    times, n, columns = single.shape
    rows = (single - single.mean(dim=0)).view(times * n, batch, columns // batch)[..., :n_classes]
    weights = torch.eye(n, dtype=rows.dtype, device=rows.device).repeat(1, times) / (times * (times - 1))
    return Spread(rows, weights, relabelling, most=most)


@dataclass(frozen=True, eq=False)
class _Walk:
    """One lattice of a plan, walked scale by scale."""

    model: VideoModel
    output: Output
    features: Tensor  # (n, B, D)
    columns: int
    plan: Plan
    iteration: int
    relabelling: Tensor | None
    working_set: int
    workspace: Workspace

    @property
    def scorer(self) -> Scorer:
        """Of the model."""
        return self.model.scorer

    def scales(self, baselines: list[Tensor]) -> Iterator[Tensor]:
        """For s = 1..n the sums of values (n + 1, B * columns): over the subsequences with each element, and over all.

        Values are summed less a baseline (B * columns,) of their scale, the mean value of the scale before, which
        the first iteration appends to `baselines`: a class that is nearly sure has thousands of values near one, whose
        float32 sums all round in one direction (efficiency gap 3e-5 at n = 15 on trained heads without it, 1e-6 with).
        """
        n, batch, _ = self.features.shape
        previous: Tensor | None = None
        for s, scale in enumerate(self.plan.lattices[self.iteration].scales, start=1):
            # F of the whole scale where the next one asks for it, with one row more than there are subsequences:
            # zeros, for parents that were not sampled.
            current = None
            if self.scorer.n_max is not None and s < n:
                current = self.workspace.take(f"scale {s % 2}", (len(scale) + 1, batch, self.columns))
                current[len(scale)] = 0
            sums = self._sums(s, previous, current, baselines[s - 1])
            if len(baselines) == s:
                baselines.append(sums[n] / len(scale) + baselines[s - 1])
            previous = current
            yield sums

    def _sums(self, s: int, previous: Tensor | None, current: Tensor | None, baseline: Tensor) -> Tensor:
        """Sums of one scale; F of its subsequences goes into `current`, if it is asked for."""
        n, batch, _ = self.features.shape
        scorer, count = self.scorer, len(self.plan.lattices[self.iteration].scales[s - 1])
        prepared = (
            scorer.prepare(self.features, s, self.workspace) if scorer.n_max is None or s <= scorer.n_max else None
        )
        rows = max(1, self.working_set // (batch * (self.columns + scorer.width(s)) * self.features.element_size()))
        sums = self.features.new_zeros((n + 1, batch * self.columns))
        for start in range(0, count, rows):
            self._add_chunk(s, start, min(start + rows, count), prepared, previous, current, baseline, sums)
        return sums

    def _add_chunk(
        self,
        s: int,
        start: int,
        stop: int,
        prepared: Tensor | None,
        previous: Tensor | None,
        current: Tensor | None,
        baseline: Tensor,
        sums: Tensor,
    ) -> None:
        """Add values of subsequences start..stop of a scale to `sums`.

        The multi-scale score F of Eq. 9 is built in place: heads write their share f^s / s, then comes the parents'.
        """
        size = (stop - start, self.features.shape[1], self.columns)
        scorer, lattice = self.scorer, self.plan.lattices[self.iteration]
        member = self.plan.membership(self.iteration, s, start, stop)
        out = self.workspace.take("scores", size) if current is None else current[start:stop]
        if prepared is not None:
            elements = relabelled(lattice.elements(s, start, stop), self.relabelling) if scorer.ordered else None
            scorer.scores(prepared, elements, member, out)
        if previous is not None:
            _add_parents(out, previous, lattice, s, start, stop, alone=prepared is None)
        if scorer.softmax and self.output == "probability":
            values = torch.softmax(out, dim=-1, out=self.workspace.take("values", size)).view(len(out), -1)
            values.sub_(baseline)
        else:
            out[..., self.model.n_classes :] = 0
            values = out.view(len(out), -1) - baseline
        sums.addmm_(member, values)


def relabelled(positions: Tensor, relabelling: Tensor | None) -> Tensor:
    """Positions (R, s) of a plan's elements as those of videos, in time order: (R, 1 or B, s) int32."""
    if relabelling is None:
        return positions[:, None]
    return relabelling[:, positions.long()].sort(dim=-1).values.transpose(0, 1)


def _add_parents(
    out: Tensor, previous: Tensor, lattice: Lattice, s: int, start: int, stop: int, *, alone: bool
) -> None:
    """Add to out (R, B, columns), or put there, the share of the parents in F: (s - 1) / s of their mean, or all."""
    batch, columns = out.shape[1:]
    parents = lattice.parents(s, start, stop)  # (R, P)
    if batch > 1:
        parents = torch.add(counting(batch, parents.device)[:, None], parents[:, None], alpha=batch)
    total = F.embedding_bag(parents.view(-1, parents.shape[-1]), previous.view(-1, columns), mode="sum").view_as(out)
    counted = lattice.scales[s - 1].parent_share
    if counted is None:  # all s parents are there
        if alone:
            torch.mul(total, 1 / s, out=out)
        else:
            out.add_(total, alpha=(s - 1) / s**2)
    elif alone:
        torch.mul(total, counted[start:stop, None], out=out)
    else:
        out.addcmul_(total, counted[start:stop, None], value=(s - 1) / s)
