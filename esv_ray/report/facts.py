"""The first screen of a report: what was explained, whether it is whole and right, and how accurate the model is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from esv_ray import storage
from esv_ray.analysis.analysed import Analysed
from esv_ray.analysis.database import add_tables, connect, reading
from esv_ray.analysis.facets.summary import accuracy_of, exactness_of
from esv_ray.analysis.facets.words import class_in_words
from esv_ray.analysis.tables import MEMORY
from esv_ray.errors import count_of
from esv_ray.input.reasons import VARYING
from esv_ray.output.layout import VIDEOS
from esv_ray.output.verify.output import Verification
from esv_ray.report.content import Fact
from esv_ray.show.text import printable

_LENGTHS = 8
_ACCURACIES = 4
_SHOWN = 3  # problems
_REASONS = 5
_MOST_REASON = 300  # characters
_BY_REASON = """
SELECT status, count(*) AS rows, min(reason) AS example FROM videos WHERE status <> 'ok'
GROUP BY status, regexp_replace(reason, ?, '#', 'g')
ORDER BY status, rows DESC, example
"""


def facts_of(analysed: Analysed, verification: Verification, summary: pa.Table) -> list[Fact]:
    """Return the lines of the first screen.

    Args:
        analysed: the output.
        verification: result of its check.
        summary: table of the facet `summary`.

    Raises:
        DataError: the videos table cannot be read.
    """
    rows = summary.to_pylist()
    return [
        *_explained(analysed, rows),
        _whole(analysed, verification),
        _checked(verification),
        *_by_reason(analysed),
        *_accuracy(rows),
    ]


def _explained(analysed: Analysed, rows: Sequence[dict[str, object]]) -> Iterator[Fact]:
    manifest = analysed.manifest
    spec, estimator = manifest.spec, manifest.spec["estimator"]
    classes = len(manifest.model["prior"])
    yield Fact("Model", f"{_place(spec['model'])}, {classes} {'class' if classes == 1 else 'classes'}")
    yield Fact("Data", f"{_place(spec['features'])}, {count_of(manifest.rows, 'video')}")
    lengths = analysed.census.lengths
    if lengths:
        others = f" and {len(lengths) - _LENGTHS} other lengths" if len(lengths) > _LENGTHS else ""
        shown = ", ".join(map(str, lengths[:_LENGTHS]))
        yield Fact("Elements per video", f"{shown}{others}")
    kind = f"{estimator['kind']}"
    yield Fact("Estimator", f"{kind}: {exactness_of(list(rows))}" if rows else kind)
    unit = "logits" if analysed.in_logits else "probabilities"
    yield Fact("Class explained", f"{class_in_words(analysed)}; ESVs are parts of {unit}")


def _whole(analysed: Analysed, verification: Verification) -> Fact:
    counts = verification.counts
    text = (
        f"{len(analysed.units)} of {count_of(len(analysed.manifest.units), 'unit')} committed; of "
        f"{count_of(counts.rows, 'video')} {counts.ok} ok, {counts.skipped} skipped, {counts.failed} failed"
    )
    return Fact("Complete" if analysed.finished else "Unfinished", text, "good" if analysed.finished else "warning")


def _checked(verification: Verification) -> Fact:
    """Return what `esv verify` says. That units are missing is no fault; the line on completeness says it."""
    problems = [each for each in verification.problems if not each.endswith("run the job again to resume")]
    if not problems:
        notes = "".join(f" ({printable(note)})" for note in verification.notes[:1])
        return Fact("Verified", f"esv verify found no problems{notes}", "good")
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    text = f"{count_of(len(problems), 'problem')}: {'; '.join(map(printable, problems[:_SHOWN]))}{more}"
    return Fact("Verified", text, "bad")


def _by_reason(analysed: Analysed) -> Iterator[Fact]:
    """Yield why videos failed or were skipped: the most frequent first; reasons that differ in numbers are one."""
    with connect(memory=MEMORY) as con, reading(analysed.output):
        add_tables(con, analysed.output, analysed.units, [VIDEOS])
        found = con.execute(_BY_REASON, [VARYING]).fetchall()
    for status, state in (("failed", "bad"), ("skipped", "warning")):
        reasons = [(rows, reason or "no reason") for each, rows, reason in found if each == status]
        if reasons:
            shown = [f"{rows}: {printable(reason[:_MOST_REASON])}" for rows, reason in reasons[:_REASONS]]
            others = sum(rows for rows, _ in reasons[_REASONS:])
            shown += [f"{others} for other reasons"] if others else []
            yield Fact(status.capitalize(), "; ".join(shown), state)


def _accuracy(rows: Sequence[dict[str, object]]) -> Iterator[Fact]:
    """Yield the accuracy of the lengths that most videos have, with its interval; lengths are never mixed."""
    labelled = [row for row in rows if row["labelled"]]
    most = sorted(labelled, key=lambda row: (-int(str(row["labelled"])), -int(str(row["n_elements"]))))[:_ACCURACIES]
    for row in most:
        of = f" at {count_of(int(str(row['n_elements'])), 'element')}" if len(labelled) > 1 else ""
        yield Fact(f"Accuracy{of}", accuracy_of(row).removeprefix("Accuracy ").removesuffix("."))
    if len(labelled) > len(most):
        yield Fact("Accuracy at other lengths", f"{len(labelled) - len(most)} more in the table summary")


def _place(location: object) -> str:
    return printable(storage.without_credentials(str(location)))
