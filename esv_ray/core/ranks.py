"""Rank correlation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]


def ranks(values: npt.NDArray[np.floating]) -> Float64Array:
    """Return the ranks of the values of each row (K, n); equal values share the mean of their ranks."""
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    same = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    return np.asarray(below + (same - 1) / 2, dtype=np.float64)


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Float64Array:
    """Return Spearman's rank correlation of the rows (K, n) of two arrays: (K,); NaN if a row has equal values only."""
    x, y = (ranks(values) - (values.shape[1] - 1) / 2 for values in (a, b))
    size = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    return np.where(size > 0, (x * y).sum(axis=1) / np.where(size > 0, size, 1.0), np.nan)
