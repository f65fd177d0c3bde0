"""Class scores while elements are replaced, not taken away: for comparison with `discards` (issue 20).

The sequence keeps its length. Each element that is taken away is replaced by the nearest one that is left, or by
the mean element of the feature table. F of each sequence is computed as the job's estimator does for any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.discards import distinct, orders_of, scored
from esv_ray.attribution.sequences import Sequences
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.discards import kept_after, nearest_kept
from esv_ray.output.computed import REPLACED_BY, Replaced, replaced_places

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_ORDERS = ("descending", "ascending", "random")
"""Orders of `ORDERS`: each costs some 2 n sequences of full length per video, so those of positions are left out."""


def replaced(
    place: Workplace, base: Sequences, contributions: Mapping[str, Float32Array], features: torch.Tensor
) -> Replaced:
    """Compute the scores of a batch of videos while elements are replaced.

    Args:
        place: job and model, with the baseline.
        base: sequences of the batch.
        contributions: (B, n) values of the elements for each video's class, by method; `esv` first.
        features: (B, n, D) of the sequences.
    """
    orders = {key: order for key, order in orders_of(place, base, contributions).items() if key[1] in _ORDERS}
    kept = kept_after(np.stack(list(orders.values()), axis=1))  # (B, K, n + 1, n)
    n = kept.shape[-1]
    filled = []
    for by in REPLACED_BY:
        last = n if by == "mean" else n - 1  # without any element left there is no neighbor
        filled.append(_scores(place, base, features, kept[:, :, 1 : last + 1], by))
    scores, predicted = (
        np.concatenate([each[part] for each in filled], axis=2).reshape(len(base.ids), -1) for part in (0, 1)
    )
    return Replaced(base.classes, replaced_places(list(orders), n), scores, predicted)


def _scores(
    place: Workplace, base: Sequences, features: torch.Tensor, kept: BoolArray, by: str
) -> tuple[Float32Array, Int64Array]:
    """Return (B, K, L + 1) the probability of the class and the predicted class, first those of the sequences as is.

    Args:
        place: job and model, with the baseline.
        base: sequences of the batch.
        features: (B, n, D) of the sequences.
        kept: (B, K, L, n) which elements are left.
        by: one of `REPLACED_BY`.
    """
    batch, orders, steps, n = kept.shape
    video, member, place_of = distinct(kept.reshape(batch, orders * steps, n))
    own, predicted = np.empty(len(video), np.float32), np.empty(len(video), np.int64)

    def chosen(selected: list[int]) -> torch.Tensor:
        return _filled(place, features, video[selected], member[selected], by)

    names = [base.ids[index] for index in video.tolist()]
    for selected, scores in scored(place, [n] * len(video), names, chosen):
        found = scores[np.arange(len(selected)), base.classes[video[selected]]]
        predicted[selected] = scores.argmax(axis=1)
        own[selected] = np.where(np.isfinite(scores).all(axis=1), found, np.float32(np.nan))
    whole = np.broadcast_to(base.own_scores[:, None, None], (batch, orders, 1))
    first = np.broadcast_to(base.scores.argmax(axis=1)[:, None, None], (batch, orders, 1))
    return (
        np.concatenate([whole, own[place_of].reshape(batch, orders, steps)], axis=2),
        np.concatenate([first, predicted[place_of].reshape(batch, orders, steps)], axis=2),
    )


def _filled(place: Workplace, features: torch.Tensor, video: Int64Array, kept: BoolArray, by: str) -> torch.Tensor:
    """Return (S, n, D) sequences of videos (S,), with the elements that are not kept replaced."""
    at = torch.from_numpy(video)
    if by == "neighbor":
        return features[at[:, None], torch.from_numpy(nearest_kept(kept))]
    assert place.baseline is not None, "the plan computes it for a job with this table"
    return torch.where(torch.from_numpy(kept)[..., None], features[at], torch.tensor(place.baseline).to(features))
