"""F of a whole sequence as a linear form in the scores of subsequences, for every estimator. Shape only, no features.

ESVs need F of all subsequences; other methods need F of the sequence X itself, and of X without one element. With an
estimator's own subsequences T,

    F(X) = sum over T of a[T] * f(T),    F(X minus i) = sum over T of a_i[T] * f(T),

where f(T) is what a scorer writes (`games.model`): f^s / `Scales.share` of a multi-scale model. The coefficients are
those that the estimator's plan implies, so F has the same value as in an attribution:

- exact: means over all T (`Scales`), of all lengths that have a head;
- `adjusted`: the surrogates' means, linear in the scores that they are fitted to (`adjusted.plan`);
- `adjusted` in logits: the weights of its means and contrasts (`logit.plan`);
- `algorithm1`: the recursion over sampled parents (`exact.plan`), read backwards; one form for each iteration;
- a model that scores any length: X and X minus i themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esv_ray.core.adjusted.features import surrogate_features
from esv_ray.core.adjusted.plan import AdjustedPlan, Size
from esv_ray.core.exact.plan import LatticePlan
from esv_ray.core.lattices.lattice import Lattice
from esv_ray.core.logit.plan import LogitPlan, LogitScale
from esv_ray.core.plan import BuildPlan, Plan, plan_for
from esv_ray.core.recipe import is_constant, resolve
from esv_ray.core.scales import Scales
from esv_ray.estimator import Estimator


@dataclass(frozen=True, eq=False)
class Term:
    """The subsequences of one length in a form.

    Attributes:
        elements: (N, s) int32 positions, ascending.
        whole: (N,) coefficients of F(X); None: all 0.
        without: (n, N) coefficients of F(X minus i), divided by `factor`; None: all 0.
        factor: factor of `without`, so that a 0/1 matrix may be kept as uint8.
    """

    elements: Tensor
    whole: Tensor | None
    without: Tensor | None = None
    factor: float = 1.0

    def coefficients(self, start: int, stop: int, like: Tensor, *, occluded: bool) -> Tensor:
        """Return the coefficients of some subsequences: (1, R) of F(X), or (1 + n, R) with those of F(X minus i)."""
        whole = like.new_zeros(stop - start) if self.whole is None else self.whole[start:stop].to(like)
        if not occluded:
            return whole[None]
        assert self.without is not None, "asked for only where they are known"
        return torch.cat([whole[None], self.without[:, start:stop].to(like) * self.factor])


@dataclass(frozen=True, eq=False)
class Form:
    """F of the sequences of n elements by one estimator.

    Attributes:
        n: number of elements.
        iterations: the terms of each iteration, whose values are averaged after the softmax; one for every estimator
            but Algorithm 1; none: all subsequences have the value of the empty sequence.
        occluded: whether the terms hold the coefficients of F(X minus i).
        empty_without: whether X minus i has the value of the empty sequence.
        plan: the estimator's plan, whose `relabelling` gives each video its permutation; None: there is none.
    """

    n: int
    iterations: tuple[tuple[Term, ...], ...]
    occluded: bool
    empty_without: bool
    plan: Plan | None

    def evaluations(self, *, occluded: bool) -> int:
        """Return the evaluations of heads, or of the model, for one F(X); `occluded`: and for all F(X minus i)."""
        terms = [term for iteration in self.iterations for term in iteration]
        return sum(len(term.elements) for term in terms if occluded or term.whole is not None)


def form_for(
    estimator: Estimator,
    n: int,
    *,
    scales: Scales | None,
    dtype: torch.dtype,
    device: torch.device,
    build: BuildPlan | None = None,
) -> Form:
    """Return the form of an estimator for n elements.

    Args:
        estimator: the estimator; a kind of `auto` is resolved by its cost.
        n: number of elements.
        scales: scales of the model's heads, or None.
        dtype: the model's.
        device: the model's.
        build: builds plans; None: `core.plan.build_plan`.
    """
    empty_without = n == 1 or is_constant(n - 1, scales)
    if is_constant(n, scales):
        return Form(n, (), True, True, None)
    if scales is None:
        return Form(n, (_direct_terms(n, device),), True, empty_without, None)
    kind = resolve(estimator, n, scales)
    if kind == "exact":
        # The plan of ESVs in logits has the subsequences of the heads alone, not the whole lattice.
        estimator = replace(estimator, output="logit")
    plan = plan_for(replace(estimator, kind=kind), n, scales=scales, dtype=dtype, device=device, build=build)
    if isinstance(plan, LogitPlan):
        return Form(n, (_logit_terms(plan, scales),), True, empty_without, None if plan.exact else plan)
    if isinstance(plan, AdjustedPlan):
        return Form(n, (_adjusted_terms(plan, scales),), True, empty_without, plan)
    assert isinstance(plan, LatticePlan), "constant plans were handled above"
    return Form(n, tuple(_lattice_terms(lattice, scales) for lattice in plan.lattices), False, empty_without, plan)


def _direct_terms(n: int, device: torch.device) -> tuple[Term, ...]:
    """Return the terms of a model that scores every length itself."""
    every = torch.arange(n, dtype=torch.int32, device=device)[None]
    zeros = torch.zeros((n, 1), dtype=torch.uint8, device=device)
    whole = Term(every, torch.ones(1, device=device), zeros)
    if n == 1:
        return (whole,)
    others = every.expand(n, n)[~torch.eye(n, dtype=torch.bool, device=device)].view(n, n - 1)
    return whole, Term(others, None, torch.eye(n, dtype=torch.uint8, device=device))


def _logit_terms(plan: LogitPlan, scales: Scales) -> tuple[Term, ...]:
    """Return the terms of a plan of ESVs in logits; exact ones are those of all exact estimators."""
    return tuple(_logit_term(plan.n, scale, scales) for scale in plan.scales)


def _logit_term(n: int, scale: LogitScale, scales: Scales) -> Term:
    s, count, share = scale.s, len(scale), scales.share(scale.s)
    out = 1 - scale.member[:n]  # (n, N): 1 if element i is not in T
    if scale.operator is None:
        whole = torch.full((count,), share * scale.mean_weight / count, dtype=torch.float64, device=out.device)
        # Of the N = C(n, s) subsequences N (n - s) / n are without i.
        factor = 0.0 if s == n else share * scales.weights[s - 1] / scales.divisor(n - 1) / (count * (n - s) // n)
        return Term(scale.elements, whole, out, factor)
    operator = scale.operator.double() * share
    # mean over T without i = mean - (s / n) * (mean over T with i - mean over T without i)
    without = operator[n] / scale.mean_weight - (s / n) * operator[:n] / scale.weight
    return Term(scale.elements, operator[n], without, scales.weights[s - 1] / scales.divisor(n - 1))


def _adjusted_terms(plan: AdjustedPlan, scales: Scales) -> tuple[Term, ...]:
    """Return the terms of a plan of the adjusted estimator: its surrogates' means, and residuals where they are known.

    X minus i that was not evaluated has the surrogates' value.
    """
    n, full = plan.n, plan.sizes[-1]
    shorter = next((size for size in plan.sizes if size.k == n - 1), None)
    device = plan.bins.device
    every = torch.ones((n + 1, 1), dtype=torch.float64, device=device)
    others = torch.ones((n + 1, n), dtype=torch.float64, device=device)
    others[:n] -= torch.eye(n, dtype=torch.float64, device=device)  # column i: X minus i
    whole = surrogate_features(plan, full, every) * full.scales.double() / scales.divisor(n)  # (P, 1)
    without = torch.zeros((len(whole), n), dtype=torch.float64, device=device)
    if shorter is not None:
        without = surrogate_features(plan, shorter, others) * shorter.scales.double() / scales.divisor(n - 1)  # (P, n)
    terms = []
    for size in plan.sizes:
        if not size.evaluated:
            continue
        elements = size.positions(0, size.count)
        if size is full:
            terms.append(Term(elements, torch.ones(1, device=device), torch.zeros_like(others[:n, :1])))
            continue
        if size.single:
            share = scales.divisor(size.k)
            terms.append(Term(elements, whole[:n, 0] * share, without[:n].t().contiguous() * share))
            continue
        assert size.fit is not None, "other sizes with a head have a surrogate"
        fit = size.fit[: plan.terms].double()  # (P, N)
        left = (without.t() @ fit).contiguous()  # (n, N)
        if size is shorter:
            left += _residuals(size, left)
        terms.append(Term(elements, (whole.t() @ fit)[0], left))
    return tuple(terms)


def _residuals(size: Size, surrogate: Tensor) -> Tensor:
    """Return the coefficients (n, N) of the residuals f - surrogate of all X minus i that were evaluated.

    Args:
        size: the plan's size n - 1.
        surrogate: (n, N) coefficients of the surrogates' value of X minus i.
    """
    n = len(surrogate)
    held = 1 - size.memberships(0, size.count, n, surrogate.dtype)[:n]  # (n, N): 1 where T is X minus i
    known = held.sum(dim=1, keepdim=True)
    return (1 + size.borrowed) * (held - known * surrogate)


def _lattice_terms(lattice: Lattice, scales: Scales) -> tuple[Term, ...]:
    """Return the terms of one iteration of Algorithm 1: its recursion from X down to the shortest head."""
    n = lattice.n
    weights = torch.ones(1, dtype=torch.float64, device=lattice.scales[0].masks.device)  # of F at scale s, from s = n
    terms = []
    for s in range(n, scales.shortest - 1, -1):
        scale = lattice.scales[s - 1]
        if scales.has_head(s):
            terms.append(Term(lattice.elements(s, 0, len(scale)), weights))
        if s == scales.shortest:
            break
        assert scale.parents is not None, "sampled lattices hold their parents"
        assert scale.parent_share is not None
        share = weights[:, None] * scale.parent_share.double() * (scales.parents(s) if scales.has_head(s) else 1.0)
        below = weights.new_zeros(len(lattice.scales[s - 2]) + 1)  # the last one stands for parents not sampled
        parents = scale.parents.long()
        weights = below.index_add_(0, parents.flatten(), share.expand(parents.shape).flatten())[:-1]
    return tuple(terms)
