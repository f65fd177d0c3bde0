"""Plans for tests: exact, of Algorithm 1, and over given lattices, e.g. those that another implementation drew."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt

from esv_ray.core.exact.plan import LatticePlan, lattice_plan
from esv_ray.core.keyed import UInt64Array
from esv_ray.core.lattices.lattice import Lattice, Scale
from esv_ray.core.lattices.sampling import _element_keys, _padded, _scale, _single_bits
from esv_ray.core.plan import build_plan
from esv_ray.core.recipe import Recipe, recipe_for
from esv_ray.core.scales import Scales
from esv_ray.estimator import Estimator


def plan_exact(n: int, *, scales: Scales | None, stored: bool = True) -> LatticePlan:
    """The plan of exact ESVs: one full lattice."""
    plan = build_plan(recipe_for(Estimator("exact"), n, scales=scales, stored=stored))
    assert isinstance(plan, LatticePlan)
    return plan


def plan_algorithm1(n: int, *, m: int, iterations: int, seed: int, scales: Scales | None) -> LatticePlan:
    """The plan of the paper's Algorithm 1, even if m covers every subsequence."""
    plan = build_plan(Recipe("algorithm1", n, scales, True, (m, iterations, seed)))
    assert isinstance(plan, LatticePlan)
    return plan


def plan_from_lattices(lattices: Sequence[Lattice]) -> LatticePlan:
    """The plan over given lattices of equal n; sums and counts are pooled over them."""
    return lattice_plan(tuple(lattices), exact=len(lattices) == 1 and lattices[0].full)


def lattice_from_subsequences(n: int, subsequences: Sequence[npt.ArrayLike]) -> Lattice:
    """A lattice of given subsequences: for s = 1..n positions (N_s, s), ascending in each row, rows distinct."""
    assert len(subsequences) == n
    element_keys = _element_keys(n)
    scales: list[Scale] = []
    previous: UInt64Array = np.zeros(0, dtype=np.uint64)
    for s, given in enumerate(subsequences, start=1):
        positions = np.asarray(given, dtype=np.int64)
        masks = np.bitwise_or.reduce(_single_bits(n)[positions], axis=1)  # (N_s, W)
        keys = np.bitwise_xor.reduce(element_keys[positions], axis=1)  # (N_s,)
        rows, counts = None, None
        if s > 1:
            sorter = np.argsort(previous)
            parent_keys = keys[:, None] ^ element_keys[positions]  # (N_s, s) keys of all possible parents
            at = np.searchsorted(previous, parent_keys, sorter=sorter).clip(max=len(previous) - 1)
            nearest = sorter[at]
            row, column = (previous[nearest] == parent_keys).nonzero()
            rows, counts = _padded(row, nearest[row, column], len(keys), missing=len(previous))
            assert counts.all(), f"a subsequence of length {s} has no parent"
        scales.append(_scale(masks, rows, counts, positions))
        previous = keys
    full = all(len(scale) == comb(n, s) for s, scale in enumerate(scales, start=1))
    return Lattice(n, full, tuple(scales))
