"""The part of a report that compares its output with a second one: what `esv compare` shows, and changed videos."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.compare import compare_with
from esv_ray.analysis.compare_page import IN_STDERRS, counts_sentence, head_sentences, measures
from esv_ray.analysis.comparison import Comparison
from esv_ray.analysis.facets.words import of_main_length
from esv_ray.report.content import ComparisonPart, Section, ShownVideo
from esv_ray.report.sections import section_of
from esv_ray.show.read import read_videos
from esv_ray.show.text import printable

FIGURES = {
    "compare": (
        "Accuracy and agreement",
        "Near 1, both outputs find the same elements of a video important. The difference of the accuracies is paired "
        "by video: it may be clear where the intervals of A and B overlap.",
    ),
    "correlations": (
        "Agreement video by video",
        "Bars at the right end: these videos have the same order of elements in both; at 0 and below, another one.",
    ),
}
"""Tables of a comparison that have a figure: their titles, and how each is read."""
_CHANGED = 12
_LENGTHS = 12
_REASON = "most changed"


def compared(analyzed: Analyzed, other: str) -> ComparisonPart:
    """Compare an output with a second one.

    Args:
        analyzed: A; also says of which class.
        other: location of B.

    Raises:
        SpecError: nothing can be compared, or the libraries of figures are not installed.
        DataError: there is no output, a table cannot be read, or the two have no videos in common.
        JobError: a file of B is of another job, or of other rows than the plan says.
    """
    comparison = compare_with(analyzed, other, changes=_CHANGED)
    rows = comparison.compare.to_pylist()
    main, _ = of_main_length(comparison.compare)
    row = next(row for row in rows if row["n_elements"] == main)
    sentences = [*map(printable, head_sentences(comparison)), counts_sentence(row)]
    if row["in_stderrs"] is not None:
        sentences.append(IN_STDERRS)
    sequences = _most_changed(comparison.changes)
    own, others = (
        read_videos(side.analyzed.output, side.analyzed.units, sequences) for side in (comparison.a, comparison.b)
    )
    return ComparisonPart(
        title="A (this output) compared with B",
        sentences=sentences,
        table=_table(comparison, main),
        changed=[ShownVideo(now, [_REASON], before=then) for now, then in zip(own, others, strict=True)],
        sections=_sections(comparison),
    )


def _sections(comparison: Comparison) -> list[Section]:
    """Return the tables of the comparison that have a figure; those without rows are left out."""
    analyzed = comparison.a.analyzed
    both = {row["n_elements"]: row["videos"] for row in comparison.compare.to_pylist()}
    return [
        section_of(
            analyzed,
            name,
            (table, table.num_rows),
            table,
            title=title,
            sentences=[],
            reading=reading,
            videos_of=both,
        )
        for name, (title, reading) in FIGURES.items()
        for table in (comparison.tables[name],)
        if table.num_rows
    ]


def _most_changed(changes: pa.Table) -> Sequence[tuple[str, int]]:
    """Return the videos that differ most, each once, at the length at which it does."""
    order = sorted(changes.to_pylist(), key=lambda row: (-row["difference"], row["video_id"], -row["n_elements"]))
    lengths: dict[str, int] = {}
    for row in order:
        lengths.setdefault(row["video_id"], row["n_elements"])
    return list(lengths.items())[:_CHANGED]


def _table(comparison: Comparison, main: int) -> pa.Table:
    """Return the measures of the main length first, then those of other lengths."""
    rows = sorted(comparison.compare.to_pylist(), key=lambda row: (row["n_elements"] != main, row["n_elements"]))
    lines = [
        {"elements": row["n_elements"], "measure": name, "mean": mean, "95 % interval": interval}
        for row in rows[:_LENGTHS]
        for name, mean, known in measures(row, of_one=comparison.of_one)
        for interval in (None if known == "-" else known,)
    ]
    types = {"elements": pa.int32(), "measure": pa.string(), "mean": pa.string(), "95 % interval": pa.string()}
    return pa.Table.from_pylist(lines, pa.schema(types))
