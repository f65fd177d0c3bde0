"""Compare two outputs, or two methods of one output, on the videos that both have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.analysis.analysed import Analysed, ClassName, open_output
from esv_ray.analysis.comparison import AGREEMENT, CHANGES, COMPARE, Comparison
from esv_ray.analysis.correlation import FloatArray, cosine, order_keys, pearson, spearman
from esv_ray.analysis.database import connect, reading
from esv_ray.analysis.pairing import Overlap, Side, counts_by_length, index_of, methods_of, overlap, paired_batches
from esv_ray.analysis.statistics import REPLICATES, ROWS, Sums, means, resampling_weights, wilson
from esv_ray.errors import DataError, SpecError, count_of

MEMORY = 384_000_000
"""Bytes that DuckDB may use."""
CHANGES_KEPT = 10
_MEANS = ("pearson", "spearman", "cosine", "difference", "in_stderrs")
_OF_CLASS = ("score_a", "score_b", "score_difference")


@dataclass(eq=False)
class _Length:
    """What is added up over the sequences of one number of elements.

    Attributes:
        videos: number of sequences that are `ok` in a, and in b.
        sequences: number of sequences that are `ok` in both outputs.
        right: (2, 2) labelled ones by whether a and b predict the label.
        compared: those with values in both outputs.
        other_frames, other_labels: of these, whose elements are other frames; of all, whose labels differ.
        sums: of each value per video.
        moments: (6,) number, sums, sums of squares and of products of all values of both.
        changes: rows of the sequences that differ most.
    """

    videos: tuple[int, int] = (0, 0)
    sequences: int = 0
    right: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    compared: int = 0
    other_frames: int = 0
    other_labels: int = 0
    sums: dict[str, Sums] = field(default_factory=dict)
    moments: FloatArray = field(default_factory=lambda: np.zeros(6))
    changes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, values: FloatArray, drawn: npt.NDArray[np.float32]) -> None:
        """Add one value per video; NaN: the video has none."""
        known = np.isfinite(values)
        if name not in self.sums:
            self.sums[name] = Sums.empty(1, REPLICATES)
        if known.any():
            self.sums[name].add(values[known, None], drawn[known])


def compare(
    a: str,
    b: str | None = None,
    *,
    method_a: str = "esv",
    method_b: str = "esv",
    class_: ClassName | None = None,
    changes: int = CHANGES_KEPT,
) -> Comparison:
    """Compare two outputs on the videos that both have, or two methods of one output.

    Args:
        a: location of an output, finished or not.
        b: of another; None: the same.
        method_a, method_b: whose values.
        class_: of which class: each video's `label`, or the predicted class of `a`; None: the label if there is any.
        changes: how many of the sequences that differ most are kept, for each number of elements.

    Raises:
        SpecError: nothing can be compared: other classes, values of another kind, or the same values twice.
        DataError: there is no output, a table cannot be read, or the outputs have no videos in common.
    """
    b = a if b is None else b
    if a == b and method_a == method_b:
        raise SpecError(
            f"compare: expected two outputs, or two methods of one (--method-b), got {a} and {method_a} twice"
        )
    sides = Side(open_output(a, class_), method_a), Side(open_output(b), method_b)
    check_alike(sides[0].analysed, sides[1].analysed)
    indexes = index_of(sides[0].analysed), index_of(sides[1].analysed)
    shared = overlap(*indexes)
    if not shared.shared:
        raise DataError(
            f"{a} and {b}: expected videos with the same video_id, found none among {shared.only_a} and "
            f"{shared.only_b}; compare outputs of the same feature table"
        )
    with connect(memory=MEMORY) as con, reading(f"{a} and {b}"):
        counts = [counts_by_length(con, side.analysed) for side in sides]
        if not counts[0].keys() & counts[1].keys():
            raise DataError(
                f"{a} and {b}: expected videos with ESVs at the same number of elements, got {_listed(counts[0])} and "
                f"{_listed(counts[1])} elements"
            )
        lengths = {n: _Length() for n in sorted({*counts[0], *counts[1]})}
        con.execute("CREATE TEMP TABLE keys (n_elements INTEGER, a INTEGER, b INTEGER)")
        for rows in paired_batches(con, *sides, indexes):
            _add_batch(con, rows, lengths, changes)
        if not any(of.compared for of in lengths.values()):
            _check_methods(con, sides)
        overall = _overall_spearman(con)
    for n, of in lengths.items():
        of.videos = counts[0].get(n, 0), counts[1].get(n, 0)
    return _comparison(sides, shared, lengths, overall)


def _check_methods(con: duckdb.DuckDBPyConnection, sides: tuple[Side, Side]) -> None:
    """Raise `SpecError` if an output has no values of the method that is compared."""
    for side, option in zip(sides, ("--method-a", "--method-b"), strict=True):
        there = methods_of(con, side.analysed)
        if there and side.method not in there:
            raise SpecError(
                f"{side.analysed.output}: expected values of the method {side.method!r:.60}, found those of "
                f"{', '.join(there)}; choose one of them ({option})"
            )


def check_alike(a: Analysed, b: Analysed) -> None:
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


def _add_batch(con: duckdb.DuckDBPyConnection, rows: pa.Table, lengths: dict[int, _Length], changes: int) -> None:
    """Add the sequences of a batch, which are ordered by length, in chunks of one length."""
    n_elements = rows.column("n_elements").to_numpy()
    ends = [*(np.flatnonzero(np.diff(n_elements)) + 1).tolist(), len(n_elements)]
    start = 0
    for end in ends:
        while start < end:
            size = min(ROWS, end - start)
            chunk = rows.slice(start, size)
            n = int(n_elements[start])
            _add_chunk(con, chunk, n, lengths[n], changes)
            start += size


def _add_chunk(con: duckdb.DuckDBPyConnection, rows: pa.Table, n: int, of: _Length, changes: int) -> None:
    drawn = resampling_weights(rows.column("video_id").to_pylist(), REPLICATES)
    of.sequences += rows.num_rows
    label, label_b, predicted_a, predicted_b = (
        _numbers(rows, name) for name in ("label", "label_b", "predicted_a", "predicted_b")
    )
    labelled = label >= 0
    right_a, right_b = predicted_a == label, predicted_b == label
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        of.right[i, j] += int((labelled & (right_a == i) & (right_b == j)).sum())
    of.other_labels += int((labelled & (label_b >= 0) & (label != label_b)).sum())
    gained = np.where(labelled, right_b.astype(float) - right_a, np.nan)
    of.add("accuracy_difference", gained, drawn)
    scores = [_floats(rows, name) for name in ("score_a", "score_b")]
    for name, values in zip(_OF_CLASS, (*scores, scores[1] - scores[0]), strict=True):
        of.add(name, values, drawn)
    both = np.flatnonzero(rows.column("esv_a").is_valid().to_numpy() & rows.column("esv_b").is_valid().to_numpy())
    if len(both):
        _add_values(con, rows.take(pa.array(both)), n, of, drawn[both], changes)


def _add_values(
    con: duckdb.DuckDBPyConnection,
    rows: pa.Table,
    n: int,
    of: _Length,
    drawn: npt.NDArray[np.float32],
    changes: int,
) -> None:
    """Add sequences whose values both outputs have."""
    a, b = (_matrix(rows, name, n) for name in ("esv_a", "esv_b"))  # (V, n)
    stderr = np.hypot(*(np.nan_to_num(_matrix(rows, name, n)) for name in ("stderr_a", "stderr_b")))
    apart = np.abs(b - a)
    with np.errstate(invalid="ignore", divide="ignore"):
        units = np.where(stderr > 0, apart / stderr, np.nan)
        known = np.isfinite(units)
        in_stderrs = np.where(known, units, 0).sum(axis=1) / known.sum(axis=1)  # NaN where all are exact
    values = dict(
        zip(_MEANS, (pearson(a, b), spearman(a, b), cosine(a, b), apart.mean(axis=1), in_stderrs), strict=True)
    )
    for name in _MEANS:
        of.add(name, values[name], drawn)
    of.compared += len(a)
    of.other_frames += int(rows.column("other_frames").to_numpy().sum())
    of.moments += [a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum()]
    keys = {"n_elements": np.full(a.size, n, np.int32), "a": order_keys(a.ravel()), "b": order_keys(b.ravel())}
    con.register("esv_keys", pa.table(keys))
    con.execute("INSERT INTO keys SELECT * FROM esv_keys")
    con.unregister("esv_keys")
    _keep_changes(rows, of, values, (a, b), changes)


def _keep_changes(
    rows: pa.Table, of: _Length, values: Mapping[str, FloatArray], esvs: tuple[FloatArray, FloatArray], most: int
) -> None:
    """Keep the sequences that differ most so far; of equal ones the first by id."""
    for place in np.argsort(-values["difference"], kind="stable")[:most].tolist():
        row = rows.slice(place, 1).to_pylist()[0]
        element = int(np.abs(esvs[1][place] - esvs[0][place]).argmax())
        names = ("video_id", "n_elements", "class", "label", "predicted_a", "predicted_b", "score_a", "score_b")
        kept = {name: row[name] for name in names} | {name: _known(values[name][place]) for name in _MEANS}
        kept |= {"element": element, "esv_a": esvs[0][place, element], "esv_b": esvs[1][place, element]}
        of.changes.append(kept)
    of.changes.sort(key=lambda row: (-row["difference"], row["video_id"]))
    del of.changes[most:]


def _overall_spearman(con: duckdb.DuckDBPyConnection) -> dict[int, float | None]:
    """Return the rank correlation over all elements of all sequences, by length; DuckDB keeps the keys on the disk."""
    ranked = ", ".join(
        f"ranks_{side} AS (SELECT n_elements, {side}, sum(count(*)) OVER (PARTITION BY n_elements ORDER BY {side}) "
        f"- (count(*) - 1) / 2.0 AS rank_{side} FROM keys GROUP BY n_elements, {side})"
        for side in "ab"
    )
    query = (
        f"WITH {ranked} SELECT n_elements, least(1, greatest(-1, corr(rank_a, rank_b))) FROM keys "
        "JOIN ranks_a USING (n_elements, a) JOIN ranks_b USING (n_elements, b) GROUP BY n_elements"
    )
    return {n: _known(value) for n, value in con.execute(query).fetchall()}


def _comparison(
    sides: tuple[Side, Side], shared: Overlap, lengths: Mapping[int, _Length], overall: Mapping[int, float | None]
) -> Comparison:
    ordered = sorted(lengths.items())
    names = sides[0].analysed.names or sides[1].analysed.names
    changes = [row for _, of in ordered for row in of.changes]
    for row in changes:
        row["name"] = names[row["class"]] if names else None
    methods = {"method_a": sides[0].method, "method_b": sides[1].method}
    compared = [_row(n, of, overall.get(n)) for n, of in ordered]
    agreement = [{**row, **methods, "videos": row["compared"]} for row in compared]
    tables = {
        name: pa.Table.from_pylist([{key: row.get(key) for key in schema.names} for row in rows], schema)
        for name, schema, rows in (
            ("compare", COMPARE, compared),
            ("agreement", AGREEMENT, agreement),
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


def _row(n: int, of: _Length, overall: float | None) -> dict[str, Any]:
    """Return the row of a length in the table `compare`."""
    (neither, only_b), (only_a, both) = of.right.tolist()
    labelled = int(of.right.sum())
    row: dict[str, Any] = {"n_elements": n, "videos_a": of.videos[0], "videos_b": of.videos[1]}
    row |= {"videos": of.sequences, "labelled": labelled, "compared": of.compared}
    row |= {"right_in_both": both, "right_in_a": only_a, "right_in_b": only_b, "right_in_neither": neither}
    for side, right in (("a", both + only_a), ("b", both + only_b)):
        low, high = wilson(right, labelled)
        row[f"accuracy_{side}"] = right / labelled if labelled else None
        row |= {f"accuracy_{side}_low": _known(low), f"accuracy_{side}_high": _known(high)}
    for name in ("accuracy_difference", *_OF_CLASS, *_MEANS):
        if name in of.sums:
            found = means(of.sums[name])
            ends = {"": found.mean, "_low": found.low, "_high": found.high}
            row |= {f"{name}{suffix}": _known(values[0]) for suffix, values in ends.items()}
    row |= {"pearson_overall": _pearson_of(of.moments), "spearman_overall": overall}
    return row


def _pearson_of(moments: FloatArray) -> float | None:
    count, a, b, aa, bb, ab = moments.tolist()
    if not count:
        return None
    spread = (aa - a * a / count) * (bb - b * b / count)
    return float(np.clip((ab - a * b / count) / np.sqrt(spread), -1, 1)) if spread > 0 else None


def _notes(sides: tuple[Side, Side], lengths: Sequence[_Length]) -> tuple[str, ...]:
    """Return what a reader must know: what is missing, and what differs besides the values."""
    notes = []
    for side, name in zip(sides, "AB", strict=True):
        if not side.analysed.finished:
            notes.append(f"{name} is {side.analysed.progress}")
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
    priors = np.abs(np.subtract(*(side.analysed.manifest.model["prior"] for side in sides))).max()
    if priors > 1e-6:
        notes.append(
            f"the class priors differ, by at most {priors:.3g}, and so does what the ESVs of a class add up to"
        )
    return tuple(notes)


def _matrix(rows: pa.Table, name: str, n: int) -> FloatArray:
    """Return (V, n) a column of lists; null becomes NaN."""
    flat = rows.column(name).combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(-1, n)


def _numbers(rows: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Return a column of class ids; -1 for null."""
    return np.asarray(rows.column(name).fill_null(-1).to_numpy(), np.int64)


def _floats(rows: pa.Table, name: str) -> FloatArray:
    """Return a column of numbers; NaN for null."""
    return np.asarray(rows.column(name).to_numpy(zero_copy_only=False), np.float64)


def _known(value: Any) -> float | None:
    """Return a number; None for NaN."""
    return None if value is None or np.isnan(value) else float(value)
