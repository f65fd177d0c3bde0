"""What a video of n elements will take, told from the shape alone, before any plan is built."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, expm1, inf, log1p

from esv_ray.core.estimator import Estimator, Resolved, closed_form, longest_scale
from esv_ray.core.regression.design import nodes, subsequences_of
from esv_ray.core.regression.surrogate import of_heads, of_logits, of_values

# Seconds of building a plan, one thread: products of the fits in float64, and the sorting of Algorithm 1. Within a
# factor of two of what was measured for n = 16 to 96, m = 1024, 4 iterations (adjusted 1.2 to 7 s, Algorithm 1 0.1 to
# 1 s, logits 0.1 to 3.8 s).
_PLAN_S, _SIZE_S, _FLOPS_S, _SORTED_S, _SUBSEQUENCE_S = 0.02, 0.02, 15e9, 2.6e-8, 2e-7
_LONGEST_COUNTED = 10_000  # elements; of more, plans are taken to cost what these do


@dataclass(frozen=True)
class PlanCost:
    """What a plan will be.

    Attributes:
        kind: what the estimator comes down to.
        n: elements.
        evaluations: head evaluations that a video costs.
        counted: whether that is the number itself. Algorithm 1 draws from what grew out of its earlier draws, so that
            on lengths beyond n / 2 + 1 their number depends on chance: then it is the expected one.
        largest: subsequences of its largest size.
        terms: of the adjusted estimator's surrogate, else 1.
        plan_s: seconds that building the plan takes, by a factor of two.
    """

    kind: Resolved
    n: int
    evaluations: int
    counted: bool
    largest: int
    terms: int
    plan_s: float


def plan_cost(estimator: Estimator, kind: Resolved, n: int, n_max: int | None) -> PlanCost:
    """What a plan will be.

    Args:
        estimator: how.
        kind: what it comes down to (`Engine.kind`).
        n: elements.
        n_max: the model's longest head, or None.
    """
    heads = longest_scale(n, n_max)
    rows = estimator.m * estimator.iterations
    if closed_form(estimator):
        most = inf if kind == "exact" else max(rows, n)
        sizes = [_whole(min(subsequences_of(n, s), most)) for s in range(1, heads + 1)]
        seconds = _logit_s(n, rows, sizes) if kind != "exact" else _SUBSEQUENCE_S * sum(sizes)
        return PlanCost(kind, n, sum(sizes), True, max(sizes), 1, _PLAN_S + seconds)
    if kind == "exact":
        found = sum(comb(n, s) for s in range(1, heads + 1))
        return PlanCost(kind, n, found, True, comb(n, n // 2), 1, _PLAN_S + _SUBSEQUENCE_S * 2.0 ** min(n, 64))
    if kind == "adjusted":
        return _adjusted(n, rows, heads, n_max)
    scales = _sampled_scales(n, estimator.m)
    found = round(estimator.iterations * sum(scales[:heads]))
    # Up to the middle every set of subsequences grows into one at least as large.
    counted = heads <= (n + 1) // 2 or estimator.m >= max(subsequences_of(n, s) for s in range(1, heads))
    seconds = _PLAN_S + _SORTED_S * n * n * estimator.m * estimator.iterations
    return PlanCost(kind, n, found, counted, round(max(scales)), 1, seconds)


def _adjusted(n: int, rows: int, heads: int, n_max: int | None) -> PlanCost:
    shorter = min(heads, n - 1) if n_max is not None else 0
    looked = sorted({*nodes(n), *range(1, shorter + 1)})
    counts = {k: n if k == 1 else _whole(min(subsequences_of(n, k), rows)) for k in looked}
    found = sum(count for k, count in counts.items() if k <= heads) + (n <= heads)
    few = min(n, _LONGEST_COUNTED)
    terms = sum(of_heads(few, rows).features.counts()[:3])
    work = 0
    for features, sizes in ((of_values(few, rows), looked), (of_heads(few, rows), range(1, shorter + 1))):
        width = sum(features.features.counts())
        work += sum(2 * counts[k] * width**2 + width**3 for k in sizes)
    return PlanCost(
        "adjusted", n, found, True, max([*counts.values(), 1]), terms, _SIZE_S * len(looked) + work / _FLOPS_S
    )


def _logit_s(n: int, rows: int, sizes: list[int]) -> float:
    """Seconds for the fits of lengths that are sampled."""
    few = min(n, _LONGEST_COUNTED)
    width = sum(of_logits(few, rows).features.counts())
    sampled = [size for s, size in enumerate(sizes, start=1) if size < subsequences_of(n, s)]
    return sum(2 * size * width**2 + 2 * width**3 for size in sampled) / _FLOPS_S


def _sampled_scales(n: int, m: int) -> list[float]:
    """Subsequences of every length in one iteration of Algorithm 1, expected where they depend on chance."""
    scales = [float(n)]
    for s in range(2, n + 1):
        before, there = subsequences_of(n, s - 1), subsequences_of(n, s)
        if scales[-1] >= before:
            grown: float = there
        elif there == inf or before == inf:
            grown = scales[-1] * (n - s + 1)
        else:  # one is missed where none of its s parents was drawn
            grown = there * -expm1(s * log1p(-scales[-1] / before))
        # A set of subsequences shorter than n / 2 never has fewer that hold one element more.
        least = scales[-1] if 2 * s <= n + 1 else 0.0
        scales.append(min(float(m), there, max(grown, least)))
    return scales


def _whole(count: float) -> int:
    return 2**62 if count == inf else int(count)
