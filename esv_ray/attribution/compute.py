"""Compute rows of a unit: attributions, a check of their values, and the tables of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.requests import Requests, plan_requests
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.attribution import Attribution
from esv_ray.core.transfer import fetched
from esv_ray.errors import JobError, SpecError
from esv_ray.input.features import FeatureRows
from esv_ray.output.ranges import ranges_of, value_faults
from esv_ray.output.results import Computed, InputRows, Missing, UnitTables, choose_classes, unit_tables

_T = TypeVar("_T")


class ComputedRows(NamedTuple):
    """Computed rows of a unit.

    Attributes:
        tables: tables of these rows only.
        failures: rows without ESVs.
        seconds: duration of the computation.
        ended: time at which it ended.
    """

    tables: UnitTables
    failures: list[Missing]
    seconds: float
    ended: float


def compute_rows(
    place: Workplace,
    rows: FeatureRows,
    *,
    poisoned: Mapping[int, str],
    only: npt.NDArray[np.int64],
    compute: Executor | None = None,
) -> ComputedRows:
    """Compute rows of a unit, without a commit.

    Args:
        place: job and model.
        rows: rows of the unit.
        poisoned: rows that fail, and why, in addition to those that break the contract.
        only: the rows to compute.
        compute: runs the torch work; None: the calling thread.

    Raises:
        Exception: whatever the computation raises.
    """
    requests, missing = plan_requests(place.spec, rows, poisoned=poisoned, only=only)
    # The thread of `compute` gathers frames and drives the device; this thread chooses classes and makes tables.
    batches, refused, seconds = _run_on(compute, lambda: _attribute(place, rows, requests))
    ended = perf_counter()
    results, out_of_range = _results(place, rows, requests, batches)
    failures = missing + refused + out_of_range
    tables = unit_tables(InputRows(rows.ids, rows.labels, rows.labelled, rows.n_frames), results, failures)
    return ComputedRows(tables, failures, seconds, ended)


def _run_on(executor: Executor | None, work: Callable[[], _T]) -> _T:
    return work() if executor is None else executor.submit(work).result()


def _attribute(
    place: Workplace, rows: FeatureRows, requests: Requests
) -> tuple[list[tuple[npt.NDArray[np.int64], Attribution]], list[Missing], float]:
    """Attribute requests on the device.

    Returns:
        Batches in host memory, each with the numbers of its requests; requests that exceed the memory budget; seconds.
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
    batches = []
    for indices, attribution in fetched(place.engine.attributions(lengths, ids, features, chosen_classes)):
        if place.stopped.is_set():
            raise JobError("stopped")
        place.heartbeat.beat()
        batches.append((affordable[indices], attribution))
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


def _results(
    place: Workplace,
    rows: FeatureRows,
    requests: Requests,
    batches: Sequence[tuple[npt.NDArray[np.int64], Attribution]],
) -> tuple[list[Computed], list[Missing]]:
    """Return the chosen classes of each batch, and the videos whose values are out of range (`output.ranges`)."""
    spec, results, missing = place.spec, [], []
    for numbers, attribution in batches:
        scores, faults = _checked(place, attribution)
        for position, reason in sorted(faults.items()):
            number = int(numbers[position])
            missing.append(Missing(int(requests.rows[number]), int(requests.lengths[number]), "failed", reason))
        valid = np.delete(np.arange(len(numbers)), list(faults))
        if not len(valid):
            continue
        kept = numbers[valid]
        indices = requests.rows[kept]
        pairs = choose_classes(spec.classes, scores[valid], rows.labels[indices], rows.labelled[indices])
        video, classes = valid[pairs[:, 0]], pairs[:, 1]
        stderr = None if attribution.stderr is None else attribution.stderr.float().numpy()[video, :, classes]
        results.append(
            Computed(
                rows=indices,
                scores=scores[valid],
                gaps=attribution.gaps.float().numpy()[valid],
                frame_index=rows.frame_index(indices, requests.frames(kept, rows.n_frames)),
                pairs=pairs,
                esv=attribution.esv.float().numpy()[video, :, classes],
                stderr=stderr,
                exact=attribution.exact,
                evaluations=attribution.evaluations,
                iterations=attribution.iterations,
                met=None if attribution.met is None else attribution.met.numpy()[valid],
            )
        )
    return results, missing


def _checked(place: Workplace, attribution: Attribution) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Return the class probabilities (B, C) of a batch, and its videos with values out of range."""
    estimator = place.spec.estimator
    full = attribution.scores.float()  # (B, C)
    scores = full.softmax(dim=1) if estimator.output == "logit" else full  # tables hold probabilities
    faults = value_faults(
        ranges_of(estimator.output, estimator.kind, place.spec.compute.matmul),
        esv=attribution.esv.float().numpy(),
        stderr=None if attribution.stderr is None else attribution.stderr.float().numpy(),
        values=full.numpy(),
        empty=place.model.empty_value(estimator.output).cpu().numpy(),
        scores=scores.numpy(),
        gaps=attribution.gaps.float().numpy(),
        exact=attribution.exact,
    )
    return scores.numpy(), faults
