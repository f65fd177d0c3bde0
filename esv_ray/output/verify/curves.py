"""Scores while elements are taken away or replaced (tables `discards` and `replacements`) of one committed unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.output.computed import METHODS, ORDERS, REPLACED_BY
from esv_ray.output.verify.expected import Expected
from esv_ray.output.verify.rows import first_wrong, matched

_SEQUENCE = ["video_id", "n_elements"]
_ROUNDING = 1e-5  # of float32 values of order 1
_BY_VALUE = ("descending", "ascending")
_ENDS = ("score", "predicted")


def discard_problems(table: pa.Table, ok_videos: pa.Table, expected: Expected) -> Iterator[str]:
    """Check that each video has a score for each order and number of elements taken away, from its own to the prior.

    Args:
        table: the discards of a unit.
        ok_videos: the `ok` rows of its videos table.
        expected: constraints that its job sets.
    """
    due: set[tuple[str, ...]] = {("esv", order) for order in ORDERS} | _of_others(expected)
    yield from _curve_problems(table, ok_videos, expected, {"method": METHODS, "order": ORDERS}, due)
    class_ = table.column("class").to_numpy()
    if not _is_class(class_, expected).all():
        return
    keys, score = [*_SEQUENCE, "method", "order"], table.column("score").to_numpy()
    best = table.column("best").to_numpy(zero_copy_only=False)
    yield from first_wrong(
        table, keys, np.isnan(best) | (best >= score - _ROUNDING), "a best score that is none below `score`"
    )
    at_end = np.abs(score - expected.prior[class_]) <= _ROUNDING
    yield from first_wrong(table, keys, ~_all_gone(table) | at_end, "the prior after all elements are taken away")


def replacement_problems(table: pa.Table, ok_videos: pa.Table, expected: Expected) -> Iterator[str]:
    """Check that each video has a score for each order, replacement and number of elements replaced.

    Args:
        table: the replacements of a unit.
        ok_videos: the `ok` rows of its videos table.
        expected: constraints that its job sets.
    """
    words = {"method": METHODS, "order": ORDERS, "replaced_by": REPLACED_BY}
    pairs: set[tuple[str, ...]] = {("esv", order) for order in (*_BY_VALUE, "random")} | _of_others(expected)
    due = {(*pair, by) for pair in pairs for by in REPLACED_BY}
    yield from _curve_problems(table, ok_videos, expected, words, due)
    ends = table.filter(pa.array(_all_gone(table))).group_by(_SEQUENCE, use_threads=False)
    found = ends.aggregate([(name, end) for name in _ENDS for end in ("min", "max")])
    low, high = (np.stack([found.column(f"{name}_{end}").to_numpy() for name in _ENDS]) for end in ("min", "max"))
    same = (low == high).all(axis=0)
    yield from first_wrong(found, _SEQUENCE, same, "the same score in all orders after all elements are replaced")


def _of_others(expected: Expected) -> set[tuple[str, ...]]:
    return {(method, order) for method in expected.methods[1:] for order in _BY_VALUE}


def _all_gone(table: pa.Table) -> npt.NDArray[np.bool_]:
    gone: npt.NDArray[np.bool_] = table.column("discarded").to_numpy() >= table.column("n_elements").to_numpy()
    return gone


def _is_class(values: npt.NDArray[np.int32], expected: Expected) -> npt.NDArray[np.bool_]:
    return (values >= 0) & (values < len(expected.prior))


def _curve_problems(
    table: pa.Table,
    ok_videos: pa.Table,
    expected: Expected,
    words: Mapping[str, Sequence[str]],
    due: set[tuple[str, ...]],
) -> Iterator[str]:
    """Check curves: one row for each number of elements, all orders that are due, and values in range.

    Args:
        table: with one curve per sequence and group.
        ok_videos: the `ok` rows of the unit's videos table.
        expected: constraints that its job sets.
        words: columns of a group, and the values that they may have.
        due: groups that each sequence must have.
    """
    keys = [*_SEQUENCE, *words]
    found = table.group_by(keys, use_threads=False).aggregate(
        [("discarded", "count_distinct"), ("discarded", "min"), ("discarded", "max"), ("discarded", "count")]
    )
    n = found.column("n_elements").to_numpy()
    counts = (found.column(f"discarded_{name}").to_numpy() for name in ("count_distinct", "min", "max", "count"))
    distinct, least, most, rows = counts
    last, until = n, "n"
    if "replaced_by" in words:  # without any element left there is no neighbor
        last = n - pc.equal(found.column("replaced_by"), "neighbor").to_numpy()
        until = "n (n - 1 with neighbors)"
    whole = (distinct == last + 1) & (rows == last + 1) & (least == 0) & (most == last)
    yield from first_wrong(found, keys, whole, f"one row for each number of elements from 0 to {until}")
    for name, known in words.items():
        is_known = pc.is_in(found.column(name), pa.array(known)).to_numpy()
        yield from first_wrong(found, keys, is_known, f"a known {name}")
    both = matched(ok_videos.select(_SEQUENCE), found.group_by(_SEQUENCE, use_threads=False).aggregate([]), _SEQUENCE)
    if both is None:
        yield "expected the scores of each video that is ok, and of no other"
        return
    groups = set(zip(*(found.column(name).to_pylist() for name in words), strict=True))
    counts_of = found.group_by(_SEQUENCE, use_threads=False).aggregate([("order", "count")])
    if found.num_rows and (groups != due or pc.any(pc.not_equal(counts_of.column("order_count"), len(due))).as_py()):
        kind = "orders and replacements" if "replaced_by" in words else "orders"
        yield f"expected the {len(due)} {kind} of the methods {', '.join(expected.methods)} for each video"
    yield from _value_problems(table, keys, ok_videos, expected)


def _value_problems(table: pa.Table, keys: Sequence[str], ok_videos: pa.Table, expected: Expected) -> Iterator[str]:
    """Check the ranges of scores and classes, and that each curve begins with those of the video."""
    class_, predicted, score = (table.column(name).to_numpy() for name in ("class", "predicted", "score"))
    inside = _is_class(class_, expected) & _is_class(predicted, expected)
    yield from first_wrong(table, keys, inside, f"classes from 0 to {len(expected.prior) - 1}")
    yield from first_wrong(table, keys, (score >= -_ROUNDING) & (score <= 1 + _ROUNDING), "scores from 0 to 1")
    if not inside.all():
        return
    first = table.filter(pc.equal(table.column("discarded"), 0))
    # pyarrow cannot join tables with list columns: the scores are looked up by row number.
    numbered = ok_videos.select(_SEQUENCE).append_column("row", pa.array(np.arange(ok_videos.num_rows)))
    first = first.join(numbered, _SEQUENCE, join_type="inner")
    place, kept = first.column("row").to_numpy(), first.column("class").to_numpy()
    scores = [ok_videos.column("scores")[row].as_py() for row in place.tolist()]
    own = np.array(
        [values[of] if values and of < len(values) else np.nan for values, of in zip(scores, kept, strict=True)]
    )
    same = first.column("score").to_numpy() == own.astype(np.float32)
    same &= first.column("predicted").to_numpy() == ok_videos.column("predicted").to_numpy()[place]
    yield from first_wrong(first, keys, same, "the video's own score and predicted class before any is taken away")
