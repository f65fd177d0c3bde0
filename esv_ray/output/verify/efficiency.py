"""Efficiency of committed ESVs: their sum over the elements of a video against score - prior, for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log

import numpy as np

from esv_ray.output.verify.expected import Expected
from esv_ray.output.verify.value_tables import Float64Array, Groups, Int64Array, Videos

_LEAST_SCORE = 1e-30  # smaller ones have lost digits in float32


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of ESVs that can be compared with scores: S groups without faults of videos without faults.

    Attributes:
        video: (S,) index of the video.
        class_: (S,) class id.
        score: (S,) score of the class.
        prior: (S,) prior of the class.
        log_prior: (S,) logarithm of the prior; 0 where the prior is 0.
        total: (S,) sum of the ESVs.
        bound: (S,) |sum - (score - prior)| that rounding explains.
    """

    video: Int64Array
    class_: Int64Array
    score: Float64Array
    prior: Float64Array
    log_prior: Float64Array
    total: Float64Array
    bound: Float64Array


def _comparable_sums(
    videos: Videos,
    groups: Groups,
    expected: Expected,
    video_faults: Mapping[int, str],
    group_faults: Mapping[int, str],
) -> _Sums:
    sound = np.isfinite(groups.total) & ~np.isin(groups.video, list(video_faults))
    sound[list(group_faults)] = False
    group = np.flatnonzero(sound)
    video, class_, total = groups.video[group], groups.class_[group], groups.total[group]
    log_prior = np.array([log(prior) if prior > 0 else 0.0 for prior in expected.prior.tolist()])[class_]
    size = groups.size[group]
    if expected.ranges.in_logits:
        # |score| and |prior| are unknown, but they differ by the sum of the ESVs and the recorded gap.
        size = size + (2 * np.abs(log_prior) + np.abs(total) + videos.gap[video])
    score = videos.scores[videos.scores_row[video], class_].astype(np.float64)
    return _Sums(video, class_, score, expected.prior[class_], log_prior, total, expected.ranges.gap_bound(size))


def gap_problems(
    videos: Videos,
    groups: Groups,
    expected: Expected,
    video_faults: Mapping[int, str],
    group_faults: Mapping[int, str],
) -> tuple[float, list[str]]:
    """Compare sums of ESVs with scores; return the largest efficiency gap of exact rows, and the problems by video."""
    ranges = expected.ranges
    sums = _comparable_sums(videos, groups, expected, video_faults, group_faults)
    compared = np.unique(sums.video)
    largest = np.zeros(len(videos.n))
    np.maximum.at(largest, sums.video, sums.bound)
    if ranges.in_logits:
        complete = np.bincount(sums.video, minlength=len(videos.n)) == len(expected.prior)
        largest = np.where(complete, largest, inf)
    worst = [0.0, *videos.gap[compared[videos.exact[compared]]].tolist()]
    problems: list[tuple[int, str]] = []
    for video in compared.tolist():
        most = ranges.most_recorded_gap(int(videos.n[video]), float(largest[video]), exact=bool(videos.exact[video]))
        if not videos.gap[video] <= most:
            message = f"efficiency_gap {videos.gap[video]:.2g}, expected at most {most:g}"
            problems.append((video, f"{videos.name(video)}: {message}"))
    slack = np.where(videos.exact | ranges.efficient, 0.0, videos.gap)
    compare = _gaps_between_classes if ranges.in_logits else _gaps_of_classes
    gaps, sum_problems = compare(videos, sums, slack)
    problems = sorted([*problems, *sum_problems], key=lambda problem: problem[0])  # stable
    return float(np.max([*worst, *gaps])), [problem for _, problem in problems]


def _gaps_of_classes(videos: Videos, sums: _Sums, slack: Float64Array) -> tuple[Float64Array, list[tuple[int, str]]]:
    """Compare the ESVs of each class with score - prior.

    Returns:
        The gaps of exact rows, and (video, problem) of each class whose gap is too large.
    """
    gaps, most = np.abs(sums.total - (sums.score - sums.prior)), sums.bound + slack[sums.video]
    problems = []
    for place in np.flatnonzero(~(gaps <= most)).tolist():
        video, class_ = int(sums.video[place]), sums.class_[place]
        message = f"efficiency gap {gaps[place]:.2g}, expected at most {most[place]:g}"
        problems.append((video, f"{videos.name(video)}, class {class_}: {message}"))
    return gaps[videos.exact[sums.video]], problems


def _gaps_between_classes(
    videos: Videos, sums: _Sums, slack: Float64Array
) -> tuple[Float64Array, list[tuple[int, str]]]:
    """Compare classes of each video with each other.

    Probabilities do not determine the common part of logits. So log(score) - log(prior) - sum of ESVs must be the same
    for all classes of a video.

    Returns:
        The gaps of exact rows, and (video, problem) of each video whose gap is too large.
    """
    used = np.flatnonzero((sums.score > _LEAST_SCORE) & (sums.prior > 0))
    bounds = sums.bound[used] + slack[sums.video[used]]
    order = np.lexsort((bounds, sums.video[used]))  # by video, bounds ascending
    used, bounds = used[order], bounds[order]
    shifts = sums.total[used] + sums.log_prior[used] - np.log(sums.score[used])
    video, starts, counts = np.unique(sums.video[used], return_index=True, return_counts=True)
    video, starts, counts = video[counts > 1], starts[counts > 1], counts[counts > 1]
    if not len(video):
        return np.zeros(0), []
    ends = starts + counts
    bounded = np.stack([starts, ends], axis=1).ravel()  # reduceat takes every second range
    padded = np.append(shifts, 0.0)
    gaps = np.maximum.reduceat(padded, bounded)[::2] - np.minimum.reduceat(padded, bounded)[::2]
    most = bounds[ends - 2] + bounds[ends - 1]
    problems = []
    for place in np.flatnonzero(~(gaps <= most)).tolist():
        owner = int(video[place])
        message = f"efficiency gap {gaps[place]:.2g} between classes, expected at most {most[place]:g}"
        problems.append((owner, f"{videos.name(owner)}: {message}"))
    return gaps[videos.exact[video]], problems
