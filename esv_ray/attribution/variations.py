"""Variations of a sequence or of the model, and how its ESVs and score change with them (issue 20).

Every variation is attributed like a sequence of its own, with the job's estimator and under the video's own id: the
subsequences that a sampled plan draws are the same, so that only the variation changes the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.classes import probabilities
from esv_ray.attribution.sequences import Sequences, of_classes
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.correlation import spearman
from esv_ray.core.engine import Engine
from esv_ray.core.keyed import derive_key, permutation
from esv_ray.errors import JobError
from esv_ray.input.features import FeatureRows
from esv_ray.output.computed import Varied
from esv_ray.output.layout import ORDER, SANITY, SMOOTHNESS

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


def vary(place: Workplace, rows: FeatureRows, base: Sequences) -> dict[str, Varied]:
    """Return the rows of the tables of variations that the job asks for, by their folders.

    Args:
        place: job and model.
        rows: rows of the unit.
        base: sequences of a batch.
    """
    made: Mapping[str, Callable[[], Varied]] = {
        SMOOTHNESS: lambda: _smoothness(place, rows, base),
        ORDER: lambda: _order(place, rows, base),
        SANITY: lambda: _sanity(place, rows, base),
    }
    return {folder: make() for folder, make in made.items() if folder in place.spec.tables}


def _smoothness(place: Workplace, rows: FeatureRows, base: Sequences) -> Varied:
    """Replace one element by a neighboring frame: change of its share of the ESVs (Price & Damen 2020, Fig. 6c)."""
    offsets = sorted({sign * offset for offset in place.spec.variations.offsets for sign in (-1, 1)})
    video, element, offset = (axis.ravel() for axis in np.indices((*base.frames.shape, len(offsets))))
    offset = np.array(offsets)[offset]
    moved = base.frames[video]
    moved[np.arange(len(moved)), element] += offset
    own = moved[np.arange(len(moved)), element]
    # Inside the video, and not beyond the elements before and after: the order of frames stays.
    kept = (own >= 0) & (own < base.n_frames[video]) & (np.diff(moved, axis=1) >= 0).all(axis=1)
    video, element, offset, moved = video[kept], element[kept], offset[kept], moved[kept]
    changed = np.empty(len(video), np.float32)
    before = _normalized(base.esv)[video, element]
    for selected, esv, _ in _attributed(place, place.engine.plain(), rows, base, video, moved):
        changed[selected] = _normalized(esv)[np.arange(len(selected)), element[selected]] - before[selected]
    # Frames that no element of the sequence has may be too large for the model: such moves are left out.
    known = np.isfinite(changed)
    keys = {"class": base.classes[video][known], "element": element[known], "offset": offset[known]}
    return Varied(video[known], keys, {"change": changed[known]})


def _order(place: Workplace, rows: FeatureRows, base: Sequences) -> Varied:
    """Shuffle the elements: mean score over shuffles, and correlation of the ESVs with their means."""
    (batch, n), times = base.frames.shape, place.spec.variations.shuffles
    seed = place.spec.estimator.seed
    video = np.repeat(np.arange(batch), times)
    keys = [derive_key(seed, "order", video_id, turn) for video_id in base.ids for turn in range(times)]
    orders = np.stack([permutation(key, n) for key in keys])  # (B * times, n)
    shuffled = np.take_along_axis(base.frames[video], orders, axis=1)
    scores = np.empty(len(video), np.float64)
    esvs = np.empty((len(video), n), np.float64)
    for selected, esv, score in _attributed(place, place.engine.plain(), rows, base, video, shuffled):
        scores[selected] = score
        esvs[np.array(selected)[:, None], orders[selected]] = esv  # of the elements in their own order
    means = esvs.reshape(batch, times, n).mean(axis=1)
    values = {
        "score": base.own_scores,
        "shuffled_score": scores.reshape(batch, times).mean(axis=1).astype(np.float32),
        "spearman": spearman(base.esv, means).astype(np.float32),
    }
    return Varied(np.arange(batch), {"class": base.classes}, values)


def _sanity(place: Workplace, rows: FeatureRows, base: Sequences) -> Varied:
    """Re-initialize the model layer by layer, from the top: correlation of the ESVs with those of the model itself."""
    batch = len(base.rows)
    everyone = np.arange(batch)
    found = []
    for engine in place.randomised:
        correlation = np.empty(batch, np.float32)
        for selected, esv, _ in _attributed(place, engine, rows, base, everyone, base.frames):
            correlation[selected] = spearman(base.esv[selected], esv)
        found.append(correlation)
    if not found:  # a model without weights
        nobody = np.zeros(0, np.int64)
        return Varied(nobody, {"class": nobody, "layers_randomised": nobody}, {"spearman": np.zeros(0, np.float32)})
    layers = np.tile(np.arange(1, len(found) + 1), batch)
    video = np.repeat(everyone, len(found))
    keys = {"class": base.classes[video], "layers_randomised": layers}
    return Varied(video, keys, {"spearman": np.stack(found, axis=1).ravel()})


def _attributed(
    place: Workplace, engine: Engine, rows: FeatureRows, base: Sequences, video: Int64Array, frames: Int64Array
) -> Iterator[tuple[list[int], Float32Array, Float32Array]]:
    """Attribute variations, and yield the numbers of some, their ESVs (S, n) and scores (S,) for their classes.

    Args:
        place: job and model.
        engine: engine of the variation's model.
        rows: rows of the unit.
        base: sequences of a batch.
        video: (K,) video of each variation.
        frames: (K, n) positions of its elements.
    """

    def features(selected: list[int]) -> torch.Tensor:
        return torch.from_numpy(rows.features(base.rows[video[selected]], frames[selected]))

    ids = [base.ids[index] for index in video.tolist()]
    for selected, result in engine.attributions([frames.shape[1]] * len(video), ids, features):
        if place.stopped.is_set():
            raise JobError("stopped")
        place.heartbeat.beat()
        kept = base.classes[video[selected]]
        scores = probabilities(result.scores, place.spec.estimator.output)
        yield selected, of_classes(result, kept), scores[np.arange(len(selected)), kept]


def _normalized(esv: Float32Array) -> Float32Array:
    """Return ESVs (K, n) divided by the sum of their absolute values; zeros if all are 0, NaN if one is not finite."""
    size = np.abs(esv).sum(axis=1, keepdims=True)
    share: Float32Array = np.divide(esv, size, out=np.zeros_like(esv), where=size > 0)
    return np.where(np.isfinite(size), share, np.float32(np.nan))
