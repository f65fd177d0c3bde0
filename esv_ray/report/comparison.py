"""The part of a report that compares its output with a second one: what `esv compare` tells, and changed videos."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from esv_ray.analysis.analysed import ClassName
from esv_ray.analysis.compare import compare
from esv_ray.analysis.compare_page import IN_STDERRS, counts_sentence, head_sentences, measures
from esv_ray.analysis.comparison import Comparison
from esv_ray.analysis.facets.words import of_main_length
from esv_ray.report.content import ComparisonPart, ShownVideo
from esv_ray.show.read import read_videos
from esv_ray.show.text import printable

_CHANGED = 12
_LENGTHS = 12
_REASON = "most changed"


def compared(output: str, other: str, class_: ClassName | None) -> ComparisonPart:
    """Compare an output with a second one.

    Args:
        output, other: their locations: A and B.
        class_: whose ESVs: of the label, or of the class that A predicts; None: the label if there are labels.

    Raises:
        SpecError: nothing can be compared.
        DataError: there is no output, a table cannot be read, or the two have no videos in common.
    """
    comparison = compare(output, other, class_=class_, changes=_CHANGED)
    rows = comparison.compare.to_pylist()
    main, _ = of_main_length(comparison.compare)
    row = next(row for row in rows if row["n_elements"] == main)
    sentences = [*map(printable, head_sentences(comparison)), counts_sentence(row)]
    if row["in_stderrs"] is not None:
        sentences.append(IN_STDERRS)
    sequences = _most_changed(comparison.changes)
    own, others = (
        read_videos(side.analysed.output, side.analysed.units, sequences) for side in (comparison.a, comparison.b)
    )
    return ComparisonPart(
        title="A (this output) compared with B",
        sentences=sentences,
        table=_table(comparison, main),
        changed=[ShownVideo(now, [_REASON], before=then) for now, then in zip(own, others, strict=True)],
    )


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
        for name, mean, interval in measures(row, of_one=comparison.of_one)
    ]
    types = {"elements": pa.int32(), "measure": pa.string(), "mean": pa.string(), "95 % interval": pa.string()}
    return pa.Table.from_pylist(lines, pa.schema(types))
