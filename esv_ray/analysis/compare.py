"""Compare two outputs, or two methods of one output, on the videos that both have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa

from esv_ray import storage
from esv_ray.analysis.analyzed import Analyzed, ClassName, open_output
from esv_ray.analysis.compare_sums import (
    BINS,
    MEANS,
    OF_CLASS,
    Length,
    add_batch,
    known_or_none,
    make_keys,
    overall_spearman,
)
from esv_ray.analysis.comparison import AGREEMENT, CHANGES, COMPARE, CORRELATIONS, Comparison
from esv_ray.analysis.database import connect, reading
from esv_ray.analysis.pairing import Overlap, Side, index_of, overlap, paired_batches
from esv_ray.analysis.statistics import means, newcombe, wilson
from esv_ray.analysis.tables import chosen, tables_of_facets
from esv_ray.core.correlation import FloatArray
from esv_ray.errors import DataError, SpecError, count_of

MEMORY = 384_000_000
"""Bytes that DuckDB may use."""
CHANGES_KEPT = 10
_RANGES = {
    **dict.fromkeys(("score_a", "score_b"), (0.0, 1.0)),
    **dict.fromkeys(("score_difference", "pearson", "spearman", "cosine"), (-1.0, 1.0)),
    **dict.fromkeys(("difference", "in_stderrs"), (0.0, np.inf)),
}
"""Possible values, which the intervals of few videos do not leave."""


def compare(
    a: str | PathLike[str],
    b: str | PathLike[str] | None = None,
    *,
    method_a: str = "esv",
    method_b: str = "esv",
    class_: ClassName | None = None,
    changes: int = CHANGES_KEPT,
) -> Comparison:
    """Compare two outputs on the videos that both have, or two methods of one output.

    Args:
        a: location of an output, finished or not.
        b: location of the other output; None: the same as `a`.
        method_a: method whose values of `a` are compared.
        method_b: method whose values of `b` are compared.
        class_: class to compare: each video's `label`, or the class that `a` predicts; None: the label if there is any.
        changes: number of sequences to keep for each number of elements: those that differ most.

    Raises:
        SpecError: nothing can be compared: other classes, values of another kind, or the same values twice.
        DataError: there is no output, a table cannot be read, or the outputs have no videos in common.
    """
    a, b = (storage.absolute(storage.given(each, "output")) for each in (a, a if b is None else b))
    if storage.without_links(a) == storage.without_links(b):
        b = a
    _check_different(a, b, method_a, method_b)
    return _compare((Side(open_output(a, class_), method_a), Side(open_output(b), method_b)), changes)


def compare_with(analyzed: Analyzed, b: str, *, changes: int = CHANGES_KEPT) -> Comparison:
    """Compare the ESVs of an open output with those of another one, as `compare` does.

    Args:
        analyzed: output A; also says of which class.
        b: location of output B.
        changes: as for `compare`.

    Raises:
        SpecError: as for `compare`.
        DataError: as for `compare`.
        JobError: a file of B is of another job, or of other rows than the plan says.
    """
    b = storage.absolute(b)
    if storage.without_links(analyzed.output) == storage.without_links(b):
        b = analyzed.output
    _check_different(analyzed.output, b, "esv", "esv")
    return _compare((Side(analyzed, "esv"), Side(open_output(b), "esv")), changes)


def _check_different(a: str, b: str, method_a: str, method_b: str) -> None:
    """Raise `SpecError` if the same values would be compared with themselves."""
    if a == b and method_a == method_b:
        raise SpecError(
            f"compare: expected two outputs, or two methods of one (--method-b), got {a} and {method_a} twice"
        )


def _compare(sides: tuple[Side, Side], changes: int) -> Comparison:
    a, b = (side.analyzed.output for side in sides)
    check_alike(sides[0].analyzed, sides[1].analyzed)
    _check_methods(sides)
    indexes = index_of(sides[0].analyzed), index_of(sides[1].analyzed)
    shared = overlap(*indexes)
    if not shared.shared:
        raise DataError(
            f"{a} and {b}: expected videos with the same video_id, found none among {shared.only_a} and "
            f"{shared.only_b}; compare outputs of the same feature table"
        )
    with connect(memory=MEMORY) as con, reading(f"{a} and {b}"):
        counts = [side.analyzed.census.videos_of for side in sides]
        if not counts[0].keys() & counts[1].keys():
            raise DataError(
                f"{a} and {b}: expected videos with ESVs at the same number of elements, got {_listed(counts[0])} and "
                f"{_listed(counts[1])} elements"
            )
        lengths = {n: Length() for n in sorted({*counts[0], *counts[1]})}
        make_keys(con)
        for rows in paired_batches(con, *sides, indexes):
            add_batch(con, rows, lengths, changes)
        overall = overall_spearman(con)
    for n, of in lengths.items():
        of.videos = counts[0].get(n, 0), counts[1].get(n, 0)
    return _comparison(sides, shared, lengths, overall)


def agreement(output: str, class_: ClassName | None = None) -> pa.Table:
    """Return how the values of the methods of an output correlate: the table `agreement` of `esv analyze`.

    Args:
        output: location of an output, finished or not.
        class_: as for `compare`.

    Raises:
        SpecError: the output has values of one method only, or none of the class.
        DataError: there is no output, or a table cannot be read.
    """
    analyzed = open_output(storage.absolute(output), class_)
    if len(analyzed.methods) < 2:
        raise SpecError(
            f"{output}: expected two outputs, or one with values of several methods, got values of "
            f"{', '.join(analyzed.methods)}; give a second output, or see `methods` of the spec"
        )
    with tables_of_facets(analyzed, chosen(analyzed, ["agreement"])) as (made,):
        return made.table


def _check_methods(sides: tuple[Side, Side]) -> None:
    """Raise `SpecError` if an output has no values of the method that is compared."""
    for side, option in zip(sides, ("--method-a", "--method-b"), strict=True):
        if side.method not in side.analyzed.methods:
            raise SpecError(
                f"{side.analyzed.output}: expected values of the method {side.method!r:.60}, found those of "
                f"{', '.join(side.analyzed.methods)}; choose one of them ({option})"
            )


def check_alike(a: Analyzed, b: Analyzed) -> None:
    """Refuse outputs whose values mean different things.

    Raises:
        SpecError: says what differs.
    """
    between = f"{a.output} and {b.output}"
    counts = [len(each.manifest.model["prior"]) for each in (a, b)]
    if counts[0] != counts[1]:
        raise SpecError(f"{between}: expected models of the same classes, got {counts[0]} and {counts[1]} classes")
    for class_id, names in enumerate(zip(a.names or (), b.names or (), strict=False)):
        if names[0] != names[1]:
            raise SpecError(
                f"{between}: expected models of the same classes, got {names[0]!r:.80} and {names[1]!r:.80} for class "
                f"{class_id}"
            )
    if a.in_logits != b.in_logits:
        kinds = ["logits" if each.in_logits else "probabilities" for each in (a, b)]
        raise SpecError(
            f"{between}: expected ESVs of the same kind, got {kinds[0]} and {kinds[1]}; run a job with the other "
            "estimator.output"
        )


def _listed(lengths: Iterable[int]) -> str:
    ordered = sorted(lengths)
    return (", ".join(map(str, ordered[:8])) or "no") + (", ..." if len(ordered) > 8 else "")


def _comparison(
    sides: tuple[Side, Side], shared: Overlap, lengths: Mapping[int, Length], overall: Mapping[int, float | None]
) -> Comparison:
    ordered = sorted(lengths.items())
    names = sides[0].analyzed.names or sides[1].analyzed.names
    changes = [row for _, of in ordered for row in of.changes]
    for row in changes:
        row["name"] = names[row["class"]] if names else None
    methods = {"method_a": sides[0].method, "method_b": sides[1].method}
    compared = [_row(n, of, overall.get(n)) for n, of in ordered]
    agreement = [{**row, **methods, "videos": row["compared"]} for row in compared]
    correlations = [
        {"n_elements": n, "lower": lower, "upper": upper, "videos": videos}
        for n, of in ordered
        if of.histogram.any()
        for lower, upper, videos in zip(BINS[:-1].tolist(), BINS[1:].tolist(), of.histogram.tolist(), strict=True)
    ]
    tables = {
        name: pa.Table.from_pylist([{key: row.get(key) for key in schema.names} for row in rows], schema)
        for name, schema, rows in (
            ("compare", COMPARE, compared),
            ("agreement", AGREEMENT, agreement),
            ("correlations", CORRELATIONS, correlations),
            ("changes", CHANGES, changes),
        )
    }
    return Comparison(
        a=sides[0],
        b=sides[1],
        shared=shared.shared,
        only_a=shared.only_a,
        only_b=shared.only_b,
        notes=_notes(sides, [of for _, of in ordered]),
        **tables,
    )


def _row(n: int, of: Length, overall: float | None) -> dict[str, Any]:
    """Return the row of a length in the table `compare`."""
    (neither, only_b), (only_a, both) = of.right.tolist()
    labelled = int(of.right.sum())
    row: dict[str, Any] = {"n_elements": n, "videos_a": of.videos[0], "videos_b": of.videos[1]}
    row |= {"videos": of.sequences, "labelled": labelled, "compared": of.compared}
    row |= {"right_in_both": both, "right_in_a": only_a, "right_in_b": only_b, "right_in_neither": neither}
    for side, right in (("a", both + only_a), ("b", both + only_b)):
        low, high = wilson(right, labelled)
        row[f"accuracy_{side}"] = right / labelled if labelled else None
        row |= {f"accuracy_{side}_low": known_or_none(low), f"accuracy_{side}_high": known_or_none(high)}
    ends = newcombe(both, only_a, only_b, neither)
    row |= {"accuracy_difference": (only_b - only_a) / labelled if labelled else None}
    row |= {f"accuracy_difference_{end}": known_or_none(each) for end, each in zip(("low", "high"), ends, strict=True)}
    for name in (*OF_CLASS, *MEANS):
        if name in of.sums:
            found = means(of.sums[name])
            range_ = _RANGES.get(name, (-np.inf, np.inf))
            values = {"": found.mean, "_low": np.clip(found.low, *range_), "_high": np.clip(found.high, *range_)}
            row |= {f"{name}{suffix}": known_or_none(each[0]) for suffix, each in values.items()}
    row |= {"pearson_overall": _pearson_of(of.moments), "spearman_overall": overall}
    return row


def _pearson_of(moments: FloatArray) -> float | None:
    count, a, b, aa, bb, ab = moments.tolist()
    if not count:
        return None
    spread = (aa - a * a / count) * (bb - b * b / count)
    return float(np.clip((ab - a * b / count) / np.sqrt(spread), -1, 1)) if spread > 0 else None


def _notes(sides: tuple[Side, Side], lengths: Sequence[Length]) -> tuple[str, ...]:
    """Return what a reader must know: what is missing, and what differs besides the values."""
    notes = []
    for side, name in zip(sides, "AB", strict=True):
        if not side.analyzed.finished:
            notes.append(f"{name} is {side.analyzed.progress}")
    missing = sum(of.sequences - of.compared for of in lengths)
    if missing:
        notes.append(
            f"{count_of(missing, 'sequence')} without values of {sides[0].method} in A or {sides[1].method} in B "
            "for the class: `classes` of the jobs decides which are kept"
        )
    for count, text in (
        (sum(of.other_frames for of in lengths), "whose elements are other frames in B"),
        (sum(of.other_labels for of in lengths), "with another label in B; that of A counts"),
    ):
        if count:
            notes.append(f"{count_of(count, 'sequence')} {text}")
    if sides[1].analyzed.census.labelled and not sides[0].analyzed.census.labelled:
        notes.append("A has no labels, and those of B are not used; give the output with labels first")
    priors = np.abs(np.subtract(*(side.analyzed.manifest.model["prior"] for side in sides))).max()
    if priors > 1e-6:
        notes.append(
            f"the class priors differ, by at most {priors:.3g}, and so does what the ESVs of a class add up to"
        )
    return tuple(notes)
