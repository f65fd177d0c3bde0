"""Feature tables whose elements are images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def images_of(length: int, shape: Sequence[int], seed: int) -> npt.NDArray[np.uint8]:
    """(length, *shape) random images, each with a color of its own."""
    generator = np.random.default_rng(seed)
    color = generator.integers(0, 200, (length, *(1,) * (len(shape) - 1), 3))
    return (color + generator.integers(0, 56, (length, *shape))).astype(np.uint8)


def image_table(lengths: Sequence[int], shape: Sequence[int] = (16, 16, 3), *, metadata: str | None = None) -> pa.Table:
    """A table of videos v0, v1, ...; metadata: shape that it says, None: the right one."""
    videos = [images_of(length, shape, seed) for seed, length in enumerate(lengths)]
    said = ",".join(map(str, shape)) if metadata is None else metadata
    kind = pa.list_(pa.list_(pa.uint8(), int(np.prod(shape))))
    schema = pa.schema(
        [
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("features", kind, metadata={"shape": said} if said else None),
            pa.field("label", pa.int64()),
        ]
    )
    rows = [
        {"video_id": f"v{index}", "features": [image.ravel() for image in video], "label": index % 3}
        for index, video in enumerate(videos)
    ]
    return pa.Table.from_pylist(rows, schema=schema)
