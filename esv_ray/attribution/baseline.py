"""The baseline element, for integrated gradients and for replacing elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esv_ray.attribution.workplace import unit_reader
from esv_ray.core.games.model import VideoModel
from esv_ray.input.reading import read_rows
from esv_ray.input.units import Unit
from esv_ray.output.layout import REPLACEMENTS
from esv_ray.spec import JobSpec


def baseline_of(spec: JobSpec, model: VideoModel, units: Sequence[Unit]) -> tuple[float, ...] | None:
    """Return the mean element (D,) of the feature table, which is read once for it; None if the job does not use it.

    That of images is rounded, as images are.

    Args:
        spec: the job, its memory budget fixed.
        model: the model.
        units: all units of the plan.
    """
    if "integrated_gradients" not in spec.methods and REPLACEMENTS not in spec.tables:
        return None
    reader = unit_reader(spec, model)
    total, count = np.zeros(model.feature_dim), 0
    for unit in units:
        rows = read_rows(unit, reader)
        for row in np.setdiff1d(np.arange(unit.rows), list(rows.faults)).tolist():
            frames = rows.features(np.array([row]), np.arange(int(rows.n_frames[row]))[None])[0]
            total += frames.sum(axis=0, dtype=np.float64)
            count += len(frames)
    mean = total / max(count, 1)
    return tuple((mean if model.shape is None else mean.round()).tolist())
