"""Open files of a feature table: the footer is read and checked before Arrow decodes anything.

A footer of at most 64 KiB is read in one request, and Arrow parses it from memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import DataError
from esv_ray.input.columns import check_schema, columns_of
from esv_ray.input.files import InputFile
from esv_ray.input.parquet.file_kinds import check_is_parquet
from esv_ray.input.parquet.footers import Footer, parse_row_groups
from esv_ray.input.parquet.source import FileSource, decoding
from esv_ray.parallel import READERS, in_parallel

_BUFFER = 2**20  # bytes of a column that are read at a time; without it Arrow reads a chunk whole and is slower
_TAIL_BYTES = 2**16  # Arrow reads as many at first; if all of them are kept, it needs no request of its own
_LENGTH_BYTES, _END_BYTES = 4, 8  # the length of the footer; the length and the magic number
_CHECKSUM_DIGITS = 32  # of SHA-256


class OpenedFile(NamedTuple):
    """A file of the table, opened for reading.

    Attributes:
        parquet: the file as Arrow reads it.
        source: its bytes.
        footer: its parsed footer; `footer.schema` has the types that the writer stored, `parquet` Parquet's own.
    """

    parquet: pq.ParquetFile
    source: FileSource
    footer: Footer

    def close(self) -> None:
        """Close the file."""
        self.parquet.close(force=True)
        self.source.close()


def read_footers(files: Sequence[InputFile]) -> list[Footer]:
    """Read the footers of files in parallel; return them in the order of the files.

    Raises:
        DataError: a file is unreadable or not a feature table.
    """
    return in_parallel(read_footer, files, threads=READERS)


def read_footer(file: InputFile) -> Footer:
    """Read the footer of a file; errors as for `open_file`."""
    with closing(open_file(file)) as opened:
        return opened.footer


def open_file(file: InputFile) -> OpenedFile:
    """Open a file of the table for reading exact ranges.

    Raises:
        DataError: it does not exist, is not a feature table, or its footer changed since the job was planned.
    """
    with decoding(file.url):
        source = FileSource(file)
        try:
            return _opened(source, file)
        except BaseException:
            source.close()
            raise


def _opened(source: FileSource, file: InputFile) -> OpenedFile:
    start, tail = _read_tail(source, file)
    footer = tail[start:]
    checksum = _checksum(footer, file)
    schema = _read_schema(source, file, tail, footer)
    feature_dim = check_schema(schema, file.url, file.named)
    source.keep_tail(file.size - len(tail), _without_types(tail, footer))
    parquet = pq.ParquetFile(source.stream(), buffer_size=_BUFFER, pre_buffer=False)
    check_schema(parquet.schema_arrow, file.url, file.named)
    groups = parse_row_groups(footer[:-_END_BYTES], parquet.schema, columns_of(schema), file.size, file.url)
    return OpenedFile(parquet, source, Footer(replace(file, footer=checksum), schema, feature_dim, groups))


def _read_tail(source: FileSource, file: InputFile) -> tuple[int, bytes]:
    """Read the end of a file, at least its whole footer; return where the footer begins in it, and the bytes."""
    tail = source.at(max(0, file.size - _TAIL_BYTES), min(file.size, _TAIL_BYTES))
    complete = len(tail) == min(file.size, _TAIL_BYTES)
    check_is_parquet(tail if complete else b"", source.at, file.size, file.url)
    length = int.from_bytes(tail[-_END_BYTES:][:_LENGTH_BYTES], "little")
    start = max(0, file.size - _END_BYTES - length)
    if file.size - start > len(tail):
        tail = source.at(start, file.size - len(tail) - start) + tail
    source.keep_tail(file.size - len(tail), tail)
    return start - (file.size - len(tail)), tail


def _checksum(footer: bytes, file: InputFile) -> str:
    """Return the checksum of a footer, which must be the planned one: it holds positions and sizes of all data.

    Columns that directories name are content, too: the same file in ``label=1/`` and in ``label=2/`` is two inputs.
    """
    named = file.named
    content = footer + (json.dumps(named, sort_keys=True).encode() if named else b"")
    checksum = hashlib.sha256(content).hexdigest()[:_CHECKSUM_DIGITS]
    if file.footer not in ("", checksum):
        raise DataError(
            f"{file.url}: changed since the job was planned (its footer differs, or its directories name other "
            "values); put it back or use a new output"
        )
    return checksum


def _read_schema(source: FileSource, file: InputFile, tail: bytes, footer: bytes) -> pa.Schema:
    """Read the schema of a file, with the types that Arrow's writer stored where Arrow's reader knows them."""
    try:
        return pq.ParquetFile(source.stream()).schema_arrow
    except pa.ArrowNotImplementedError as error:  # Polars' Int128, perhaps of a column that is not read
        source.keep_tail(file.size - len(tail), _without_types(tail, footer))
        schema = pq.ParquetFile(source.stream()).schema_arrow
        for name in columns_of(schema):
            if pa.types.is_fixed_size_binary(schema.field(name).type):  # its bytes are not text
                raise DataError(f"{file.url}: column {name}: {error}; cast it to int64 or string") from None
        return schema


def _without_types(tail: bytes, footer: bytes) -> bytes:
    """Return the end of a file with a footer that makes Arrow use Parquet's own types: lists of any length, plain text.

    A null in a list of a fixed size would become as many values as its type says, and that may be any number.
    """
    return tail[: len(tail) - len(footer)] + footer.replace(b"ARROW:schema", b"arrow:schema")
