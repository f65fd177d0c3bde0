"""Plans: the fixed linear operators that turn values on a lattice into ESVs. Shape only, cached.

A plan depends on (n, estimator, the model's n_max) and on nothing a video brings; it is built once and applied to
every video of that length. For both estimators here the ESV of element i is

    sum over s of  a[s, i] * (sum of v over looked-at X, |X| = s, that contain i)
                 - b[s, i] * (sum of v over looked-at X, |X| = s, that do not),

with a and b one over counts (Price & Damen 2020, Eq. 4 to 6 and Algorithm 1).
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, inf
from threading import Lock
from typing import Literal

import torch
from torch import Tensor

from esv_ray.core.keyed import derive_key
from esv_ray.core.lattice import Lattice, full_lattice, membership
from esv_ray.core.sampling import sampled_lattice
from esv_ray.errors import SpecError

Kind = Literal["auto", "exact", "algorithm1"]

# Recursion, softmax and operators of one subsequence beside one head evaluation: 0.5 at D = H = 256, C = 174
# (n = 16: heads 58 ms, the rest 50 ms for 65,535 against 39,202 subsequences).
_COST_BESIDE_HEADS = 0.5

_COUNTABLE = 100  # elements; of more there are beyond 10^28 subsequences

_CACHE_BYTES = 512 * 2**20
_MEMBERSHIP_BYTES = 32 * 2**20  # a plan keeps its membership matrices up to this size, else makes them by chunks


@dataclass(frozen=True)
class Estimator:
    """How ESVs are to be computed.

    Attributes:
        kind: `exact`, `algorithm1`, or `auto`: exact where it costs no more than sampling, else sampled.
        m: most subsequences sampled per scale.
        iterations: independent repetitions of the sampling, pooled.
        seed: of the sampling.
    """

    kind: Kind = "auto"
    m: int = 1024
    iterations: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "exact", "algorithm1"):
            raise SpecError(f"estimator: expected auto, exact or algorithm1, got {self.kind!r}")
        if self.m < 1 or self.iterations < 1:
            raise SpecError(
                f"estimator: m and iterations are at least 1, got m = {self.m}, iterations = {self.iterations}"
            )


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


def widest_scale(n: int) -> float:
    """Subsequences of the largest scale of n elements; infinite where counting them takes long."""
    return comb(n, n // 2) if n <= _COUNTABLE else inf


def resolve(estimator: Estimator, n: int, n_max: int | None) -> Literal["exact", "algorithm1"]:
    """What an estimator comes down to for n elements: `exact` where every subsequence would be looked at anyway."""
    if estimator.kind == "exact" or estimator.m >= widest_scale(n):
        return "exact"
    if estimator.kind == "algorithm1" or n > _COUNTABLE:
        return "algorithm1"
    sizes = [comb(n, s) for s in range(1, n + 1)]
    # All n singletons are always looked at, whatever m is.
    sampled = [sizes[0], *(min(size, estimator.m) for size in sizes[1:])]
    heads = n if n_max is None else n_max
    cost_exact = sum(sizes[:heads]) + _COST_BESIDE_HEADS * sum(sizes)
    cost_sampled = estimator.iterations * (sum(sampled[:heads]) + _COST_BESIDE_HEADS * sum(sampled))
    return "exact" if cost_exact <= cost_sampled else "algorithm1"


@dataclass(frozen=True)
class Recipe:
    """All that the lattices of a plan depend on.

    Attributes:
        n: elements.
        heads: element positions are kept for the scales up to this one.
        recursion: whether parents are needed.
        stored: whether a full lattice keeps its indices.
        sampling: m, iterations, seed of Algorithm 1; None: exact.
    """

    n: int
    heads: int
    recursion: bool
    stored: bool
    sampling: tuple[int, int, int] | None

    @property
    def exact(self) -> bool:
        """Whether every subsequence is looked at."""
        return self.sampling is None


Build = Callable[[Recipe], tuple[Lattice, ...]]


def recipe_for(estimator: Estimator, n: int, *, n_max: int | None, stored: bool = True) -> Recipe:
    """What to build for an estimator."""
    exact = resolve(estimator, n, n_max) == "exact"
    sampling = None if exact else (estimator.m, estimator.iterations, estimator.seed)
    return Recipe(n, n if n_max is None else min(n, n_max), n_max is not None, stored or not exact, sampling)


def build_lattices(recipe: Recipe) -> tuple[Lattice, ...]:
    """One full lattice where exact; else one an iteration, independently sampled."""
    if recipe.sampling is None:
        parents = recipe.recursion and recipe.stored
        heads = recipe.heads if recipe.stored else 0
        return (full_lattice(recipe.n, scales_with_elements=heads, parents=parents),)
    m, iterations, seed = recipe.sampling
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
    return _plan(build_lattices(recipe_for(Estimator("exact"), n, n_max=n_max, stored=stored)), exact=True)


def plan_algorithm1(n: int, *, m: int, iterations: int, seed: int, n_max: int | None) -> Plan:
    """The plan of the paper's Algorithm 1: `iterations` independently sampled lattices, sums and counts pooled."""
    heads = n if n_max is None else min(n, n_max)
    return _plan(build_lattices(Recipe(n, heads, n_max is not None, True, (m, iterations, seed))), exact=False)


def plan_from_lattices(lattices: Sequence[Lattice]) -> Plan:
    """The plan over given lattices of equal n, e.g. recorded ones; sums and counts are pooled over them."""
    if not lattices or len({lattice.n for lattice in lattices}) != 1:
        raise ValueError("a plan needs at least one lattice, all of one n")
    return _plan(tuple(lattices), exact=len(lattices) == 1 and lattices[0].full)


_cache: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
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
) -> Plan:
    """The plan of an estimator for n elements, on a device, cached (least recently used first out, by bytes).

    Args:
        estimator: how; a kind of `auto` is resolved by its cost.
        n: elements.
        n_max: the model's longest head, or None.
        dtype: the model's.
        device: the model's.
        stored: whether a full lattice keeps its indices.
        build: makes the lattices; None: `build_lattices`.
        cache_bytes: that plans may hold, this one apart; older ones go first.
    """
    recipe = recipe_for(estimator, n, n_max=n_max, stored=stored)
    key = (recipe, dtype, device)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    plan = plan_to(_plan((build or build_lattices)(recipe), exact=recipe.exact), dtype=dtype, device=device)
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
