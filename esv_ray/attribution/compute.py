"""Compute rows of a unit: attributions, a check of their values, and the tables of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from esv_ray.attribution.batches import attribute_requests
from esv_ray.attribution.kept import kept_results
from esv_ray.attribution.requests import plan_requests
from esv_ray.attribution.workplace import Workplace
from esv_ray.input.features import FeatureRows
from esv_ray.output.computed import InputRows, Missing
from esv_ray.output.results import UnitTables, unit_tables

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
    batches, refused, seconds = _run_on(compute, lambda: attribute_requests(place, rows, requests))
    ended = perf_counter()
    results, out_of_range = kept_results(place, rows, requests, batches)
    failures = missing + refused + out_of_range
    tables = unit_tables(
        InputRows(rows.ids, rows.labels, rows.labelled, rows.n_frames), results, failures, place.spec.tables
    )
    return ComputedRows(tables, failures, seconds, ended)


def _run_on(executor: Executor | None, work: Callable[[], _T]) -> _T:
    return work() if executor is None else executor.submit(work).result()
