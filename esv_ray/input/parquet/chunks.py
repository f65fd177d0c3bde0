"""Row groups and their column chunks, as a footer places them in the file.

This project's own reader reads them (`thrift` says why).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import DataError
from esv_ray.input.columns import is_any_list
from esv_ray.input.parquet.thrift import I32, I64, LIST, STRUCT, Fields, Spans, read_struct

_MAGIC_BYTES = 4
_ITEMSIZES = {"FLOAT": 4, "DOUBLE": 8, "INT32": 4, "INT64": 8}
_LARGEST_ITEM = 16


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """A column of a row group, as the footer describes it.

    Attributes:
        start: position of its first page in the file.
        size: bytes on storage.
        values: number of values, nulls included.
        nulls: number of nulls; None if the footer does not contain it.
        itemsize: bytes of a value.
        codec: number of its compression (parquet.thrift, CompressionCodec); -1 if the footer does not contain it.
    """

    start: int
    size: int
    values: int
    nulls: int | None
    itemsize: int
    codec: int = -1


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group, as the footer describes it.

    Attributes:
        rows: number of rows.
        chunks: the columns that are read, by name.
    """

    rows: int
    chunks: Mapping[str, ColumnChunk]

    @property
    def compressed(self) -> int:
        """Bytes on storage of the columns that are read."""
        return sum(chunk.size for chunk in self.chunks.values())

    @property
    def values(self) -> int:
        """Number of feature values in all frames together, nulls included."""
        return self.chunks["features"].values


def leaf_names(schema: pa.Schema) -> list[str]:
    """Return the name of the column of each leaf, in Parquet's order: a struct has several, a list one.

    A path does not say it: `a.b` is a field of the column `a`, or a column of that name.
    """
    return [field.name for field in schema for _ in range(_leaves(field.type))]


def _leaves(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _leaves(kind.value_type)
    if pa.types.is_struct(kind):
        return sum(_leaves(field.type) for field in kind)
    if pa.types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    return _leaves(kind.value_type) if is_any_list(kind) else 1


def itemsizes(schema: pq.ParquetSchema) -> tuple[int, ...]:
    """Return the bytes of a value of each leaf of a file, at least 2 for text."""
    columns = (schema.column(index) for index in range(len(schema)))
    return tuple(_ITEMSIZES.get(column.physical_type, max(2, min(column.length, _LARGEST_ITEM))) for column in columns)


def parse_row_groups(
    footer: Fields, sizes: Sequence[int], names: Sequence[str | None], file_size: int, location: str
) -> tuple[RowGroup, ...]:
    """Return the row groups of a footer.

    Args:
        footer: its fields (`read_footer_fields`).
        sizes: bytes of a value of each leaf (`itemsizes`).
        names: of the column of each leaf (`leaf_names`); None: it is not read.
        file_size: bytes of the file.
        location: the file, for the error.

    Raises:
        DataError: the footer places columns outside the file, or contradicts itself.
    """
    try:
        return tuple(_row_group(group, sizes, names, file_size) for group in _structs(footer, 4))
    except DataError as error:
        raise DataError(f"{location}: {error}; write the file again") from None


def read_footer_fields(
    footer: bytes, location: str, spans: Spans | None = None, known: Mapping[int, bytes] = MappingProxyType({})
) -> Fields:
    """Read the fields of a footer.

    Args:
        footer: its bytes; what follows the struct is ignored.
        location: the file, for the error.
        spans, known: as for `thrift.read_struct`.

    Raises:
        DataError: the footer is broken.
    """
    try:
        return read_struct(footer, spans, known)[0]
    except IndexError:
        raise DataError(f"{location}: the footer does not end; write the file again") from None
    except DataError as error:
        raise DataError(f"{location}: {error}; write the file again") from None


def _row_group(group: Fields, sizes: Sequence[int], names: Sequence[str | None], file_size: int) -> RowGroup:
    listed, chunks = _structs(group, 1), {}
    rows = _number(group, 3)
    if not len(listed) == len(sizes) == len(names) or rows < 0:
        raise DataError(f"expected row groups of {len(sizes)} columns and some rows, got {len(listed)}, {rows}")
    for fields, name, itemsize in zip(listed, names, sizes, strict=True):
        if name is not None:
            chunk = chunks[name] = _column_chunk(fields, itemsize)
            if chunk.start < _MAGIC_BYTES or chunk.size < 0 or chunk.values < 0 or chunk.start + chunk.size > file_size:
                raise DataError(f"column {name} lies outside the file, by its footer")
    return RowGroup(rows, chunks)


def _column_chunk(fields: Fields, itemsize: int) -> ColumnChunk:
    metadata = _struct(fields, 3)
    values, size, start = _number(metadata, 5), _number(metadata, 7), _number(metadata, 9)
    if not values:  # such a chunk needs no page, and its positions may be anything
        return ColumnChunk(_MAGIC_BYTES, 0, 0, 0, itemsize)
    dictionary = metadata.get((11, I64))
    if isinstance(dictionary, int) and 0 < dictionary < start:
        start = dictionary
    statistics = metadata.get((12, STRUCT))
    nulls = statistics.get((3, I64)) if isinstance(statistics, dict) else None
    codec = metadata.get((4, I32))
    return ColumnChunk(
        start,
        size,
        values,
        nulls if isinstance(nulls, int) else None,
        itemsize,
        codec if isinstance(codec, int) else -1,
    )


def _structs(fields: Fields, number: int) -> list[Fields]:
    items = fields.get((number, LIST))
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError("expected row groups and columns in its footer")
    return cast("list[Fields]", items)


def _struct(fields: Fields, number: int) -> Fields:
    value = fields.get((number, STRUCT))
    if not isinstance(value, dict):
        raise DataError("expected metadata of every column in its footer")
    return value


def _number(fields: Fields, number: int) -> int:
    value = fields.get((number, I64))
    if not isinstance(value, int):
        raise DataError("expected rows, sizes and positions in its footer")
    return value
