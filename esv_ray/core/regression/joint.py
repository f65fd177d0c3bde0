"""The read-out of long sequences, from the covariance of the values instead of that of the coefficients.

The same regression as `readout`: order 1 has one coefficient for each element, higher orders some for each pair or
triple of bins, and an autoregression links the sizes. `readout` inverts a matrix for each size, as wide as there are
coefficients: n^3. Here one matrix is inverted, as wide as there are values, and n enters only through the overlaps of
subsequences. For that, coefficients of elements are split in two:

- coarse: the mean over each bin. Coarse features are few, like those of higher orders.
- fine: an element's difference from its bin's mean. The covariance of two subsequences is a number that depends on
  their sizes, times their overlap beyond that of their bins.

The n single elements, and the n subsequences that lack one (`Node.single`), count as one value per bin, their mean.
Their differences from it are known for every element and have the same distribution, so conditioning on them changes
only the numbers of the fine part. So no matrix has n rows and n columns, or n rows and as many columns as there are
subsequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from esv_ray.core.keyed import derive_key
from esv_ray.core.regression.design import subsequences_of
from esv_ray.core.regression.interactions import BINS, MAX_SINGLE_BINS, FloatArray, Interactions
from esv_ray.core.regression.joint_rows import Rows, fine_numbers, overlaps, rows_of, spread_of
from esv_ray.core.regression.readout import CORRELATION, Node
from esv_ray.core.regression.surrogate import Expectation, contrasts_of_inverse, inverse

_MOST_ROWS = 5  # T / n, at most


@dataclass(frozen=True)
class Joint:
    """Operators on all values, centered per size: S single nodes, K nodes of sampled subsequences, T rows.

    Rows are the subsequences of the sampled nodes, ascending, then a mean for each of the G bins of each single node.
    There are J targets: the ESVs, and with estimates the contrasts of each node. With z = `solve` y, target j of
    element i in bin g is

        coarse[j, g] . z + own_coarse[j, g] . y  +  the difference from its bin's mean, at i, of
        sum over K of member_k^T (fine[j, k] z_k + own_fine[j, k] y_k)  +  sum over S of single[j, s] y_s.

    Attributes:
        bins: (n,) int64 bin of each element.
        predict: (K, S): the fine part of the single nodes' values, by these factors and memberships, is subtracted from
            the sampled nodes' values before they are solved.
        solve: (T, T).
        fine, own_fine: (J, K).
        single: (J, S).
        coarse, own_coarse: (J, G, T).
        means: (K + S, T) on z: the mean of each node, minus the mean that the values were centered by; no rows without
            estimates.
        contrasts: for each node (L, N), residual contrasts of sampled nodes; (0, n) of single ones.
        weights: (nodes,): mean over elements of the variance of an ESV per mean square of a node's contrasts.
    """

    bins: npt.NDArray[np.int64]
    predict: FloatArray
    solve: FloatArray
    fine: FloatArray
    own_fine: FloatArray
    single: FloatArray
    coarse: FloatArray
    own_coarse: FloatArray
    means: FloatArray
    contrasts: list[FloatArray]
    weights: FloatArray


def is_joint(n: int, rows: int, sizes: list[int]) -> bool:
    """Return whether a plan of at most `rows` subsequences at each of some sizes below n is read out jointly.

    The plan then takes T^3 operations, and each video T^2 products per class. With one matrix per size, the plan takes
    (n + bins)^3 operations per size, and each video n T products per class. At n = 1,000, up to 150 rows are read out
    jointly.
    """
    return n > MAX_SINGLE_BINS and joint_rows(n, rows, sizes) <= _MOST_ROWS * n


def joint_rows(n: int, rows: int, sizes: list[int]) -> int:
    """Return T or an upper bound of it: the values at all sizes below n; single elements count as one per bin."""
    return sum(BINS if k == 1 else int(min(rows, subsequences_of(n, k))) for k in sizes)


def join(nodes: list[Node], n: int, expected: Expectation, *, seed: int, with_estimates: bool = False) -> Joint:
    """Build the operators; arguments as for `readout.read_out`. Nodes may be single."""
    features, shares = expected.features, expected.shares
    sizes = features.sizes(2).astype(np.float64)
    rows = rows_of(nodes, expected)
    prior = np.concatenate([np.full(len(sizes), shares.orders[0]), shares.variances(features)[1 + n :]])
    across = CORRELATION ** np.abs(np.subtract.outer(np.arange(len(nodes)), np.arange(len(nodes))))
    fine = fine_numbers(rows, n, shares.orders[0] * across)
    order = [i for i, node in enumerate(nodes) if not node.single]
    overlap = overlaps([nodes[i].member for i in order], n)
    first = len(overlap)  # rows of sampled nodes come before those of single ones
    own_contrasts = _contrasts(rows, order, overlap, expected, seed)
    held = rows.held[:first]
    overlap -= (held / sizes) @ held.T  # beyond that of the bins
    inverted = _inverse(rows, overlap, across, fine.covariance, prior, shares.variances(features)[0], sizes)

    targets = np.stack([_node_contrasts(features, node.k) for node in nodes])  # (nodes, G, F)
    weight = np.array([node.weight if node.share < 1 else 0.0 for node in nodes]) / n
    chosen = np.concatenate([weight[None], np.eye(len(nodes)) if with_estimates else np.zeros((0, len(nodes)))])
    sampled = np.array([node.share < 1 for node in nodes])
    chosen[1:] *= sampled  # the others' estimates are their own
    coarse = np.zeros((len(chosen), len(sizes), len(rows.held)))
    for index, place in enumerate(rows.places):
        combined = np.tensordot(chosen * across[index], targets, axes=1)  # (J, G, F)
        coarse[:, :, place] = (combined * prior) @ rows.coarse[place].T
    stretched = n / (n - 1)  # an element's contrast over its coefficient's part of it
    own = np.concatenate([np.where(sampled, 0.0, [node.weight / n for node in nodes])[None], chosen[1:] * 0])
    if with_estimates:
        own[1:] += np.eye(len(nodes)) * ~sampled
    own_fine, single, own_coarse = _own(rows, own, sizes, order)
    fine_targets = stretched * chosen @ fine.covariance  # (J, nodes)
    means = _means(rows, features, across, prior, shares.variances(features)[0]) if with_estimates else coarse[0, :0]
    return Joint(
        bins=features.bins_of(2),
        predict=fine.single[order],
        solve=inverted,
        fine=fine_targets[:, order],
        own_fine=own_fine,
        single=single + stretched * chosen @ fine.single,
        coarse=coarse,
        own_coarse=own_coarse,
        means=means,
        contrasts=own_contrasts,
        weights=_variances(rows, overlap, inverted, weight, targets, prior, across, fine.covariance, coarse[0], sizes),
    )


def _contrasts(rows: Rows, order: list[int], overlap: FloatArray, expected: Expectation, seed: int) -> list[FloatArray]:
    """Return the residual contrasts of every node."""
    features, shares = expected.features, expected.shares
    n, variances = features.n, shares.variances(features)
    first = len(features.sizes(2))
    out = [np.zeros((0, node.rows)) for node in rows.nodes]
    for index in order:
        node, place = rows.nodes[index], rows.places[index]
        if node.share >= 1:
            continue
        single = shares.orders[0] / spread_of(n, node.k) ** 2 * (overlap[place, place] - node.k**2 / n)
        value = rows.coarse[place, first:]
        covariance = single + (value * variances[1 + n :]) @ value.T + variances[0]
        covariance[np.diag_indices(len(value))] += rows.noise[index]
        out[index] = contrasts_of_inverse(inverse(covariance), int(derive_key(seed, "contrasts", n, node.k)))
    return out


def _inverse(
    rows: Rows,
    overlap: FloatArray,
    across: FloatArray,
    fine: FloatArray,
    prior: FloatArray,
    intercept: float,
    sizes: FloatArray,
) -> FloatArray:
    """Return the inverse (T, T) of the covariance of all rows.

    Args:
        rows: the rows.
        overlap: (rows of sampled nodes, the same) overlap beyond that of the bins.
        across: (nodes, nodes) correlation of coefficients.
        fine: (nodes, nodes) `Fine.covariance`.
        prior: (F,) variance of the coarse coefficients.
        intercept: variance of each node's mean.
        sizes: (G,) elements of each bin.
    """
    covariance = (rows.coarse * prior) @ rows.coarse.T
    for index, place in enumerate(rows.places):
        for other, their in enumerate(rows.places):
            block = covariance[place, their]
            block *= across[index, other]
            if not (rows.nodes[index].single or rows.nodes[other].single):
                block += fine[index, other] * overlap[place, their]
        node = rows.nodes[index]
        own = covariance[place, place]
        own += intercept
        own[np.diag_indices(len(own))] += rows.noise[index] / sizes if node.single else rows.noise[index]
    return inverse(covariance)


def _node_contrasts(features: Interactions, k: int) -> FloatArray:
    """Return (G, F): contrasts of the coarse features at size k, for the elements of each bin."""
    n, sizes = features.n, features.sizes(2)
    single = (np.diag(1 / np.sqrt(sizes)) - np.sqrt(sizes) / n) * (n / (n - 1) / spread_of(n, k))
    return np.concatenate([single, features.bin_contrasts(k)], axis=1)


def _own(rows: Rows, own: FloatArray, sizes: FloatArray, order: list[int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return `own_fine`, the own part of `single`, and `own_coarse`: contrasts of nodes with all their subsequences.

    Args:
        rows: the rows.
        own: (J, nodes) weight of each node's contrasts that are known.
        sizes: (G,) elements of each bin.
        order: the sampled nodes.
    """
    n = int(sizes.sum())
    coarse = np.zeros((len(own), len(sizes), len(rows.held)))
    numbers = np.zeros(own.shape)
    for index, node in enumerate(rows.nodes):
        if node.share < 1:
            continue
        if node.single:
            numbers[:, index] = own[:, index] * (1 if node.k == 1 else -1) * n / (n - 1)
            each = np.eye(len(sizes))
        else:
            numbers[:, index] = own[:, index] * (1 / comb(n - 1, node.k - 1) + 1 / comb(n - 1, node.k))
            each = (rows.held[rows.places[index]] / sizes).T
        coarse[:, :, rows.places[index]] = numbers[:, index, None, None] * each
    known = [i for i, node in enumerate(rows.nodes) if node.single]
    return numbers[:, order], numbers[:, known], coarse


def _means(rows: Rows, features: Interactions, across: FloatArray, prior: FloatArray, intercept: float) -> FloatArray:
    """Return (nodes, T) covariances of the nodes' means with all rows; 0 for nodes whose mean is known."""
    out = np.zeros((len(rows.nodes), len(rows.held)))
    first, groups = 1 + features.n, len(features.sizes(2))
    for index, node in enumerate(rows.nodes):
        if node.share >= 1:
            continue
        for other, place in enumerate(rows.places):
            value = rows.coarse[place, groups:] @ (prior[groups:] * features.means(node.k)[first:])
            out[index, place] = across[index, other] * value
        out[index, rows.places[index]] += intercept
    return out


def _variances(
    rows: Rows,
    overlap: FloatArray,
    inverted: FloatArray,
    weight: FloatArray,
    targets: FloatArray,
    prior: FloatArray,
    across: FloatArray,
    fine: FloatArray,
    coarse: FloatArray,
    sizes: FloatArray,
) -> FloatArray:
    """Return (nodes,): posterior covariance of the ESVs with the part of each node in them, mean over elements.

    Args:
        rows, overlap, inverted, prior, across, fine: as for `_inverse`, and its result.
        weight: (nodes,) weight of each node's contrasts in the ESVs; 0 where they are known.
        targets: (nodes, G, F) `_node_contrasts`.
        coarse: (G, T) covariance of the ESVs' coarse part with all rows.
        sizes: (G,) elements of each bin.
    """
    n, groups = int(sizes.sum()), len(sizes)
    stretched = n / (n - 1)
    sums = np.zeros((len(weight), len(weight)))  # of inverse and overlap, by nodes
    for index, other in np.argwhere(np.outer(_are_sampled(rows), _are_sampled(rows))).tolist():
        place, their = rows.places[index], rows.places[other]
        sums[index, other] = np.vdot(inverted[place, their], overlap[place, their])
    covariance = stretched * fine
    posterior = stretched * covariance * (n - groups) / n - covariance @ sums @ covariance / n
    variance = weight * (posterior @ weight)
    seen = inverted @ coarse.T  # (T, G)
    share = sizes / n
    for index, target in enumerate(targets):
        mixed = np.tensordot(weight * across[index], targets, axes=1)  # (G, F)
        found = np.zeros((len(prior), groups))
        for other, place in enumerate(rows.places):
            found += across[index, other] * (rows.coarse[place].T @ seen[place])
        own = ((target * prior) * (mixed - found.T)).sum(axis=1)
        variance[index] += weight[index] * (own @ share)
    return np.asarray(np.maximum(variance, 0.0))


def _are_sampled(rows: Rows) -> list[bool]:
    return [not node.single for node in rows.nodes]
