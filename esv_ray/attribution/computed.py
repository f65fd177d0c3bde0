"""Rows of a unit computed: attributions, values that are not sense set apart, and the tables of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.requests import Wanted, requested
from esv_ray.core.attribution import Attribution
from esv_ray.core.transfer import fetched
from esv_ray.errors import JobError, SpecError
from esv_ray.input.features import FeatureRows
from esv_ray.output.ranges import ranges_of, value_faults
from esv_ray.output.results import Computed, InputRows, Missing, UnitTables, choose_classes, unit_tables

if TYPE_CHECKING:
    from esv_ray.attribution.worker import Workplace

_T = TypeVar("_T")


class ComputedRows(NamedTuple):
    """Rows of a unit computed: their tables, which failed and why, and when.

    Attributes:
        tables: of the rows, and of nothing else.
        failures: rows without ESVs.
        seconds: that computing took.
        ended: when it had ended.
    """

    tables: UnitTables
    failures: list[Missing]
    seconds: float
    ended: float


def compute_rows(
    place: Workplace,
    rows: FeatureRows,
    *,
    condemned: Mapping[int, str],
    only: npt.NDArray[np.int64],
    compute: Executor | None = None,
) -> ComputedRows:
    """Compute rows of a unit; nothing is committed.

    Args:
        place: job and model.
        rows: of the unit.
        condemned: rows that fail, and why, beside those that break the contract.
        only: the rows that are asked for.
        compute: where the torch work is done; None: here.

    Raises:
        Exception: whatever the computation met.
    """
    wanted, missing = requested(place.spec, rows, condemned=condemned, only=only)
    # On the thread of `compute` frames are gathered and the device works; classes and tables are made here.
    found, refused, seconds = _on(compute, lambda: _attribute(place, rows, wanted))
    ended = perf_counter()
    results, senseless = _results(place, rows, wanted, found)
    failures = missing + refused + senseless
    tables = unit_tables(InputRows(rows.ids, rows.labels, rows.labelled, rows.n_frames), results, failures)
    return ComputedRows(tables, failures, seconds, ended)


def _on(compute: Executor | None, work: Callable[[], _T]) -> _T:
    return work() if compute is None else compute.submit(work).result()


def _attribute(
    place: Workplace, rows: FeatureRows, wanted: Wanted
) -> tuple[list[tuple[npt.NDArray[np.int64], Attribution]], list[Missing], float]:
    """Attributions in host memory, each of some of `wanted`; what does not fit in memory; and seconds."""
    begun = perf_counter()
    engine, refusals = place.engine, {}
    # By the job's budget, not by this machine's memory: the bytes of a table depend on the job alone.
    for n in np.unique(wanted.lengths).tolist():
        try:
            engine.check(n)
        except SpecError as error:
            refusals[n] = str(error)
    refused = [
        Missing(row, n, "failed", refusals[n])
        for row, n in zip(wanted.rows.tolist(), wanted.lengths.tolist(), strict=True)
        if n in refusals
    ]
    fitting = np.flatnonzero(~np.isin(wanted.lengths, list(refusals)))

    def features(some: Sequence[int]) -> torch.Tensor:
        chosen = fitting[some]
        return torch.from_numpy(rows.features(wanted.rows[chosen], wanted.places(chosen, rows.n_frames)))

    ids = [rows.ids[row] for row in wanted.rows[fitting].tolist()]

    def chosen(some: Sequence[int], scores: torch.Tensor) -> torch.Tensor:
        of = wanted.rows[fitting[some]]
        pairs = choose_classes(place.spec.classes, scores.float().cpu().numpy(), rows.labels[of], rows.labelled[of])
        mask = torch.zeros(scores.shape, dtype=torch.bool)
        mask[pairs[:, 0], pairs[:, 1]] = True
        return mask.to(scores.device)

    batches = fetched(engine.attributions(wanted.lengths[fitting].tolist(), ids, features, chosen))
    found = []
    for indices, attribution in batches:
        if place.stopped.is_set():
            raise JobError("stopped")
        place.pulse.beat()
        found.append((fitting[indices], attribution))
    return found, refused, perf_counter() - begun


def _results(
    place: Workplace, rows: FeatureRows, wanted: Wanted, found: Sequence[tuple[npt.NDArray[np.int64], Attribution]]
) -> tuple[list[Computed], list[Missing]]:
    """The classes asked for; and the videos whose values are outside their ranges (`ranges`)."""
    spec, results, missing = place.spec, [], []
    for some, attribution in found:
        scores, faults = _checked(place, attribution)
        for place_in_batch, why in sorted(faults.items()):
            index = int(some[place_in_batch])
            missing.append(Missing(int(wanted.rows[index]), int(wanted.lengths[index]), "failed", why))
        good = np.delete(np.arange(len(some)), list(faults))
        if not len(good):
            continue
        kept = some[good]
        rows_of = wanted.rows[kept]
        pairs = choose_classes(spec.classes, scores[good], rows.labels[rows_of], rows.labelled[rows_of])
        video, chosen = good[pairs[:, 0]], pairs[:, 1]
        stderr = None if attribution.stderr is None else attribution.stderr.float().numpy()[video, :, chosen]
        results.append(
            Computed(
                rows=rows_of,
                scores=scores[good],
                gaps=attribution.gaps.float().numpy()[good],
                frame_index=rows.frame_index(rows_of, wanted.places(kept, rows.n_frames)),
                pairs=pairs,
                esv=attribution.esv.float().numpy()[video, :, chosen],
                stderr=stderr,
                exact=attribution.exact,
                evaluations=attribution.evaluations,
                iterations=attribution.iterations,
                met=None if attribution.met is None else attribution.met.numpy()[good],
            )
        )
    return results, missing


def _checked(place: Workplace, attribution: Attribution) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Class probabilities (B, C) of a batch, and why videos of it have values that are not sense."""
    asked = place.spec.estimator
    full = attribution.scores.float()  # (B, C)
    scores = full.softmax(dim=1) if asked.output == "logit" else full  # tables hold probabilities
    faults = value_faults(
        ranges_of(asked.output, asked.kind, place.spec.compute.matmul),
        esv=attribution.esv.float().numpy(),
        stderr=None if attribution.stderr is None else attribution.stderr.float().numpy(),
        values=full.numpy(),
        empty=place.model.empty_value(asked.output).cpu().numpy(),
        scores=scores.numpy(),
        gaps=attribution.gaps.float().numpy(),
        exact=attribution.exact,
    )
    return scores.numpy(), faults
