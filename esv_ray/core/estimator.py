"""Which estimator of ESVs, and what it comes down to for a number of elements."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, inf
from typing import Literal, get_args

from esv_ray.errors import SpecError

Kind = Literal["auto", "exact", "algorithm1", "adjusted"]
Resolved = Literal["exact", "algorithm1", "adjusted"]
Output = Literal["probability", "logit"]

# Recursion, softmax and operators of one subsequence beside one head evaluation: 0.5 at D = H = 256, C = 174
# (n = 16: heads 58 ms, the rest 50 ms for 65,535 against 39,202 subsequences).
_COST_BESIDE_HEADS = 0.5
# The adjusted estimator's: F from the surrogate's features, softmax, read-out; and the fit, a head evaluation.
_ADJUSTED_BESIDE_HEADS, _ADJUSTED_FIT = 0.8, 0.3

_CLOSED_BESIDE_HEADS = 0.2  # operators of the closed form, likewise

# Fewer subsequences a size tell too little about what they miss: nominal 95 % intervals of the adjusted estimator cover
# 91 % with 16, 75 to 86 % with 8, 6 to 25 % with one.
LEAST_FOR_ERRORS = 16
# Of Algorithm 1, whose spread over two tells little of their mean's error (1.96 of it cover 70 %).
LEAST_ITERATIONS_TO_STOP = 4

_COUNTABLE = 100  # elements; of more there are beyond 10^28 subsequences


@dataclass(frozen=True)
class Estimator:
    """How ESVs are to be computed.

    Attributes:
        kind: `exact`; `algorithm1`, the paper's sampling; `adjusted`, the better one; `auto`: exact where it costs no
            more than sampling, else adjusted.
        m: most subsequences sampled per scale and iteration.
        iterations: of the sampling, pooled: independent repetitions, or for `adjusted` as many times m subsequences.
        seed: of the sampling.
        tolerance: go on with twice the iterations until the mean standard error of the chosen classes is at most this
            share of their mean |ESV| (the paper's relative error), and Algorithm 1 has had four; None: as many as
            `iterations` says.
        max_iterations: at which a video with a tolerance is given up.
        output: what ESVs divide: class probabilities, or the logits F before the softmax. Of logits `exact` and
            `adjusted` look at subsequences up to the longest head only (`logit_plan`).
    """

    kind: Kind = "auto"
    m: int = 1024
    iterations: int = 4
    seed: int = 0
    tolerance: float | None = None
    max_iterations: int = 64
    output: Output = "probability"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise SpecError(f"estimator: expected auto, exact, algorithm1 or adjusted, got {self.kind!r}")
        if self.output not in get_args(Output):
            raise SpecError(f"estimator: expected the output probability or logit, got {self.output!r}")
        if self.m < 1 or self.iterations < 1:
            raise SpecError(
                f"estimator: m and iterations are at least 1, got m = {self.m}, iterations = {self.iterations}"
            )
        if self.tolerance is not None and not 0 < self.tolerance < inf:
            raise SpecError(f"estimator: tolerance is a share of the ESVs above 0, such as 0.05, got {self.tolerance}")
        if self.max_iterations < 1:
            raise SpecError(f"estimator: max_iterations is at least 1, got {self.max_iterations}")
        if self.tolerance is not None and self.max_iterations < self.iterations:
            raise SpecError(
                f"estimator: max_iterations is at least iterations = {self.iterations}, got {self.max_iterations}"
            )


def widest_scale(n: int) -> float:
    """Subsequences of the largest scale of n elements; infinite where counting them takes long."""
    return comb(n, n // 2) if n <= _COUNTABLE else inf


def subsequences_asked(n: int, n_max: int | None) -> list[int]:
    """Subsequences of every size that a head is asked about, s = 1..n_max (1..n without heads)."""
    return [comb(n, s) for s in range(1, (n if n_max is None else min(n, n_max)) + 1)]


def closed_form(estimator: Estimator) -> bool:
    """Whether ESVs come from heads alone, without values of longer subsequences."""
    return estimator.output == "logit" and estimator.kind != "algorithm1"


def complete(estimator: Estimator, n: int, n_max: int | None) -> bool:
    """Whether every subsequence is looked at whatever it costs: exact is asked for, or m leaves none out."""
    if estimator.kind == "exact":
        return True
    if closed_form(estimator):
        if n_max is None and n > _COUNTABLE:
            return False
        return estimator.m * estimator.iterations >= max(subsequences_asked(n, n_max))
    looked_at = estimator.m if estimator.kind == "algorithm1" else estimator.m * estimator.iterations
    return looked_at >= widest_scale(n)


def resolve(estimator: Estimator, n: int, n_max: int | None) -> Resolved:
    """What an estimator comes down to for n elements: `exact` where every subsequence would be looked at anyway."""
    if complete(estimator, n, n_max):
        return "exact"
    if estimator.kind == "algorithm1":
        return "algorithm1"
    looked_at = estimator.m * estimator.iterations
    if closed_form(estimator):
        if estimator.kind == "adjusted" or (n_max is None and n > _COUNTABLE):
            return "adjusted"
        asked = subsequences_asked(n, n_max)
        sampled_rows = sum(min(size, max(n, looked_at)) for size in asked)
        return "exact" if sum(asked) <= (1 + _CLOSED_BESIDE_HEADS) * sampled_rows else "adjusted"
    if estimator.kind == "adjusted" or n > _COUNTABLE:
        return "adjusted"
    sizes = [comb(n, s) for s in range(1, n + 1)]
    # All n singletons are always looked at, whatever m is.
    sampled = [sizes[0], *(min(size, looked_at) for size in sizes[1:])]
    heads = n if n_max is None else n_max
    cost_exact = sum(sizes[:heads]) + _COST_BESIDE_HEADS * sum(sizes)
    fit = 0.0 if n_max is None else _ADJUSTED_FIT
    cost_sampled = (1 + fit) * sum(sampled[:heads]) + _ADJUSTED_BESIDE_HEADS * sum(sampled)
    return "exact" if cost_exact <= cost_sampled else "adjusted"


@dataclass(frozen=True)
class Recipe:
    """All that a plan depends on, beside its dtype and device.

    Attributes:
        kind: of the plan.
        n: elements.
        heads: element positions are kept for the scales up to this one.
        recursion: whether parents are needed.
        stored: whether a full lattice keeps its indices.
        sampling: m, iterations, seed; None: exact.
        closed: whether it is the closed form of logits.
    """

    kind: Resolved
    n: int
    heads: int
    recursion: bool
    stored: bool
    sampling: tuple[int, int, int] | None
    closed: bool = False

    @property
    def exact(self) -> bool:
        """Whether every subsequence is looked at."""
        return self.kind == "exact"


def recipe_for(estimator: Estimator, n: int, *, n_max: int | None, stored: bool = True) -> Recipe:
    """What to build for an estimator."""
    kind = resolve(estimator, n, n_max)
    exact = kind == "exact"
    sampling = None if exact else (estimator.m, estimator.iterations, estimator.seed)
    heads, closed = n if n_max is None else min(n, n_max), closed_form(estimator)
    return Recipe(kind, n, heads, n_max is not None, stored or not exact or closed, sampling, closed)
