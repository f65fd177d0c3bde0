"""Measurements of the faithfulness benchmark: values of each video, means with intervals, printed tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esv_ray.analysis.statistics import mean_of

FloatArray = npt.NDArray[np.float64]

MEASURES = ("key_auc", "deletion", "insertion", "comprehensiveness", "sufficiency")
_HEADS = ("key AUC", "deletion", "insertion", "compr.", "suff.")
_WITH_INTERVAL = MEASURES[:3]
_NAME = 20  # characters
_CELL = 20


@dataclass(frozen=True)
class Interval:
    """A mean over videos with its 95 % interval (percentile bootstrap over videos); NaN without videos."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Measured:
    """Measures of the videos by one method, or for an order that is no method.

    Attributes:
        ids: B names.
        videos: (B, 5), NaN where unknown, in the order of `MEASURES`:
            key_auc: share of pairs of a deciding and another element that are ranked right;
            deletion, insertion: areas under the score while elements are taken away, and while they are added, most
            supporting ones first (Petsiuk et al. 2018);
            comprehensiveness, sufficiency: mean over 1, 5, 10, 20 and 50 % of the elements of the score minus that
            without the most supporting ones, and minus that of these alone (DeYoung et al. 2020).
        video_ms: milliseconds per video.
    """

    ids: list[str]
    videos: FloatArray
    video_ms: float

    def interval(self, measure: str) -> Interval:
        """Return the mean of a measure over the videos where it is known."""
        return _interval(self.ids, self.videos[:, MEASURES.index(measure)])

    def less(self, other: Measured, measure: str) -> Interval:
        """Return the mean of the difference between this and another method's measure of the same video."""
        assert self.ids == other.ids, "of one call of measure"
        column = MEASURES.index(measure)
        return _interval(self.ids, self.videos[:, column] - other.videos[:, column])


def _interval(ids: list[str], values: FloatArray) -> Interval:
    known = ~np.isnan(values)
    found = mean_of([name for name, is_known in zip(ids, known, strict=True) if is_known], values[known, None])
    return Interval(float(found.mean[0]), float(found.low[0]), float(found.high[0]))


def means_table(measured: Mapping[str, Measured]) -> list[str]:
    """Return the lines of a table of all means."""
    lines = [f"{'':22}{'key AUC':>9}{'deletion':>10}{'insertion':>11}{'compr.':>8}{'suff.':>8}{'ms/video':>10}"]
    for name, row in measured.items():
        widths = (9, 10, 11, 8, 8)
        cells = [f"{row.interval(measure).mean:{w}.3f}" for measure, w in zip(MEASURES, widths, strict=True)]
        cells.append(f"{row.video_ms:10.2f}")
        lines.append(f"{name:22}" + "".join("-".rjust(len(cell)) if "nan" in cell else cell for cell in cells))
    return lines


def intervals_table(measured: Mapping[str, Measured]) -> list[str]:
    """Return the lines of a table of the means of three measures with their intervals."""
    rows = {name: [row.interval(measure) for measure in _WITH_INTERVAL] for name, row in measured.items()}
    return _with_intervals("mean (95 % interval)", rows)


def differences_table(measured: Mapping[str, Measured], reference: str) -> list[str]:
    """Return the lines of a table of `reference` minus each other row, paired by video."""
    base = measured[reference]
    rows = {
        name: [base.less(row, measure) for measure in _WITH_INTERVAL]
        for name, row in measured.items()
        if name != reference
    }
    return _with_intervals(f"{reference} minus", rows, sign="+")


def _with_intervals(title: str, rows: Mapping[str, list[Interval]], sign: str = "") -> list[str]:
    lines = [f"{title:{_NAME}}" + "".join(head.rjust(_CELL) for head in _HEADS[: len(_WITH_INTERVAL)])]
    for name, intervals in rows.items():
        lines.append(f"{name:{_NAME}}" + "".join(_cell(each, sign).rjust(_CELL) for each in intervals))
    return lines


def _cell(interval: Interval, sign: str) -> str:
    """Return a mean with its interval; values that are all equal have none."""
    if np.isnan(interval.mean):
        return "-"
    mean = _short(interval.mean, sign)
    if np.isnan([interval.low, interval.high]).any():
        return mean
    return f"{mean} ({_short(interval.low, sign)} {_short(interval.high, sign)})"


def _short(value: float, sign: str) -> str:
    """Return a number with three digits after the point, and none before it if that is 0."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:{sign}.3f}"
