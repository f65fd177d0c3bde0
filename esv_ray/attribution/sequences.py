"""The attributed sequences of a batch, as the further tables of a job need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.requests import Requests
from esv_ray.core.attribution import Attribution
from esv_ray.input.features import FeatureRows

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sequences:
    """B attributed sequences of one length.

    Attributes:
        rows: (B,) input rows.
        ids: ids of the videos.
        frames: (B, n) positions of the elements among the frames of their videos.
        n_frames: (B,) frames of the videos, T.
        classes: (B,) class of each video: its label, or else the predicted class.
        esv: (B, n) of that class.
        scores: (B, C) class probabilities.
    """

    rows: Int64Array
    ids: Sequence[str]
    frames: Int64Array
    n_frames: Int64Array
    classes: Int64Array
    esv: Float32Array
    scores: Float32Array

    @property
    def own_scores(self) -> Float32Array:
        """The probability of each video's class, (B,)."""
        return self.scores[np.arange(len(self.classes)), self.classes]


def sequences_of(
    rows: FeatureRows, requests: Requests, numbers: Int64Array, result: Attribution, scores: Float32Array
) -> Sequences:
    """Return the sequences of a batch.

    Args:
        rows: rows of the unit.
        requests: requests of the unit.
        numbers: (B,) numbers of those of the batch, all of one length.
        result: attribution of the batch, on the device.
        scores: (B, C) class probabilities.
    """
    row = requests.rows[numbers]
    classes = np.where(rows.labelled[row], rows.labels[row], scores.argmax(axis=1)).astype(np.int64)
    return Sequences(
        rows=row,
        ids=[rows.ids[index] for index in row.tolist()],
        frames=requests.frames(numbers, rows),
        n_frames=rows.n_frames[row].astype(np.int64),
        classes=classes,
        esv=of_classes(result, classes),
        scores=scores,
    )


def of_classes(result: Attribution, classes: Int64Array) -> Float32Array:
    """Return the ESVs (B, n) of one class (B,) of each video, in host memory."""
    place = torch.from_numpy(classes).to(result.esv.device)[:, None, None]
    esv: Float32Array = result.esv.take_along_dim(place, dim=2)[..., 0].float().cpu().numpy()
    return esv
