"""Read-out from values at few subsequences to ESVs: the adjusted estimator's last linear step, as an operator.

The ESV of element i is (v(all) - v(none)) / n + 1/n sum over sizes k = 1 .. n - 1 of the contrast
D_k(i) = E[v(X) | i in X, |X| = k] - E[v(X) | i not in X, |X| = k] (Price & Damen 2020, Eq. 6, with each size's two
means taken together), so efficiency holds for any contrasts, as long as those of a size add up to zero.

Contrasts are linear in v. If all subsequences of a size are evaluated, they are means. Otherwise v is regressed on
interactions (`surrogate`), and the coefficients of neighboring sizes are assumed to be correlated: an autoregression
over sizes, solved by block elimination, in which every size informs the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esv_ray.core.keyed import derive_key
from esv_ray.core.regression.estimates import Estimates, Posterior, estimates_of, mean_differences
from esv_ray.core.regression.interactions import BoolArray, FloatArray
from esv_ray.core.regression.surrogate import Expectation, inverse, residual_contrasts

CORRELATION = 0.9  # correlation of a coefficient between neighboring sizes
LEAST_MISSING = 0.02  # share of a value's noise that remains if all subsequences are evaluated


@dataclass(frozen=True)
class Node:
    """One size at which values are evaluated.

    Attributes:
        k: the size.
        member: (N, n) memberships; (0, n) if it is single.
        share: N / C(n, k).
        weight: weight of its contrasts in the sum over sizes.
        single: its subsequences are all n of size 1, or all of size n - 1: subsequence i is, or lacks, element i. They
            are not stored (`regression.joint`).
    """

    k: int
    member: BoolArray
    share: float
    weight: float
    single: bool = False

    @property
    def rows(self) -> int:
        """N."""
        return self.member.shape[1] if self.single else len(self.member)


@dataclass(frozen=True)
class Readout:
    """Operators on the values (N_k, C) of each node, and weights of their squares in the errors.

    Attributes:
        operators: for each node (n, N_k): summed over nodes, the ESVs minus the equal share of v(all) - v(none).
        contrasts: for each node (L, N_k), `residual_contrasts`; empty if all subsequences are evaluated.
        weights: (n, nodes): variance of an ESV per mean square of a node's contrasts.
        estimates: operators to the contrasts and the mean of each size; None unless requested.
    """

    operators: list[FloatArray]
    contrasts: list[FloatArray]
    weights: FloatArray
    estimates: Estimates | None = None


def read_out(nodes: list[Node], n: int, expected: Expectation, *, seed: int, with_estimates: bool = False) -> Readout:
    """Build the read-out.

    Args:
        nodes: ascending.
        n: number of elements.
        expected: expectation of the values (`surrogate.of_values`).
        seed: seed of the residual contrasts.
        with_estimates: also build the operators to the estimates of each size.
    """
    features, shares = expected.features, expected.shares
    prior = shares.variances(features)
    alike = np.full(len(prior), CORRELATION)
    alike[0] = 0.0  # means of sizes are uncorrelated
    fresh = prior * (1 - alike**2)  # innovation variance at each size
    across = -alike / fresh
    eliminated: list[FloatArray] = []
    targets: list[FloatArray] = []
    noises: list[float] = []
    contrasts: list[FloatArray] = []
    for index, node in enumerate(nodes):
        noise = shares.noise * max(1 - node.share, LEAST_MISSING)
        value = features.features(node.member, node.k)
        own = value.T @ value / noise
        key = int(derive_key(seed, "contrasts", n, node.k))
        if node.share < 1:
            # With all orders: with pairs alone, errors of confident models are up to 2.6 times as large as estimated.
            contrasts.append(residual_contrasts(value, inverse(own + np.diag(1 / prior)), noise, key))
        else:
            contrasts.append(np.zeros((0, len(value))))
        own[np.diag_indices(len(prior))] += (1 / fresh if index else 1 / prior) + (
            alike**2 / fresh if index + 1 < len(nodes) else 0.0
        )
        target = np.zeros((len(prior), n)) if node.share >= 1 else node.weight * features.contrasts(node.k).T
        if index:
            own -= across[:, None] * eliminated[-1] * across
            target = target - across[:, None] * (eliminated[-1] @ targets[-1])
        eliminated.append(inverse(own))
        targets.append(target)
        noises.append(noise)
    operators: list[FloatArray] = []
    after = np.zeros((len(prior), n))
    variance = np.zeros((n, len(nodes)))
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        after = eliminated[index] @ (targets[index] - across[:, None] * after)
        # Computed again: those of all nodes would fill hundreds of megabytes.
        operator = (features.features(node.member, node.k) @ after).T / noises[index]  # (n, N_k)
        if node.share < 1:
            target = node.weight * features.contrasts(node.k)
            variance[:, index] = np.maximum((target * after.T).sum(axis=1), 0.0)
        else:
            operator = operator + node.weight * mean_differences(node.member)
        operators.append(operator / n)
    estimates = estimates_of(nodes, features, Posterior(eliminated, across, noises)) if with_estimates else None
    return Readout(operators[::-1], contrasts, variance / n**2, estimates)
