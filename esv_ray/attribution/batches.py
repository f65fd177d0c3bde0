"""Attribute requests on the device, in batches of equal length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.classes import choose_classes, probabilities, table_scores
from esv_ray.attribution.further import Further, further_of
from esv_ray.attribution.kept import Batch
from esv_ray.attribution.requests import Requests
from esv_ray.attribution.sequences import sequences_of
from esv_ray.attribution.workplace import Workplace, check_fits
from esv_ray.core.attribution import Attribution
from esv_ray.core.transfer import fetched, to_device
from esv_ray.errors import JobError, SpecError
from esv_ray.input.features import FeatureRows
from esv_ray.output.computed import Missing


def attribute_requests(
    place: Workplace, rows: FeatureRows, requests: Requests
) -> tuple[list[Batch], list[Missing], float]:
    """Attribute requests on the device.

    Returns:
        Batches in host memory; requests that exceed the memory budget; seconds.
    """
    started = perf_counter()
    affordable, refused = _affordable(place, requests)

    def features(selected: Sequence[int]) -> torch.Tensor:
        chosen = affordable[selected]
        return torch.from_numpy(rows.features(requests.rows[chosen], requests.frames(chosen, rows)))

    def pairs_of(selected: Sequence[int], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        indices = requests.rows[affordable[selected]]
        return choose_classes(place.spec.classes, scores, rows.labels[indices], rows.labelled[indices])

    def chosen_classes(selected: Sequence[int], scores: torch.Tensor) -> torch.Tensor:
        pairs = pairs_of(selected, probabilities(scores, place.spec.estimator.output))
        mask = torch.zeros(scores.shape, dtype=torch.bool)
        mask[pairs[:, 0], pairs[:, 1]] = True
        return mask.to(scores.device)

    made: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], Further]] = []

    def completed(results: Iterable[tuple[list[int], Attribution]]) -> Iterator[tuple[list[int], Attribution]]:
        """Complete results on the device with what needs values that are not kept."""
        for selected, result in results:
            row = requests.rows[affordable[selected]]
            scores = table_scores(result, place.spec.estimator.output)
            pairs = pairs_of(selected, scores)
            further = Further()
            if place.spec.tables or len(place.spec.methods) > 1:
                base = sequences_of(rows, requests, affordable[selected], result, scores)
                further = further_of(place, rows, base, result, pairs)
            made.append((scores, pairs, further))
            result = _with_difference(result, rows.labels[row], rows.labelled[row])
            yield selected, replace(result, marginals=None, values=None)

    ids = [rows.ids[row] for row in requests.rows[affordable].tolist()]
    lengths = requests.lengths[affordable].tolist()
    batches: list[Batch] = []
    attributions = completed(place.engine.attributions(lengths, ids, features, chosen_classes))
    for indices, attribution in fetched(attributions):
        if place.stopped.is_set():
            raise JobError("stopped")
        place.heartbeat.beat()
        batches.append(Batch(affordable[indices], attribution, *made[len(batches)]))
    return batches, refused, perf_counter() - started


def _with_difference(
    result: Attribution, labels: npt.NDArray[np.int32], labelled: npt.NDArray[np.bool_]
) -> Attribution:
    """Add the standard errors of label minus predicted class, while the error model is at hand."""
    if result.spread is None or not labelled.any():
        return result
    predicted = result.scores.argmax(dim=1)
    known, given = (to_device(torch.from_numpy(column), predicted.device) for column in (labelled, labels))
    label = torch.where(known, given.to(predicted.dtype), predicted)
    return replace(result, difference_stderr=result.spread.contrast(result.esv, label, predicted))


def _affordable(place: Workplace, requests: Requests) -> tuple[npt.NDArray[np.int64], list[Missing]]:
    """Return the numbers of the requests within the memory budget, and the others with the reason.

    This uses the job's budget, not this machine's memory: the bytes of a table depend only on the job.
    """
    refusals = {}
    for n in np.unique(requests.lengths).tolist():
        try:
            check_fits(place.spec, place.engine, n)
        except SpecError as error:
            refusals[n] = str(error)
    refused = [
        Missing(row, n, "failed", refusals[n])
        for row, n in zip(requests.rows.tolist(), requests.lengths.tolist(), strict=True)
        if n in refusals
    ]
    return np.flatnonzero(~np.isin(requests.lengths, list(refusals))), refused
