"""Attributions of a batch by other methods than ESVs, on the score that the ESVs explain (`methods` of a spec)."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.sequences import Sequences
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.methods.attribution import attribute_method
from esv_ray.core.methods.score import ScoreFunction, score_function
from esv_ray.errors import JobError
from esv_ray.estimator import Method
from esv_ray.input.features import FeatureRows
from esv_ray.output.computed import MethodValues

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


def other_methods(
    place: Workplace, rows: FeatureRows, base: Sequences, pairs: Int64Array
) -> tuple[dict[str, MethodValues], dict[str, Float32Array]]:
    """Attribute a batch by the other methods that the job asks for.

    Args:
        place: job and model.
        rows: rows of the unit.
        base: sequences of the batch.
        pairs: (M, 2) place of a video and class, for the classes that are kept; ascending.

    Returns:
        By method, the values of the kept classes, and those (B, n) of `base.classes`.
    """
    function = _score_function(place, base.frames.shape[1])
    kept = [pairs[pairs[:, 0] == video, 1] for video in range(len(base.rows))]
    of_pairs: dict[str, MethodValues] = {}
    of_classes: dict[str, Float32Array] = {}
    for method in place.spec.methods[1:]:
        values, deltas, own = [], [], []
        for video, classes in enumerate(kept):
            value, delta = _of_video(place, function, cast(Method, method), rows, base, video, classes)
            values.append(value[:-1])
            own.append(value[-1])
            deltas.append(delta)
        known = [delta for delta in deltas if delta is not None]
        of_pairs[method] = MethodValues(np.concatenate(values), np.concatenate(known) if known else None)
        of_classes[method] = np.stack(own)
    return of_pairs, of_classes


def _of_video(
    place: Workplace,
    function: ScoreFunction,
    method: Method,
    rows: FeatureRows,
    base: Sequences,
    video: int,
    classes: Int64Array,
) -> tuple[Float32Array, Float32Array | None]:
    """Return the values (k + 1, n) of the k kept classes of a video and of its own class, and deltas (k,)."""
    if place.stopped.is_set():
        raise JobError("stopped")
    at = slice(video, video + 1)
    features = torch.from_numpy(rows.features(base.rows[at], base.frames[at])).to(function.model.device)
    distinct, back = np.unique(np.append(classes, base.classes[video]), return_inverse=True)
    result = attribute_method(
        method,
        function,
        features.to(function.model.element_dtype),
        torch.from_numpy(distinct[None]),
        video_ids=base.ids[at],
        baseline=None if place.baseline is None else torch.tensor(place.baseline, dtype=torch.float64),
        steps=place.spec.variations.steps,
    )
    place.heartbeat.beat()
    values: Float32Array = result.values[0].float().cpu().numpy().T[back]
    delta = None if result.delta is None else result.delta[0].float().cpu().numpy()[back[:-1]]
    return values, delta


def _score_function(place: Workplace, n: int) -> ScoreFunction:
    """Return the score of sequences of n elements by the job's estimator, made once per length."""
    known: dict[int, ScoreFunction] = place.score_functions
    if n not in known:
        engine = place.engine
        estimator = replace(engine.estimator, kind=engine.budget.kind(n), tolerance=None)
        known[n] = score_function(engine.model, estimator, n)
    return known[n]
