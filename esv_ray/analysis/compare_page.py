"""A comparison as lines of text: at most 80 columns; names are shortened in the middle, numbers never."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from esv_ray.analysis.comparison import Comparison
from esv_ray.analysis.facets import agreement
from esv_ray.analysis.facets.words import Row, class_text, counted, of_main_length, percent, plain, signed
from esv_ray.analysis.pages import page_lines, table_lines, wrapped

IN_STDERRS = (
    "In standard errors: the difference of two ESVs divided by their combined standard error. By sampling alone it "
    "would be 0.80 on average."  # sqrt(2 / pi): mean |x| of a standard normal variable
)
_MOST_LENGTHS = 20


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
    if changes and not any(row["difference"] for row in changes):
        yield ""
        yield f"No value of {counted(main, 'element')} differs."
    elif changes:
        yield ""
        names = comparison.a.analyzed.names or comparison.b.analyzed.names
        yield from _changes(changes, main, names)


def agreement_lines(table: pa.Table) -> Iterator[str]:
    """Yield the lines of the table `agreement` of all pairs of methods."""
    yield from page_lines(agreement.page(table))


def head_sentences(comparison: Comparison) -> Iterator[str]:
    """Yield what is compared, and what a reader must know first."""
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        yield f"{name}: {side.method} of {side.analyzed.output}"
    explained = "label" if comparison.a.analyzed.explained == "label" else "class predicted by A"
    yield (
        f"{counted(comparison.shared, 'video')} in both, {comparison.only_a:,} in A only, {comparison.only_b:,} in B "
        f"only. Values of the {explained}."
    )
    for note in comparison.notes:
        yield f"Note: {note}."


def counts_sentence(row: Row) -> str:
    """Return how many sequences of a length are compared, and in how many each side is right."""
    text = (
        f"Sequences of {counted(row['n_elements'], 'element')}: {row['videos_a']:,} in A, {row['videos_b']:,} in B, "
        f"{row['videos']:,} in both; ESVs are compared of {row['compared']:,}."
    )
    if row["labelled"]:
        text += (
            f" Of {row['labelled']:,} with a label both are right in {row['right_in_both']:,}, A alone in "
            f"{row['right_in_a']:,}, B alone in {row['right_in_b']:,}, none in {row['right_in_neither']:,}."
        )
    return text


def measures(row: Row, *, of_one: bool) -> list[Sequence[str]]:
    """Return the measures of a length as texts: name, mean, 95 % interval; those that are not known are left out.

    Args:
        row: of the table `compare`.
        of_one: whether two methods of one output are compared (`Comparison.of_one`).
    """
    lines: list[Sequence[str]] = []

    def add(title: str, name: str, spelling: str = "+.3f", factor: float = 1, unit: str = "") -> None:
        if row[name] is not None:
            ends = [row.get(f"{name}_{end}") for end in ("low", "high")]
            finer = spelling if factor > 1 else spelling.replace("3", "4")
            known = [f"{factor * end:{finer}}" for end in ends if end is not None]
            interval = "..".join(known) if len(known) == len(ends) else "-"
            lines.append((title, f"{factor * row[name]:{spelling}}{unit}", interval))

    if of_one:  # the predictions are the same
        row = row | dict.fromkeys(("accuracy_b", "accuracy_difference", "score_b", "score_difference"))
    for side in "AB":
        add(f"accuracy of {side}", f"accuracy_{side.lower()}", ".1f", 100, " %")
    add("accuracy, B - A, in points", "accuracy_difference", "+.1f", 100)
    for side in "AB":
        add(f"score of {side}", f"score_{side.lower()}", ".3f")
    add("score, B - A", "score_difference")
    for title, name in (("Pearson's r", "pearson"), ("Spearman's rank correlation", "spearman")):
        add(f"{title}, per video", name)
        add(f"{title}, all elements", f"{name}_overall")
    add("cosine, per video", "cosine")
    add("mean |B - A| of an ESV", "difference", ".3f")
    add("|B - A| in standard errors", "in_stderrs", ".3f")
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


def _changes(rows: Sequence[Row], n: int, names: Sequence[str] | None) -> Iterator[str]:
    yield from wrapped(f"The largest changes, of {counted(n, 'element')}; the element that changes most:")
    rows = [row for row in rows if row["difference"]]
    shown = [
        (
            class_text(row["class"], names),
            row["video_id"],
            f"{row['predicted_a']} {row['predicted_b']}",
            plain(row["difference"]),
            str(row["element"]),
            signed(row["esv_a"]),
            signed(row["esv_b"]),
        )
        for row in rows
    ]
    heads = ("class", "video", "predicted", "|B - A|", "element", "A", "B")
    yield from table_lines(heads, shown, names=2, classes=names or ())
