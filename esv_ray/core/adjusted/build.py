"""Build the plan of the adjusted estimator: draws, surrogates of heads, and the read-out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.adjusted.joint import JointOperators
from esv_ray.core.adjusted.marginals import mixes, size_operators
from esv_ray.core.adjusted.plan import AdjustedPlan, Size
from esv_ray.core.keyed import Int64Array
from esv_ray.core.recipe import longest_scale
from esv_ray.core.regression.design import draw, nodes, quadrature, subsequences_of
from esv_ray.core.regression.estimates import Estimates
from esv_ray.core.regression.interactions import BoolArray, FloatArray, Interactions
from esv_ray.core.regression.joint import is_joint, join
from esv_ray.core.regression.noise import SUMS, HeadNoise, change_weight, noise_of, probes
from esv_ray.core.regression.readout import Node, read_out
from esv_ray.core.regression.surrogate import Expectation, Fit, fit_head, of_heads, of_values
from esv_ray.core.scales import Scales
from esv_ray.core.threads import one_thread

# Share of a head's residual that is carried over to each shorter head, because their residuals are correlated. Error
# with 0, 0.15, 0.25 and 0.3 on the demo's model (n = 16), 256 rows 0.28, 0.265, 0.260, 0.259 %, 1,024 rows 0.060,
# 0.057, 0.055, 0.056 %; on one of the paper's dimensions 1.62, 1.56, 1.55, 1.55 and 0.50, 0.43, 0.44, 0.46 %, with
# 4,096 rows 0.33, 0.21, 0.14, 0.13 %; of random heads, which are uncorrelated, 2 to 7 % more than without.
_BORROWED = 0.25


def build_adjusted(
    n: int, *, rows: int, seed: int, scales: Scales | None, marginals: bool = False, joint: bool | None = None
) -> AdjustedPlan:
    """Build the plan.

    Args:
        n: number of elements.
        rows: most subsequences per size (m times iterations, pooled into one design; n singletons always).
        seed: seed of the draws.
        scales: scales of the model's heads; None for a model that scores every size itself.
        marginals: whether it can give marginals; all else is the same with and without.
        joint: whether sizes are read out together (n > 24); None: if that is faster (`is_joint`).
    """
    together = is_joint(n, rows, sizes_of(n, scales)) if joint is None else joint
    with one_thread():
        return _build(n, rows, seed, scales, marginals, together)


def _build(n: int, rows: int, seed: int, scales: Scales | None, marginals: bool, joint: bool) -> AdjustedPlan:
    looked = sizes_of(n, scales)
    smooth_from = 1 if scales is None else min(longest_scale(n, scales), max(n - 1, 1))
    chosen = _nodes(n, rows, seed, scales, looked, smooth_from, joint=joint)
    readouts = _read_outs(chosen, n, rows, seed, joint=joint, marginals=marginals)
    expected = of_heads(n, rows)
    fits = [_fit(node, scales, expected, seed) for node in chosen]
    sizes = [
        _size(n, node, fit, scales, expected, readout, size_operators(readouts.estimates, index))
        for index, (node, fit, readout) in enumerate(zip(chosen, fits, readouts.readouts, strict=True))
    ]
    sizes.append(_full_size(n, scales, expected.features))
    sizes, changes = _with_noise(sizes, chosen, fits, expected.features, scales, seed)
    mix, ends = mixes(n, looked, smooth_from) if marginals else (None, None)
    return AdjustedPlan(
        n,
        tuple(sizes),
        torch.tensor(expected.features.bins, dtype=torch.int64),
        torch.from_numpy(_pairs(expected.features)),
        _tensor(np.concatenate([readouts.weights, np.tile(changes, (len(readouts.weights), 1))], axis=1)),
        mixes=mix,
        ends=ends,
        joint=readouts.joint,
    )


def _nodes(
    n: int, rows: int, seed: int, scales: Scales | None, looked: list[int], smooth_from: int, *, joint: bool
) -> list[Node]:
    """Draw the subsequences of all sizes but n."""
    heads = longest_scale(n, scales)
    quadratures = quadrature(n, looked, smooth_from=smooth_from).tolist() if looked else []
    members: dict[int, BoolArray] = {}
    out = []
    for k, weight in zip(looked, quadratures, strict=True):
        if joint and (k == 1 or (k == n - 1 and k > heads and 1 in looked)):
            out.append(Node(k, np.zeros((0, n), dtype=np.bool_), 1.0, weight, single=True))
            continue
        if k > heads and n - k in members:
            members[k] = ~members[n - k]  # antithetic partners
        else:
            members[k] = draw(n, k, rows if k > 1 else n, seed)
        out.append(Node(k, members[k], len(members[k]) / subsequences_of(n, k), weight))
    return out


@dataclass(frozen=True)
class _ReadOuts:
    """The read-out of all sizes but n.

    Attributes:
        readouts: `Size.readout` of each.
        weights: `AdjustedPlan.weights`.
        estimates: operators of marginals, if sizes are read out one by one.
        joint: operators of all sizes, if they are read out together.
    """

    readouts: list[FloatArray]
    weights: FloatArray
    estimates: Estimates | None = None
    joint: JointOperators | None = None


def _read_outs(chosen: list[Node], n: int, rows: int, seed: int, *, joint: bool, marginals: bool) -> _ReadOuts:
    if not chosen:
        return _ReadOuts([], np.zeros((n, 0)))
    expected = of_values(n, rows)
    if joint:
        found = join(chosen, n, expected, seed=seed, with_estimates=marginals)
        weights = _repeated(found.weights[None], found.contrasts)
        return _ReadOuts(found.contrasts, weights, joint=JointOperators.of(found))
    each = read_out(chosen, n, expected, seed=seed, with_estimates=marginals)
    readouts = [np.concatenate(parts) for parts in zip(each.operators, each.contrasts, strict=True)]
    return _ReadOuts(readouts, _repeated(each.weights, each.contrasts), estimates=each.estimates)


def _repeated(weights: FloatArray, contrasts: list[FloatArray]) -> FloatArray:
    """Return the weight of each contrast, (E, rows), from those of nodes, (E, nodes)."""
    counts = np.array([len(part) for part in contrasts])
    return np.asarray(np.repeat(weights / np.maximum(counts, 1), counts, axis=1))


def _fit(node: Node, scales: Scales | None, expected: Expectation, seed: int) -> Fit | None:
    """Fit the surrogate of a size's head; None if it needs none."""
    if scales is None or node.single or not scales.has_head(node.k):
        return None
    return fit_head(node.member, node.k, node.share, expected, seed=seed)


def _with_noise(
    sizes: list[Size],
    chosen: list[Node],
    fits: list[Fit | None],
    features: Interactions,
    scales: Scales | None,
    seed: int,
) -> tuple[list[Size], FloatArray]:
    """Add the errors of F to all sizes, and return the weights (rows,) of the changes of v."""
    if scales is None:
        return sizes, np.zeros(0)
    n, heads, weights = features.n, list[HeadNoise](), list[float]()
    out = []
    for size, node, fit in zip(sizes, [*chosen, None], [*fits, None], strict=True):
        if fit is not None and len(fit.contrasts):
            heads.append(HeadNoise(size.k, fit))
        member = np.ones((SUMS, n), dtype=np.bool_) if node is None else _probed(node, n)
        divisor = scales.divisor(size.k)
        noise = noise_of(member, size.k, heads, features, borrowed=size.borrowed, divisor=divisor, seed=seed)
        if noise is not None:
            size = replace(size, noise=_tensor(noise.scores), signs=_tensor(noise.signs))
            weight = change_weight(n, size.k, size.count, 1.0 if node is None else node.weight)
            weights += [weight / SUMS] * SUMS
        out.append(size)
    return out, np.array(weights)


def _probed(node: Node, n: int) -> BoolArray:
    """Return the memberships (R, n) of the subsequences at which errors of F are drawn."""
    at = probes(node.rows)
    if not node.single:
        return node.member[at]
    return np.asarray((at[:, None] == np.arange(n)) == (node.k == 1))


def _size(
    n: int,
    node: Node,
    fit: Fit | None,
    scales: Scales | None,
    expected: Expectation,
    readout: FloatArray,
    operators: dict[str, Tensor],
) -> Size:
    has_head = scales is None or scales.has_head(node.k)
    divisor = 1.0 if scales is None else scales.divisor(node.k)
    pairs = len(_pairs(expected.features))
    share = node.weight / n / divisor
    return Size(
        k=node.k,
        count=node.rows,
        member=None if node.single else _with_ones(node.member),
        elements=_positions(node.member) if has_head and not node.single else None,
        fit=None if fit is None else _tensor(np.concatenate([fit.means, fit.contrasts]) * divisor),
        readout=_tensor(readout),
        scales=_scales(n, node.k, pairs),
        errors=None if fit is None or not fit.errors.any() else _tensor(fit.errors),
        single_response=_tensor(np.array([share * n / max(n - 1, 1) / node.k])),
        pair_response=_tensor(expected.features.pair_contrasts(node.k) * share),
        borrowed=_borrowed(scales, node.k) if fit is not None and node.share < 1 else 0.0,
        evaluated=has_head,
        single=node.single,
        share=min(node.share, 1.0),
        **operators,
    )


def _full_size(n: int, scales: Scales | None, features: Interactions) -> Size:
    """Return the size n: the full sequence."""
    has_head = scales is None or scales.has_head(n)
    everything, pairs = np.ones((1, n), dtype=np.bool_), len(_pairs(features))
    return Size(
        k=n,
        count=1,
        member=_with_ones(everything),
        elements=_positions(everything) if has_head else None,
        fit=None,
        readout=torch.zeros((0, 1), dtype=torch.float64),
        scales=_scales(n, n, pairs),
        errors=None,
        single_response=torch.zeros(1, dtype=torch.float64),
        pair_response=torch.zeros((len(features.sizes(2)), pairs), dtype=torch.float64),
        borrowed=0.0,
        evaluated=has_head,
    )


def _pairs(features: Interactions) -> Int64Array:
    """Return the pairs of the surrogate, (P_2, 2)."""
    return features.products(2) if features.order > 1 else np.zeros((0, 2), dtype=np.int64)


def sizes_of(n: int, scales: Scales | None) -> list[int]:
    """Return the evaluated sizes below n, including those of the heads, ascending.

    Subsequences shorter than the shortest head have the value of the empty sequence, and add nothing.
    """
    if scales is None:
        return nodes(n)
    every = {*nodes(n), *range(1, min(longest_scale(n, scales), n - 1) + 1)}
    return sorted(k for k in every if k >= scales.shortest)


def _borrowed(scales: Scales | None, k: int) -> float:
    """Return the share of the residual of head k that is added to F once more, for all shorter heads together."""
    assert scales is not None, "only heads have residuals"
    return _BORROWED * sum(scales.weights[: k - 1]) / scales.weights[k - 1]


def _tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def _with_ones(member: BoolArray) -> Tensor:
    count, n = member.shape
    out = torch.ones((n + 1, count), dtype=torch.uint8)
    out[:n] = torch.from_numpy(np.ascontiguousarray(member.T).view(np.uint8))
    return out


def _positions(member: BoolArray) -> Tensor:
    count = len(member)
    return torch.from_numpy(member.nonzero()[1].reshape(count, -1).astype(np.int32))


def _scales(n: int, k: int, pairs: int) -> Tensor:
    parts = [np.full(n, 1 / k), np.ones(1), np.full(pairs, 2 / max(k * (k - 1), 1))]
    return _tensor(np.concatenate(parts)[:, None])
