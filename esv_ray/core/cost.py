"""Cost of a plan, estimated from the shape alone, before it is built."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, expm1, inf, log1p

from esv_ray.core.adjusted.build import sizes_of
from esv_ray.core.adjusted.marginals import operator_sizes
from esv_ray.core.adjusted.needs import joint_marginal_products, joint_operations, reads_jointly
from esv_ray.core.recipe import closed_form, evaluated_scales, is_constant, longest_scale
from esv_ray.core.regression.design import subsequences_of
from esv_ray.core.regression.surrogate import of_heads, of_logits, of_values
from esv_ray.core.scales import Scales
from esv_ray.estimator import Estimator, Resolved

# Seconds to build a plan on one thread: products of the fits in float64, and the sorting of Algorithm 1. Within a
# factor of two of measurements for n = 16 to 96, m = 1024, 4 iterations (adjusted 1.2 to 7 s, Algorithm 1 0.1 to
# 1 s, logits 0.1 to 3.8 s).
_PLAN_S, _SIZE_S, _FLOPS_S, _SORTED_S, _SUBSEQUENCE_S = 0.02, 0.02, 15e9, 2.6e-8, 2e-7
_MAX_COUNTED = 10_000  # elements; plans of longer sequences are assumed to cost the same


@dataclass(frozen=True)
class PlanCost:
    """Cost of a plan.

    Attributes:
        kind: kind that the estimator resolves to.
        n: number of elements.
        evaluations: head evaluations per video.
        counted: whether `evaluations` is exact. Algorithm 1 extends its earlier draws, so that for scales beyond
            n / 2 + 1 their number is random; then `evaluations` is its expectation.
        largest: subsequences of the largest scale.
        terms: coefficients of the adjusted estimator's surrogate; 1 for other kinds.
        plan_s: seconds to build the plan, within a factor of two.
        marginal_products: products per video and class that the marginals of an adjusted plan take besides its ESVs; 0
            for other kinds, whose sums are available anyway, and if marginals are not requested.
    """

    kind: Resolved
    n: int
    evaluations: int
    counted: bool
    largest: int
    terms: int
    plan_s: float
    marginal_products: int = 0


def plan_cost(
    estimator: Estimator, kind: Resolved, n: int, scales: Scales | None, *, marginals: bool = False
) -> PlanCost:
    """Estimate the cost of a plan.

    Args:
        estimator: the estimator.
        kind: kind that it resolves to (`Engine.kind`).
        n: number of elements.
        scales: scales of the model's heads, or None.
        marginals: whether marginals are requested.
    """
    if is_constant(n, scales):
        return PlanCost(kind, n, 0, True, 1, 1, 0.0)
    heads = evaluated_scales(n, scales)
    rows = estimator.m * estimator.iterations
    if closed_form(estimator, scales):
        most = inf if kind == "exact" else max(rows, n)
        sizes = [_whole(min(subsequences_of(n, s), most)) for s in heads]
        seconds = _logit_s(n, rows, heads, sizes) if kind != "exact" else _SUBSEQUENCE_S * sum(sizes)
        return PlanCost(kind, n, sum(sizes), True, max(sizes), 1, _PLAN_S + seconds)
    if kind == "exact":
        evaluations = sum(comb(n, s) for s in heads)
        return PlanCost(kind, n, evaluations, True, comb(n, n // 2), 1, _PLAN_S + _SUBSEQUENCE_S * 2.0 ** min(n, 64))
    if kind == "adjusted":
        return _adjusted(n, rows, scales, marginals)
    drawn = _sampled_scales(n, estimator.m)
    evaluations = round(estimator.iterations * sum(drawn[s - 1] for s in heads))
    longest = longest_scale(n, scales)
    # Up to the middle scale, every set of subsequences has at least as many extensions.
    counted = longest <= (n + 1) // 2 or estimator.m >= max(subsequences_of(n, s) for s in range(1, longest))
    seconds = _PLAN_S + _SORTED_S * n * n * estimator.m * estimator.iterations
    return PlanCost(kind, n, evaluations, counted, round(max(drawn)), 1, seconds)


def _adjusted(n: int, rows: int, scales: Scales | None, marginals: bool) -> PlanCost:
    """Estimate the cost of an adjusted plan of at most `rows` subsequences per size."""
    looked = sizes_of(n, scales)
    heads = set(evaluated_scales(n, scales))
    fitted = [] if scales is None else scales.heads(n - 1)
    counts = {k: n if k == 1 else _whole(min(subsequences_of(n, k), rows)) for k in looked}
    evaluations = sum(count for k, count in counts.items() if k in heads) + (n in heads)
    few = min(n, _MAX_COUNTED)
    terms = sum(of_heads(few, rows).features.counts()[:3])
    work: float = 0
    products = 0
    if reads_jointly(n, rows, scales):
        work = joint_operations(n, rows, scales)
        products = joint_marginal_products(n, rows, scales) if marginals else 0
    else:
        # Of values twice: the regression over all sizes, and each size's own, for its residuals.
        for features, sizes in ((of_values(few, rows), looked * 2), (of_heads(few, rows), fitted)):
            width = sum(features.features.counts())
            work += sum(2 * counts[k] * width**2 + width**3 for k in sizes)
        if marginals:
            operators = operator_sizes(few, rows, sizes_of(few, scales))
            work, products = work + operators.building, operators.products
    seconds = _SIZE_S * len(looked) + work / _FLOPS_S
    return PlanCost("adjusted", n, evaluations, True, max([*counts.values(), 1]), terms, seconds, products)


def _logit_s(n: int, rows: int, heads: list[int], sizes: list[int]) -> float:
    """Return the seconds for the fits of the scales that are sampled."""
    few = min(n, _MAX_COUNTED)
    width = sum(of_logits(few, rows).features.counts())
    sampled = [size for s, size in zip(heads, sizes, strict=True) if size < subsequences_of(n, s)]
    return sum(2 * size * width**2 + 2 * width**3 for size in sampled) / _FLOPS_S


def _sampled_scales(n: int, m: int) -> list[float]:
    """Return the number of subsequences of every scale in one iteration of Algorithm 1; its expectation if random."""
    scales = [float(n)]
    for s in range(2, n + 1):
        before, total = subsequences_of(n, s - 1), subsequences_of(n, s)
        if scales[-1] >= before:
            grown: float = total
        elif total == inf or before == inf:
            grown = scales[-1] * (n - s + 1)
        else:  # a subsequence is missed if none of its s parents was drawn
            grown = total * -expm1(s * log1p(-scales[-1] / before))
        # A set of subsequences shorter than n / 2 has at least as many one-element extensions.
        least = scales[-1] if 2 * s <= n + 1 else 0.0
        scales.append(min(float(m), total, max(grown, least)))
    return scales


def _whole(count: float) -> int:
    """Return a count as a whole number; infinity as 2^62."""
    return 2**62 if count == inf else int(count)
