"""The constraints that the plan of a job puts on its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError
from esv_ray.output.ranges import Ranges, ranges_of

_MOST_PRIOR_SUM = 2e-4  # |sum of the prior - 1|: twice what a bundle's may have


@dataclass(frozen=True, eq=False)
class Expected:
    """The constraints of a job's plan on its values.

    Attributes:
        prior: (C,) class prior.
        ranges: ranges of the values.
        label_only: whether only ESVs of labelled classes are kept.
        tolerance: whether the estimator had a tolerance.
        shortest: the shortest scale with a head; shorter sequences take no evaluation.
        methods: attribution methods, `esv` first.
    """

    prior: npt.NDArray[np.float64]
    ranges: Ranges
    label_only: bool
    tolerance: bool
    shortest: int
    methods: tuple[str, ...] = ("esv",)


def expected_of(spec: Mapping[str, Any], model: Mapping[str, Any]) -> Expected:
    """Read the expected values from the content of a run.json.

    Args:
        spec: its job spec.
        model: its description of the model.

    Raises:
        DataError: the spec is malformed, or the prior is not a distribution.
    """
    try:
        estimator, classes = spec["estimator"], spec["classes"]
        ranges = ranges_of(estimator["output"], estimator["kind"], spec["compute"]["matmul"])
        tolerance = estimator["tolerance"] is not None
        prior = np.array(model["prior"], dtype=np.float64)
        n_classes, shortest = model.get("n_classes", prior.size), int(model.get("shortest", 1))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"run.json: expected a job's spec and prior, got something else ({error!r:.80})") from None
    if prior.ndim != 1 or prior.size != n_classes or not n_classes:
        raise DataError(f"run.json: expected a prior of {n_classes} classes, got {prior.shape}")
    if not ((prior >= 0) & (prior <= 1)).all() or not abs(float(prior.sum()) - 1) <= _MOST_PRIOR_SUM:
        raise DataError(
            "run.json: expected a prior of probabilities that sum to 1, got numbers from "
            f"{prior.min():.6g} to {prior.max():.6g} that sum to {prior.sum():.9g}"
        )
    methods = tuple(spec.get("methods", ("esv",)))
    return Expected(prior, ranges, not any(choice != "label" for choice in classes), tolerance, shortest, methods)
