"""What the footers of a feature table's files say, read without Arrow's Python face, which dies of a lie (`thrift`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.columns import check_schema, columns_of
from esv_ray.input.files import InputFile
from esv_ray.input.parquet.fetched import Fetched
from esv_ray.input.parquet.file_kinds import check_is_parquet
from esv_ray.input.parquet.pages import Bytes
from esv_ray.input.parquet.thrift import I64, LIST, STRUCT, Fields, read_struct
from esv_ray.parallel import in_parallel

_READERS = 16  # footers are small: latency, not bandwidth
_BUFFER = 2**20  # bytes of a column that are read at a time; without it Arrow reads a chunk whole and is slower
_LENGTH_BYTES, _TAIL_BYTES = 4, 8  # length of the footer; and the magic number
_MAGIC_BYTES = 4
_ITEMSIZES = {"FLOAT": 4, "DOUBLE": 8, "INT32": 4, "INT64": 8}
_LARGEST_ITEM = 16
_CHECKSUM_DIGITS = 32  # of SHA-256


@dataclass(frozen=True)
class RowGroup:
    """What a file's footer says of a row group.

    Attributes:
        rows: of it.
        compressed: bytes on storage of the columns that are read.
        values: of the features, in all frames together, nulls included.
    """

    rows: int
    compressed: int
    values: int


@dataclass(frozen=True)
class Footer:
    """What the footer of an `InputFile` says, and the checksum of its bytes."""

    schema: pa.Schema
    groups: tuple[RowGroup, ...]
    checksum: str


@dataclass(frozen=True)
class Chunk:
    """A column of a row group, as the footer tells it.

    Attributes:
        start: of its first page, in the file.
        size: bytes on storage.
        values: nulls included.
        nulls: of them; None: not told.
        itemsize: bytes of a value.
    """

    start: int
    size: int
    values: int
    nulls: int | None
    itemsize: int


@dataclass(frozen=True)
class Group:
    """A row group: its rows, and the chunks of the columns that are read, by name."""

    rows: int
    chunks: Mapping[str, Chunk]


class Opened(NamedTuple):
    """A file of the table, opened for reading.

    Attributes:
        parquet: the file as Arrow reads it.
        source: what its bytes come from.
        schema: its own.
        named: columns that the names of its directories give.
        groups: its row groups, as its footer describes them.
        checksum: of the footer's bytes.
    """

    parquet: pq.ParquetFile
    source: Fetched
    schema: pa.Schema
    named: Mapping[str, str | None]
    groups: tuple[Group, ...]
    checksum: str

    def close(self) -> None:
        """Let go of the file."""
        self.parquet.close(force=True)
        self.source.close()


def open_file(file: InputFile) -> Opened:
    """A file of the table, opened for reading exact ranges.

    Raises:
        DataError: it is not there, no feature table, or has another footer than when it was planned.
    """
    named = file.named
    with decoding(file.url):
        source = Fetched(file)
        check_is_parquet(source.at, file.size, file.url)
        checksum = _checked_footer(source, file, named)
        schema = _schema_of(source, file)
        check_schema(schema, file.url, named)
        _hide_types(source, file)
        # From here on nothing is decoded as the types that Arrow's writer left; `schema` tells those.
        parquet = pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False)
        check_schema(parquet.schema_arrow, file.url, named)
        groups = groups_of(parquet, source.at, file.size, columns_of(schema), file.url)
        return Opened(parquet, source, schema, named, groups, checksum)


def _schema_of(source: Fetched, file: InputFile) -> pa.Schema:
    """Read the schema of a file, with the types that Arrow's writer left where Arrow's reader knows them."""
    try:
        return pq.ParquetFile(source).schema_arrow
    except pa.ArrowNotImplementedError as error:  # Polars' Int128, which may be that of a column that is not read
        _hide_types(source, file)
        schema = pq.ParquetFile(source).schema_arrow
        for name in columns_of(schema):
            if pa.types.is_fixed_size_binary(schema.field(name).type):  # its bytes are no text
                raise DataError(f"{file.url}: column {name}: {error}; cast it to int64 or string") from None
        return schema


def _footer_start(source: Fetched, file: InputFile) -> int:
    size = int.from_bytes(source.at(file.size - _TAIL_BYTES, _LENGTH_BYTES), "little")
    return max(0, file.size - _TAIL_BYTES - size)


def _checked_footer(source: Fetched, file: InputFile, named: Mapping[str, str | None]) -> str:
    """The checksum of a file's footer, which must be the planned one: it holds places and sizes of all data.

    Columns that directories name are content, too: the same file in ``label=1/`` and in ``label=2/`` is two inputs.
    """
    start = _footer_start(source, file)
    content = source.at(start, file.size - start) + (json.dumps(named, sort_keys=True).encode() if named else b"")
    checksum = hashlib.sha256(content).hexdigest()[:_CHECKSUM_DIGITS]
    if file.footer not in ("", checksum):
        raise DataError(
            f"{file.url}: changed since the job was planned (its footer is another, or its directories name other "
            "values); put it back or use a new output"
        )
    return checksum


def sign(files: Sequence[InputFile], footers: Sequence[Footer]) -> list[InputFile]:
    """Files with the checksums of their footers, by which `open_file` knows them again."""
    return [replace(file, footer=footer.checksum) for file, footer in zip(files, footers, strict=True)]


def _hide_types(source: Fetched, file: InputFile) -> None:
    """Let Arrow take Parquet's own types: lists of any length, plain text.

    A null in a list of a fixed size would become as many values as the type says, and that may be any number.
    """
    start = _footer_start(source, file)
    source.put_footer(start, source.at(start, file.size - start).replace(b"ARROW:schema", b"arrow:schema"))


def read_footers(files: Sequence[InputFile]) -> list[Footer]:
    """The footers of files, in their order.

    Raises:
        DataError: a file is unreadable, or no feature table; says which.
    """

    def read(file: InputFile) -> Footer:
        opened = open_file(file)
        opened.close()
        return Footer(opened.schema, tuple(_row_group(group) for group in opened.groups), opened.checksum)

    return in_parallel(read, files, threads=_READERS)


def has_labels(files: Sequence[InputFile]) -> bool:
    """Whether any row may have a label: there is such a column, and the footers do not say that it is all null."""

    def labelled(file: InputFile) -> bool:
        opened = open_file(file)
        opened.close()
        if opened.named.get("label") is not None:
            return True
        if "label" not in opened.schema.names or pa.types.is_null(opened.schema.field("label").type):
            return False
        labels = [group.chunks["label"] for group in opened.groups]
        return any(chunk.nulls is None or chunk.nulls < chunk.values for chunk in labels)

    return any(labelled(file) for file in files)


@contextmanager
def decoding(where: str) -> Iterator[None]:
    """Turn what Arrow says of broken Parquet into a `DataError`."""
    try:
        with storage.locating(where, "read the feature table"):
            yield
    except (pa.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{where}: expected a Parquet file: {' '.join(str(error).split())[:300]}") from None


def _row_group(group: Group) -> RowGroup:
    compressed = sum(chunk.size for chunk in group.chunks.values())
    return RowGroup(group.rows, compressed, group.chunks["features"].values)


def groups_of(parquet: pq.ParquetFile, at: Bytes, size: int, columns: Sequence[str], where: str) -> tuple[Group, ...]:
    """Read what the footer of a file says of its row groups.

    Args:
        parquet: the file as Arrow reads it.
        at: gives its bytes.
        size: of the file.
        columns: those that are read.
        where: the file, for people.

    Raises:
        DataError: the footer is broken, or tells of columns outside the file.
    """
    length = int.from_bytes(at(size - _TAIL_BYTES, _LENGTH_BYTES), "little")
    try:
        footer, _ = read_struct(at(size - _TAIL_BYTES - length, length))
        groups = [_group(parquet, group, columns, size) for group in _structs(footer, 4)]
    except IndexError:
        raise DataError(f"{where}: the footer does not end; write the file again") from None
    except DataError as error:
        raise DataError(f"{where}: {error}; write the file again") from None
    return tuple(groups)


def _group(parquet: pq.ParquetFile, group: Fields, columns: Sequence[str], file_size: int) -> Group:
    chunks, found = _structs(group, 1), {}
    rows = _number(group, 3)
    if len(chunks) != len(parquet.schema) or rows < 0:
        raise DataError(
            f"expected row groups of {len(parquet.schema)} columns and some rows, got {len(chunks)}, {rows}"
        )
    for index, chunk in enumerate(chunks):
        column = parquet.schema.column(index)
        name = column.path.partition(".")[0]
        if name in columns:
            itemsize = _ITEMSIZES.get(column.physical_type, max(2, min(column.length, _LARGEST_ITEM)))
            found[name] = _chunk(chunk, itemsize)
            start, size = found[name].start, found[name].size
            if start < _MAGIC_BYTES or size < 0 or found[name].values < 0 or start + size > file_size:
                raise DataError(f"column {name} lies outside the file, by its footer")
    return Group(rows, found)


def _chunk(chunk: Fields, itemsize: int) -> Chunk:
    meta = _struct(chunk, 3)
    values, size, start = _number(meta, 5), _number(meta, 7), _number(meta, 9)
    if not values:  # there need be no page, and then the offsets are anything
        return Chunk(_MAGIC_BYTES, 0, 0, 0, itemsize)
    dictionary = meta.get((11, I64))
    if isinstance(dictionary, int) and 0 < dictionary < start:
        start = dictionary
    statistics = meta.get((12, STRUCT))
    nulls = statistics.get((3, I64)) if isinstance(statistics, dict) else None
    return Chunk(start, size, values, nulls if isinstance(nulls, int) else None, itemsize)


def _structs(fields: Fields, number: int) -> list[Fields]:
    found = fields.get((number, LIST))
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError("expected row groups and columns in its footer")
    return cast("list[Fields]", found)


def _struct(fields: Fields, number: int) -> Fields:
    found = fields.get((number, STRUCT))
    if not isinstance(found, dict):
        raise DataError("expected meta data of every column in its footer")
    return found


def _number(fields: Fields, number: int) -> int:
    found = fields.get((number, I64))
    if not isinstance(found, int):
        raise DataError("expected rows, sizes and places in its footer")
    return found
