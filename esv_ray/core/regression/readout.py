"""From values at few subsequences to ESVs: the adjusted estimator's last linear step, as an operator of the plan.

The ESV of element i is (v(all) - v(none)) / n + 1/n sum over sizes k = 1 .. n - 1 of the contrast
D_k(i) = E[v(X) | i in X, |X| = k] - E[v(X) | i not in X, |X| = k] (Price & Damen 2020, Eq. 6, with each size's two
means taken together), so efficiency holds whatever the contrasts are, as long as those of a size add up to zero.

Contrasts are linear in v. Where all subsequences of a size are there, they are means. Elsewhere v is regressed on
interactions (`surrogate`), and the coefficients of neighbouring sizes are taken to be alike: an autoregression over
sizes, solved by block elimination, in which all sizes help each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esv_ray.core.keyed import derive_key
from esv_ray.core.regression.interactions import FloatArray
from esv_ray.core.regression.surrogate import Expectation, inverse, residual_contrasts

_ALIKE = 0.9  # correlation of a coefficient between neighbouring sizes


def _contrasts_of(values: FloatArray, prior: FloatArray, noise: float, key: int) -> FloatArray:
    covariance = inverse(values.T @ values / noise + np.diag(1 / prior))
    return residual_contrasts(values, covariance, noise, key)


@dataclass(frozen=True)
class Node:
    """One size at which values are looked at.

    Attributes:
        k: the size.
        member: (N, n) memberships.
        share: N / C(n, k).
        weight: of its contrasts in the sum over sizes.
    """

    k: int
    member: FloatArray
    share: float
    weight: float


@dataclass(frozen=True)
class Readout:
    """Operators on the values (N_k, C) of each node, and what their squares weigh in the errors.

    Attributes:
        operators: for each node (n, N_k): summed over nodes, the ESVs less the equal share of v(all) - v(none).
        contrasts: for each node (L, N_k), `residual_contrasts`; empty where all subsequences are there.
        weights: (n, nodes): variance of an ESV for a mean square of one of a node's contrasts.
    """

    operators: list[FloatArray]
    contrasts: list[FloatArray]
    weights: FloatArray


def read_out(nodes: list[Node], n: int, expected: Expectation, *, seed: int) -> Readout:
    """Build it.

    Args:
        nodes: ascending.
        n: elements.
        expected: of the values (`surrogate.of_values`).
        seed: of the residual contrasts.
    """
    features, shares = expected.features, expected.shares
    prior = shares.variances(features)
    alike = np.full(len(prior), _ALIKE)
    alike[0] = 0.0  # means of sizes have nothing in common
    fresh = prior * (1 - alike**2)  # variance of what is new at each size
    across = -alike / fresh
    # What is left is estimated with pairs at most: triples count as noise there, and the matrices stay small.
    few, rest = sum(features.counts()[:3]), sum(shares.orders[2:])
    eliminated: list[FloatArray] = []
    asked: list[FloatArray] = []
    noises: list[float] = []
    contrasts: list[FloatArray] = []
    for index, node in enumerate(nodes):
        noise = shares.noise * max(1 - node.share, 0.02)
        value = features.features(node.member, node.k)
        own = value.T @ value / noise
        key = int(derive_key(seed, "contrasts", n, node.k))
        if node.share < 1:
            contrasts.append(_contrasts_of(value[:, :few], prior[:few], rest + noise, key))
        else:
            contrasts.append(np.zeros((0, len(value))))
        own[np.diag_indices(len(prior))] += (1 / fresh if index else 1 / prior) + (
            alike**2 / fresh if index + 1 < len(nodes) else 0.0
        )
        wish = np.zeros((len(prior), n)) if node.share >= 1 else node.weight * features.contrasts(node.k).T
        if index:
            own -= across[:, None] * eliminated[-1] * across
            wish = wish - across[:, None] * (eliminated[-1] @ asked[-1])
        eliminated.append(inverse(own))
        asked.append(wish)
        noises.append(noise)
    operators: list[FloatArray] = []
    after = np.zeros((len(prior), n))
    variance = np.zeros((n, len(nodes)))
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        after = eliminated[index] @ (asked[index] - across[:, None] * after)
        # Made once more: those of all nodes would fill hundreds of megabytes.
        operator = (features.features(node.member, node.k) @ after).T / noises[index]  # (n, N_k)
        if node.share < 1:
            wish = node.weight * features.contrasts(node.k)
            variance[:, index] = np.maximum((wish * after.T).sum(axis=1), 0.0)
        else:
            inside = node.member / node.member.sum(axis=0)
            outside = (1 - node.member) / (1 - node.member).sum(axis=0)
            operator = operator + node.weight * (inside - outside).T
        operators.append(operator / n)
    return Readout(operators[::-1], contrasts, variance / n**2)
