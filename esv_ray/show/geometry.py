"""Where the bars and the waterfall of a video lie: heights in pixels, whatever draws them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import NamedTuple

import numpy as np

from esv_ray.show.video import FloatArray

_LEAST_BAR = 1.0  # pixels of a bar of zero


class Box(NamedTuple):
    """A bar.

    Attributes:
        y, height: of its top edge, and its height, in pixels from the top.
        supports: whether its value is above 0.
    """

    y: float
    height: float
    supports: bool


@dataclass(frozen=True)
class Scale:
    """From values to pixels below the top.

    Attributes:
        low, high: values at the bottom and at the top.
        height: pixels between them.
    """

    low: float
    high: float
    height: float

    def y(self, value: float) -> float:
        """Return pixels from the top."""
        return (self.high - value) / (self.high - self.low) * self.height

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values inside, at most `most`, at least one."""
        step = 10.0 ** floor(log10((self.high - self.low) / most))
        while (self.high - self.low) / step > most:
            step *= 2 if f"{step:e}"[0] != "2" else 2.5
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def scale_of(values: Iterable[FloatArray | Sequence[float]], height: float, *, zero: bool = True) -> Scale:
    """Return a scale that holds all values, and 0 unless `zero` is false; values that are not finite count as 0."""
    every = [np.nan_to_num(np.asarray(each, float), posinf=0.0, neginf=0.0) for each in values]
    ends = np.concatenate([*every, np.zeros(1)] if zero or not every else every)
    low, high = float(ends.min()), float(ends.max())
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return Scale(low, high, height)


def bars(values: FloatArray, scale: Scale) -> list[Box]:
    """Return a bar per value, from 0 to it."""
    return [_box(0.0, value, scale) for value in np.nan_to_num(values, posinf=0.0, neginf=0.0).tolist()]


def levels(prior: float, esv: FloatArray) -> list[float]:
    """Return the prior, and the prior plus the ESVs up to each element, in time order: n + 1 values."""
    return [prior, *(prior + np.cumsum(np.nan_to_num(esv, posinf=0.0, neginf=0.0))).tolist()]


def waterfall(steps: Sequence[float], scale: Scale) -> list[Box]:
    """Return a bar per element, from one level to the next."""
    return [_box(start, end, scale) for start, end in pairwise(steps)]


def _box(start: float, end: float, scale: Scale) -> Box:
    top, bottom = scale.y(max(start, end)), scale.y(min(start, end))
    height = max(_LEAST_BAR, bottom - top)
    supports = end > start
    return Box(bottom - height if supports else top, height, supports)
