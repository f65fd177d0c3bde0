"""Parse the footers of a feature table's files: schemas, row groups, checksums. Pure functions of bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import DataError
from esv_ray.input.columns import check_types, feature_number, own_columns, text_widths
from esv_ray.input.files import InputFile
from esv_ray.input.images import shape_of
from esv_ray.input.parquet.chunks import RowGroup, itemsizes, leaf_names, parse_row_groups, read_footer_fields
from esv_ray.input.parquet.thrift import Fields, Spans
from esv_ray.spec_columns import COLUMNS, ColumnNames

PREPROCESSING = b"esv_preprocessing"
"""Key of a file's metadata: how frames were made into features, as JSON."""

_LENGTH_BYTES, _END_BYTES = 4, 8  # the length of the footer; the length and the magic number
_CHECKSUM_DIGITS = 32  # of SHA-256
_SCHEMA, _METADATA = 2, 5  # fields of a footer


@dataclass(frozen=True, slots=True)
class Footer:
    """The content of the footer of a file of the table.

    Attributes:
        file: the file, with the checksum of this footer; opening it later checks the checksum.
        schema: the columns that are read, under their own names, checked.
        leaves: number of Parquet's column of each of them.
        feature_dim: D; None where the type of `features` leaves it to the rows.
        text_widths: the flat columns that hold text, with the bytes of each value of a fixed size, else 0.
        groups: its row groups.
        preprocessing: how frames were made into features, if `esv extract` wrote the file (`input.preprocessing`).
        shape: of elements that are images, (H, W, 3), or clips, (k, H, W, 3); None: vectors.
    """

    file: InputFile
    schema: pa.Schema
    leaves: Mapping[str, int]
    feature_dim: int | None
    text_widths: Mapping[str, int]
    groups: tuple[RowGroup, ...]
    preprocessing: Mapping[str, Any] | None = None
    shape: tuple[int, ...] | None = None


def has_labels(footers: Sequence[Footer]) -> bool:
    """Return whether any row may have a label: a footer has such a column, which is not known to be all null."""
    return any(_has_labels(footer) for footer in footers)


def _has_labels(footer: Footer) -> bool:
    if footer.file.named.get("label") is not None:
        return True
    if "label" not in footer.schema.names or pa.types.is_null(footer.schema.field("label").type):
        return False
    chunks = [group.chunks["label"] for group in footer.groups]
    return any(chunk.nulls is None or chunk.nulls < chunk.values for chunk in chunks)


class ParsedFooter(NamedTuple):
    """A footer, as this package and as Arrow reads it.

    Attributes:
        footer: what it says; `footer.schema` has the types that the writer stored.
        metadata: for Arrow to decode the file by, with Parquet's own types.
    """

    footer: Footer
    metadata: pq.FileMetaData


def footer_bytes(tail: bytes) -> int:
    """Return the bytes that the footer takes, by the end of its file, with the length and the magic number."""
    return int.from_bytes(tail[-_END_BYTES:][:_LENGTH_BYTES], "little") + _END_BYTES


def parse_footer(tail: bytes, file: InputFile) -> ParsedFooter:
    """Read and check the footer of a file of the table.

    Args:
        tail: the end of the file, at least its whole footer.
        file: the file.

    Raises:
        DataError: it is no feature table, or has another footer than when it was planned.
        pa.ArrowException, UnicodeDecodeError, MemoryError: the footer is broken.
    """
    start = max(0, len(tail) - footer_bytes(tail))
    footer = tail[start:]
    checksum = _checksum(footer, file)
    # With a footer that makes Arrow use Parquet's own types: lists of any length, plain text. A null in a list of a
    # fixed size would become as many values as its type says, and that may be any number.
    plain_tail = tail[:start] + footer.replace(b"ARROW:schema", b"arrow:schema")
    fields, key = _fields_of(footer, file)
    table = _known.get(key) if key is not None else None
    if table is None:
        table = _table_columns(tail, plain_tail, file)
    metadata = pq.ParquetFile(pa.BufferReader(plain_tail)).metadata
    if isinstance(fields, DataError):  # what Arrow says of a broken footer comes first
        raise fields
    groups = parse_row_groups(fields, table.itemsizes, table.names, file.size, file.url)
    if key is not None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key] = table
    return ParsedFooter(
        Footer(
            InputFile(file.url, file.size, file.version, checksum, file.directories, file.columns),
            table.schema,
            table.leaves,
            table.feature_dim,
            table.text_widths,
            groups,
            table.preprocessing,
            table.shape,
        ),
        metadata,
    )


class _TableColumns(NamedTuple):
    """What follows from the schema and the metadata of a footer alone, which files of a table share."""

    schema: pa.Schema
    leaves: Mapping[str, int]
    names: tuple[str | None, ...]  # of the column of each leaf
    itemsizes: tuple[int, ...]  # of each leaf
    feature_dim: int | None
    text_widths: Mapping[str, int]
    preprocessing: Mapping[str, Any] | None
    shape: tuple[int, ...] | None


_Key = tuple[bytes, bytes, ColumnNames, tuple[str, ...]]
# Of the latest schemas: of 50,000 files of one video, all but the first take a third of the time, and share the memory.
_known: dict[_Key, _TableColumns] = {}
_MOST_KNOWN, _LONGEST_KEY = 32, 2**16


def _fields_of(footer: bytes, file: InputFile) -> tuple[Fields | DataError, _Key | None]:
    """Read the fields of a footer, or return why they cannot be read; and the key of its columns, if it is short."""
    spans = Spans()
    known: dict[int, bytes] = {}
    for latest in list(_known)[-1:]:  # at once: other threads add to it
        known = {number: part for number, part in ((_SCHEMA, latest[0]), (_METADATA, latest[1])) if part}
    try:
        fields = read_footer_fields(footer[:-_END_BYTES], file.url, spans, known)
    except DataError as error:
        return error, None
    schema, metadata = (footer[slice(*spans.get(number, (0, 0)))] for number in (_SCHEMA, _METADATA))
    if len(schema) + len(metadata) > _LONGEST_KEY:
        return fields, None
    return fields, (schema, metadata, file.columns, tuple(name for name, _ in file.directories))


def _table_columns(tail: bytes, plain_tail: bytes, file: InputFile) -> _TableColumns:
    """Check the columns of a file, and find what of a footer its row groups do not change; errors: `parse_footer`."""
    schema = own_columns(_read_schema(tail, plain_tail, file), file.url, file.columns, file.named)
    feature_dim = check_types(schema, file.url, file.columns)
    features = schema.field("features")
    shape = shape_of(features, feature_number(features.type), feature_dim, file.url)
    plain = pq.ParquetFile(pa.BufferReader(plain_tail))
    plain_schema = own_columns(plain.schema_arrow, file.url, file.columns, file.named)
    check_types(plain_schema, file.url, file.columns)
    own = {file.columns.name_of(key): key for key in COLUMNS}
    names = tuple(own.get(name) for name in leaf_names(plain.schema_arrow))
    return _TableColumns(
        schema,
        {name: index for index, name in enumerate(names) if name is not None},
        names,
        itemsizes(plain.schema),
        feature_dim if shape is None else prod(shape),
        text_widths(plain_schema),
        _preprocessing(plain.metadata),
        shape,
    )


def _preprocessing(metadata: pq.FileMetaData) -> Mapping[str, Any] | None:
    """Return what `esv extract` says of the features; None for anything else that may be there."""
    text = (metadata.metadata or {}).get(PREPROCESSING)
    try:
        content = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _checksum(footer: bytes, file: InputFile) -> str:
    """Return the checksum of a footer, which must be the planned one: it holds positions and sizes of all data.

    Columns that folders name are content, too: the same file in ``label=1/`` and in ``label=2/`` is two inputs.
    """
    named = file.named
    content = footer + (json.dumps(named, sort_keys=True).encode() if named else b"")
    checksum = hashlib.sha256(content).hexdigest()[:_CHECKSUM_DIGITS]
    if file.footer not in ("", checksum):
        raise DataError(
            f"{file.url}: changed since the job was planned (its footer differs, or its folders name other "
            "values); put it back or use a new output"
        )
    return checksum


def _read_schema(tail: bytes, plain_tail: bytes, file: InputFile) -> pa.Schema:
    """Read the schema of a file, with the types that Arrow's writer stored where Arrow's reader knows them."""
    try:
        return pq.ParquetFile(pa.BufferReader(tail)).schema_arrow
    except pa.ArrowNotImplementedError as error:  # Polars' Int128, perhaps of a column that is not read
        schema = pq.ParquetFile(pa.BufferReader(plain_tail)).schema_arrow
        own = own_columns(schema, file.url, file.columns, file.named)
        for name, kind in zip(own.names, own.types, strict=True):
            if pa.types.is_fixed_size_binary(kind):  # its bytes are not text
                shown = file.columns.shown(name)
                raise DataError(f"{file.url}: column {shown}: {error}; cast it to int64 or string") from None
        return schema
