"""A model at work: many videos of any lengths through plans, batches and memory, without a pause of the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.adjusted.attribution import attribute_adjusted
from esv_ray.core.adjusted.plan import AdjustedPlan
from esv_ray.core.estimator import (
    LEAST_FOR_ERRORS,
    LEAST_ITERATIONS_TO_STOP,
    Estimator,
    Resolved,
    closed_form,
    complete,
    resolve,
    subsequences_asked,
)
from esv_ray.core.exact.attribution import Attribution, attribute
from esv_ray.core.exact.plan import AnyPlan, Build, blueprint, forget_plans, plan_for
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import binned_permutation, derive_key, permutation
from esv_ray.core.lattices.lattice import MOST_FULL
from esv_ray.core.logit.attribution import attribute_logits
from esv_ray.core.logit.plan import LogitPlan
from esv_ray.core.memory import (
    Sizes,
    adjusted_bytes,
    default_batch,
    default_working_set,
    exact_bytes,
    in_words,
    index_bytes,
    largest_fitting,
    logit_bytes,
    longest_exact,
    sampled_bytes,
)
from esv_ray.core.transfer import out_of_memory, sent
from esv_ray.core.workspace import Workspace
from esv_ray.errors import SpecError

_PLANS_BYTES = 512 * 2**20  # of a process
_LONGEST = 2**24  # elements that anybody may ask about


class Engine:
    """A loaded model with an estimator, a memory budget and the buffers that it works in.

    The budget decides whether exact ESVs are affordable, how many videos go together and how much of a lattice is kept
    or made again. Where it is ample, as by default, batches depend on the shape alone, so that bits do not depend on
    the machine. When the device is out of memory after all, the batch is halved and that is remembered.
    """

    def __init__(
        self,
        model: VideoModel,
        estimator: Estimator,
        *,
        memory_budget: int,
        batch: int | None = None,
        threads: int | None = None,
        build: Build = blueprint,
    ) -> None:
        """Take what all attributions have in common.

        Args:
            model: on its device, in its dtype.
            estimator: how.
            memory_budget: bytes that the work may take.
            batch: most videos of equal length computed together; None: chosen by the shape. Changes rounding only.
            threads: of a CPU, by which chunks are cut; None: torch's.
            build: makes what of a plan takes time; for callers who keep it.

        Raises:
            SpecError: the model has no logits, or not for every class, and they are asked for.
        """
        model.value_of_nothing(estimator.output)
        self.model = model
        self.estimator = estimator
        self.memory_budget = memory_budget
        # Kept: a module is searched for them at every question.
        self._device, self._dtype = model.device, model.dtype
        self._sizes = Sizes.of(model)
        self._batch = batch
        self._build = build
        self._ceilings: dict[int, int] = {}  # n -> the batch that is left after the device ran out of memory
        self._working_set = max(2**16, min(default_working_set(self._device, threads), memory_budget // 16))
        self._workspace = Workspace(self._device, self._dtype)

    def kind(self, n: int) -> Resolved:
        """What the estimator comes down to; `auto` is exact only where that fits."""
        asked, n_max = self.estimator, self.model.n_max
        kind = resolve(asked, n, n_max)
        if kind == "exact" and not complete(asked, n, n_max) and not self._fits(n, "exact"):
            return "adjusted"
        return kind

    def check(self, n: int) -> None:
        """Refuse what does not fit in memory, before any work.

        Raises:
            SpecError: says which n, how much memory, the largest n that fits, and what to use instead.
        """
        kind = self.kind(n)
        if self._fits(n, kind):
            return
        have = f"{in_words(self.memory_budget)} is to be had"
        if kind == "exact":
            # Sampling with an m that holds every subsequence is exact, too.
            instead = "the estimator adjusted or auto" if self.estimator.kind == "exact" else "a smaller m"
            if closed_form(self.estimator):
                heads = self.model.n_max
                looked = f"2^{n} - 1" if heads is None else f"{sum(subsequences_asked(n, heads)):.3g}"
                longest = largest_fitting(lambda n: self._needs(n, kind), self.memory_budget, n)
            else:
                looked = f"2^{n} - 1"
                longest = longest_exact(self._sizes, self.memory_budget, working_set=self._working_set)
            raise SpecError(
                f"exact ESVs of n = {n} elements look at {looked} subsequences and take "
                f"{in_words(self._needs(n, kind))} of memory, {have}; the largest n that fits is {min(longest, n)}: "
                f"sample frames, or use {instead}"
            )
        longest = largest_fitting(lambda n: self._needs(n, kind), self.memory_budget, _LONGEST)
        raise SpecError(
            f"sampling subsequences of n = {n} elements with m = {self.estimator.m} and {self.estimator.iterations} "
            f"iteration(s) takes {in_words(self._needs(n, kind))} of memory, {have}; the largest n that fits is "
            f"{min(longest, n)}: sample frames, or use a smaller m"
        )

    def batch(self, n: int, plan: AnyPlan) -> int:
        """Videos of n elements that are computed together."""
        terms = plan.terms if isinstance(plan, AdjustedPlan) else 1
        fitting = self.fitting(n, plan.largest(), terms)
        return min(fitting, self._ceilings.get(n, fitting))

    def fitting(self, n: int, largest: int, terms: int) -> int:
        """`batch` of a plan not yet built, by the subsequences of its largest size and its terms (adjusted; else 1)."""
        wanted = self._batch or default_batch(largest, self._device, terms)
        kind = self.kind(n)
        return max(1, largest_fitting(lambda batch: self._needs(n, kind, batch), self.memory_budget, wanted))

    def needed_bytes(self, n: int, batch: int) -> int:
        """Memory that a batch of videos of n elements takes, its plan included."""
        return self._needs(n, self.kind(n), batch)

    def plan(self, n: int) -> AnyPlan:
        """The plan for n elements on the model's device."""
        model, kind = self.model, self.kind(n)
        return plan_for(
            replace(self.estimator, kind=kind),
            n,
            n_max=model.n_max,
            dtype=self._dtype,
            device=self._device,
            stored=self._stored(n),
            build=self._build,
            cache_bytes=min(_PLANS_BYTES, self.memory_budget // 4),
        )

    def attributions(
        self,
        lengths: Sequence[int],
        video_ids: Sequence[str],
        features: Callable[[list[int]], Tensor],
        chosen: Callable[[list[int], Tensor], Tensor] | None = None,
    ) -> Iterator[tuple[list[int], Attribution]]:
        """ESVs of videos of any lengths, those of equal length together; with a tolerance, until it is met.

        Args:
            lengths: for each video its number of elements n >= 1.
            video_ids: for each video the name that, with the seed, fixes its relabelling of a sampled plan.
            features: gives (B, n, D), on any device, of the videos of these numbers, which are of equal length.
            chosen: from numbers and scores (B, C) the classes (B, C) bool whose errors the tolerance is about; None:
                the predicted ones.

        Yields:
            Numbers of videos, and their attribution on the model's device; lengths ascending, but for videos that
            took more iterations, which come after the others.

        Raises:
            SpecError: a length does not fit the budget (`check`).
        """
        tolerance, iterations = self.estimator.tolerance, self.estimator.iterations
        if tolerance is None:
            yield from self._attributions(lengths, video_ids, features)
            return
        pending, spent = list(range(len(lengths))), dict.fromkeys(lengths, 0)
        while pending:
            stage = self._with_iterations(iterations)
            later = min(2 * iterations, self.estimator.max_iterations)
            after = self._with_iterations(later)
            asked, pending = pending, []
            evaluations: dict[int, int] = {}
            for some, found in stage._attributions(
                [lengths[index] for index in asked],
                [video_ids[index] for index in asked],
                lambda some, asked=asked: features([asked[index] for index in some]),  # type: ignore[misc]
            ):
                indices = [asked[index] for index in some]
                n = lengths[indices[0]]
                evaluations[n] = spent[n] + found.evaluations
                classes = _predicted(found.scores) if chosen is None else chosen(indices, found.scores)
                met = (found.relative_stderr(classes) <= tolerance).cpu()
                if self.estimator.kind == "algorithm1" and not found.exact:
                    met &= found.iterations >= LEAST_ITERATIONS_TO_STOP
                last = later == iterations or found.exact or not after._fits(n, after.kind(n))
                rows = torch.arange(len(indices)) if last else met.nonzero()[:, 0]
                if len(rows):
                    told = replace(found, met=met, evaluations=evaluations[n])
                    yield [indices[row] for row in rows.tolist()], told.take(rows)
                if not last:
                    pending += [indices[row] for row in (~met).nonzero()[:, 0].tolist()]
            spent, iterations = {**spent, **evaluations}, later

    def _with_iterations(self, iterations: int) -> Engine:
        """The same at work with other iterations and no tolerance; buffers are shared."""
        stage = copy(self)
        stage.estimator = replace(self.estimator, iterations=iterations, tolerance=None)
        return stage

    def _attributions(
        self, lengths: Sequence[int], video_ids: Sequence[str], features: Callable[[list[int]], Tensor]
    ) -> Iterator[tuple[list[int], Attribution]]:
        """As `attributions`, without a tolerance."""
        by_length: dict[int, list[int]] = {}
        for index, n in enumerate(lengths):
            by_length.setdefault(n, []).append(index)
        for n in by_length:
            self.check(n)
        for n, members in sorted(by_length.items()):
            plan, start = self.plan(n), 0
            while start < len(members):
                chosen = members[start : start + self.batch(n, plan)]
                found: Attribution | None = None
                try:
                    found = self._attribute(plan, features(chosen), [video_ids[index] for index in chosen])
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    if len(chosen) == 1 or not out_of_memory(error):
                        raise
                if found is None:  # here the error is gone, and with it what it held on to
                    self._ceilings[n] = len(chosen) // 2
                    self._make_room()
                    continue
                yield chosen, self._told(found)
                start += len(chosen)

    def _told(self, found: Attribution) -> Attribution:
        """With its iterations, and without standard errors that too little is known of."""
        asked = self.estimator
        if found.exact:
            return found
        if asked.kind != "algorithm1" and asked.m * asked.iterations < LEAST_FOR_ERRORS:
            found = replace(found, stderr=None, spread=None)
        return replace(found, iterations=asked.iterations)

    def _make_room(self) -> None:
        """Give back all memory that is only kept for speed."""
        self._workspace.clear()
        forget_plans()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _attribute(self, plan: AnyPlan, features: Tensor, video_ids: Sequence[str]) -> Attribution:
        device, seed = self._device, self.estimator.seed
        features = sent(features, device).to(self._dtype)
        relabelling = None
        if not plan.exact:
            bins = plan.bins.cpu().numpy() if isinstance(plan, AdjustedPlan) else None
            keys = [derive_key(seed, "relabel", video_id) for video_id in video_ids]
            labels = [permutation(key, plan.n) if bins is None else binned_permutation(key, bins) for key in keys]
            relabelling = sent(torch.from_numpy(np.stack(labels).astype(np.int32)), device)
        model, chunk, space = self.model, self._working_set, self._workspace
        if isinstance(plan, AdjustedPlan):
            return attribute_adjusted(
                model, features, plan, relabelling=relabelling, working_set=chunk, workspace=space
            )
        if isinstance(plan, LogitPlan):
            return attribute_logits(model, features, plan, relabelling=relabelling, working_set=chunk, workspace=space)
        output = self.estimator.output
        return attribute(
            model, features, plan, output=output, relabelling=relabelling, working_set=chunk, workspace=space
        )

    def _needs(self, n: int, kind: str, batch: int = 1) -> int:
        model, asked, chunk = self._sizes, self.estimator, self._working_set
        if closed_form(asked):
            rows = None if kind == "exact" else asked.m * asked.iterations
            return logit_bytes(model, n, rows=rows, batch=batch, working_set=chunk)
        if kind == "adjusted":
            return adjusted_bytes(model, n, rows=asked.m * asked.iterations, batch=batch, working_set=chunk)
        if kind == "algorithm1":
            return sampled_bytes(model, n, m=asked.m, iterations=asked.iterations, batch=batch, working_set=chunk)
        n = min(n, 64)  # beyond 2^64 the number alone tells enough
        return exact_bytes(model, n, batch=batch, working_set=chunk, stored=self._stored(n))

    def _stored(self, n: int) -> bool:
        """Whether a full lattice keeps its indices; else they are made for every chunk, which takes longer."""
        if n > MOST_FULL or 4 * index_bytes(n, self._sizes.n_max) > self.memory_budget:
            return False
        return exact_bytes(self._sizes, n, batch=1, working_set=self._working_set, stored=True) <= self.memory_budget

    def _fits(self, n: int, kind: str) -> bool:
        return (kind != "exact" or n <= MOST_FULL or closed_form(self.estimator)) and self._needs(
            n, kind
        ) <= self.memory_budget


def _predicted(scores: Tensor) -> Tensor:
    """(B, C) bool: the likeliest class."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.argmax(dim=1, keepdim=True), True)
