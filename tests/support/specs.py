"""The sections of a job spec, and values by dotted keys."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from esv_ray.spec import (
    ClusterSpec,
    ComputeSpec,
    EstimatorSpec,
    VariationSpec,
)
from esv_ray.spec_columns import ColumnNames

SECTIONS: Mapping[str, type[BaseModel]] = {
    "columns": ColumnNames,
    "estimator": EstimatorSpec,
    "variations": VariationSpec,
    "compute": ComputeSpec,
    "cluster": ClusterSpec,
}


def at(spec: object, key: str) -> object:
    """The value of a dotted key."""
    for name in key.split("."):
        spec = getattr(spec, name)
    return spec
