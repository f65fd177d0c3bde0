"""A comparison as lines of text: at most 80 columns; names are shortened in the middle, numbers never."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from esv_ray.analysis.comparison import Comparison
from esv_ray.analysis.facets.words import Row, of_main_length, other_lengths, percent, plain, signed, span
from esv_ray.analysis.pages import table_lines, wrapped
from esv_ray.errors import count_of
from esv_ray.show.text import shortened

IN_STDERRS = (
    "In standard errors: the difference of two ESVs divided by their combined standard error. By sampling alone it "
    "would be 0.80 on average."  # sqrt(2 / pi): mean |x| of a standard normal variable
)
_MOST_LENGTHS = 20
_MOST_ID = 26  # characters of an id


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of a comparison."""
    for sentence in head_sentences(comparison):
        yield from wrapped(sentence)
    rows = comparison.compare.to_pylist()
    main, _ = of_main_length(comparison.compare)
    row = next(row for row in rows if row["n_elements"] == main)
    yield ""
    yield from wrapped(counts_sentence(row))
    yield from table_lines(("", "mean", "95 %"), measures(row, of_one=comparison.of_one), names=0)
    if row["in_stderrs"] is not None:
        yield from wrapped(IN_STDERRS)
    if len(rows) > 1:
        yield ""
        yield from _lengths(rows)
    changes = [row for row in comparison.changes.to_pylist() if row["n_elements"] == main]
    if changes:
        yield ""
        yield from _changes(changes, main)


def agreement_lines(table: pa.Table) -> Iterator[str]:
    """Yield the lines of the table `agreement` of several pairs of methods."""
    main, rows = of_main_length(table)
    shown = [
        (
            row["method_a"],
            row["method_b"],
            str(row["videos"]),
            *(text for name in ("pearson", "spearman") for text in _with_interval(row, name)),
        )
        for row in rows.to_pylist()
    ]
    yield from wrapped(agreement_sentence(table))
    yield from table_lines(("A", "B", "videos", "Pearson", "95 %", "Spearman", "95 %"), shown, names=2)
    note = other_lengths(table, main)
    if note:
        yield from wrapped(note)


def agreement_sentence(table: pa.Table) -> str:
    """Return what the table `agreement` has."""
    main, _ = of_main_length(table)
    return f"Correlation of the values of two methods in each video, of {count_of(main, 'element')}: means over videos."


def _with_interval(row: Row, name: str) -> tuple[str, str]:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return signed(row[name]), "-" if low is None else f"{low:+.2f}..{high:+.2f}"


def head_sentences(comparison: Comparison) -> Iterator[str]:
    """Yield what is compared, and what a reader must know first."""
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        yield f"{name}: {side.method} of {side.analysed.output}"
    explained = "label" if comparison.a.analysed.explained == "label" else "class predicted by A"
    yield (
        f"{count_of(comparison.shared, 'video')} in both, {comparison.only_a} in A only, {comparison.only_b} in B "
        f"only. Values of the {explained}."
    )
    for note in comparison.notes:
        yield f"Note: {note}."


def counts_sentence(row: Row) -> str:
    """Return how many sequences of a length are compared, and in how many each side is right."""
    text = (
        f"Sequences of {count_of(row['n_elements'], 'element')}: {row['videos_a']} in A, {row['videos_b']} in B, "
        f"{row['videos']} in both; ESVs are compared of {row['compared']}."
    )
    if row["labelled"]:
        text += (
            f" Of {row['labelled']} with a label both are right in {row['right_in_both']}, A alone in "
            f"{row['right_in_a']}, B alone in {row['right_in_b']}, none in {row['right_in_neither']}."
        )
    return text


def measures(row: Row, *, of_one: bool) -> list[Sequence[str]]:
    """Return the measures of a length as texts: name, mean, 95 % interval; those that are not known are left out.

    Args:
        row: of the table `compare`.
        of_one: whether two methods of one output are compared (`Comparison.of_one`).
    """
    lines: list[Sequence[str]] = []

    def add(title: str, value: str, low: float | None, high: float | None, *, shares: bool = False) -> None:
        if value != "-":
            lines.append((title, value, span(low, high, shares=shares)))

    if of_one:  # the predictions are the same
        row = row | dict.fromkeys(("accuracy_b", "accuracy_difference", "score_b", "score_difference"))
    for title, name in (("accuracy of A", "accuracy_a"), ("accuracy of B", "accuracy_b")):
        add(title, percent(row[name], 1), row[f"{name}_low"], row[f"{name}_high"], shares=True)
    change = row["accuracy_difference"]
    add(
        "accuracy, B - A",
        "-" if change is None else f"{100 * change:+.1f} %",
        row["accuracy_difference_low"],
        row["accuracy_difference_high"],
        shares=True,
    )
    for title, name in (("score of A", "score_a"), ("score of B", "score_b"), ("score, B - A", "score_difference")):
        add(title, signed(row[name]) if "-" in title else plain(row[name]), row[f"{name}_low"], row[f"{name}_high"])
    for title, name in (("Pearson's r", "pearson"), ("Spearman's rank correlation", "spearman")):
        add(f"{title}, per video", signed(row[name]), row[f"{name}_low"], row[f"{name}_high"])
        add(f"{title}, all elements", signed(row[f"{name}_overall"]), None, None)
    add("cosine, per video", signed(row["cosine"]), row["cosine_low"], row["cosine_high"])
    for title, name in (("mean |B - A| of an ESV", "difference"), ("|B - A| in standard errors", "in_stderrs")):
        add(title, plain(row[name]), row[f"{name}_low"], row[f"{name}_high"])
    return lines


def _lengths(rows: Sequence[Row]) -> Iterator[str]:
    shown = [
        (
            *(str(row[name]) for name in ("n_elements", "videos_a", "videos_b", "videos")),
            *(percent(row[name], 1) for name in ("accuracy_a", "accuracy_b")),
            *(signed(row[name]) for name in ("pearson", "spearman", "cosine")),
            plain(row["difference"]),
        )
        for row in rows[:_MOST_LENGTHS]
    ]
    heads = ("n", "in A", "in B", "both", "acc. A", "acc. B", "Pearson", "Spearman", "cosine", "|B - A|")
    yield from table_lines(heads, shown, names=0)
    if len(rows) > _MOST_LENGTHS:
        yield f"{len(rows) - _MOST_LENGTHS} more lengths in the table."


def _changes(rows: Sequence[Row], n: int) -> Iterator[str]:
    yield from wrapped(f"The largest changes, of {count_of(n, 'element')}; the element that changes most:")
    shown = [
        (
            str(row["class"]) if row["name"] is None else row["name"],
            shortened(row["video_id"], _MOST_ID),
            f"{row['predicted_a']} {row['predicted_b']}",
            plain(row["difference"]),
            str(row["element"]),
            signed(row["esv_a"]),
            signed(row["esv_b"]),
        )
        for row in rows
    ]
    heads = ("class", "video", "predicted", "|B - A|", "element", "A", "B")
    yield from table_lines(heads, shown, names=1)
