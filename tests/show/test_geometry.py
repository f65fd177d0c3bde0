"""Where bars and waterfalls lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.show.geometry import bars, levels, scale_of, waterfall

values = st.lists(st.integers(-1000, 1000), min_size=1, max_size=40).map(lambda hundredths: np.array(hundredths) / 100)


@given(values, st.floats(-1, 1))
def test_a_waterfall_leads_from_the_prior_to_the_sum(esv: np.ndarray, prior: float) -> None:
    steps = levels(prior, esv)
    assert steps[0] == prior
    assert steps[-1] == pytest.approx(prior + esv.sum(), abs=1e-9)
    scale = scale_of([steps], 100, zero=False)
    boxes = waterfall(steps, scale)
    assert len(boxes) == len(esv)
    for box, value, start in zip(boxes, esv, steps[:-1], strict=True):
        edge = box.y + box.height if value > 0 else box.y
        assert edge == pytest.approx(scale.y(start), abs=1e-6)


@given(values)
def test_bars_stand_on_zero_and_have_the_heights_of_values(esv: np.ndarray) -> None:
    scale = scale_of([esv], 100)
    for box, value in zip(bars(esv, scale), esv, strict=True):
        assert -1 <= box.y <= box.y + box.height <= 101
        assert box.supports == (value > 0)
        assert box.height == pytest.approx(max(1, 100 * abs(value) / (scale.high - scale.low)))


@given(values)
def test_ticks_are_few_round_and_inside(esv: np.ndarray) -> None:
    scale = scale_of([esv], 100)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in ticks)
    assert all(len(f"{tick:g}".lstrip("-").replace(".", "").replace("0", "")) <= 8 for tick in ticks)


def test_values_that_are_not_finite_are_zero() -> None:
    scale = scale_of([np.array([np.nan, np.inf, 1.0])], 100)
    assert (scale.low, scale.high) == (0, 1)
    assert [box.height for box in bars(np.array([np.nan, -np.inf, 1.0]), scale)] == [1, 1, 100]
    assert scale_of([], 100).ticks()
