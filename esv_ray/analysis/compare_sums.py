"""Sums of a comparison, over batches of the sequences that two outputs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.analysis.statistics import REPLICATES, ROWS, Sums, resampling_weights
from esv_ray.core.correlation import FloatArray, cosine, order_keys, pearson, spearman

MEANS = ("pearson", "spearman", "cosine", "difference", "in_stderrs")
BINS = np.arange(-10, 11) / 10
"""Ends of the bins of rank correlations."""
OF_CLASS = ("score_a", "score_b", "score_difference")


@dataclass(eq=False)
class Length:
    """What is added up over the sequences of one number of elements.

    Attributes:
        videos: number of sequences that are `ok` in a, and in b.
        sequences: number of sequences that are `ok` in both outputs.
        right: (2, 2) labelled ones by whether a and b predict the label.
        compared: those with values in both outputs.
        other_frames, other_labels: of these, whose elements are other frames; of all, whose labels differ.
        sums: of each value per video.
        moments: (6,) number, sums, sums of squares and of products of all values of both.
        histogram: (20,) videos by their rank correlation (`BINS`); those that have none are left out.
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
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(BINS) - 1, np.int64))
    changes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, values: FloatArray, drawn: npt.NDArray[np.float32]) -> None:
        """Add one value per video; NaN: the video has none."""
        known = np.isfinite(values)
        if name not in self.sums:
            self.sums[name] = Sums.empty(1, REPLICATES)
        if known.any():
            self.sums[name].add(values[known, None], drawn[known])


def make_keys(con: duckdb.DuckDBPyConnection) -> None:
    """Make the table of the keys of all values (`correlation.order_keys`), which `add_batch` fills."""
    con.execute("CREATE TEMP TABLE keys (n_elements INTEGER, a INTEGER, b INTEGER)")


def add_batch(con: duckdb.DuckDBPyConnection, rows: pa.Table, lengths: dict[int, Length], changes: int) -> None:
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


def _add_chunk(con: duckdb.DuckDBPyConnection, rows: pa.Table, n: int, of: Length, changes: int) -> None:
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
    scores = [_floats(rows, name) for name in ("score_a", "score_b")]
    for name, values in zip(OF_CLASS, (*scores, scores[1] - scores[0]), strict=True):
        of.add(name, values, drawn)
    both = np.flatnonzero(rows.column("esv_a").is_valid().to_numpy() & rows.column("esv_b").is_valid().to_numpy())
    if len(both):
        _add_values(con, rows.take(pa.array(both)), n, of, drawn[both], changes)


def _add_values(
    con: duckdb.DuckDBPyConnection,
    rows: pa.Table,
    n: int,
    of: Length,
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
        zip(MEANS, (pearson(a, b), spearman(a, b), cosine(a, b), apart.mean(axis=1), in_stderrs), strict=True)
    )
    for name in MEANS:
        of.add(name, values[name], drawn)
    known = values["spearman"][np.isfinite(values["spearman"])]
    of.histogram += np.histogram(known.round(9), BINS)[0]  # 0.8, an end of a bin, may be 0.7999... before
    of.compared += len(a)
    of.other_frames += int(rows.column("other_frames").to_numpy().sum())
    of.moments += [a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum()]
    keys = {"n_elements": np.full(a.size, n, np.int32), "a": order_keys(a.ravel()), "b": order_keys(b.ravel())}
    con.register("esv_keys", pa.table(keys))
    con.execute("INSERT INTO keys SELECT * FROM esv_keys")
    con.unregister("esv_keys")
    _keep_changes(rows, of, values, (a, b), changes)


def _keep_changes(
    rows: pa.Table, of: Length, values: Mapping[str, FloatArray], esvs: tuple[FloatArray, FloatArray], most: int
) -> None:
    """Keep the sequences that differ most so far; of equal ones the first by id."""
    for place in np.argsort(-values["difference"], kind="stable")[:most].tolist():
        row = rows.slice(place, 1).to_pylist()[0]
        element = int(np.abs(esvs[1][place] - esvs[0][place]).argmax())
        names = ("video_id", "n_elements", "class", "label", "predicted_a", "predicted_b", "score_a", "score_b")
        kept = {name: row[name] for name in names} | {name: known_or_none(values[name][place]) for name in MEANS}
        kept |= {"element": element, "esv_a": esvs[0][place, element], "esv_b": esvs[1][place, element]}
        of.changes.append(kept)
    of.changes.sort(key=lambda row: (-row["difference"], row["video_id"]))
    del of.changes[most:]


def overall_spearman(con: duckdb.DuckDBPyConnection) -> dict[int, float | None]:
    """Return the rank correlation over all elements of all sequences, by length; DuckDB keeps the keys on the disk."""
    ranked = ", ".join(
        f"ranks_{side} AS (SELECT n_elements, {side}, sum(count(*)) OVER (PARTITION BY n_elements ORDER BY {side}) "
        f"- (count(*) - 1) / 2.0 AS rank_{side} FROM keys GROUP BY n_elements, {side})"
        for side in "ab"
    )
    query = (
        f"WITH {ranked}, found AS (SELECT n_elements, corr(rank_a, rank_b) AS c FROM keys "
        "JOIN ranks_a USING (n_elements, a) JOIN ranks_b USING (n_elements, b) GROUP BY n_elements) "
        # Of constants there is none: NaN, which SQL orders above all numbers.
        "SELECT n_elements, CASE WHEN isnan(c) THEN NULL ELSE least(1, greatest(-1, c)) END FROM found"
    )
    return {n: known_or_none(value) for n, value in con.execute(query).fetchall()}


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


def known_or_none(value: Any) -> float | None:
    """Return a number; None for NaN."""
    return None if value is None or np.isnan(value) else float(value)
