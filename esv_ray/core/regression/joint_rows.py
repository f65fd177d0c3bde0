"""The rows of a joint read-out: values of sampled subsequences, and bin means of single ones (`joint`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from esv_ray.core.regression.interactions import BoolArray, FloatArray
from esv_ray.core.regression.readout import LEAST_MISSING, Node
from esv_ray.core.regression.surrogate import Expectation

ELEMENTS_AT_ONCE = 4096  # whose memberships are multiplied at once: bounds the memory beside the result


@dataclass(frozen=True)
class Rows:
    """All rows, node by node.

    Attributes:
        nodes: the nodes.
        places: rows of each node.
        held: (T, G) elements held of each bin; for single nodes those of an element of the bin.
        coarse: (T, F) coarse features, orders 1 and above.
        noise: (nodes,) variance of a value's noise.
    """

    nodes: list[Node]
    places: list[slice]
    held: FloatArray
    coarse: FloatArray
    noise: FloatArray


def rows_of(nodes: list[Node], expected: Expectation) -> Rows:
    """Return the rows of nodes, for the expectation of the values."""
    features, noise = expected.features, expected.shares.noise
    sizes = features.sizes(2).astype(np.float64)
    counts = [0 if node.single else len(node.member) for node in nodes]
    ends = np.cumsum(counts)
    places, held, coarse = [], [], []
    single_start = int(ends[-1])
    for node, count, end in zip(nodes, counts, ends.tolist(), strict=True):
        if node.single:
            places.append(slice(single_start, single_start + len(sizes)))
            single_start += len(sizes)
            own = np.eye(len(sizes)) if node.k == 1 else sizes - np.eye(len(sizes))
        else:
            places.append(slice(end - count, end))
            own = features.held(node.member)
        held.append(own)
        coarse.append(np.concatenate([_bin_means(own, sizes, node.k), features.higher(own, node.k)], axis=1))
    order = sorted(range(len(nodes)), key=lambda i: places[i].start)
    return Rows(
        nodes,
        places,
        np.concatenate([held[i] for i in order]),
        np.concatenate([coarse[i] for i in order]),
        np.array([noise * max(1 - node.share, LEAST_MISSING) for node in nodes]),
    )


def spread_of(n: int, k: int) -> float:
    """Return the factor by which centered memberships are divided in features of order 1."""
    return float(np.sqrt(k / n * (1 - k / n) * n))


def _bin_means(held: FloatArray, sizes: FloatArray, k: int) -> FloatArray:
    """Return (N, G): the coarse features of order 1, scaled so that each has the prior variance of an element's."""
    n = int(sizes.sum())
    return np.asarray((held / sizes - k / n) * np.sqrt(sizes) / spread_of(n, k))


def overlaps(members: list[BoolArray], n: int) -> FloatArray:
    """Return (T, T): the number of elements that two subsequences share; whole numbers, exact in float32 to 2^24."""
    count = sum(len(member) for member in members)
    total = torch.zeros((count, count), dtype=torch.float32 if n < 2**24 else torch.float64)
    for start in range(0, n, ELEMENTS_AT_ONCE):
        part = np.concatenate([member[:, start : start + ELEMENTS_AT_ONCE] for member in members])
        some = torch.from_numpy(part).to(total.dtype)
        total.addmm_(some, some.t())
    return np.asarray(total.double().numpy())


@dataclass(frozen=True)
class Fine:
    """The fine part, given the single nodes' values.

    Attributes:
        covariance: (nodes, nodes) factor of the overlap of two nodes' subsequences.
        single: (nodes, S) factor of the single nodes' values: in what they predict of the others' values, by
            memberships, and of an element's coefficient; negative for size n - 1.
    """

    covariance: FloatArray
    single: FloatArray


def fine_numbers(rows: Rows, n: int, variance: FloatArray) -> Fine:
    """Condition the fine part on the single nodes.

    Args:
        rows: the rows.
        n: number of elements.
        variance: (nodes, nodes) prior covariance of an element's coefficients.
    """
    spreads = np.array([spread_of(n, node.k) for node in rows.nodes])
    covariance = variance / np.outer(spreads, spreads)
    known = [i for i, node in enumerate(rows.nodes) if node.single]
    signs = np.array([1.0 if rows.nodes[i].k == 1 else -1.0 for i in known])
    across = covariance[:, known] * signs
    seen = across[known] * signs[:, None] + np.diag(rows.noise[known])
    single = np.linalg.solve(seen, across.T).T if known else across
    return Fine(covariance - single @ across.T, single)
