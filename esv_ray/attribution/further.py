"""What the further tables of a job hold, computed from a batch of attributions (`tables` of a spec; issue 20)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.workplace import Workplace
from esv_ray.core.attribution import Attribution
from esv_ray.core.exact.values import interactions
from esv_ray.output.layout import INTERACTIONS, MARGINALS
from esv_ray.output.results import Discarded

Float32Array = npt.NDArray[np.float32]


class Further(NamedTuple):
    """What further tables hold of B videos and M pairs of a video and a class; None for a table that is not written.

    Attributes:
        marginals: (M, n, n) by scale and element.
        interactions: (M, n (n - 1) / 2).
        discarded: scores while elements are taken away.
    """

    marginals: Float32Array | None = None
    interactions: Float32Array | None = None
    discarded: Discarded | None = None


def of_pairs(place: Workplace, result: Attribution, pairs: npt.NDArray[np.int64]) -> Further:
    """Return the marginals and interactions of some classes, from attributions on the device.

    Args:
        place: job and model.
        result: of the batch, with its `marginals` and `values` if the job asks for them.
        pairs: (M, 2) place of a video and class.
    """
    tables, marginals, indices = place.spec.tables, None, None
    video, kept = (torch.from_numpy(column).to(result.esv.device) for column in pairs.T.copy())
    if MARGINALS in tables:
        assert result.marginals is not None, "the engine returns what the job asks for"
        marginals = result.marginals[video, :, :, kept].float().cpu().numpy()
    if INTERACTIONS in tables:
        assert result.values is not None, "the engine returns what the job asks for"
        empty = place.model.empty_value(place.spec.estimator.output).to(result.esv)
        indices = interactions(result.values, empty, result.esv.shape[1], video, kept).float().cpu().numpy()
    return Further(marginals, indices)
