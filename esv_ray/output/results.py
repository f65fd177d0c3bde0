"""The tables of a unit, with the contract's schemas: its videos, and their ESVs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.output.expanding import Block, UnitTable, expanded
from esv_ray.output.layout import ATTRIBUTIONS, DISCARDS, FURTHER, INTERACTIONS, MARGINALS, VARIATIONS, VIDEOS
from esv_ray.output.schemas import SCHEMAS

METHODS = ("esv", "integrated_gradients", "grad_cam", "occlusion", "random")
"""Methods of attribution, by their numbers in `Block`s."""
ORDERS = ("descending", "ascending", "center", "edges", "uniform", "random")
"""Orders in which elements are taken away, likewise."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class InputRows:
    """The input rows of a unit, by columns.

    Attributes:
        ids: of the rows.
        labels: (rows,) int32.
        labelled: (rows,) whether there is a label.
        n_frames: (rows,) int32.
    """

    ids: Sequence[str]
    labels: npt.NDArray[np.int32]
    labelled: npt.NDArray[np.bool_]
    n_frames: npt.NDArray[np.int32]


class Discarded(NamedTuple):
    """Scores of B videos while elements are taken away: K methods and orders, and 0 to n elements.

    Attributes:
        classes: (B,) class id: the label, or the predicted class of a video without one.
        methods: (K,) place in `METHODS`.
        orders: (K,) place in `ORDERS`.
        scores: (B, K, n + 1) probability of the class.
        predicted: (B, K, n + 1) class of the largest score.
        best: (B, n + 1) largest probability of the class over all subsequences of as many elements; NaN if unknown.
    """

    classes: npt.NDArray[np.int64]
    methods: Sequence[int]
    orders: Sequence[int]
    scores: Float32Array
    predicted: npt.NDArray[np.int64]
    best: Float32Array

    def take(self, videos: npt.NDArray[np.int64]) -> Discarded:
        """Return the scores of some of the videos."""
        return Discarded(
            self.classes[videos],
            self.methods,
            self.orders,
            self.scores[videos],
            self.predicted[videos],
            self.best[videos],
        )


class MethodValues(NamedTuple):
    """Values of the elements by another method than ESVs.

    Attributes:
        values: (M, n) for the kept pairs of a video and a class.
        delta: (M,) error of the integration of integrated gradients; None for other methods.
    """

    values: Float32Array
    delta: Float32Array | None

    def take(self, pairs: npt.NDArray[np.int64]) -> MethodValues:
        """Return the values of some of the pairs."""
        return MethodValues(self.values[pairs], None if self.delta is None else self.delta[pairs])


@dataclass(frozen=True, eq=False)
class Varied:
    """Rows of a table of variations.

    Attributes:
        videos: (K,) place of a video in the batch.
        keys: by column, (K,) numbers that the rows of a video are sorted by.
        values: by column, (K,); NaN becomes null.
    """

    videos: npt.NDArray[np.int64]
    keys: Mapping[str, npt.NDArray[np.int64]]
    values: Mapping[str, Float32Array]

    def take(self, videos: npt.NDArray[np.int64]) -> Varied:
        """Return the rows of some of the videos (ascending), whose places are then those among them."""
        rows = np.flatnonzero(np.isin(self.videos, videos))
        return Varied(
            np.searchsorted(videos, self.videos[rows]),
            {name: column[rows] for name, column in self.keys.items()},
            {name: column[rows] for name, column in self.values.items()},
        )


@dataclass(frozen=True, eq=False)
class Computed:
    """The ESVs of B videos at one length n: M pairs of a video and a kept class.

    Attributes:
        rows: (B,) input rows.
        scores: (B, C) class probabilities of the full sequences.
        gaps: (B,) efficiency gaps: largest over all classes of |sum of ESVs - (scores - prior)|.
        frame_index: (B, n) int32.
        pairs: (M, 2) index of the video and class id; sorted.
        esv: (M, n).
        stderr: (M, n), or None.
        difference_stderr: (B, n) standard errors of the ESVs of the label minus those of the predicted class, or None.
        differs: (B,) whether there is a label, and it is not the predicted class.
        exact: whether every subsequence was evaluated.
        evaluations: head evaluations per video.
        iterations: of the sampling; 0 if exact.
        met: (B,) bool, whether the estimator's tolerance was met; None without a tolerance.
        marginals: (M, n, n) by scale and element, NaN where the scale says nothing; None if not asked for.
        interactions: (M, n (n - 1) / 2) of the pairs i < j in the order of `numpy.triu_indices`; None if not asked for.
        discarded: scores while elements are taken away; None if not asked for.
        varied: rows of the tables of variations that are asked for, by their folders.
        others: values by other methods, by their names.
    """

    rows: npt.NDArray[np.int64]
    scores: Float32Array
    gaps: Float32Array
    frame_index: npt.NDArray[np.int32]
    pairs: npt.NDArray[np.int64]
    esv: Float32Array
    stderr: Float32Array | None
    difference_stderr: Float32Array | None
    differs: npt.NDArray[np.bool_]
    exact: bool
    evaluations: int
    iterations: int
    met: npt.NDArray[np.bool_] | None
    marginals: Float32Array | None = None
    interactions: Float32Array | None = None
    discarded: Discarded | None = None
    varied: Mapping[str, Varied] = field(default_factory=dict)
    others: Mapping[str, MethodValues] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of elements."""
        return int(self.frame_index.shape[1])


@dataclass(frozen=True)
class Missing:
    """An input row without ESVs at a length, and the reason."""

    row: int
    n_elements: int
    status: Literal["skipped", "failed"]
    reason: str


UnitTables = Mapping[str, UnitTable]
"""The tables of a unit, by their folders."""


def unit_tables(
    inputs: InputRows, computed: Sequence[Computed], missing: Sequence[Missing], further: Collection[str] = ()
) -> UnitTables:
    """Return the tables of a unit.

    Args:
        inputs: its input rows.
        computed: ESVs, in any order.
        missing: rows without ESVs.
        further: tables besides those of videos and attributions, by their folders.
    """
    tables = {VIDEOS: _videos(inputs, computed, missing), ATTRIBUTIONS: _attributions(inputs, computed)}
    for folder in FURTHER:
        if folder in VARIATIONS and folder in further:
            tables[folder] = _variations(folder, inputs.ids, computed)
        elif folder in further:
            tables[folder] = _FURTHER[folder](inputs.ids, computed)
    return tables


def _videos(inputs: InputRows, computed: Sequence[Computed], missing: Sequence[Missing]) -> UnitTable:
    """Return one row per (input row, n_elements), in that order; and the input rows."""
    rows = _joined([batch.rows for batch in computed] + [[item.row for item in missing]], np.int64)
    sizes = [len(batch.rows) for batch in computed]
    lengths = _joined(
        [np.repeat([batch.n for batch in computed], sizes), [item.n_elements for item in missing]], np.int32
    )
    order = np.lexsort((lengths, rows))
    rows, has_esvs = rows[order], order < sum(sizes)  # those with ESVs were joined first
    done = order[has_esvs]

    def column(name: str, values: npt.NDArray[np.generic], absent: object = None) -> pa.Array:
        """Return values of rows with ESVs, in the order of the table."""
        full = np.zeros(len(order), dtype=values.dtype)
        full[has_esvs] = values[done]
        kind = SCHEMAS[VIDEOS].field(name).type
        return pa.array(full, kind, mask=~has_esvs if absent is None else None)

    scores = np.concatenate([batch.scores for batch in computed]) if computed else np.zeros((0, 0), np.float32)
    text = [None] * sum(sizes) + [item.reason for item in missing]
    status = ["ok"] * sum(sizes) + [item.status for item in missing]
    has_tolerance = np.repeat([batch.met is not None for batch in computed], sizes).astype(bool)
    met = _joined([np.zeros(len(batch.rows), bool) if batch.met is None else batch.met for batch in computed], np.bool_)
    met_known = has_esvs.copy()
    met_known[has_esvs] = has_tolerance[done]
    met_column = np.zeros(len(order), dtype=bool)
    met_column[has_esvs] = met[done]
    arrays = {
        "video_id": pa.array([inputs.ids[row] for row in rows.tolist()], pa.string()),
        "label": pa.array(inputs.labels[rows], pa.int32(), mask=~inputs.labelled[rows]),
        "n_frames": pa.array(inputs.n_frames[rows], pa.int32()),
        "n_elements": pa.array(lengths[order], pa.int32()),
        "predicted": column("predicted", scores.argmax(axis=1) if scores.size else np.zeros(0, np.int64)),
        "scores": pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], np.cumsum(has_esvs * scores.shape[1])]).astype(np.int32)),
            pa.array(scores[done].ravel(), pa.float32()),
            mask=pa.array(~has_esvs) if len(has_esvs) else None,
        ),
        "exact": column("exact", np.repeat([batch.exact for batch in computed], sizes).astype(bool), False),
        "evaluations": column(
            "evaluations", np.repeat([batch.evaluations for batch in computed], sizes).astype(np.int64), 0
        ),
        "efficiency_gap": column("efficiency_gap", _joined([batch.gaps for batch in computed], np.float32)),
        "status": pa.array([status[place] for place in order.tolist()], pa.string()),
        "reason": pa.array([text[place] for place in order.tolist()], pa.string()),
        "iterations": column("iterations", np.repeat([batch.iterations for batch in computed], sizes).astype(np.int32)),
        "tolerance_met": pa.array(met_column, pa.bool_(), mask=~met_known),
    }
    arrays["stderr_difference"] = _differences(computed, has_esvs, done)
    schema = SCHEMAS[VIDEOS]
    return UnitTable(pa.table([arrays[name] for name in schema.names], schema=schema), rows)


def _differences(
    computed: Sequence[Computed], has_esvs: npt.NDArray[np.bool_], done: npt.NDArray[np.int64]
) -> pa.Array:
    """Return the column `stderr_difference`: rows with ESVs have those at `done` of the joined batches."""
    n = np.repeat(np.array([batch.n for batch in computed], np.int64), [len(batch.rows) for batch in computed])
    flat = _joined([_filled(batch).ravel() for batch in computed], np.float32)
    known = _joined([batch.differs & (batch.difference_stderr is not None) for batch in computed], np.bool_)
    starts = (np.cumsum(n) - n)[done]
    sizes = (n * known)[done]
    place = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    per_row = np.zeros(len(has_esvs), np.int64)
    per_row[has_esvs] = sizes
    offsets = np.concatenate([[0], np.cumsum(per_row)]).astype(np.int32)
    absent = pa.array(per_row == 0) if len(per_row) else None
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat[place], pa.float32()), mask=absent)


def _filled(batch: Computed) -> Float32Array:
    """Return (B, n) the standard errors of differences, zeros where there are none."""
    if batch.difference_stderr is None:
        return np.zeros(batch.frame_index.shape, np.float32)
    return batch.difference_stderr


def _attributions(inputs: InputRows, computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, method, class, element), ascending, in the order of `METHODS`."""
    blocks = []
    for batch in computed:
        blocks.append(_of_method(batch, "esv", batch.esv, batch.stderr, None))
        for method, values in batch.others.items():
            blocks.append(_of_method(batch, method, values.values, None, values.delta))
    return expanded(inputs.ids, blocks, SCHEMAS[ATTRIBUTIONS], {"method": METHODS})


def _of_method(
    batch: Computed, method: str, values: Float32Array, stderr: Float32Array | None, delta: Float32Array | None
) -> Block:
    """Return the rows of a method, for all kept classes."""
    unknown = np.full_like(values, np.nan)
    return Block(
        batch.rows[batch.pairs[:, 0]],
        batch.n,
        keys={"method": np.full(len(batch.pairs), METHODS.index(method), np.int8), "class": batch.pairs[:, 1]},
        places={"element": np.arange(batch.n)},
        values={
            "frame_index": batch.frame_index[batch.pairs[:, 0]],
            "esv": values,
            "stderr": unknown if stderr is None else stderr,
            "delta": unknown if delta is None else np.broadcast_to(delta[:, None], values.shape),
        },
    )


def _marginals(ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, class, element, scale), ascending."""
    blocks = []
    for batch in computed:
        assert batch.marginals is not None, "the job asked for them"
        element, scale = (axis.ravel() for axis in np.indices((batch.n, batch.n)))
        values = batch.marginals.transpose(0, 2, 1).reshape(len(batch.pairs), batch.n**2)
        places = {"element": element, "scale": scale + 1}
        blocks.append(_of_pairs(batch, places, {"marginal": values}))
    return expanded(ids, blocks, SCHEMAS[MARGINALS])


def _interactions(ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, class, element_i, element_j), ascending."""
    blocks = []
    for batch in computed:
        assert batch.interactions is not None, "the job asked for them"
        i, j = np.triu_indices(batch.n, k=1)
        blocks.append(_of_pairs(batch, {"element_i": i, "element_j": j}, {"interaction": batch.interactions}))
    return expanded(ids, blocks, SCHEMAS[INTERACTIONS])


def _of_pairs(batch: Computed, places: Mapping[str, np.ndarray], values: Mapping[str, Float32Array]) -> Block:
    return Block(batch.rows[batch.pairs[:, 0]], batch.n, {"class": batch.pairs[:, 1]}, places, values)


def _discards(ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, method, order, discarded), in the orders of `METHODS` and `ORDERS`."""
    blocks = []
    for batch in computed:
        kept = batch.discarded
        assert kept is not None, "the job asked for them"
        steps = np.arange(batch.n + 1)
        places = {
            "method": np.repeat(np.asarray(kept.methods), len(steps)),
            "order": np.repeat(np.asarray(kept.orders), len(steps)),
            "discarded": np.tile(steps, len(kept.methods)),
        }
        shape = len(batch.rows), len(places["discarded"])
        values: dict[str, Any] = {"score": kept.scores.reshape(shape), "predicted": kept.predicted.reshape(shape)}
        values["best"] = np.tile(kept.best, len(kept.methods))
        blocks.append(Block(batch.rows, batch.n, {"class": kept.classes}, places, values))
    return expanded(ids, blocks, SCHEMAS[DISCARDS], {"method": METHODS, "order": ORDERS})


def _variations(folder: str, ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return the rows of a table of variations, by (input row, n_elements, keys), ascending."""
    blocks = [
        Block(
            batch.rows[varied.videos],
            batch.n,
            varied.keys,
            {},
            {name: column[:, None] for name, column in varied.values.items()},
        )
        for batch in computed
        for varied in [batch.varied[folder]]
    ]
    return expanded(ids, blocks, SCHEMAS[folder])


_FURTHER = {MARGINALS: _marginals, INTERACTIONS: _interactions, DISCARDS: _discards}


def _joined(parts: Sequence[npt.ArrayLike], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part, dtype) for part in parts)])
