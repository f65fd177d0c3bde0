"""Cost of a plan with joint operators, from the shape alone: its memory, and the operations to build it."""

from __future__ import annotations

from esv_ray.core.adjusted.build import sizes_of
from esv_ray.core.recipe import longest_scale
from esv_ray.core.regression.interactions import BINS
from esv_ray.core.regression.joint import is_joint, joint_rows
from esv_ray.core.regression.joint_rows import ELEMENTS_AT_ONCE
from esv_ray.core.regression.noise import PROBES
from esv_ray.core.regression.surrogate import CONTRASTS
from esv_ray.core.scales import Scales

_PAIRS = BINS * (BINS + 1) // 2  # of the surrogates, at most
_COARSE = 450  # numbers held of the coarse features of a row while the operators are built
_SQUARES = 6  # matrices (T, T) of float64 held at once while they are built; measured 5
_MEMBERS = 6  # bytes for each element of a subsequence, at most: drawn, kept, and one of each in hand
_COLUMNS = 12  # buffers (n, W) beside those of every estimator: single values, their parts, errors and responses


def reads_jointly(n: int, rows: int, scales: Scales | None) -> bool:
    """Return whether the plan of at most `rows` subsequences per size has joint operators."""
    return is_joint(n, rows, sizes_of(n, scales))


def joint_bytes(n: int, rows: int, scales: Scales | None, *, width: int, itemsize: int, marginals: bool = False) -> int:
    """Return the bytes of the plan, of building it, and of the buffers that grow with n or T.

    Args:
        n: number of elements.
        rows: most subsequences per size.
        scales: scales of the model's heads; None for a model that scores every size itself.
        width: columns of a batch's scores, all videos together.
        itemsize: bytes per number of the model.
        marginals: whether the plan can give marginals, and they are asked for.
    """
    sizes = sizes_of(n, scales)
    total = joint_rows(n, rows, sizes)
    heads = 0 if scales is None else len(scales.heads(n))
    terms = n + 1 + _PAIRS
    kept = min(rows, n)
    positions = 4 * kept * (longest_scale(n, scales) ** 2 if scales is not None else sum(sizes) + n)
    fits = (8 + itemsize) * heads * terms * (kept + 2 * CONTRASTS) + (8 * 8 * kept * terms if heads else 0)
    targets = 1 + (len(sizes) if marginals else 0)
    operators = (8 + itemsize) * 3 * total * BINS * targets + itemsize * total * total
    drawn = (8 + itemsize) * PROBES * CONTRASTS * (heads + 1) * len(sizes) + 8 * PROBES * (n + terms)
    making = 8 * total * (_SQUARES * total + _COARSE) + 5 * total * min(n, ELEMENTS_AT_ONCE)
    values = itemsize * width * (4 * total + (_COLUMNS + 4) * n + CONTRASTS * (heads + len(sizes)) + 8 * PROBES)
    if marginals:
        values += itemsize * width * 3 * len(sizes) * (n + 1)
    return _MEMBERS * total * n + positions + fits + operators + drawn + making + values


def joint_operations(n: int, rows: int, scales: Scales | None) -> float:
    """Return the cost of building the plan, in floating-point operations of float64."""
    total = float(joint_rows(n, rows, sizes_of(n, scales)))
    return total**3 + n * total**2 / 2  # overlaps are products in float32


def joint_marginal_products(n: int, rows: int, scales: Scales | None) -> int:
    """Return the products per video and class that marginals take besides ESVs."""
    sizes = sizes_of(n, scales)
    return len(sizes) * (2 * BINS * joint_rows(n, rows, sizes) + len(sizes) * n + n * n)
