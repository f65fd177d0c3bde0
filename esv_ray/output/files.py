"""Read committed files, which are not trusted: size and schema are checked before decoding."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.input.columns import names_of
from esv_ray.input.parquet.chunks import itemsizes, leaf_names, parse_row_groups, read_footer_fields
from esv_ray.input.parquet.sizes import chunk_size, decoding_bytes
from esv_ray.machine import host_memory


@contextmanager
def parquet_errors(location: str) -> Iterator[None]:
    """Turn what Arrow raises on a broken file of an output into a `DataError`; disk errors go through."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{location}: not readable as Parquet: {short_text(error, 200)}; `esv verify --repair` on the output moves "
            "it aside, then run the job again"
        ) from None


def open_parquet(data: bytes, location: str) -> pq.ParquetFile:
    """Open the content of a file of an output.

    Raises:
        DataError: it is not Parquet.
    """
    with parquet_errors(location):
        return pq.ParquetFile(io.BytesIO(data))


def read_output(url: str, schema: pa.Schema, location: str) -> tuple[pa.Table, pq.FileMetaData, str]:
    """Read a table of an output.

    Args:
        url: its file.
        schema: schema of the contract.
        location: the file, for errors.

    Returns:
        The table, its footer, and the SHA-256 of its file.

    Raises:
        StorageError: the storage refuses.
        DataError: the file is missing, broken, of another schema, or would take more memory than this machine has.
    """
    data = storage.read_bytes(url, "read the output")
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    with parquet_errors(location):
        stored = pq.ParquetFile(io.BytesIO(data)).schema_arrow
        names = names_of(stored, location)
        if not stored.equals(schema, check_metadata=False):
            difference = _difference(schema, stored, names)
            raise DataError(
                f"{location}: expected the columns {schema.names} of the contract's types, got {difference}"
            )
        # Text as indices of a dictionary: every row may refer to one long text.
        parquet = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True, read_dictionary=text)
        available = host_memory()
        _check_memory(_needed(parquet, data, schema.names, location), available, location)
        table = parquet.read()
        _check_memory(_text_bytes(table, text), available, location)
        table = table.cast(schema)
        table.validate(full=True)  # also finds text that is not UTF-8
    return table, parquet.metadata, hashlib.sha256(data).hexdigest()


def _difference(expected: pa.Schema, stored: pa.Schema, names: Sequence[str]) -> str:
    """Describe how a schema differs from the contract's: by its columns or, if these are equal, by a type."""
    if list(names) != expected.names:
        return str(list(names))
    pairs = zip(expected, stored, strict=True)
    return next((f"{_typed(got)} in place of {_typed(due)}" for due, got in pairs if not due.equals(got)), "others")


def _typed(field: pa.Field) -> str:
    return f"{field.name} {field.type}{'' if field.nullable else ' not null'}"


def _needed(parquet: pq.ParquetFile, data: bytes, names: Sequence[str], location: str) -> int:
    """Return the most bytes that decoding takes, from the page headers (`input.parquet.sizes`)."""

    def at(start: int, size: int) -> bytes:
        return data[max(0, start) : start + size]

    needed, footer = 0, data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    leaves = [name if name in names else None for name in leaf_names(parquet.schema_arrow)]
    fields = read_footer_fields(footer, location)
    for group in parse_row_groups(fields, itemsizes(parquet.schema), leaves, len(data), location):
        for name, chunk in group.chunks.items():
            try:
                size = chunk_size(at, chunk.start, chunk.size, chunk.values)
            except DataError as error:
                raise DataError(f"{location}: not readable as Parquet: column {name}: {error}") from None
            needed += decoding_bytes(size.values, chunk.itemsize, size.largest)
    return needed


def _text_bytes(table: pa.Table, text: Sequence[str]) -> int:
    """Return the bytes of dictionary-encoded columns as plain text."""
    needed = 0
    for name in text:
        for chunk in table.column(name).chunks:
            lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
            needed += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    return needed


def _check_memory(needed: int, available: int, location: str) -> None:
    if not needed <= available:
        raise DataError(
            f"{location}: expected a table that fits {available} bytes of memory, got one of up to {needed} bytes: it "
            "is probably not a file of this job; if it is, verify the output on a machine with more memory"
        )
