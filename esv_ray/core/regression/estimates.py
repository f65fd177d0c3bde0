"""Operators to the mean of each size, and to its contrasts: the read-out's own estimates, before the sum over sizes.

The read-out sums contrasts over sizes, which takes n rows per size. To keep sizes apart there are two forms; the one
with fewer products is taken.

- Direct: a row for every estimate that needs several sizes; a size with all its subsequences needs no other.
- Chained: the read-out as a filter and smoother over sizes, with one row for each coefficient. The precision of all
  coefficients is block tridiagonal; with its block Cholesky factor, states x_k = L_k' theta_k follow from
  w_k = H_k v_k - B_k w_(k-1) and, backwards, x_k = w_k - B_(k+1)' x_(k+1). The B are contractions, so that float32 is
  enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from esv_ray.core.regression.interactions import BoolArray, FloatArray, Interactions

if TYPE_CHECKING:
    from esv_ray.core.regression.readout import Node


@dataclass(frozen=True)
class Estimates:
    """Operators to n contrasts and, below them, the mean of each node, which are called its estimates.

    Attributes:
        own: for each node (n + 1, N): its estimates, if all its subsequences are evaluated; else (0, N).
        shared: for each node (R, N). Direct: summed over nodes, the estimates of all other nodes, one after the other.
            Chained: H.
        links: for each node (R, R) B, (0, 0) for the first; no nodes if direct.
        outputs: for each node (n + 1, R) from x to its estimates, or (0, R) if they are its own; no nodes if direct.
    """

    own: list[FloatArray]
    shared: list[FloatArray]
    links: list[FloatArray]
    outputs: list[FloatArray]


@dataclass(frozen=True)
class Posterior:
    """The eliminated form of the read-out's equations (`readout.read_out`).

    Attributes:
        eliminated: for each node (P, P): inverse of its block after those before it are eliminated.
        across: (P,) diagonal of the blocks between neighbors.
        noises: for each node: variance of a value's noise.
    """

    eliminated: list[FloatArray]
    across: FloatArray
    noises: list[float]


def is_chained(sizes: int, columns: int, coefficients: int, subsequences: int) -> bool:
    """Return whether the chained form takes fewer products.

    Args:
        sizes: number of nodes.
        columns: estimates of nodes that are sampled, n + 1 each.
        coefficients: per node.
        subsequences: number of subsequences of all nodes.
    """
    links = 2 * (sizes - 1) * coefficients + columns  # forwards, backwards, and outputs
    return columns > 0 and (subsequences + links) * coefficients < subsequences * columns


def estimates_of(nodes: list[Node], features: Interactions, posterior: Posterior) -> Estimates:
    """Build the operators."""
    columns = (features.n + 1) * sum(node.share < 1 for node in nodes)
    own = [_own(node) if node.share >= 1 else np.zeros((0, len(node.member))) for node in nodes]
    if is_chained(len(nodes), columns, sum(features.counts()), sum(len(node.member) for node in nodes)):
        return _chained(nodes, features, posterior, own)
    return _direct(nodes, features, posterior, own)


def mean_differences(memberships: BoolArray) -> FloatArray:
    """Return (n, N): mean over the subsequences that hold an element, minus the mean over the others."""
    member = memberships.astype(np.float64)
    inside = member / member.sum(axis=0)
    outside = (1 - member) / (1 - member).sum(axis=0)
    return np.asarray((inside - outside).T)


def _own(node: Node) -> FloatArray:
    count = len(node.member)
    return np.concatenate([mean_differences(node.member), np.full((1, count), 1 / count)])


def _targets(features: Interactions, k: int) -> FloatArray:
    """Return (n + 1, P), from coefficients at size k to its estimates."""
    return np.concatenate([features.contrasts(k), features.means(k)[None]])


def _direct(nodes: list[Node], features: Interactions, posterior: Posterior, own: list[FloatArray]) -> Estimates:
    """Solve for all estimates of sampled nodes at once, by block elimination."""
    across, height = posterior.across[:, None], features.n + 1
    columns = height * sum(node.share < 1 for node in nodes)
    targets: list[FloatArray] = []
    place = 0
    for index, node in enumerate(nodes):
        target = np.zeros((len(across), columns))
        if node.share < 1:
            target[:, place : place + height] = _targets(features, node.k).T
            place += height
        if index:
            target -= across * (posterior.eliminated[index - 1] @ targets[-1])
        targets.append(target)
    shared: list[FloatArray] = []
    after = np.zeros((len(across), columns))
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        after = posterior.eliminated[index] @ (targets[index] - across * after)
        shared.append((features.features(node.member, node.k) @ after).T / posterior.noises[index])
    return Estimates(own, shared[::-1], [], [])


def _chained(nodes: list[Node], features: Interactions, posterior: Posterior, own: list[FloatArray]) -> Estimates:
    shared: list[FloatArray] = []
    links: list[FloatArray] = []
    outputs: list[FloatArray] = []
    before: FloatArray | None = None
    for node, eliminated, noise in zip(nodes, posterior.eliminated, posterior.noises, strict=True):
        root = _upper_root(eliminated)
        shared.append(root.T @ features.features(node.member, node.k).T / noise)
        links.append(np.zeros((0, 0)) if before is None else root.T @ (posterior.across[:, None] * before))
        targets = _targets(features, node.k) if node.share < 1 else np.zeros((0, len(root)))
        outputs.append(targets @ root)
        before = root
    return Estimates(own, shared, links, outputs)


def _upper_root(matrix: FloatArray) -> FloatArray:
    """Return the upper triangular R with R R' = matrix: the mean's coefficient, which is large, stays alone in x."""
    return np.ascontiguousarray(np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1])
