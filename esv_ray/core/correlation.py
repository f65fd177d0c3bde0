"""Correlations of pairs of sequences of ESVs of equal length, all pairs at once.

ESVs are computed in float32, so equal ones differ in their last bits, and a rank correlation of such bits would be a
random number. Values that differ by rounding alone count as equal here (`rounding`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_MANTISSA_BITS = 12

# ESVs are means of differences of F, so they are as exact as the largest F, however small they are. Measured: the ESVs
# of n = 2 to 24 equal elements, which differ by rounding alone (exact, algorithm1 and adjusted; 20 and 174 classes),
# are up to 2.0e-7 apart in probability, where F is at most 1, and 1.6e-6 in logits up to 12: 1.3e-7 of the largest F.
ROUNDING = 2.0**-20
"""Distance, relative to the largest F, at which two ESVs may be equal: 9.5e-7, or 16 steps of float32 at 1."""


def rounding(values: npt.NDArray[np.floating]) -> FloatArray:
    """Return (V,) the distances up to which values of each row count as equal: `ROUNDING` times the largest F.

    F is at most 1 in probability. In logits it is at most the sum of the absolute ESVs more than the logarithm of the
    prior, which is about as large as 1.
    """
    total: FloatArray = np.abs(values).sum(axis=1, dtype=np.float64)
    return ROUNDING * np.maximum(1.0, total)


def ranks(values: npt.NDArray[np.floating]) -> FloatArray:
    """Return (V, n) the ranks of the values in each row, 1 = smallest; equal values have their mean rank.

    From the smallest value on, values count as equal to the first one of their group if they are within `rounding` of
    it. So no group is wider, however dense the values are.
    """
    n = values.shape[1]
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1).astype(np.float64)
    place = np.broadcast_to(np.arange(n), values.shape)
    begins = _begins(ordered, rounding(values))
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    ends = np.ones(values.shape, bool)
    ends[:, :-1] = begins[:, 1:]
    last = np.minimum.accumulate(np.where(ends, place, n)[:, ::-1], axis=1)[:, ::-1]
    result = np.empty(values.shape)
    np.put_along_axis(result, order, (first + last) / 2 + 1, axis=1)
    return result


def cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (V,) the cosines between rows of (V, n) arrays; NaN where one is zero."""
    zero = [np.abs(values).max(axis=1) <= rounding(values) for values in (a, b)]
    return np.where(zero[0] | zero[1], np.nan, _normed(a, b))


def pearson(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (V,) Pearson's correlations of rows of (V, n) arrays; NaN where one is constant."""
    constant = [np.ptp(values, axis=1) <= rounding(values) for values in (a, b)]
    return np.where(constant[0] | constant[1], np.nan, _normed(_centered(a), _centered(b)))


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> FloatArray:
    """Return (V,) Spearman's rank correlations of rows of (V, n) arrays; NaN where one is constant or not finite."""
    unknown = ~(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1))
    with np.errstate(invalid="ignore"):
        ranked = ranks(a), ranks(b)
    constant = [(np.ptp(values, axis=1) == 0) for values in ranked]
    return np.where(unknown | constant[0] | constant[1], np.nan, _normed(_centered(ranked[0]), _centered(ranked[1])))


def _begins(ordered: FloatArray, within: FloatArray) -> npt.NDArray[np.bool_]:
    """Return (V, n) which of the ascending values of each row begin a group of equal ones."""
    begins = np.ones(ordered.shape, bool)
    first = ordered[:, 0].copy()
    for place in range(1, ordered.shape[1]):
        begins[:, place] = ordered[:, place] - first > within
        first = np.where(begins[:, place], ordered[:, place], first)
    return begins


def _centered(values: FloatArray) -> FloatArray:
    centered: FloatArray = values - values.mean(axis=1, keepdims=True)
    return centered


def _normed(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (V,) the sums of products divided by the roots of the sums of squares."""
    products = [(one * other).sum(axis=1) for one, other in ((a, b), (a, a), (b, b))]
    with np.errstate(invalid="ignore", divide="ignore"):
        quotients: FloatArray = products[0] / np.sqrt(products[1] * products[2])
    return quotients.clip(-1.0, 1.0)


def order_keys(values: FloatArray) -> npt.NDArray[np.int32]:
    """Return whole numbers in the same order as the values, equal for those that agree in their first 12 bits.

    There are at most 2 million of them, whatever the number of values: a rank correlation of their ranks needs little
    memory. Values as near as that (0.02 %) count as ties, and those within `ROUNDING` of 0 count as 0.
    """
    values = np.where(np.abs(values) <= ROUNDING, 0.0, values)
    bits = (values.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0: -0.0 equals 0.0
    keys = np.where(bits < 0, np.int32(-(2**31)) - bits, bits)
    return np.asarray(keys >> (23 - _MANTISSA_BITS), np.int32)
