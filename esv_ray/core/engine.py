"""The engine: attributions of many videos of any lengths within a memory budget, without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras
from esv_ray.core.budget import Budget
from esv_ray.core.device_memory import DeviceMemory
from esv_ray.core.games.model import VideoModel
from esv_ray.core.generators import generator_states, moved_generators, own_generators
from esv_ray.core.keyed import derive_key
from esv_ray.core.memory import Sizes, default_batch
from esv_ray.core.plan import BuildPlan, Plan, build_plan, plan_for
from esv_ray.core.recipe import MIN_ITERATIONS_TO_STOP, MIN_ROWS_FOR_ERRORS
from esv_ray.core.transfer import is_out_of_memory, to_device
from esv_ray.core.workspace import default_working_set
from esv_ray.errors import ModelError
from esv_ray.estimator import Estimator

_PLANS_BYTES = 512 * 2**20  # of a process


class Engine:
    """A loaded model with an estimator and a memory budget.

    The budget decides whether exact ESVs are affordable, how many videos are computed together and how much of a
    lattice is stored or recomputed. If it is ample, as by default, batches depend on the shape alone, so that bits do
    not depend on the machine. If the device still runs out of memory, the batch is halved and the size remembered.
    """

    def __init__(
        self,
        model: VideoModel,
        estimator: Estimator,
        *,
        memory_budget: int,
        batch: int | None = None,
        threads: int | None = None,
        build: BuildPlan = build_plan,
        memory: DeviceMemory | None = None,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        """Set up what all attributions share.

        Args:
            model: on its device, in its dtype.
            estimator: the estimator.
            memory_budget: bytes that the work may take.
            batch: most videos of equal length computed together; None: chosen by the shape. Changes rounding only.
            threads: CPU threads, which set the size of chunks; None: torch's setting.
            build: builds plans, e.g. through a cache of the machine.
            memory: buffers shared with another engine for the same model and budget; None: new ones.
            extras: what attributions return besides ESVs.

        Raises:
            SpecError: the estimator's output is `logit`, and the model has no logits, or not for every class.
        """
        model.check_output(estimator.output)
        self.model = model
        self.estimator = estimator
        self.extras = extras
        # Looked up once: the properties search the module on every access.
        self._device, self._dtype, self._elements = model.device, model.dtype, model.element_dtype
        self._own_generators = own_generators(model.scorer) if model.runs_user_code else {}
        self._generators: dict[str, object] = {}
        self._batch = batch
        self._build = build
        if memory is None:
            usual = default_working_set(self._device, threads, images=model.shape is not None)
            working_set = max(2**16, min(usual, memory_budget // 16))
            memory = DeviceMemory(self._device, self._dtype, working_set)
        self._memory = memory
        self.budget = Budget(estimator, Sizes.of(model), memory_budget, memory.workspace.working_set, extras)

    def batch(self, n: int, plan: Plan) -> int:
        """Return how many videos of n elements are computed together."""
        fitting = self.fitting(n, plan.largest(), plan.terms)
        return min(fitting, self._memory.max_batch.get(n, fitting))

    def fitting(self, n: int, largest: int, terms: int) -> int:
        """Return `batch` for a plan not yet built.

        Args:
            n: number of elements.
            largest: subsequences of the plan's largest scale.
            terms: coefficients of its surrogate (`Plan.terms`).
        """
        return self.budget.largest_batch(n, self._batch or default_batch(largest, self._device, terms))

    def plan(self, n: int) -> Plan:
        """Return the plan for n elements on the model's device."""
        return plan_for(
            replace(self.estimator, kind=self.budget.kind(n)),
            n,
            scales=self.model.scales,
            dtype=self._dtype,
            device=self._device,
            stored=self.budget.stored(n),
            values=self.extras.values,
            build=self._build,
            cache_bytes=min(_PLANS_BYTES, self.budget.n_bytes // 4),
            marginals=self.extras.marginals,
        )

    def attributions(
        self,
        lengths: Sequence[int],
        video_ids: Sequence[str],
        features: Callable[[list[int]], Tensor],
        chosen: Callable[[list[int], Tensor], Tensor] | None = None,
    ) -> Iterator[tuple[list[int], Attribution]]:
        """Compute ESVs of videos of any lengths, those of equal length together; with a tolerance, until it is met.

        Args:
            lengths: number of elements n >= 1 of each video.
            video_ids: name of each video; with the seed it fixes the video's relabelling of a sampled plan.
            features: returns (B, n, D), on any device, of the videos at given indices, all of equal length.
            chosen: maps indices and scores (B, C) to the classes (B, C) bool whose errors the tolerance bounds; None:
                the predicted class.

        Yields:
            Indices of videos, and their attribution on the model's device; lengths ascending, except for videos that
            took more iterations, which come after the others.

        Raises:
            SpecError: a length does not fit the budget (`Budget.check`).
            ModelError: a user's module draws at random.
        """
        if self.estimator.tolerance is None:
            yield from self._attributions(lengths, video_ids, features)
            return
        iterations = self.estimator.iterations
        pending, spent = list(range(len(lengths))), dict.fromkeys(lengths, 0)
        while pending:
            later = min(2 * iterations, self.estimator.max_iterations)
            stage, after = self._stage(iterations), self._stage(later)
            members, pending = pending, []
            evaluations: dict[int, int] = {}
            for positions, result in stage._attributions(
                [lengths[index] for index in members],
                [video_ids[index] for index in members],
                lambda positions, members=members: features([members[p] for p in positions]),  # type: ignore[misc]
            ):
                indices = [members[position] for position in positions]
                n = lengths[indices[0]]
                evaluations[n] = spent[n] + result.evaluations
                classes = _predicted(result.scores) if chosen is None else chosen(indices, result.scores)
                met = self._meets_tolerance(result, classes)
                last = later == iterations or result.exact or not after.budget.fits(n)
                rows = torch.arange(len(indices)) if last else met.nonzero()[:, 0]
                if len(rows):
                    finished = replace(result, met=met, evaluations=evaluations[n])
                    yield [indices[row] for row in rows.tolist()], finished.take(rows)
                if not last:
                    pending += [indices[row] for row in (~met).nonzero()[:, 0].tolist()]
            spent, iterations = {**spent, **evaluations}, later

    def plain(self, model: VideoModel | None = None) -> Engine:
        """Return an engine without extras and tolerance, on the same device memory.

        Args:
            model: a model of the same sizes; None: the engine's own.
        """
        return self._stage(self.estimator.iterations, NO_EXTRAS, model)

    def _stage(self, iterations: int, extras: Extras | None = None, model: VideoModel | None = None) -> Engine:
        """Return an engine with other iterations and no tolerance, on the same device memory."""
        return Engine(
            model or self.model,
            replace(self.estimator, iterations=iterations, tolerance=None),
            memory_budget=self.budget.n_bytes,
            batch=self._batch,
            build=self._build,
            memory=self._memory,
            extras=self.extras if extras is None else extras,
        )

    def _meets_tolerance(self, result: Attribution, classes: Tensor) -> Tensor:
        """Return (B,) bool in host memory: whether the standard errors of the classes (B, C) meet the tolerance."""
        assert self.estimator.tolerance is not None, "only called with a tolerance"
        met = (result.relative_stderr(classes) <= self.estimator.tolerance).cpu()
        if self.estimator.kind == "algorithm1" and not result.exact:
            met &= result.iterations >= MIN_ITERATIONS_TO_STOP
        return met

    def _attributions(
        self, lengths: Sequence[int], video_ids: Sequence[str], features: Callable[[list[int]], Tensor]
    ) -> Iterator[tuple[list[int], Attribution]]:
        """Compute `attributions` without a tolerance."""
        if self.model.runs_user_code:
            # Kept from batch to batch: reading them takes 0.1 ms, 0.6 % of a batch of four elements in a small module.
            self._generators = generator_states(self._device, self._own_generators)
        by_length: dict[int, list[int]] = {}
        for index, n in enumerate(lengths):
            by_length.setdefault(n, []).append(index)
        for n in by_length:
            self.budget.check(n)
        for n, members in sorted(by_length.items()):
            plan, start = self.plan(n), 0
            while start < len(members):
                indices = members[start : start + self.batch(n, plan)]
                result: Attribution | None = None
                try:
                    result = self._attribute(plan, features(indices), [video_ids[index] for index in indices])
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error) or not self._can_shrink(len(indices)):
                        raise
                if result is None:  # outside the handler, where the error and what it refers to are freed
                    self._memory.shrink(n, len(indices))
                    continue
                yield indices, self._with_iterations(result)
                start += len(indices)

    def _can_shrink(self, batch: int) -> bool:
        """Return whether less can be computed at a time: fewer videos, or fewer subsequences of images."""
        sizes = self.budget.model
        least = sizes.widths[0] * sizes.itemsize  # below it, every chunk is one subsequence
        return batch > 1 or (sizes.images and self._memory.workspace.working_set > least)

    def _with_iterations(self, result: Attribution) -> Attribution:
        """Record the iterations of a sampled result, and drop standard errors from too few subsequences."""
        estimator = self.estimator
        if result.exact:
            return result
        if estimator.kind != "algorithm1" and estimator.m * estimator.iterations < MIN_ROWS_FOR_ERRORS:
            result = replace(result, stderr=None, spread=None)
        return replace(result, iterations=estimator.iterations)

    def _attribute(self, plan: Plan, features: Tensor, video_ids: Sequence[str]) -> Attribution:
        """Apply a plan to features (B, n, D) of videos with these names; twice, if a user's module may have drawn.

        Other threads of the process may have moved a global generator, and a module may draw numbers that it does not
        use (as layers that drop only in training do), so only results that differ are a fault.

        Raises:
            ModelError: the module draws at random.
        """
        if not self.model.runs_user_code:
            return self._applied(plan, features, video_ids)
        result = self._applied(plan, features, video_ids)
        moved = self._moved_generators()
        if not moved:
            return result
        again = self._applied(plan, features, video_ids)
        self._moved_generators()  # by the second run
        if not _same_values(result, again):
            raise ModelError(
                f"model: expected the same logits at every call, but its module draws at random, from "
                f"{' and '.join(moved)}: two runs on {len(features)} sequence(s) of {plan.n} elements gave different "
                "ESVs; make it deterministic"
            )
        return result

    def _moved_generators(self) -> list[str]:
        """Return the names of the random generators that moved since the last call."""
        before, self._generators = self._generators, generator_states(self._device, self._own_generators)
        return moved_generators(before, self._generators)

    def _applied(self, plan: Plan, features: Tensor, video_ids: Sequence[str]) -> Attribution:
        """Apply a plan to features (B, n, D) of videos with these names."""
        features = to_device(features, self._device).to(self._elements)
        labels = plan.relabelling([derive_key(self.estimator.seed, "relabel", video_id) for video_id in video_ids])
        relabelling = None
        if labels is not None:
            relabelling = to_device(torch.from_numpy(labels.astype(np.int32)), self._device)
        return plan.apply(
            self.model,
            features,
            output=self.estimator.output,
            relabelling=relabelling,
            workspace=self._memory.workspace,
            extras=self.extras,
        )


def _same_values(one: Attribution, other: Attribution) -> bool:
    """Return whether ESVs and scores have the same values; NaN equals NaN."""
    pairs = ((one.esv, other.esv), (one.scores, other.scores))
    return all(torch.allclose(first, second, rtol=0, atol=0, equal_nan=True) for first, second in pairs)


def _predicted(scores: Tensor) -> Tensor:
    """Return (B, C) bool: the class with the largest score."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.argmax(dim=1, keepdim=True), True)
