"""The ranges of the values of a job: real values pass, and each kind of nonsense is named, NaN before all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from esv_ray.output.ranges import NOT_FINITE, Ranges, ranges_of, value_faults

PRIOR = np.array([0.2, 0.3, 0.5])
EXACT, SAMPLED = ranges_of("probability", "exact", "highest"), ranges_of("probability", "algorithm1", "highest")
LOGITS = ranges_of("logit", "adjusted", "highest")


def values(size: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Three videos of four elements whose ESVs are efficient; logits are of the given size."""
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(3), 3).astype(np.float32)
    full = scores if size == 1.0 else (size * rng.standard_normal((3, 3))).astype(np.float32)
    empty = PRIOR if size == 1.0 else np.log(PRIOR)
    esv = rng.dirichlet(np.ones(4), (3, 3)).transpose(0, 2, 1) * (full - empty)[:, None]
    made = {
        "esv": esv.astype(np.float32),
        "stderr": np.full((3, 4, 3), 0.01, np.float32),
        "values": full,
        "empty": empty,
        "scores": scores,
        "gaps": np.zeros(3, np.float32),
        "exact": False,
    }
    return made | changes


def at_first(name: str, value: float, size: float = 1.0) -> dict[str, Any]:
    """The same with another value in one number of the second video."""
    made = values(size)
    changed = made[name].copy()
    changed[(1,) + (0,) * (changed.ndim - 1)] = value
    return made | {name: changed}


@pytest.mark.parametrize("size", [1.0, 10.0, 1e4, 1e6, 1e30])
def test_real_values_pass(size: float) -> None:
    ranges = EXACT if size == 1.0 else LOGITS
    assert value_faults(ranges, **values(size)) == {}
    assert value_faults(ranges, **values(size, stderr=None, exact=True)) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["esv", "values", "stderr", "gaps", "scores"])
@pytest.mark.parametrize("ranges", [EXACT, SAMPLED, LOGITS, Ranges(in_logits=True, efficient=False)])
def test_what_is_not_finite_never_passes(ranges: Ranges, name: str, value: float) -> None:
    size = 10.0 if ranges.in_logits else 1.0
    faults = value_faults(ranges, **at_first(name, value, size))
    assert list(faults) == [1]
    assert name not in ("esv", "values") or faults[1] == NOT_FINITE


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scores", 0.9, "scores are not probabilities"),
        ("scores", -0.01, "scores are not probabilities"),
        ("esv", 1.5, "an ESV of size 1.5"),
        ("stderr", 1e10, "a standard error of 1e+10"),
        ("stderr", -1e-6, "a standard error of -1e-06"),
        ("gaps", -1e-6, "miss efficiency"),
        ("gaps", 1e-3, "miss efficiency"),
        ("esv", 0.6, "miss efficiency"),
    ],
)
def test_what_is_out_of_range(name: str, value: float, message: str) -> None:
    faults = value_faults(EXACT, **at_first(name, value) | {"exact": True})
    assert list(faults) == [1]
    assert message in faults[1]


def test_bounds_of_logits_grow_with_what_is_summed() -> None:
    for size in (10.0, 1e4, 1e6):
        made = values(size)
        made["esv"] = made["esv"] * np.float32(1 + 1e-6)
        assert value_faults(LOGITS, **made) == {}
        made["esv"] = made["esv"] * np.float32(1 + 1e-3)
        assert len(value_faults(LOGITS, **made)) == 3


def test_only_algorithm_1_may_miss_efficiency_and_by_what_it_recorded() -> None:
    made = at_first("esv", 0.6)
    missed = abs(made["esv"][1, :, 0].sum() - (made["values"][1, 0] - PRIOR[0]))
    recorded = made | {"gaps": np.array([0, missed, 0], np.float32)}
    assert value_faults(SAMPLED, **recorded) == {}
    assert list(value_faults(SAMPLED, **made)) == [1]
    assert list(value_faults(EXACT, **recorded)) == [1]
    assert list(value_faults(SAMPLED, **recorded | {"exact": True})) == [1]


def test_products_of_fewer_digits_widen_the_bounds() -> None:
    made = values(gaps=np.full(3, 1e-3, np.float32))
    assert len(value_faults(EXACT, **made)) == 3
    assert value_faults(ranges_of("probability", "exact", "high"), **made) == {}
