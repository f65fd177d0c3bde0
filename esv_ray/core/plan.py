"""Plans: the part of an attribution that depends on shape only. Built once, cached, applied to every video of a length.

A plan depends on (n, estimator, scales of the model) and on nothing of a video's content. Each estimator has its own:
`exact.plan` (exact ESVs and Algorithm 1), `adjusted.plan` and `logit.plan`.
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.adjusted.build import build_adjusted
from esv_ray.core.adjusted.plan import AdjustedPlan
from esv_ray.core.attribution import NO_EXTRAS, Attribution, Extras
from esv_ray.core.exact.constant import ConstantPlan
from esv_ray.core.exact.plan import LatticePlan, lattice_plan
from esv_ray.core.games.model import VideoModel
from esv_ray.core.keyed import Int64Array, derive_key
from esv_ray.core.lattices.lattice import full_lattice
from esv_ray.core.lattices.sampling import sampled_lattice
from esv_ray.core.logit.plan import LogitPlan, build_logit
from esv_ray.core.recipe import Recipe, longest_scale, recipe_for
from esv_ray.core.scales import Scales
from esv_ray.core.workspace import Workspace
from esv_ray.estimator import Estimator, Output

_CACHE_BYTES = 512 * 2**20


class Plan(Protocol):
    """The interface of all plans."""

    @property
    def n(self) -> int:
        """Number of elements."""

    @property
    def exact(self) -> bool:
        """Whether every subsequence is evaluated."""

    @property
    def terms(self) -> int:
        """Coefficients of the surrogate per video and class; 1 without a surrogate."""

    def apply(
        self,
        model: VideoModel,
        features: Tensor,
        *,
        output: Output,
        relabelling: Tensor | None,
        workspace: Workspace,
        extras: Extras = NO_EXTRAS,
    ) -> Attribution:
        """Compute the ESVs of a batch of videos.

        Args:
            model: on the plan's device and in its dtype.
            features: (B, n, D), likewise.
            output: the game: class probabilities or logits.
            relabelling: (B, n) permutations of each video's elements, from `relabelling`.
            workspace: buffers, kept from batch to batch.
            extras: what to return besides ESVs.
        """

    def relabelling(self, keys: Sequence[np.uint64]) -> Int64Array | None:
        """Return a random permutation (B, n) of the elements for each video's key; None if exact."""

    def evaluations(self, scales: Scales | None) -> int:
        """Return the head evaluations per video, for a model with heads at some scales (None: any length)."""

    def rows(self, scales: Scales | None) -> list[int]:
        """Return the number of subsequences of each scale (and iteration) whose heads are evaluated."""

    def largest(self) -> int:
        """Return the number of subsequences of the largest scale."""

    def score_rows(self) -> int:
        """Return the rows of class scores read and written per video, even if every chunk stays in the cache."""

    def nbytes(self) -> int:
        """Return the bytes held by the plan's tensors."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Plan:
        """Copy the plan to a device in a dtype."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name; `plan_from_tensors` rebuilds the plan."""


BuildPlan = Callable[[Recipe], Plan]


def build_plan(recipe: Recipe) -> Plan:
    """Build a plan on the CPU, in float64."""
    if recipe.constant:
        return ConstantPlan(recipe.n)
    if recipe.closed:
        m, iterations, seed = recipe.sampling or (0, 0, 0)
        rows = m * iterations or None
        return build_logit(recipe.n, rows=rows, seed=seed, scales=recipe.scales, marginals=recipe.marginals)
    if recipe.sampling is None:
        parents = recipe.scales is not None and recipe.stored
        heads = longest_scale(recipe.n, recipe.scales) if recipe.stored else 0
        return lattice_plan((full_lattice(recipe.n, scales_with_elements=heads, parents=parents),), exact=True)
    m, iterations, seed = recipe.sampling
    if recipe.kind == "adjusted":
        rows = m * iterations
        return build_adjusted(recipe.n, rows=rows, seed=seed, scales=recipe.scales, marginals=recipe.marginals)
    lattices = tuple(
        sampled_lattice(
            recipe.n,
            m=m,
            key=derive_key(seed, "lattice", recipe.n, iteration),
            scales_with_elements=longest_scale(recipe.n, recipe.scales),
            parents=recipe.scales is not None,
        )
        for iteration in range(iterations)
    )
    return lattice_plan(lattices, exact=False)


def plan_from_tensors(recipe: Recipe, tensors: Mapping[str, Tensor]) -> Plan:
    """Rebuild the plan of a recipe from its `Plan.tensors`.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a name is not a plan's.
    """
    if recipe.constant:
        return ConstantPlan.from_tensors(tensors)
    if recipe.closed:
        return LogitPlan.from_tensors(tensors)
    return (AdjustedPlan if recipe.kind == "adjusted" else LatticePlan).from_tensors(tensors)


_cache: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
_cache_lock = Lock()


def plan_for(
    estimator: Estimator,
    n: int,
    *,
    scales: Scales | None,
    dtype: torch.dtype,
    device: torch.device,
    stored: bool = True,
    values: bool = False,
    build: BuildPlan | None = None,
    cache_bytes: int = _CACHE_BYTES,
    marginals: bool = False,
) -> Plan:
    """Return the plan of an estimator for n elements, on a device, cached (least recently used first out, by bytes).

    Args:
        estimator: the estimator; a kind of `auto` is resolved by its cost.
        n: number of elements.
        scales: scales of the model's heads, or None.
        dtype: the model's.
        device: the model's.
        stored: whether a full lattice keeps its indices.
        values: whether the values of all subsequences are asked for (`recipe_for`).
        build: builds the plan; None: `build_plan`.
        cache_bytes: bytes that cached plans may hold beside this one; older ones are dropped first.
        marginals: whether the plan can give marginals.
    """
    recipe = recipe_for(estimator, n, scales=scales, stored=stored, values=values, marginals=marginals)
    key = (recipe, dtype, device)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    plan = (build or build_plan)(recipe).to(device, dtype)
    with _cache_lock:
        _cache[key] = plan
        while len(_cache) > 1 and sum(kept.nbytes() for kept in _cache.values()) > cache_bytes:
            _cache.popitem(last=False)
    _trim_heap()
    return plan


def clear_plans() -> None:
    """Drop all cached plans."""
    with _cache_lock:
        _cache.clear()


def _trim_heap() -> None:
    """Return freed memory to the system.

    A plan's tensors lie between temporaries of its construction: the C library would keep 2.6 GB after building the
    plans of 8 to 96 elements.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
