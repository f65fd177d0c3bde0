"""Where the rows of a column of lists begin, from the repetition levels of its pages, without decoding the values.

A row may take any number of values, whatever the footer says, so a row group that is too large to be decoded at once is
decoded some rows at a time only if it is known how many values these rows have (parquet-format, Encodings: RLE and
bit-packed hybrid). This takes a second decompression of the column, so only such row groups are looked at.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.input.parquet.chunks import ColumnChunk
from esv_ray.input.parquet.sizes import Bytes, PageHeader, page_headers

_CODECS = {0: None, 1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}  # parquet.thrift, CompressionCodec
_RLE = 3  # parquet.thrift, Encoding
_LENGTH_BYTES = 4


def most_values(read: Bytes, chunk: ColumnChunk, rows: int, at_once: int, depth: int) -> int | None:
    """Return the most values of so many rows that follow one another and are decoded at a time.

    Args:
        read: reads bytes of the file.
        chunk: a column of lists.
        rows: of the row group.
        at_once: rows that are decoded at a time, the first of them row 0.
        depth: of the lists: the largest repetition level.

    Returns:
        The number of values; None if the pages do not say it, or have another number of rows.

    Raises:
        DataError: a page header is malformed.
    """
    if chunk.codec not in _CODECS or depth < 1:
        return None
    parts, before, found = [np.zeros(0, np.int64)], 0, 0
    try:
        for at, header in page_headers(read, chunk.start, chunk.size, chunk.values):
            if not header.values:
                continue
            levels = _levels(read(at, header.compressed), header, _CODECS[chunk.codec])
            starts = _zeros(levels, depth.bit_length(), header.values, rows - found)
            parts.append(starts + before)
            found += len(starts)
            before += header.values
    except (IndexError, ValueError, OSError, pa.ArrowException):
        return None
    starts = np.concatenate(parts)
    if len(starts) != rows or not rows or starts[0]:
        return None
    return int(np.diff(np.append(starts[::at_once], before)).max())


def _levels(data: bytes, header: PageHeader, codec: str | None) -> bytes:
    """Return the repetition levels of a page.

    Raises:
        ValueError: the page has none that can be read.
    """
    if header.repetition_bytes is not None:  # of the second kind, which compresses the values only
        return data[: header.repetition_bytes]
    if header.repetition_encoding != _RLE:
        raise ValueError("expected repetition levels in RLE")
    body = data if codec is None else pa.decompress(data, header.uncompressed, codec=codec, asbytes=True)
    size = int.from_bytes(body[:_LENGTH_BYTES], "little")
    return body[_LENGTH_BYTES : _LENGTH_BYTES + size]


def _zeros(levels: bytes, width: int, count: int, most: int) -> npt.NDArray[np.int64]:
    """Return which of the levels are 0, which begins a row.

    Args:
        levels: RLE/bit-packed hybrid.
        width: bits of a level.
        count: number of levels.
        most: zeros that there may be.

    Raises:
        IndexError: the levels end too early.
        ValueError: there are more zeros.
    """
    at = done = zeros = 0
    parts = [np.zeros(0, np.int64)]
    while done < count:
        header = shift = 0
        while (byte := levels[at]) >= 128:
            header |= (byte & 127) << shift
            shift, at = shift + 7, at + 1
        header |= byte << shift
        at += 1
        number = header >> 1
        if header & 1:
            packed = np.frombuffer(levels, np.uint8, number * width, at)
            bits = np.unpackbits(packed, bitorder="little").reshape(-1, width)[: count - done]
            found = np.flatnonzero(~bits.any(axis=1))
            at, number = at + number * width, 8 * number
        else:
            run = min(number, count - done) if levels[at] == 0 else 0
            if run > most - zeros:
                raise ValueError("more rows than the footer says")
            found = np.arange(run)
            at += 1
        if not number:
            raise ValueError("a run without levels")
        if len(found):
            parts.append(found + done)
            zeros += len(found)
        done += number
    if zeros > most:
        raise ValueError("more rows than the footer says")
    return np.concatenate(parts)
