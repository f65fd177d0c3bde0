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
    """Return Spearman's rank correlation (K,) of rows (K, n) of two arrays; NaN if all are equal, or one not finite."""
    x, y = (ranks(values) - (values.shape[1] - 1) / 2 for values in (a, b))
    size = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    known = (size > 0) & np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    return np.where(known, (x * y).sum(axis=1) / np.where(size > 0, size, 1.0), np.nan)
