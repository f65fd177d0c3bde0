"""The tables of a unit, with the contract's schemas: its videos, and their ESVs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.output.computed import METHODS, Computed, Float32Array, InputRows, Missing
from esv_ray.output.expanding import Block, UnitTable, expanded
from esv_ray.output.further_tables import further_table
from esv_ray.output.layout import ATTRIBUTIONS, FURTHER, VIDEOS
from esv_ray.output.schemas import SCHEMAS

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
    tables |= {folder: further_table(folder, inputs.ids, computed) for folder in FURTHER if folder in further}
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


def _joined(parts: Sequence[npt.ArrayLike], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part, dtype) for part in parts)])
