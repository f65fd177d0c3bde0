"""Correlations of pairs of sequences of equal length, all pairs at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_MANTISSA_BITS = 12


def ranks(values: npt.NDArray[np.floating]) -> FloatArray:
    """Return (V, n) the ranks of the values in each row, 1 = smallest; equal values have their mean rank."""
    n = values.shape[1]
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    place = np.broadcast_to(np.arange(n), values.shape)
    begins = np.ones(values.shape, bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    ends = np.ones(values.shape, bool)
    ends[:, :-1] = begins[:, 1:]
    last = np.minimum.accumulate(np.where(ends, place, n)[:, ::-1], axis=1)[:, ::-1]
    result = np.empty(values.shape)
    np.put_along_axis(result, order, (first + last) / 2 + 1, axis=1)
    return result


def cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (V,) the cosines between rows of (V, n) arrays; NaN where one is zero."""
    return _normed(a, b)


def pearson(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (V,) Pearson's correlations of rows of (V, n) arrays; NaN where one is constant."""
    centred = [values - values.mean(axis=1, keepdims=True) for values in (a, b)]
    for values, of in zip(centred, (a, b), strict=True):
        values[(of == of[:, :1]).all(axis=1)] = 0.0  # rounding leaves 1e-17 of equal values
    return _normed(*centred)


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> FloatArray:
    """Return (V,) Spearman's rank correlations of rows of (V, n) arrays; NaN where one is constant or not finite."""
    known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    return np.where(known, pearson(ranks(a), ranks(b)), np.nan)


def _normed(a: FloatArray, b: FloatArray) -> FloatArray:
    # Scaled first: squares of values below 1e-160 would be 0.
    scaled = [values / np.maximum(np.abs(values).max(axis=1, keepdims=True), np.finfo(float).tiny) for values in (a, b)]
    products = [(one * other).sum(axis=1) for one, other in ((scaled[0], scaled[1]), *zip(scaled, scaled, strict=True))]
    with np.errstate(invalid="ignore", divide="ignore"):
        quotients: FloatArray = products[0] / np.sqrt(products[1] * products[2])
    return quotients.clip(-1.0, 1.0)


def order_keys(values: FloatArray) -> npt.NDArray[np.int32]:
    """Return whole numbers in the same order as the values, equal for those that agree in their first 12 bits.

    There are at most 2 million of them, whatever the number of values: a rank correlation of their ranks needs little
    memory. Values as near as that (0.02 %) count as ties.
    """
    bits = (values.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0: -0.0 equals 0.0
    keys = np.where(bits < 0, np.int32(-(2**31)) - bits, bits)
    return np.asarray(keys >> (23 - _MANTISSA_BITS), np.int32)
