"""Attribute requests on the device, in batches of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.kept import Batch, choose_classes
from esv_ray.attribution.requests import Requests
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.transfer import fetched
from esv_ray.errors import JobError, SpecError
from esv_ray.input.features import FeatureRows
from esv_ray.output.results import Missing


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
        return torch.from_numpy(rows.features(requests.rows[chosen], requests.frames(chosen, rows.n_frames)))

    def chosen_classes(selected: Sequence[int], scores: torch.Tensor) -> torch.Tensor:
        indices = requests.rows[affordable[selected]]
        pairs = choose_classes(
            place.spec.classes, scores.float().cpu().numpy(), rows.labels[indices], rows.labelled[indices]
        )
        mask = torch.zeros(scores.shape, dtype=torch.bool)
        mask[pairs[:, 0], pairs[:, 1]] = True
        return mask.to(scores.device)

    ids = [rows.ids[row] for row in requests.rows[affordable].tolist()]
    lengths = requests.lengths[affordable].tolist()
    batches: list[Batch] = []
    for indices, attribution in fetched(place.engine.attributions(lengths, ids, features, chosen_classes)):
        if place.stopped.is_set():
            raise JobError("stopped")
        place.heartbeat.beat()
        batches.append(Batch(affordable[indices], attribution))
    return batches, refused, perf_counter() - started


def _affordable(place: Workplace, requests: Requests) -> tuple[npt.NDArray[np.int64], list[Missing]]:
    """Return the numbers of the requests within the memory budget, and the others with the reason.

    This uses the job's budget, not this machine's memory: the bytes of a table depend on the job alone.
    """
    refusals = {}
    for n in np.unique(requests.lengths).tolist():
        try:
            place.engine.budget.check(n)
        except SpecError as error:
            refusals[n] = str(error)
    refused = [
        Missing(row, n, "failed", refusals[n])
        for row, n in zip(requests.rows.tolist(), requests.lengths.tolist(), strict=True)
        if n in refusals
    ]
    return np.flatnonzero(~np.isin(requests.lengths, list(refusals))), refused
