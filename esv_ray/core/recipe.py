"""What an estimator evaluates for a number of elements: the kind that it resolves to, and the recipe of its plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb, inf

from esv_ray.core.scales import Scales
from esv_ray.estimator import Estimator, Resolved

# Cost of recursion, softmax and operators of one subsequence, relative to one head evaluation: 0.5 at D = H = 256,
# C = 174 (n = 16: heads 58 ms, the rest 50 ms for 65,535 against 39,202 subsequences).
_COST_BESIDE_HEADS = 0.5
# The same for the adjusted estimator: F from the surrogate's features, softmax, read-out; and the fit, per head
# evaluation.
_ADJUSTED_BESIDE_HEADS, _ADJUSTED_FIT = 0.8, 0.3
_CLOSED_BESIDE_HEADS = 0.2  # the same for the operators of the closed form

# Fewer subsequences per size say too little about the rest: nominal 95 % intervals of the adjusted estimator cover
# 91 % with 16, 75 to 86 % with 8, 6 to 25 % with one.
MIN_ROWS_FOR_ERRORS = 16
# Of Algorithm 1: the spread over two iterations is a poor estimate of their mean's error (1.96 of it cover 70 %).
MIN_ITERATIONS_TO_STOP = 4

_COUNTABLE = 100  # elements; longer sequences have more than 10^28 subsequences


def widest_scale(n: int) -> float:
    """Return the number of subsequences of the largest scale of n elements; infinite if counting them takes long."""
    return comb(n, n // 2) if n <= _COUNTABLE else inf


def longest_scale(n: int, scales: Scales | None) -> int:
    """Return the longest scale that a model may evaluate for n elements; `scales` are its heads', None: any length."""
    return n if scales is None else min(n, scales.n_max)


def evaluated_scales(n: int, scales: Scales | None) -> list[int]:
    """Return the scales that a model evaluates for n elements, ascending."""
    return list(range(1, n + 1)) if scales is None else scales.heads(n)


def subsequence_counts(n: int, scales: Scales | None) -> list[int]:
    """Return the number of subsequences of every scale that the model evaluates (`evaluated_scales`)."""
    return [comb(n, s) for s in evaluated_scales(n, scales)]


def is_constant(n: int, scales: Scales | None) -> bool:
    """Return whether n elements are fewer than every head takes: each subsequence has the value of the empty one."""
    return scales is not None and n < scales.shortest


def closed_form(estimator: Estimator, scales: Scales | None) -> bool:
    """Return whether ESVs are linear in the heads, so that longer subsequences need no values."""
    linear = estimator.output == "logit" or (scales is not None and scales.linear)
    return linear and estimator.kind != "algorithm1"


def complete(estimator: Estimator, n: int, scales: Scales | None) -> bool:
    """Return whether every subsequence is evaluated at any cost: `exact` is requested, or m covers them all."""
    if estimator.kind == "exact" or is_constant(n, scales):
        return True
    if closed_form(estimator, scales):
        if scales is None and n > _COUNTABLE:
            return False
        # All n singletons are always evaluated, whatever m is.
        return max(n, estimator.m * estimator.iterations) >= max(subsequence_counts(n, scales), default=1)
    rows = estimator.m if estimator.kind == "algorithm1" else estimator.m * estimator.iterations
    return rows >= widest_scale(n)


def resolve(estimator: Estimator, n: int, scales: Scales | None) -> Resolved:
    """Return the kind that an estimator resolves to for n elements: `exact` if every subsequence is sampled anyway."""
    if complete(estimator, n, scales):
        return "exact"
    if estimator.kind == "algorithm1":
        return "algorithm1"
    rows = estimator.m * estimator.iterations
    if closed_form(estimator, scales):
        if estimator.kind == "adjusted" or (scales is None and n > _COUNTABLE):
            return "adjusted"
        counts = subsequence_counts(n, scales)
        sampled_rows = sum(min(count, max(n, rows)) for count in counts)
        return "exact" if sum(counts) <= (1 + _CLOSED_BESIDE_HEADS) * sampled_rows else "adjusted"
    if estimator.kind == "adjusted" or n > _COUNTABLE:
        return "adjusted"
    sizes = [comb(n, s) for s in range(1, n + 1)]
    # All n singletons are always evaluated, whatever m is.
    sampled = [sizes[0], *(min(size, rows) for size in sizes[1:])]
    heads = evaluated_scales(n, scales)
    cost_exact = sum(sizes[s - 1] for s in heads) + _COST_BESIDE_HEADS * sum(sizes)
    fit = 0.0 if scales is None else _ADJUSTED_FIT
    cost_sampled = (1 + fit) * sum(sampled[s - 1] for s in heads) + _ADJUSTED_BESIDE_HEADS * sum(sampled)
    return "exact" if cost_exact <= cost_sampled else "adjusted"


@dataclass(frozen=True)
class Recipe:
    """Everything that a plan depends on, apart from its dtype and device.

    Attributes:
        kind: kind of estimator.
        n: number of elements.
        scales: scales of the model's heads; None: the model scores every length itself, and no parents are needed.
        stored: whether a full lattice keeps its indices.
        sampling: m, iterations, seed; None: exact.
        closed: whether ESVs are linear in the heads (`closed_form`).
        marginals: whether the plan holds operators to the marginals of each scale; False if it needs none for them.
    """

    kind: Resolved
    n: int
    scales: Scales | None
    stored: bool
    sampling: tuple[int, int, int] | None
    closed: bool = False
    marginals: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        """Return the name by which plans are cached; without marginals it is the same as before there were any."""
        return f"{self!r} with marginals" if self.marginals else repr(self)

    @property
    def exact(self) -> bool:
        """Whether every subsequence is evaluated."""
        return self.kind == "exact"

    @property
    def constant(self) -> bool:
        """Whether all subsequences have the value of the empty sequence (`is_constant`)."""
        return is_constant(self.n, self.scales)


def recipe_for(
    estimator: Estimator,
    n: int,
    *,
    scales: Scales | None,
    stored: bool = True,
    values: bool = False,
    marginals: bool = False,
) -> Recipe:
    """Return the recipe of an estimator's plan for n elements; with `values`, exact ESVs are computed from all of them.

    Without, ESVs that are linear in the heads take a closed form, which needs no values of long subsequences.

    Args:
        estimator: the estimator.
        n: number of elements.
        scales: scales of the model's heads, or None.
        stored: whether a full lattice keeps its indices.
        values: whether the values of all subsequences are requested.
        marginals: whether marginals are requested.
    """
    kind = resolve(estimator, n, scales)
    exact = kind == "exact"
    sampling = None if exact else (estimator.m, estimator.iterations, estimator.seed)
    closed = closed_form(estimator, scales) and not (values and exact)
    stored = stored or not exact or closed
    return Recipe(kind, n, scales, stored, sampling, closed, marginals and kind == "adjusted")
