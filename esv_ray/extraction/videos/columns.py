"""Further columns of a list of videos, such as `key_start` and `key_end`, which the feature table keeps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from esv_ray.extraction.videos.clip import Clip

OWN = frozenset(("video_id", "path", "label", "start", "end", "features", "frame_index", "frame_time", "repeated"))
"""Columns of lists and of feature tables that have a meaning of their own."""
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)")  # texts such as 007 are names
_MISSING = frozenset(("", "nan", "null", "none"))  # how CSV files write a missing number


@dataclass(frozen=True)
class FurtherColumns:
    """Further columns of a list.

    Attributes:
        types: Arrow types by the columns' names, as `pa.type_for_alias` reads them; sorted by name.
        rows: values of each row, in the order of the types.
        left_out: names of columns that the table cannot keep.
    """

    types: Mapping[str, str]
    rows: Sequence[tuple[Any, ...]]
    left_out: tuple[str, ...] = ()


def columns_of_texts(rows: Sequence[Mapping[str, str]]) -> FurtherColumns:
    """Return the columns of a CSV: of whole numbers, of numbers, or of texts, with nulls where a cell is empty."""
    names = list(rows[0]) if rows else []
    return _columns({name: _typed([row[name] for row in rows]) for name in names}, len(rows))


def columns_of_table(table: pa.Table) -> FurtherColumns:
    """Return the columns of a Parquet file: texts, numbers and truth values, with their types."""
    return _columns(dict(zip(table.column_names, table.columns, strict=True)), table.num_rows)


def schema_of(types: Mapping[str, str]) -> pa.Schema:
    """Return the fields of further columns in a table.

    Raises:
        ValueError: a type is unknown.
    """
    return pa.schema([pa.field(name, pa.type_for_alias(kind)) for name, kind in types.items()])


def further_arrays(clips: Iterable[Clip], types: Mapping[str, str]) -> dict[str, pa.Array]:
    """Return the further columns of some videos."""
    rows = [clip.further for clip in clips]
    return {
        field.name: pa.array([row[place] for row in rows], field.type) for place, field in enumerate(schema_of(types))
    }


def _columns(columns: Mapping[str, pa.Array | pa.ChunkedArray], rows: int) -> FurtherColumns:
    kept: dict[str, pa.Array | pa.ChunkedArray] = {}
    left_out = []
    for name, column in sorted(columns.items()):  # as JSON keeps them
        kind = None if name.strip().casefold() in OWN else _kept_type(column.type)
        if kind is None:
            left_out.append(name)
        else:
            kept[name] = column.cast(kind)
    values = [column.to_pylist() for column in kept.values()]
    listed = list(zip(*values, strict=True)) if values else [()] * rows
    return FurtherColumns({name: str(column.type) for name, column in kept.items()}, listed, tuple(left_out))


def _kept_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which a column is kept; None: it is not."""
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return pa.string()
    if kinds.is_float16(kind):
        return pa.float32()
    return kind if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind) else None


def _typed(texts: Sequence[str]) -> pa.Array:
    """Return the cells of a column as whole numbers if all are, else as numbers, else as texts."""
    present = [text for text in texts if text.casefold() not in _MISSING]
    if present and all(_NUMBER.fullmatch(text) and abs(int(text)) < 2**63 for text in present):
        return pa.array([None if text.casefold() in _MISSING else int(text) for text in texts], pa.int64())
    if present and all(map(_is_number, present)):
        return pa.array([None if text.casefold() in _MISSING else float(text) for text in texts], pa.float64())
    return pa.array([text or None for text in texts], pa.string())


def _is_number(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and "_" not in text and not re.match(r"[+-]?0[0-9]", text)
