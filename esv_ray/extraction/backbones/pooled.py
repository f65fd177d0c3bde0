"""The built-in backbone: how much white and how much of six colors the cells of three grids hold.

It has no weights, and its arithmetic is exact until the last division, so the features have the same bits everywhere.
It sees where colors are and how much there is of each, which is enough for demonstrations and for tests of a pipeline.
A feature depends on its own frame alone: what moves, a model sees from the order of several frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esv_ray.extraction.backbones.backbone import BackboneInfo, Images
from esv_ray.extraction.backbones.preprocessing import Preprocessing

NAME = "pooled"
GRIDS = (4, 2, 1)
"""Cells of a side, of each grid (a spatial pyramid, Lazebnik et al. 2006)."""
COLORS = ("white", "red", "yellow", "green", "cyan", "blue", "magenta")
_SIDE = 128
_VERSION = "pooled-2"


class PooledPixels:
    """D = (16 + 4 + 1) * 7: by grid, by cell row by row, and by color."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        """Create the backbone for images of a size, whose sides are multiples of 4.

        Raises:
            ValueError: they are not.
        """
        preprocessing = Preprocessing((_SIDE, _SIDE)).resized(size)
        if any(side % GRIDS[0] for side in preprocessing.size):
            raise ValueError(f"expected sides that are multiples of {GRIDS[0]}, got {preprocessing.size}")
        self.info = BackboneInfo(NAME, _VERSION, preprocessing, sum(grid**2 for grid in GRIDS) * len(COLORS))

    def encode(self, images: Images) -> npt.NDArray[np.float32]:
        """Return (N, D) features of (N, H, W, 3) images; as `Backbone.encode`.

        A cell has the mean amount of a color, 0..1, times 8 / cells of a side: then a shape that is small in the whole
        frame counts about as much there as in the cell that it fills.
        """
        fine = _sums(amounts(images), GRIDS[0])  # (N, 4, 4, colors)
        pixels = images.shape[1] * images.shape[2]
        levels = []
        for grid in GRIDS:
            sums = _sums(fine, grid).reshape(len(images), -1)
            levels.append(sums * (8 * grid) / (255 * pixels))  # the mean of a cell is sums * grid² / (255 * pixels)
        return np.concatenate(levels, axis=1).astype(np.float32)


def amounts(images: Images) -> npt.NDArray[np.uint8]:
    """Return how much of each of `COLORS` pixels hold, (..., 3) -> (..., 7): parts of which the pixel is the sum.

    White is the part that red, green and blue share; of the rest two share yellow, cyan or magenta; what is left of one
    is red, green or blue. So a gray pixel is white alone, and an orange one is yellow and red.
    """
    red, green, blue = np.moveaxis(images, -1, 0)
    least_rg, least_gb, least_rb = np.minimum(red, green), np.minimum(green, blue), np.minimum(red, blue)
    white = np.minimum(least_rg, blue)
    single = [
        value - np.minimum(value, np.maximum(one, other))
        for value, one, other in ((red, green, blue), (green, red, blue), (blue, red, green))
    ]
    parts = white, single[0], least_rg - white, single[1], least_gb - white, single[2], least_rb - white
    return np.stack(parts, axis=-1)


def _sums(values: npt.NDArray[np.integer], grid: int) -> npt.NDArray[np.int64]:
    """Return the sums over the cells of a grid, (N, H, W, C) -> (N, grid, grid, C)."""
    count, height, width, colors = values.shape
    cells = values.reshape(count, grid, height // grid, grid, width // grid, colors)
    return np.asarray(cells.sum(axis=(2, 4), dtype=np.int64))
