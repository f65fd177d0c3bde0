"""One batch of videos through lattice, heads, recursion, softmax and operators: ESVs, standard errors, scores.

Everything is laid out (subsequence, video, ...), so that indices into a lattice serve all videos of a batch; work goes
scale by scale in chunks of subsequences that stay in the cache, and only two scales of values are held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.estimator import Estimator, Plan, batch_of, check_exact_fits, plan_for, resolve
from esv_ray.core.keyed import derive_key, permutation
from esv_ray.core.lattice import Scale, elements_of
from esv_ray.core.model import Scorer, VideoModel

# Bytes of the hidden layer and scores of a chunk. Paper's dimensions, one core, ms a video with 1, 2, 4, 8 MiB:
# n = 8: 1.00, 1.07, 1.14, 1.41; n = 12: 14.3, 12.4, 12.8, 15.0; n = 16: 157, 161, 165, 213.
WORKING_SET = 2 * 2**20


@dataclass(frozen=True)
class Attribution:
    """What was computed for a batch of B videos of n elements.

    Attributes:
        esv: (B, n, C) Element Shapley Values, in probability.
        stderr: (B, n, C) standard errors over iterations; None where exact or from a single iteration.
        scores: (B, C) values of the full sequence; the mean over iterations where sampled.
        evaluations: head evaluations spent on each video.
        exact: whether every subsequence was looked at.
    """

    esv: Tensor
    stderr: Tensor | None
    scores: Tensor
    evaluations: int
    exact: bool


@torch.no_grad()
def attribute(
    model: VideoModel,
    features: Tensor,
    plan: Plan,
    *,
    relabelling: Tensor | None = None,
    working_set: int = WORKING_SET,
) -> Attribution:
    """ESVs of a batch of videos of equal length.

    Args:
        model: gives values to subsequences; `features` and `plan` are on its device and in its dtype.
        features: (B, n, D).
        plan: for n elements (`estimator.plan_for`).
        relabelling: (B, n) for each video a permutation: element j of the plan is element relabelling[b, j] of
            the video. Makes the sampling errors of videos that share a plan independent. None: as they stand.
        working_set: bytes of a chunk's intermediate results.
    """
    batch, n, _ = features.shape
    if n != plan.n:
        raise ValueError(f"the plan is for {plan.n} elements, got features of {n}")
    scorer, prior = model.scorer, model.prior.to(features)
    if relabelling is not None and not scorer.ordered:
        features = features.take_along_dim(relabelling[:, :, None].long(), dim=1)
    elements_first = features.transpose(0, 1).contiguous()  # (n, B, D)

    columns = batch * len(prior)
    pooled = features.new_zeros((n, columns))
    single = [torch.zeros_like(pooled) for _ in plan.single]
    scores = features.new_zeros((batch, len(prior)))
    empty = prior.repeat(batch)  # (B * C,)
    for esv, weights in [(pooled, plan.pooled), *zip(single, plan.single, strict=True)]:
        esv += weights.constant[0][:, None] * empty

    baselines: list[Tensor] = []
    for iteration in range(len(plan.lattices)):
        walk = _values(
            scorer,
            elements_first,
            len(prior),
            plan,
            iteration,
            baselines=baselines,
            relabelling=relabelling,
            working_set=working_set,
        )
        operators = [(pooled, plan.pooled), *([(single[iteration], plan.single[iteration])] if single else [])]
        for s, sums in enumerate(walk, start=1):
            within = sums[:n]  # (n, B * C) sums of the values, less their baseline, with each element
            without = sums[n] - within
            for esv, weights in operators:
                esv += weights.within[s][:, None] * within
                esv -= weights.without[s][:, None] * without
            if s == n:
                scores += (sums[n] + baselines[-1]).view_as(scores) / len(plan.lattices)
    for s, baseline in enumerate(baselines, start=1):
        for esv, weights in [(pooled, plan.pooled), *zip(single, plan.single, strict=True)]:
            esv += weights.constant[s][:, None] * baseline

    stderr = None
    if single:
        spread = torch.stack(single).std(dim=0) / len(single) ** 0.5
        stderr = _per_video(spread, batch, relabelling)
    return Attribution(
        esv=_per_video(pooled, batch, relabelling),
        stderr=stderr,
        scores=scores,
        evaluations=plan.evaluations(scorer.n_max),
        exact=plan.exact,
    )


def attribute_videos(
    model: VideoModel,
    sequences: Sequence[Tensor],
    video_ids: Sequence[str],
    estimator: Estimator,
    *,
    memory_budget: int,
    batch: int | None = None,
) -> Iterator[tuple[list[int], Attribution]]:
    """ESVs of videos of any lengths, those of equal length together.

    Args:
        model: a loaded model.
        sequences: for each video its elements (n, D), n >= 1.
        video_ids: for each video the name that, with the seed, fixes its relabelling of a sampled plan.
        estimator: how.
        memory_budget: bytes that exact ESVs may take.
        batch: videos of equal length that are computed together; None: chosen by n. Changes rounding only.

    Yields:
        Indices into `sequences`, and their attribution, lengths ascending.

    Raises:
        SpecError: exact ESVs of a length would not fit the budget.
    """
    by_length: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(index)
    device, dtype = model.device, model.dtype
    for n in by_length:
        check_fits(model, estimator, n, memory_budget, batch)
    for n, members in sorted(by_length.items()):
        plan = plan_for(estimator, n, n_max=model.n_max, dtype=dtype, device=device)
        size = batch or default_batch(n, plan)
        for start in range(0, len(members), size):
            chosen = members[start : start + size]
            features = torch.stack([sequences[index] for index in chosen]).to(device, dtype)
            relabelling = None
            if not plan.exact:
                labels = [permutation(derive_key(estimator.seed, "relabel", video_ids[i]), n) for i in chosen]
                relabelling = torch.from_numpy(np.stack(labels).astype(np.int32)).to(device)
            yield chosen, attribute(model, features, plan, relabelling=relabelling)


def check_fits(model: VideoModel, estimator: Estimator, n: int, memory_budget: int, batch: int | None = None) -> None:
    """Refuse what does not fit in memory: exact ESVs of too many elements.

    Raises:
        SpecError: says which n, how much memory, the largest n that fits, and what to use instead.
    """
    if resolve(estimator, n, model.n_max) == "exact":
        check_exact_fits(
            n,
            n_max=model.n_max,
            n_classes=model.n_classes,
            itemsize=model.dtype.itemsize,
            memory_budget=memory_budget,
            batch=batch,
            # Sampling with an m that holds every subsequence is exact, too.
            instead="the estimator algorithm1 or auto" if estimator.kind == "exact" else "a smaller m",
        )


def default_batch(n: int, plan: Plan) -> int:
    """Videos of n elements computed together: enough to share the reading of weights, few enough to stay in cache.

    A function of the shape alone, never of the machine: with it results have the same bits everywhere.
    """
    largest = comb(n, n // 2) if plan.exact else max(len(s) for lattice in plan.lattices for s in lattice.scales)
    return batch_of(largest)


def _values(
    scorer: Scorer,
    features: Tensor,
    n_classes: int,
    plan: Plan,
    iteration: int,
    *,
    baselines: list[Tensor],
    relabelling: Tensor | None,
    working_set: int,
) -> Iterator[Tensor]:
    """For s = 1..n the sums of values (n + 1, B * C): over the subsequences with each element, and over all.

    Values are summed less a baseline (B * C,) of their scale, the mean of a few of them, which the first iteration
    appends to `baselines`: a class that is nearly sure has thousands of values near one, whose float32 sums all round
    in one direction (efficiency gap 3e-5 at n = 15 on trained heads without it, 1e-6 with it).

    With n_max the multi-scale score F of Eq. 9 is carried as G_s = min(s, n_max) F, for which
    G_s = f^s + mean over parents of G_{s-1} up to n_max, and the mean alone beyond.
    """
    n, batch, _ = features.shape
    previous: Tensor | None = None
    for s, scale in enumerate(plan.lattices[iteration].scales, start=1):
        scored = scorer.n_max is None or s <= scorer.n_max
        prepared = scorer.prepare(features, s) if scored else None
        carries = scorer.n_max is not None and s < n
        # One row more than there are subsequences: zeros, for parents that were not sampled.
        current = features.new_empty((len(scale) + 1, batch, n_classes)) if carries else None
        if current is not None:
            current[len(scale)] = 0
        sums = features.new_zeros((n + 1, batch * n_classes))
        per_row = batch * (n_classes + scorer.width(s)) * features.element_size()
        rows = max(1, working_set // per_row)
        for start in range(0, len(scale), rows):
            stop = min(start + rows, len(scale))
            member = plan.membership(iteration, s, start, stop)
            out: Tensor | None = None
            if prepared is not None:
                elements = _elements(scale, start, stop, n, s, relabelling) if scorer.ordered else None
                out = scorer.scores(prepared, elements, member)  # (R, B, C)
            if previous is not None:
                out = _add_parents(out, previous, scale, start, stop)
            assert out is not None, "a scale without head has parents"
            if current is not None:
                current[start:stop] = out
            if scorer.softmax:
                averaged = 1 if scorer.n_max is None else min(s, scorer.n_max)
                out = torch.softmax(out / averaged if averaged > 1 else out, dim=-1)
            values = out.view(stop - start, -1)  # (R, B * C)
            if len(baselines) < s:
                baselines.append(values[:: max(1, len(values) // 16)].mean(dim=0))
            # In place where the values are the softmax's own: half the memory traffic of this line.
            less = values.sub_(baselines[s - 1]) if scorer.softmax else values - baselines[s - 1]
            sums.addmm_(member, less)
        previous = current
        yield sums


def _elements(scale: Scale, start: int, stop: int, n: int, s: int, relabelling: Tensor | None) -> Tensor:
    """Positions of some subsequences in time order, (R, 1 or B, s) int32."""
    stored = scale.elements
    positions = elements_of(scale.masks[start:stop], n, s) if stored is None else stored[start:stop]  # (R, s)
    if relabelling is None:
        return positions[:, None]
    return relabelling[:, positions.long()].sort(dim=-1).values.transpose(0, 1)


def _add_parents(out: Tensor | None, previous: Tensor, scale: Scale, start: int, stop: int) -> Tensor:
    """G of a chunk: f^s (R, B, C), or None beyond n_max, plus the mean over sampled parents."""
    _, batch, n_classes = previous.shape
    assert scale.parents is not None
    assert scale.parent_share is not None
    parents = scale.parents[start:stop]  # (R, P)
    if batch > 1:
        video = torch.arange(batch, dtype=torch.int32, device=parents.device)[:, None]
        parents = (parents[:, None] * batch + video).view(-1, parents.shape[1])  # (R * B, P)
    total = F.embedding_bag(parents, previous.view(-1, n_classes), mode="sum").view(-1, batch, n_classes)
    share = scale.parent_share[start:stop, None]  # (R, 1, 1)
    return total * share if out is None else out.addcmul_(total, share)


def _per_video(columns: Tensor, batch: int, relabelling: Tensor | None) -> Tensor:
    """(n, B * C) by the plan's elements -> (B, n, C) by the video's own."""
    esv = columns.view(len(columns), batch, -1).transpose(0, 1)  # (B, n, C)
    if relabelling is None:
        return esv.contiguous()
    own = torch.empty_like(esv, memory_format=torch.contiguous_format)
    return own.scatter_(1, relabelling.long()[:, :, None].expand_as(esv), esv)
