"""Pictures of made-up frames: the features of a frame as gray cells, from 0 (black) to the largest of the video."""

from __future__ import annotations

from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from esv_ray.errors import SpecError

SIDE = 96
"""Pixels of a picture's side."""


def write_pictures(table: Path, folder: Path) -> int:
    """Write FOLDER/VIDEO_ID/NUMBER.png for each frame of a feature table that `made_up` wrote; return their number.

    Raises:
        SpecError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise SpecError("pictures need Pillow: pip install 'esv-ray[figures]'") from None
    written = 0
    for row in pq.read_table(table, columns=["video_id", "features"]).to_pylist():
        frames = np.array(row["features"], np.float32)
        size = isqrt(frames.shape[1] - 1) + 1  # cells of a side
        cells = np.zeros((len(frames), size * size), np.float32)
        cells[:, : frames.shape[1]] = frames / max(1e-9, float(frames.max()))
        place = folder / row["video_id"]
        place.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(np.round(255 * cells).astype(np.uint8).reshape(-1, size, size)):
            image = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            image.save(place / f"{number}.png")
            written += 1
    return written
