"""The first screen of a report: what was explained, whether it is complete and correct, and the model's accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.database import add_tables, connect, reading
from esv_ray.analysis.facets.summary import accuracy_of, exactness_of
from esv_ray.analysis.facets.words import class_in_words, counted
from esv_ray.analysis.statistics import wilson
from esv_ray.analysis.tables import MEMORY
from esv_ray.input.reasons import VARYING
from esv_ray.output.layout import VIDEOS
from esv_ray.output.verify.output import Verification
from esv_ray.report.content import Fact
from esv_ray.show.text import printable, shortened

SUMMARY = "Accuracy and contributions"
"""Title of the section with the table `summary`: the first screen is the summary of a report."""
_LENGTHS = 8
_ACCURACIES = 4
_MOST_PROBLEMS = 50  # besides the first
_REASONS = 5
_MOST_REASON = 300  # characters
_BY_REASON = """
SELECT status, count(*) AS rows, min(reason) AS example FROM videos WHERE status <> 'ok'
GROUP BY status, regexp_replace(reason, ?, '#', 'g')
ORDER BY status, rows DESC, example
"""


def facts_of(analyzed: Analyzed, verification: Verification, summary: pa.Table) -> list[Fact]:
    """Return the lines of the first screen.

    Args:
        analyzed: the output.
        verification: result of its check.
        summary: table of the facet `summary`.

    Raises:
        DataError: the videos table cannot be read.
    """
    rows = summary.to_pylist()
    return [
        *_explained(analyzed, rows),
        _whole(analyzed, verification),
        _checked(verification, exact=any(row["exact_share"] for row in rows)),
        *_by_reason(analyzed),
        *_accuracy(analyzed, rows),
    ]


def _explained(analyzed: Analyzed, rows: Sequence[dict[str, object]]) -> Iterator[Fact]:
    manifest = analyzed.manifest
    spec, estimator = manifest.spec, manifest.spec["estimator"]
    classes = len(manifest.model["prior"])
    yield Fact("Model", f"{_place(spec['model'])}, {classes} {'class' if classes == 1 else 'classes'}")
    yield Fact("Data", f"{_place(spec['features'])}, {counted(manifest.rows, 'video')}")
    if analyzed.census.videos_of:
        yield Fact("Elements per video", _lengths(analyzed.census.videos_of))
    kind, asked = f"{estimator['kind']}", _asked(estimator)
    # "exact: 54 exact" would say it twice.
    yield Fact("Estimator", f"{asked}; {exactness_of(list(rows), kind).removesuffix('.')}" if rows else asked)
    unit = "logits" if analyzed.in_logits else "probabilities"
    yield Fact("Class explained", f"{class_in_words(analyzed)}; ESVs are parts of {unit}")


def _asked(estimator: Mapping[str, Any]) -> str:
    """Return the estimator that was asked for; one that may sample with its numbers."""
    if estimator["kind"] == "exact":
        return "exact"
    return (
        f"{estimator['kind']}, m = {estimator['m']:,}, {counted(estimator['iterations'], 'iteration')}, "
        f"seed {estimator['seed']}"
    )


def _lengths(videos_of: Mapping[int, int]) -> str:
    """Return the numbers of elements; of many the range, and the one that most videos have."""
    lengths = sorted(videos_of)
    if len(lengths) <= _LENGTHS:
        return ", ".join(map(str, lengths))
    most = max(lengths, key=lambda n: (videos_of[n], n))
    return (
        f"{lengths[0]} to {lengths[-1]} ({len(lengths)} lengths); findings are of the most frequent, {most} "
        f"({counted(videos_of[most], 'video')})"
    )


def _whole(analyzed: Analyzed, verification: Verification) -> Fact:
    counts = verification.counts
    text = (
        f"{len(analyzed.units):,} of {counted(len(analyzed.manifest.units), 'unit')} committed; "
        f"{counted(counts.rows, 'row')}: {counts.ok:,} ok, {counts.skipped:,} skipped, {counts.failed:,} failed"
    )
    if not analyzed.finished:
        return Fact("Unfinished", text, "warning")
    return Fact("Complete", text, "good" if counts.ok else "bad")


def problems_of(verification: Verification) -> list[str]:
    """Return what `esv verify` found. That units are missing is no fault; the line on completeness says it."""
    return [each for each in verification.problems if not each.endswith("run the job again to resume")]


def _checked(verification: Verification, *, exact: bool) -> Fact:
    """Return what `esv verify` says; a note says what it could not check.

    Args:
        verification: its result.
        exact: whether there are exact ESVs, whose sums it compared with the scores. The gap is then the largest of all
            units; that of the line on the estimator is the one that the job recorded.
    """
    problems = problems_of(verification)
    if not problems:
        notes = "".join(f" ({printable(note)})" for note in verification.notes[:1])
        sums = f"; the stored exact ESVs add up to the scores within {verification.worst_gap:.1e}" if exact else ""
        return Fact("Verified", f"esv verify found no problems{sums}{notes}", "warning" if notes else "good")
    first = shortened(problems[0], _MOST_REASON)
    if len(problems) == 1:
        return Fact("Verified", f"1 problem: {first}", "bad")
    rest = [shortened(each, _MOST_REASON) for each in problems[1 : _MOST_PROBLEMS + 1]]
    left = len(problems) - 1 - len(rest)
    rest += [f"{left:,} more: run esv verify"] if left else []
    return Fact("Verified", f"{len(problems):,} problems; the first: {first}", "bad", rest)


def _by_reason(analyzed: Analyzed) -> Iterator[Fact]:
    """Yield why videos failed or were skipped: the most frequent first; reasons that differ in numbers are one."""
    with connect(memory=MEMORY) as con, reading(analyzed.output):
        add_tables(con, analyzed.output, analyzed.units, [VIDEOS])
        found = con.execute(_BY_REASON, [VARYING]).fetchall()
    for status, state in (("failed", "bad"), ("skipped", "warning")):
        reasons = [(rows, reason or "no reason") for each, rows, reason in found if each == status]
        if reasons:
            shown = [f"{rows:,}: {printable(reason[:_MOST_REASON])}" for rows, reason in reasons[:_REASONS]]
            others = sum(rows for rows, _ in reasons[_REASONS:])
            shown += [f"{others:,} for other reasons"] if others else []
            yield Fact(status.capitalize(), "; ".join(shown), state)


def _accuracy(analyzed: Analyzed, rows: Sequence[dict[str, Any]]) -> Iterator[Fact]:
    """Yield the accuracy of the lengths that most videos have, with its interval.

    Where each video has one length (`frames: all`), the accuracy of all videos comes first, and that of the length that
    the findings are of; else lengths are not mixed.
    """
    labelled = [row for row in rows if row["labelled"]]
    several = len(labelled) > 1 and analyzed.manifest.spec["frames"] == "all"
    if several:
        count = sum(row["labelled"] for row in labelled)
        right = sum(round(row["accuracy"] * row["labelled"]) for row in labelled)
        low, high = (float(end) for end in wilson(right, count))
        row = {"labelled": count, "accuracy": right / count, "accuracy_low": low, "accuracy_high": high}
        yield Fact("Accuracy of all videos", accuracy_of(row).removeprefix("Accuracy ").removesuffix("."))
    shown = 1 if several else _ACCURACIES
    most = sorted(labelled, key=lambda row: (-int(str(row["labelled"])), -int(str(row["n_elements"]))))[:shown]
    for row in most:
        of = f" at {counted(int(str(row['n_elements'])), 'element')}" if len(labelled) > 1 else ""
        yield Fact(f"Accuracy{of}", accuracy_of(row).removeprefix("Accuracy ").removesuffix("."))
    if len(labelled) > len(most):
        yield Fact("Accuracy at other lengths", f"{len(labelled) - len(most)} more in the table “{SUMMARY}”")


def _place(location: object) -> str:
    return printable(storage.without_credentials(str(location)))
