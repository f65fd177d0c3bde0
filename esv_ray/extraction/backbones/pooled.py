"""The built-in backbone: mean colors of the cells of a grid, and how much each differs from the frame before.

It has no weights, and its arithmetic is exact until the last division, so the features have the same bits everywhere.
It sees where colors are and that they move, which is enough for demonstrations and for tests of a pipeline.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esv_ray.extraction.backbones.backbone import BackboneInfo, Images
from esv_ray.extraction.backbones.preprocessing import Preprocessing

NAME = "pooled"
GRID = 8
"""Cells of a side."""
_SIDE = 128
_VERSION = "pooled-1"


class PooledPixels:
    """D = 2 * 8 * 8 * 3: means of the cells in 0..1, row by row, then absolute differences of the means."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        """Create the backbone for images of a size, whose sides are multiples of 8.

        Raises:
            ValueError: they are not.
        """
        preprocessing = Preprocessing((_SIDE, _SIDE)).resized(size)
        if any(side % GRID for side in preprocessing.size):
            raise ValueError(f"expected sides that are multiples of {GRID}, got {preprocessing.size}")
        self.info = BackboneInfo(NAME, _VERSION, preprocessing, 2 * GRID * GRID * 3)

    def encode(self, images: Images, before: Images | None) -> npt.NDArray[np.float32]:
        """Return (N, D) features of (N, H, W, 3) consecutive images; as `Backbone.encode`."""
        means = _means(images)  # (N, cells)
        first = means[:1] if before is None else _means(before)
        changes = np.abs(np.diff(means, axis=0, prepend=first))
        return np.concatenate([means, changes], axis=1).astype(np.float32)


def _means(images: Images) -> npt.NDArray[np.float64]:
    count, height, width, _ = images.shape
    cells = images.reshape(count, GRID, height // GRID, GRID, width // GRID, 3)
    sums = cells.sum(axis=(2, 4), dtype=np.int64)  # exact
    means: npt.NDArray[np.float64] = sums.reshape(count, -1) / (255 * (height // GRID) * (width // GRID))
    return means
