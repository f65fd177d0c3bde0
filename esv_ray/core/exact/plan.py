"""Plans: the fixed linear operators that turn values on a lattice into ESVs. Shape only, cached.

A plan depends on (n, estimator, the model's n_max) and on nothing a video brings; it is built once and applied to
every video of that length. For exact ESVs and for Algorithm 1 the ESV of element i is

    sum over s of  a[s, i] * (sum of v over looked-at X, |X| = s, that contain i)
                 - b[s, i] * (sum of v over looked-at X, |X| = s, that do not),

with a and b one over counts (Price & Damen 2020, Eq. 4 to 6 and Algorithm 1). Plans of the adjusted estimator are in
`adjusted_plan`, those of logits in `logit_plan`.
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from threading import Lock

import torch
from torch import Tensor

from esv_ray.core.adjusted.plan import AdjustedPlan, build_adjusted
from esv_ray.core.estimator import Estimator, Recipe, recipe_for
from esv_ray.core.keyed import derive_key
from esv_ray.core.lattices.lattice import Lattice, full_lattice, membership
from esv_ray.core.lattices.sampling import sampled_lattice
from esv_ray.core.logit.plan import LogitPlan, build_logit

_CACHE_BYTES = 512 * 2**20
_MEMBERSHIP_BYTES = 32 * 2**20  # a plan keeps its membership matrices up to this size, else makes them by chunks


@dataclass(frozen=True)
class Weights:
    """Coefficients of the sums over a lattice.

    Attributes:
        within: (n + 1, n), ``within[s, i]`` of the sum of values of length s with element i.
        without: (n + 1, n), ``without[s, i]`` of the sum without element i; row 0 is the empty sequence.
        constant: (n + 1, n), what a value that is the same for all subsequences of length s adds: a pair of means
            cancels it, so it is zero but for the full and the empty sequence and for scales that are left out.
    """

    within: Tensor
    without: Tensor
    constant: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Weights:
        """The same coefficients on a device in a dtype."""
        return Weights(*(part.to(device, dtype) for part in (self.within, self.without, self.constant)))


@dataclass(frozen=True)
class Plan:
    """Everything of an attribution that does not depend on a video.

    Attributes:
        n: number of elements.
        exact: whether every subsequence is looked at.
        lattices: one an iteration; a single full one where exact.
        pooled: operator over the sums pooled over iterations.
        single: operator of each iteration alone, for the spread between them; empty for one iteration.
        memberships: per iteration and scale the (n + 1, N_s) matrices, as uint8: a fourth of the memory, so that the
            plans of all lengths of a table stay; or None: made chunk by chunk.
    """

    n: int
    exact: bool
    lattices: tuple[Lattice, ...]
    pooled: Weights
    single: tuple[Weights, ...]
    memberships: tuple[tuple[Tensor, ...], ...] | None

    def evaluations(self, n_max: int | None) -> int:
        """Head evaluations that a video costs, for a model whose longest head is n_max (None: any length)."""
        return sum(len(scale) for lattice in self.lattices for scale in lattice.scales[:n_max])

    def rows(self, n_max: int) -> list[int]:
        """Subsequences of each scale and iteration whose heads are evaluated."""
        return [len(scale) for lattice in self.lattices for scale in lattice.scales[:n_max]]

    def largest(self) -> int:
        """Subsequences of its largest scale."""
        return max(len(scale) for lattice in self.lattices for scale in lattice.scales)

    def nbytes(self) -> int:
        """Bytes held by its tensors."""
        total = sum(lattice.nbytes() for lattice in self.lattices)
        return total + sum(part.nbytes for per_scale in self.memberships or () for part in per_scale)

    def membership(self, iteration: int, s: int, start: int, stop: int) -> Tensor:
        """(n + 1, stop - start) membership of some subsequences of length s; the last row is ones."""
        dtype = self.pooled.within.dtype
        if self.memberships is not None:
            return self.memberships[iteration][s - 1][:, start:stop].to(dtype)
        return membership(self.lattices[iteration].scales[s - 1].masks[start:stop], self.n, dtype)


Operators = AdjustedPlan | LogitPlan  # plans that are operators through and through
Blueprint = tuple[Lattice, ...] | Operators
Build = Callable[[Recipe], Blueprint]


def blueprint(recipe: Recipe) -> Blueprint:
    """What of a plan takes time: a full lattice, one an iteration for Algorithm 1, or all of the others."""
    n_max = recipe.heads if recipe.recursion else None
    if recipe.closed:
        m, iterations, seed = recipe.sampling or (0, 0, 0)
        return build_logit(recipe.n, rows=m * iterations or None, seed=seed, n_max=n_max)
    if recipe.sampling is None:
        parents = recipe.recursion and recipe.stored
        heads = recipe.heads if recipe.stored else 0
        return (full_lattice(recipe.n, scales_with_elements=heads, parents=parents),)
    m, iterations, seed = recipe.sampling
    if recipe.kind == "adjusted":
        return build_adjusted(recipe.n, rows=m * iterations, seed=seed, n_max=n_max)
    return tuple(
        sampled_lattice(
            recipe.n,
            m=m,
            key=derive_key(seed, "lattice", recipe.n, iteration),
            scales_with_elements=recipe.heads,
            parents=recipe.recursion,
        )
        for iteration in range(iterations)
    )


def plan_exact(n: int, *, n_max: int | None, stored: bool = True) -> Plan:
    """The plan of exact ESVs: one full lattice."""
    return _of_lattices(blueprint(recipe_for(Estimator("exact"), n, n_max=n_max, stored=stored)), exact=True)


def plan_algorithm1(n: int, *, m: int, iterations: int, seed: int, n_max: int | None) -> Plan:
    """The plan of the paper's Algorithm 1: `iterations` independently sampled lattices, sums and counts pooled."""
    heads = n if n_max is None else min(n, n_max)
    return _of_lattices(
        blueprint(Recipe("algorithm1", n, heads, n_max is not None, True, (m, iterations, seed))), exact=False
    )


def plan_from_lattices(lattices: Sequence[Lattice]) -> Plan:
    """The plan over given lattices of equal n, e.g. recorded ones; sums and counts are pooled over them."""
    if not lattices or len({lattice.n for lattice in lattices}) != 1:
        raise ValueError("a plan needs at least one lattice, all of one n")
    return _plan(tuple(lattices), exact=len(lattices) == 1 and lattices[0].full)


AnyPlan = Plan | Operators

_cache: OrderedDict[tuple[object, ...], AnyPlan] = OrderedDict()
_cache_lock = Lock()


def plan_for(
    estimator: Estimator,
    n: int,
    *,
    n_max: int | None,
    dtype: torch.dtype,
    device: torch.device,
    stored: bool = True,
    build: Build | None = None,
    cache_bytes: int = _CACHE_BYTES,
) -> AnyPlan:
    """The plan of an estimator for n elements, on a device, cached (least recently used first out, by bytes).

    Args:
        estimator: how; a kind of `auto` is resolved by its cost.
        n: elements.
        n_max: the model's longest head, or None.
        dtype: the model's.
        device: the model's.
        stored: whether a full lattice keeps its indices.
        build: makes its blueprint; None: `blueprint`.
        cache_bytes: that plans may hold, this one apart; older ones go first.
    """
    recipe = recipe_for(estimator, n, n_max=n_max, stored=stored)
    key = (recipe, dtype, device)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    made = (build or blueprint)(recipe)
    plan: AnyPlan
    if isinstance(made, Operators):
        plan = made.to(device, dtype)
    else:
        plan = plan_to(_plan(made, exact=recipe.exact), dtype=dtype, device=device)
    with _cache_lock:
        _cache[key] = plan
        while len(_cache) > 1 and sum(kept.nbytes() for kept in _cache.values()) > cache_bytes:
            _cache.popitem(last=False)
    _give_back()
    return plan


def forget_plans() -> None:
    """Give the memory of all cached plans back."""
    with _cache_lock:
        _cache.clear()


def _give_back() -> None:
    """Return freed memory to the system: what a plan keeps lies between what its making needed for a moment, and the C
    library would hold on to 2.6 GB after the plans of 8 to 96 elements.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def plan_to(plan: Plan, *, dtype: torch.dtype, device: torch.device) -> Plan:
    """The same plan in a dtype on a device, with its membership matrices where they are small."""

    lattices = tuple(lattice.to(device, dtype) for lattice in plan.lattices)
    cells = (plan.n + 1) * sum(len(scale) for lattice in lattices for scale in lattice.scales)
    memberships = None
    if cells <= _MEMBERSHIP_BYTES:
        memberships = tuple(
            tuple(membership(scale.masks, plan.n, torch.uint8) for scale in lattice.scales) for lattice in lattices
        )
    single = tuple(weights.to(device, dtype) for weights in plan.single)
    return Plan(plan.n, plan.exact, lattices, plan.pooled.to(device, dtype), single, memberships)


def _of_lattices(made: Blueprint, *, exact: bool) -> Plan:
    assert not isinstance(made, Operators)
    return _plan(made, exact=exact)


def _plan(lattices: tuple[Lattice, ...], *, exact: bool) -> Plan:
    n = lattices[0].n
    if exact:
        sizes = torch.tensor([comb(n, s) for s in range(n + 1)], dtype=torch.float64)[:, None].expand(n + 1, n)
        share = torch.arange(n + 1, dtype=torch.float64)[:, None] / n
        counts = [torch.stack([sizes * share, sizes * (1 - share)])]
    else:
        counts = [_counts(lattice) for lattice in lattices]
    single = tuple(_weights(count) for count in counts) if len(counts) > 1 else ()
    return Plan(n, exact, lattices, _weights(torch.stack(counts).sum(dim=0)), single, None)


def _counts(lattice: Lattice) -> Tensor:
    """(2, n + 1, n): how many subsequences of each length hold, and do not hold, each element."""
    n = lattice.n
    counts = torch.zeros((2, n + 1, n), dtype=torch.float64)
    counts[1, 0] = 1  # the empty sequence holds no element
    for s, scale in enumerate(lattice.scales, start=1):
        counts[0, s] = membership(scale.masks, n, torch.float32)[:n].sum(dim=1, dtype=torch.float64)
        counts[1, s] = len(scale) - counts[0, s]
    return counts


def _weights(counts: Tensor) -> Weights:
    """Coefficients from counts (2, n + 1, n).

    A scale whose "with" or "without" group is empty for an element says nothing about it and is left out of that
    element's mean; counted as zero it would bias the ESV.
    """
    held, missed = counts
    known = (held[1:] > 0) & (missed[:-1] > 0)  # (n, n): scale s = 1..n says something about element i
    share = known.double() / known.sum(dim=0)  # (n, n)
    within, without = torch.zeros_like(held), torch.zeros_like(missed)
    within[1:] = torch.where(known, share / held[1:].clamp(min=1), 0.0)
    without[:-1] = torch.where(known, share / missed[:-1].clamp(min=1), 0.0)
    return Weights(within, without, within * held - without * missed)
