"""The values of one committed unit against the ranges that its job held them to (`ranges`).

An output may have been written, or changed, by anybody: nothing is taken for granted but the tables' types, and all
comparisons are written so that NaN fails them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite, log
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError
from esv_ray.output.ranges import MOST_SCORE_SUM, Ranges, ranges_of

_LEAST_SCORE = 1e-30  # smaller ones have lost digits in float32
_MOST_PRIOR_SUM = 2e-4  # prior's sum less 1: twice what a bundle's may have


@dataclass(frozen=True, eq=False)
class Expected:
    """What a job's plan says of its values.

    Attributes:
        prior: (C,) class prior.
        ranges: of its values.
        label_only: whether ESVs of labelled classes alone are kept.
        tolerance: whether the estimator had one.
    """

    prior: npt.NDArray[np.float64]
    ranges: Ranges
    label_only: bool
    tolerance: bool


def expected_of(spec: Mapping[str, Any], model: Mapping[str, Any]) -> Expected:
    """Read them off a run.json.

    Args:
        spec: the job's.
        model: what it says of the model.

    Raises:
        DataError: they are no spec, or the prior is no distribution.
    """
    try:
        asked, classes = spec["estimator"], spec["classes"]
        ranges = ranges_of(asked["output"], asked["kind"], spec["compute"]["matmul"])
        tolerance = asked["tolerance"] is not None
        prior = np.array(model["prior"], dtype=np.float64)
        known = model.get("n_classes", prior.size)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"run.json: expected a job's spec and prior, got something else ({error!r:.80})") from None
    if prior.ndim != 1 or prior.size != known or not known:
        raise DataError(f"run.json: expected a prior of {known} classes, got {prior.shape}")
    if not ((prior >= 0) & (prior <= 1)).all() or not abs(float(prior.sum()) - 1) <= _MOST_PRIOR_SUM:
        raise DataError(
            "run.json: expected a prior of probabilities that sum to 1, got numbers from "
            f"{prior.min():.6g} to {prior.max():.6g} that sum to {prior.sum():.9g}"
        )
    return Expected(prior, ranges, not any(choice != "label" for choice in classes), tolerance)


class _Video(NamedTuple):
    """An `ok` row of the videos table that is well, or what is wrong with it."""

    name: str
    n: int
    scores: npt.NDArray[np.float32]
    exact: bool
    gap: float
    fault: str | None


class _Sum(NamedTuple):
    """The ESVs of a class of a video: their sum, and how far rounding may take it."""

    class_: int
    total: float
    bound: float


def value_problems(good: pa.Table, rows: pa.Table, expected: Expected) -> tuple[float, list[str]]:
    """The worst efficiency gap of the exact rows of a unit, and what is wrong with its values, one line each.

    Args:
        good: the `ok` rows of its videos table.
        rows: its attributions.
        expected: of its job.
    """
    keys = list(zip(good.column("video_id").to_pylist(), good.column("n_elements").to_pylist(), strict=True))
    place = {key: index for index, key in enumerate(keys)}
    others = good.drop_columns(["scores"]).to_pylist()
    videos = [_video(row, scores, expected) for row, scores in zip(others, _scores(good), strict=True)]
    problems = [*_row_problems(rows, expected), *(f"{video.name}: {video.fault}" for video in videos if video.fault)]
    sums: dict[int, list[_Sum]] = {}
    for group in _groups(rows):
        index = place.get((group["video_id"], group["n_elements"]))
        name = f"video {group['video_id']!r} at {group['n_elements']} elements, class {group['class']}"
        if index is None:
            problems.append(f"{name}: attributions without an `ok` row in videos")
            continue
        of = sums.setdefault(index, [])
        fault = _group_fault(group, videos[index], expected)
        if fault is not None:
            problems.append(f"{name}: {fault}")
        elif isfinite(group["esv_sum"]):  # what is not was told
            of.append(_sum(group, videos[index], expected))
    if not expected.label_only:
        problems += [f"{videos[i].name}: no attributions" for i in range(len(videos)) if i not in sums]
    worst = [0.0]
    for index, video in enumerate(videos):
        gaps, found = _gap_problems(video, sums.get(index, []), expected)
        problems += found
        worst += gaps if video.exact else []
    if not problems and not _same_frames(rows):
        problems.append("frame_index differs between the classes of a video")
    return float(np.max(worst)), problems


def _row_problems(rows: pa.Table, expected: Expected) -> Iterator[str]:
    """Of the attributions taken one by one."""
    if not np.isfinite(rows.column("esv").to_numpy()).all():
        yield "ESVs are not finite"
    errors, most = rows.column("stderr").drop_null().to_numpy(), expected.ranges.most_stderr
    if not (np.isfinite(errors) & (errors >= 0)).all():
        yield "standard errors are not finite and >= 0"
    elif not (errors <= most).all():
        yield f"standard errors: expected at most {most:.6g}, got {errors.max():.9g}"


def _same_frames(rows: pa.Table) -> bool:
    """Whether an element of a video is the same frame for all classes."""
    frames = rows.group_by(["video_id", "n_elements", "element"], use_threads=False).aggregate(
        [("frame_index", "count_distinct")]
    )
    return bool((frames.column("frame_index_count_distinct").to_numpy() == 1).all())


def _groups(rows: pa.Table) -> list[dict[str, Any]]:
    """The attributions of each class of each video, summed up."""
    sized = rows.append_column("size", pc.abs(rows.column("esv")))
    grouped = sized.group_by(["video_id", "n_elements", "class"], use_threads=False).aggregate(
        [
            ("esv", "sum"),
            ("size", "sum"),
            ("size", "max"),
            ("element", "count_distinct"),
            ("element", "min"),
            ("element", "max"),
            ("element", "count"),
            ("stderr", "count"),
        ]
    )
    found: list[dict[str, Any]] = grouped.to_pylist()
    return found


def _scores(good: pa.Table) -> Iterator[npt.NDArray[np.float32]]:
    """The scores of each row, NaN in the place of nulls; no Python object is made of each."""
    for chunk in good.column("scores").chunks:
        values, offsets = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        for row, there in enumerate(chunk.is_valid().to_numpy(zero_copy_only=False)):
            yield values[offsets[row] : offsets[row + 1] if there else offsets[row]]


def _video(row: Mapping[str, Any], scores: npt.NDArray[np.float32], expected: Expected) -> _Video:
    name, n = f"video {row['video_id']!r} at {row['n_elements']} elements", row["n_elements"]
    gap = np.nan if row["efficiency_gap"] is None else float(row["efficiency_gap"])
    return _Video(name, n, scores, row["exact"], gap, _video_fault(row, scores, gap, expected))


def _video_fault(row: Mapping[str, Any], scores: npt.NDArray[np.float32], gap: float, expected: Expected) -> str | None:
    """What is wrong with an `ok` row of the videos table by itself."""
    n, count, exact = row["n_elements"], len(expected.prior), row["exact"]
    least, most = 1 - expected.ranges.most_score, expected.ranges.most_score
    inside = len(scores) == count and bool(((scores >= least) & (scores <= most)).all())
    iterations, label = row["iterations"], row["label"]
    checks = (
        (
            inside and abs(float(scores.sum(dtype=np.float64)) - 1) <= MOST_SCORE_SUM,
            f"{count} scores from 0 to 1 that sum to 1",
        ),
        (
            inside and row["predicted"] == int(np.argmax(scores)),
            f"the class of the largest score as predicted, got {row['predicted']}",
        ),
        (1 <= n <= row["n_frames"], f"1 to {row['n_frames']} elements, its frames"),
        (label is None or 0 <= label < count, f"a label from 0 to {count - 1}, got {label}"),
        (row["evaluations"] >= 1, f"evaluations, got {row['evaluations']}"),
        (
            iterations is not None and (iterations == 0 if exact else iterations >= 1),
            f"iterations {'0, since it is exact' if exact else 'from 1'}, got {iterations}",
        ),
        ((row["tolerance_met"] is not None) == expected.tolerance, "tolerance_met where there is a tolerance only"),
        (gap >= 0 and isfinite(gap), f"an efficiency_gap from 0, got {gap:.3g}"),
    )
    return next((f"expected {what}" for good, what in checks if not good), None)


def _group_fault(group: Mapping[str, Any], video: _Video, expected: Expected) -> str | None:
    """What is wrong with the attributions of a class of a video, apart from their sum."""
    n, count = group["n_elements"], len(expected.prior)
    if not 0 <= group["class"] < count:
        return f"expected classes 0..{count - 1}"
    if video.exact and group["stderr_count"]:
        return "exact ESVs have no standard errors"
    if group["stderr_count"] not in (0, group["element_count"]):
        return "expected a standard error of each ESV, or of none"
    if tuple(group[f"element_{what}"] for what in ("count", "count_distinct", "min", "max")) != (n, n, 0, n - 1):
        return (
            f"expected one row for each element 0..{n - 1}, got {group['element_count']} rows of "
            f"{group['element_count_distinct']} elements from {group['element_min']} to {group['element_max']}"
        )
    most = expected.ranges.most_esv(exact=video.exact)
    if isfinite(group["esv_sum"]) and not group["size_max"] <= most:
        return f"expected ESVs of at most {most:.6g}, got {group['size_max']:.9g}"
    return None


def _sum(group: Mapping[str, Any], video: _Video, expected: Expected) -> _Sum:
    class_, ranges = group["class"], expected.ranges
    size = group["size_sum"]
    if ranges.in_logits and not video.fault:
        # Of |score| and |prior| no more is known than that they differ by the sum of the ESVs and the job's gap.
        before = abs(log(expected.prior[class_])) if expected.prior[class_] > 0 else 0.0
        size += 2 * before + abs(group["esv_sum"]) + video.gap
    return _Sum(class_, group["esv_sum"], float(ranges.gap_bound(size)))


def _gap_problems(video: _Video, sums: list[_Sum], expected: Expected) -> tuple[list[float], list[str]]:
    """The efficiency gaps of a video, and what is wrong with them."""
    ranges, exact = expected.ranges, video.exact
    if video.fault or not sums:
        return [], []
    complete = len(sums) == len(expected.prior)
    largest = max(one.bound for one in sums) if complete or not ranges.in_logits else inf
    most = ranges.most_recorded_gap(video.n, largest, exact=exact)
    gaps, problems = [video.gap], []
    if not video.gap <= most:
        problems.append(f"{video.name}: efficiency_gap {video.gap:.2g}, expected at most {most:g}")
    slack = 0.0 if exact or ranges.efficient else video.gap
    if not ranges.in_logits:
        for one in sums:
            gap = abs(one.total - (float(video.scores[one.class_]) - float(expected.prior[one.class_])))
            gaps.append(gap)
            if not gap <= one.bound + slack:
                told = f"efficiency gap {gap:.2g}, expected at most {one.bound + slack:g}"
                problems.append(f"{video.name}, class {one.class_}: {told}")
        return gaps, problems
    gap, allowed = _gap_between(video, sums, expected, slack)
    if not gap <= allowed:
        problems.append(f"{video.name}: efficiency gap {gap:.2g} between classes, expected at most {allowed:g}")
    return [*gaps, gap], problems


def _gap_between(video: _Video, sums: list[_Sum], expected: Expected, slack: float) -> tuple[float, float]:
    """How far classes disagree about the logits' common part, which probabilities do not tell; and what is allowed."""
    shifts, bounds = [], []
    for one in sums:
        score, before = float(video.scores[one.class_]), float(expected.prior[one.class_])
        if score > _LEAST_SCORE and before > 0:
            shifts.append(one.total + log(before) - log(score))
            bounds.append(one.bound + slack)
    if len(shifts) < 2:
        return 0.0, 0.0
    return float(np.max(shifts) - np.min(shifts)), sum(sorted(bounds)[-2:])
