"""Expand arrays to rows: each item of a video (such as a class) has one row for each place (such as an element)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]


class UnitTable(NamedTuple):
    """A table of a unit.

    Attributes:
        table: with the contract's schema, in the order of the input rows; metadata of the schema goes into the file.
        rows: the input row of each of its rows.
        group_rows: rows of a row group of its file; None: as many as Arrow puts into one.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    group_rows: int | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """I items of videos at one length, each with one row at each of K places.

    Attributes:
        rows: (I,) input rows.
        n: number of elements.
        keys: by column, (I,): equal at all places of an item; rows are sorted by them.
        places: by column, (K,): equal for all items; without any, K = 1.
        values: by column, (I, K); NaN becomes null.
    """

    rows: npt.NDArray[np.int64]
    n: int
    keys: Mapping[str, Array]
    places: Mapping[str, Array]
    values: Mapping[str, Array]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(next(iter(self.places.values()), (0,))))


def expanded(
    ids: Sequence[str], blocks: Sequence[Block], schema: pa.Schema, words: Mapping[str, Sequence[str]] | None = None
) -> UnitTable:
    """Return the table of some blocks, sorted by (input row, n_elements, keys, place).

    Args:
        ids: ids of the input rows.
        blocks: in any order.
        schema: schema of the table; all columns except `video_id` and `n_elements` are columns of the blocks.
        words: by column, the texts that the numbers of a block's column stand for.
    """
    if not blocks:
        return UnitTable(schema.empty_table(), np.zeros(0, np.int64))
    counts = [len(block.rows) for block in blocks]
    rows = np.concatenate([block.rows for block in blocks])
    n = np.repeat([block.n for block in blocks], counts)
    keys = {name: np.concatenate([block.keys[name] for block in blocks]) for name in blocks[0].keys}
    order = np.lexsort([*reversed(keys.values()), n, rows])
    sizes = np.repeat([block.size for block in blocks], counts).astype(np.int64)
    # Place p of an item is at its start + p, among the joined values of the blocks.
    own = sizes[order]
    starts = (np.cumsum(sizes) - sizes)[order]
    place = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
    at = np.repeat(starts, own) + place
    input_rows = np.repeat(rows[order], own)
    columns = {
        "video_id": pa.array(ids, pa.string()).take(pa.array(input_rows)),
        "n_elements": np.repeat(n[order], own),
        **{name: np.repeat(values[order], own) for name, values in keys.items()},
    }
    for name in blocks[0].places:
        columns[name] = np.concatenate([np.tile(block.places[name], len(block.rows)) for block in blocks])[at]
    for name in blocks[0].values:
        columns[name] = np.concatenate([block.values[name].ravel() for block in blocks])[at]
    arrays = [_column(columns[column.name], column, (words or {}).get(column.name)) for column in schema]
    return UnitTable(pa.table(arrays, schema=schema), input_rows)


def _column(values: Array | pa.Array, column: pa.Field, words: Sequence[str] | None) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if words is not None:
        return pa.array(words, pa.string()).take(pa.array(values))
    if pa.types.is_integer(column.type):
        return pa.array(values.astype(np.int32))
    return pa.array(values.astype(np.float32, copy=False), from_pandas=True)
