"""Compute the further tables of a job from a batch of attributions (`tables` of a spec)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.discards import best_from_values, discarded, scores_from_engine, scores_from_values
from esv_ray.attribution.methods import other_methods
from esv_ray.attribution.replacements import replaced
from esv_ray.attribution.sequences import Sequences
from esv_ray.attribution.variations import vary
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.attribution import Attribution
from esv_ray.core.exact.values import interactions
from esv_ray.input.features import FeatureRows
from esv_ray.output.computed import Discarded, MethodValues, Replaced, Varied
from esv_ray.output.layout import DISCARDS, INTERACTIONS, MARGINALS, REPLACEMENTS

Float32Array = npt.NDArray[np.float32]


class Further(NamedTuple):
    """What further tables hold of B videos and M pairs of a video and a class; None for a table that is not written.

    Attributes:
        marginals: (M, n, n) by scale and element.
        interactions: (M, n (n - 1) / 2).
        discarded: scores while elements are taken away.
        replaced: scores while elements are replaced.
        varied: rows of the tables of variations, by their folders.
        others: values by other methods, by their names.
    """

    marginals: Float32Array | None = None
    interactions: Float32Array | None = None
    discarded: Discarded | None = None
    replaced: Replaced | None = None
    varied: Mapping[str, Varied] = MappingProxyType({})
    others: Mapping[str, MethodValues] = MappingProxyType({})


def further_of(
    place: Workplace, rows: FeatureRows, base: Sequences, result: Attribution, pairs: npt.NDArray[np.int64]
) -> Further:
    """Return what the further tables hold of a batch, from its attributions on the device.

    Args:
        place: job and model.
        rows: rows of the unit.
        base: sequences of the batch.
        result: attribution of the batch, with its `marginals` and `values` if the job asks for them.
        pairs: (M, 2) place of a video and class, for the classes that are kept.
    """
    marginals, indices = _of_pairs(place, result, pairs)
    others, own = other_methods(place, rows, base, pairs) if len(place.spec.methods) > 1 else ({}, {})
    contributions = {"esv": base.esv, **own}
    discards = _discarded(place, rows, base, result, contributions) if DISCARDS in place.spec.tables else None
    replacements = None
    if REPLACEMENTS in place.spec.tables:
        features = torch.from_numpy(rows.features(base.rows, base.frames))
        replacements = replaced(place, base, contributions, features)
    return Further(marginals, indices, discards, replacements, vary(place, rows, base), others)


def _of_pairs(
    place: Workplace, result: Attribution, pairs: npt.NDArray[np.int64]
) -> tuple[Float32Array | None, Float32Array | None]:
    """Return the marginals and the interactions of the classes that are kept."""
    tables, marginals, indices = place.spec.tables, None, None
    video, kept = (torch.from_numpy(column).to(result.esv.device) for column in pairs.T.copy())
    if MARGINALS in tables:
        assert result.marginals is not None, "the engine returns what the job asks for"
        marginals = result.marginals[video, :, :, kept].float().cpu().numpy()
    if INTERACTIONS in tables:
        assert result.values is not None, "the engine returns what the job asks for"
        empty = place.model.empty_value(place.spec.estimator.output).to(result.esv)
        indices = interactions(result.values, empty, result.esv.shape[1], video, kept).float().cpu().numpy()
    return marginals, indices


def _discarded(
    place: Workplace,
    rows: FeatureRows,
    base: Sequences,
    result: Attribution,
    contributions: Mapping[str, Float32Array],
) -> Discarded:
    """Return the scores while elements are taken away: looked up where all values are known, else computed."""
    if result.values is not None:
        best = best_from_values(place, result, base.classes)
        return discarded(place, base, contributions, scores_from_values(place, result), best)
    features = torch.from_numpy(rows.features(base.rows, base.frames))
    return discarded(place, base, contributions, scores_from_engine(place, features, base.ids))
