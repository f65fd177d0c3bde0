"""Requests of frames."""

from __future__ import annotations

import numpy as np
import pytest

from esv_ray.decoding import Evenly, Fps, ShortSide, Stretch
from esv_ray.decoding.selection import evenly
from esv_ray.errors import SpecError
from esv_ray.input.frames import sample_frames


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 100, 12345])
@pytest.mark.parametrize("count", [1, 3, 8, 16])
def test_frames_are_sampled_as_a_job_samples_them(total: int, count: int) -> None:
    n = min(count, total)
    assert evenly(total, count) == sample_frames(np.array([total]), n)[0].tolist()


def test_requests_are_checked() -> None:
    for make in (
        lambda: Fps(0),
        lambda: Fps(float("nan")),
        lambda: Evenly(0),
        lambda: Stretch(0, 5),
        lambda: ShortSide(8, (9, 8)),
    ):
        with pytest.raises(SpecError, match="expected"):
            make()
