"""Tables of results as files: CSV, JSON and Parquet, with exact values."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import SpecError, short_text

FORMATS = ("csv", "json", "parquet")
DOING = "write the result"
_SPECIAL = re.compile(r'[",;\t\r\n]|^\s|\s$')  # also what separates cells where the comma is a decimal point


def write_rows(schema: pa.Schema, batches: Iterable[pa.RecordBatch], kind: str, file: BinaryIO) -> int:
    """Write rows as they come.

    CSV has a line of names; null is an empty cell, an empty text is quoted; lists are JSON. JSON is one array with an
    object for each row; NaN and infinite numbers are null. A float32 is written with the fewest digits that give the
    same float32.

    Args:
        schema: names and types of the columns.
        batches: of rows.
        kind: one of `FORMATS`.
        file: opened for writing; need not be seekable.

    Returns:
        The number of rows.

    Raises:
        SpecError: the format has no such type.
    """
    if kind == "parquet":
        return _write_parquet(schema, batches, file)
    write = _csv_lines if kind == "csv" else _json_lines
    count = 0
    for text, rows in write(schema, batches):
        file.write(text.encode("utf-8", "surrogatepass"))
        count += rows
    return count


def write_file(schema: pa.Schema, batches: Iterable[pa.RecordBatch], kind: str, url: str) -> int:
    """Write rows to a file, which replaces an existing one; by way of a temporary file, not through memory.

    Returns:
        The number of rows.

    Raises:
        SpecError: the format has no such type.
        DataError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="esv-result-") as folder:
        path = Path(folder) / "rows"
        with path.open("wb") as file:
            count = write_rows(schema, batches, kind, file)
        storage.replace_from(url, path, DOING)
    return count


def _write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: BinaryIO) -> int:
    count = 0
    try:
        with pq.ParquetWriter(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += batch.num_rows
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        types = ", ".join(sorted({str(field.type) for field in schema}))
        raise SpecError(
            f"parquet: expected columns that Parquet can hold, got {types} ({short_text(error, 100)}); cast them, for "
            "example to VARCHAR"
        ) from None
    return count


def _csv_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, int]]:
    """Yield pieces of the file, and the rows in each."""
    yield ",".join(map(_csv_cell, schema.names)) + "\n", 0
    for batch in batches:
        yield "".join(",".join(map(_csv_cell, row)) + "\n" for row in rows_of(batch)), batch.num_rows


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '""' if not value else _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return repr(value)
    if isinstance(value, pa.MonthDayNano):
        return duration_text(value)
    if isinstance(value, list | tuple | dict):
        return _quoted(json.dumps(_json_value(value), ensure_ascii=False))
    return _quoted(_plain(value))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


def _json_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, int]]:
    """Yield pieces of the file, and the rows in each."""
    before = "[\n"
    for batch in batches:
        lines = [
            json.dumps(_json_value(dict(zip(schema.names, row, strict=True))), allow_nan=False)
            for row in rows_of(batch)
        ]
        if lines:
            yield before + ",\n".join(lines), len(lines)
            before = ",\n"
    yield ("[]\n" if before == "[\n" else "\n]\n"), 0


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, pa.MonthDayNano):
        return duration_text(value)
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Decimal):
        near = float(value)
        return near if math.isfinite(near) and Decimal(repr(near)) == value else str(value)
    return _plain(value)


def bit_texts(column: pa.Array) -> pa.Array:
    """Return values of DuckDB's type BIT as texts of 0 and 1: their first byte says how many bits to leave out."""
    texts = [
        None if value is None else "".join(f"{byte:08b}" for byte in value[1:])[value[0] :]
        for value in column.to_pylist()
    ]
    return pa.array(texts, pa.string())


def duration_text(value: pa.MonthDayNano) -> str:
    """Return an interval as ISO 8601 has it: months and days, of which the length varies, and seconds."""
    seconds = Decimal(value.nanoseconds) / 10**9
    return f"P{value.months}M{value.days}DT{seconds.normalize():f}S"


def readable(value: Any) -> Any:
    """Return a value with its intervals as text, also in lists."""
    if isinstance(value, pa.MonthDayNano):
        return duration_text(value)
    return [readable(each) for each in value] if isinstance(value, list) else value


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat() if callable(isoformat) else value)


def rows_of(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a batch as Python values: whole decimals as int, float32 as the shortest float of its value."""
    columns = [_shortest(column).to_pylist() for column in batch.columns]
    whole = [pa.types.is_decimal(field.type) and field.type.scale == 0 for field in batch.schema]
    columns = [
        [None if value is None else int(value) for value in column] if is_whole else column
        for column, is_whole in zip(columns, whole, strict=True)
    ]
    return zip(*columns, strict=True)


def _shortest(column: pa.Array) -> pa.Array:
    """Return float32 values as the float64 values with the same shortest text, also in lists; others unchanged."""
    kind = column.type
    if pa.types.is_float32(kind):
        return column.cast(pa.string()).cast(pa.float64())
    if pa.types.is_list(kind) and pa.types.is_float32(kind.value_type):
        return column.cast(pa.list_(pa.string())).cast(pa.list_(pa.float64()))
    return column
