"""Random results in the shape of computed ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from esv_ray.output.computed import ORDERS, Computed, Discarded, Replaced, Varied, replaced_places
from esv_ray.output.layout import VARIATIONS
from esv_ray.output.schemas import SCHEMAS

C = 4
REPLACED = [("esv", "descending"), ("esv", "ascending"), ("esv", "random")]


def varied(folder: str, videos: int, rng: np.random.Generator) -> Varied:
    """Random rows of a table of variations: three of each video."""
    names = [name for name in SCHEMAS[folder].names if name not in ("video_id", "n_elements")]
    video = np.repeat(np.arange(videos), 3)
    keys = {
        name: np.tile(np.arange(3), videos) for name in names if pa.types.is_integer(SCHEMAS[folder].field(name).type)
    }
    values = {name: rng.random(len(video)).astype(np.float32) for name in names if name not in keys}
    return Varied(video, keys, values)


def computed(n: int, rows: Sequence[int], classes: Sequence[Sequence[int]], *, seed: int, stderr: bool) -> Computed:
    """Random numbers in the shape of a result: of each row the kept classes."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(b, c) for b, kept in enumerate(classes) for c in kept], np.int64).reshape(-1, 2)
    return Computed(
        rows=np.array(rows, np.int64),
        scores=rng.random((len(rows), C)).astype(np.float32),
        gaps=rng.random(len(rows)).astype(np.float32) * np.float32(1e-6),
        frame_index=np.arange(n, dtype=np.int32) * 3 + np.arange(len(rows), dtype=np.int32)[:, None],
        pairs=pairs,
        esv=rng.standard_normal((len(pairs), n)).astype(np.float32),
        stderr=rng.random((len(pairs), n)).astype(np.float32) if stderr else None,
        difference_stderr=rng.random((len(rows), n)).astype(np.float32) if stderr else None,
        differs=rng.random(len(rows)) < 0.5,
        exact=not stderr,
        evaluations=2**n - 1,
        iterations=4 if stderr else 0,
        met=rng.random(len(rows)) < 0.5 if stderr else None,
        marginals=rng.standard_normal((len(pairs), n, n)).astype(np.float32),
        interactions=rng.standard_normal((len(pairs), n * (n - 1) // 2)).astype(np.float32),
        discarded=Discarded(
            classes=rng.integers(C, size=len(rows)),
            methods=[0] * len(ORDERS),
            orders=range(len(ORDERS)),
            scores=rng.random((len(rows), len(ORDERS), n + 1)).astype(np.float32),
            predicted=rng.integers(C, size=(len(rows), len(ORDERS), n + 1)),
            best=rng.random((len(rows), n + 1)).astype(np.float32),
        ),
        replaced=Replaced(
            classes=rng.integers(C, size=len(rows)),
            places=replaced_places(REPLACED, n),
            scores=rng.random((len(rows), len(REPLACED) * (2 * n + 1))).astype(np.float32),
            predicted=rng.integers(C, size=(len(rows), len(REPLACED) * (2 * n + 1))),
        ),
        varied={folder: varied(folder, len(rows), rng) for folder in VARIATIONS},
    )
