"""Rows of a facet's table, checked: what charts are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from esv_ray.errors import DataError

Row = dict[str, Any]
FEW = 5
"""Videos of a class below which it is not picked for its mean: that is extreme by chance."""

_TEXTS = {"estimator", "method", "method_a", "method_b", "name", "order", "replaced_by", "video_id"}
_FLAGS = {"correct"}


def check_columns(table: pa.Table, facet: str, keys: Sequence[str], values: Sequence[str]) -> None:
    """Check the columns of a table.

    Args:
        table: the table.
        facet: its name, for errors.
        keys: columns without nulls.
        values: columns that may have nulls.

    Raises:
        DataError: a column is missing or of another type, or a key is null.
    """
    again = f"write the table again with esv analyze --table {facet}"
    missing = [name for name in (*keys, *values) if name not in table.column_names]
    if missing:
        got = ", ".join(table.column_names) or "none"
        raise DataError(f"table {facet}: expected the columns {', '.join(missing)}, got {got:.300}; {again}")
    for name in (*keys, *values):
        column = table.column(name)
        expected = "text" if name in _TEXTS else "true or false" if name in _FLAGS else "a number"
        if not _fits(column.type, name):
            raise DataError(f"table {facet}, column {name}: expected {expected}, got {column.type}; {again}")
        if name in keys and column.null_count:
            raise DataError(f"table {facet}, column {name}: expected {expected} in every row, got null; {again}")


def read_rows(
    table: pa.Table, facet: str, keys: Sequence[str], values: Sequence[str], optional: Sequence[str] = ()
) -> list[Row]:
    """Return the rows of a table, with None for what is null, NaN or infinite.

    Args:
        table: the table.
        facet: its name, for errors.
        keys: columns without nulls.
        values: columns that may have nulls.
        optional: columns that may be missing; their values are None then.

    Raises:
        DataError: as `check_columns`.
    """
    given = [name for name in optional if name in table.column_names]
    check_columns(table, facet, keys, [*values, *given])
    absent = dict.fromkeys(name for name in optional if name not in given)
    rows = table.select([*keys, *values, *given]).to_pylist()
    return [absent | {name: _finite(value) for name, value in row.items()} for row in rows]


def by_length(
    rows: Sequence[Row], weight: str | None = None, most: int = 6, *, repeated: bool = False
) -> tuple[list[tuple[int, list[Row]]], str]:
    """Return rows by their number of elements, in increasing order; lengths are never mixed.

    Args:
        rows: with `n_elements`.
        weight: column with a number of videos, or `count` with a number of elements; without it every row counts alike.
        most: number of lengths that a figure has room for: those with most videos; of several the longest.
        repeated: whether each row of a length counts all of its videos, so that longer sequences have more such rows.

    Returns:
        Rows by length; and a note, if some are left out.
    """
    lengths: dict[int, list[Row]] = {}
    for row in rows:
        lengths.setdefault(int(row["n_elements"]), []).append(row)
    sizes = {n: sum(1 if weight is None else row[weight] or 0 for row in of) for n, of in lengths.items()}
    sizes = {
        n: size / (len(lengths[n]) if repeated else 1) / (n if weight == "count" else 1) for n, size in sizes.items()
    }
    ordered = sorted(lengths, key=lambda n: (-sizes[n], -n))
    note = f"{most} of {len(ordered)} lengths: those with most videos." if len(ordered) > most else ""
    return [(n, lengths[n]) for n in sorted(ordered[:most])], note


def has(row: Row, *names: str) -> bool:
    """Return whether a row has all of some values."""
    return all(row[name] is not None for name in names)


def total(rows: Sequence[Row], name: str) -> int:
    """Return the sum of a column of counts."""
    return sum(int(row[name] or 0) for row in rows)


def _fits(kind: pa.DataType, name: str) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_null(kind):
        return True
    if name in _TEXTS:
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
    if name in _FLAGS:
        return bool(types.is_boolean(kind))
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
