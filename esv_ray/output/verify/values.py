"""The values of one committed unit, checked against the ranges that its job enforced (`ranges`).

Anybody may have written or changed an output: only the types of the tables are relied on, and all comparisons are
written so that NaN fails them. Tables are checked by columns; Python objects are made for problems only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from esv_ray.output.ranges import MOST_SCORE_SUM
from esv_ray.output.verify.efficiency import gap_problems
from esv_ray.output.verify.expected import Expected
from esv_ray.output.verify.value_tables import (
    BoolArray,
    Float64Array,
    Groups,
    Int64Array,
    Videos,
    read_groups,
    read_videos,
)

_Check = tuple[BoolArray, Callable[[int], str]]
"""Which rows pass, and the fault of one that does not."""


def value_problems(ok_videos: pa.Table, rows: pa.Table, expected: Expected) -> tuple[float, list[str]]:
    """Check the values of a unit.

    Args:
        ok_videos: the `ok` rows of its videos table.
        rows: its attributions.
        expected: constraints that its job sets.

    Returns:
        The largest efficiency gap of its exact rows, and the problems, one line each.
    """
    videos = read_videos(ok_videos, len(expected.prior))
    groups = read_groups(rows, videos)
    video_faults = _video_faults(videos, expected)
    group_faults = _group_faults(groups, videos, expected)
    problems = [*_row_problems(rows, expected)]
    problems += [f"{videos.name(video)}: {fault}" for video, fault in video_faults.items()]
    problems += [f"{groups.name(group)}: {fault}" for group, fault in group_faults.items()]
    if not expected.label_only:
        absent = np.setdiff1d(np.arange(ok_videos.num_rows), groups.video)
        problems += [f"{videos.name(video)}: no attributions" for video in absent.tolist()]
    worst, gaps = gap_problems(videos, groups, expected, video_faults, group_faults)
    problems += gaps
    if not problems and not _same_frames(rows):
        problems.append("frame_index differs between the classes of a video")
    return worst, problems


def _row_problems(rows: pa.Table, expected: Expected) -> Iterator[str]:
    """Check attributions one by one."""
    if not np.isfinite(rows.column("esv").to_numpy()).all():
        yield "ESVs are not finite"
    errors, most = rows.column("stderr").drop_null().to_numpy(), expected.ranges.most_stderr
    if not (np.isfinite(errors) & (errors >= 0)).all():
        yield "standard errors are not finite and >= 0"
    elif not (errors <= most).all():
        yield f"standard errors: expected at most {most:.6g}, got {errors.max():.9g}"


def _same_frames(rows: pa.Table) -> bool:
    """Return whether an element of a video is the same frame for all classes."""
    frames = rows.group_by(["video_id", "n_elements", "element"], use_threads=False).aggregate(
        [("frame_index", "count_distinct")]
    )
    return bool((frames.column("frame_index_count_distinct").to_numpy() == 1).all())


def _video_faults(videos: Videos, expected: Expected) -> dict[int, str]:
    """Find what is wrong with `ok` rows of the videos table by themselves: the first fault of each."""
    table, n, count = videos.table, videos.n, len(expected.prior)
    frames, evaluations = (table.column(name).to_numpy() for name in ("n_frames", "evaluations"))
    # Null becomes NaN, which equals nothing.
    label, iterations, predicted = (
        table.column(name).to_numpy().astype(np.float64) for name in ("label", "iterations", "predicted")
    )
    inside, sums, best = _score_checks(videos, expected)
    met = table.column("tolerance_met").is_valid().to_numpy()
    counted = np.where(videos.exact, iterations == 0, iterations >= 1)
    no_label = np.isnan(label)

    def text(name: str, row: int) -> object:
        return table.column(name)[row].as_py()

    checks: list[_Check] = [
        (inside & (np.abs(sums - 1) <= MOST_SCORE_SUM), lambda _: f"{count} scores from 0 to 1 that sum to 1"),
        (
            inside & (predicted == best),
            lambda row: f"the class of the largest score as predicted, got {text('predicted', row)}",
        ),
        ((n >= 1) & (n <= frames), lambda row: f"1 to {text('n_frames', row)} elements, its frames"),
        (
            no_label | ((label >= 0) & (label < count)),
            lambda row: f"a label from 0 to {count - 1}, got {text('label', row)}",
        ),
        (evaluations >= (n >= expected.shortest), lambda row: f"evaluations, got {text('evaluations', row)}"),
        (
            counted,
            lambda row: (
                f"iterations {'0, since it is exact' if videos.exact[row] else 'from 1'}, got {text('iterations', row)}"
            ),
        ),
        (met == expected.tolerance, lambda _: "tolerance_met where there is a tolerance only"),
        (
            _differences_fit(videos, label, predicted, expected),
            lambda _: "stderr_difference of each element where a sampled video is misclassified, else none",
        ),
        (
            (videos.gap >= 0) & np.isfinite(videos.gap),
            lambda row: f"an efficiency_gap from 0, got {videos.gap[row]:.3g}",
        ),
    ]
    return {video: f"expected {fault}" for video, fault in _first_faults(checks).items()}


def _differences_fit(videos: Videos, label: Float64Array, predicted: Float64Array, expected: Expected) -> BoolArray:
    """Return (V,) whether standard errors of the difference are null where they must be, else n numbers in range."""
    fits = np.ones(len(videos.n), dtype=bool)
    may_have = ~videos.exact & ~np.isnan(label) & (label != predicted)
    most = 2 * expected.ranges.most_stderr
    column = videos.table.column("stderr_difference")
    for row in np.flatnonzero(column.is_valid().to_numpy()).tolist():
        values = np.array(column[row].as_py(), dtype=np.float64)  # null becomes NaN
        inside = bool(((values >= 0) & (values <= most) & np.isfinite(values)).all())
        fits[row] = may_have[row] and len(values) == videos.n[row] and inside
    return fits


def _score_checks(videos: Videos, expected: Expected) -> tuple[BoolArray, Float64Array, Int64Array]:
    """Return (V,) whether there are C scores from 0 to 1, their sum, and the class of the largest."""
    least, most = 1 - expected.ranges.most_score, expected.ranges.most_score
    has_scores = videos.scores_row >= 0
    rows = videos.scores_row[has_scores]
    inside, sums, best = has_scores.copy(), np.full(len(has_scores), np.nan), np.zeros(len(has_scores), np.int64)
    within = np.logical_and(videos.scores >= least, videos.scores <= most)
    inside[has_scores] = np.logical_and.reduce(within, axis=1)[rows]
    sums[has_scores] = videos.scores.sum(axis=1, dtype=np.float64)[rows]
    best[has_scores] = videos.scores.argmax(axis=1)[rows]
    return inside, sums, best


def _group_faults(groups: Groups, videos: Videos, expected: Expected) -> dict[int, str]:
    """Find what is wrong with the attributions of a class of a video, apart from their sum: the first fault of each."""
    count, ranges = len(expected.prior), expected.ranges
    n, errors, rows = (groups.column(name) for name in ("n_elements", "stderr_count", "element_count"))
    distinct, least, most = (groups.column(f"element_{statistic}") for statistic in ("count_distinct", "min", "max"))
    exact = np.append(videos.exact, False)[groups.video]
    largest = groups.column("size_max").astype(np.float64)
    bound = np.where(exact, ranges.most_esv(exact=True), ranges.most_esv(exact=False))
    checks: list[_Check] = [
        (groups.video >= 0, lambda _: "attributions without an `ok` row in videos"),
        ((groups.class_ >= 0) & (groups.class_ < count), lambda _: f"expected classes 0..{count - 1}"),
        (~(exact & (errors > 0)), lambda _: "exact ESVs have no standard errors"),
        ((errors == 0) | (errors == rows), lambda _: "expected a standard error of each ESV, or of none"),
        (
            (rows == n) & (distinct == n) & (least == 0) & (most == n - 1),
            lambda group: (
                f"expected one row for each element 0..{n[group] - 1}, got {rows[group]} rows of "
                f"{distinct[group]} elements from {least[group]} to {most[group]}"
            ),
        ),
        (
            ~np.isfinite(groups.total) | (largest <= bound),
            lambda group: f"expected ESVs of at most {bound[group]:.6g}, got {largest[group]:.9g}",
        ),
    ]
    return _first_faults(checks)


def _first_faults(checks: Sequence[_Check]) -> dict[int, str]:
    """Return the first fault of each row that fails a check, by row."""
    passed = np.stack([valid for valid, _ in checks])  # (checks, rows)
    faulty = np.flatnonzero(~passed.all(axis=0))
    first = passed[:, faulty].argmin(axis=0)
    return {row: checks[check][1](row) for row, check in zip(faulty.tolist(), first.tolist(), strict=True)}
