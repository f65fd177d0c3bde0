"""Parquet files taken apart and put together again with lies in them: thrift's compact protocol, footers, pages.

A struct is {field id: (type, value)}; a list is (type, values). What is rewritten is consistent but for the lie that
was asked for: offsets and lengths follow, so that a reader gets as far as the lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAGIC = b"PAR1"
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

Struct = dict[int, tuple[int, Any]]


def uvarint(number: int) -> bytes:
    """A number in groups of seven bits."""
    out = bytearray()
    number &= 2**64 - 1
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """A signed number in groups of seven bits."""
    return uvarint(2 * number if number >= 0 else -2 * number - 1)


class Reader:
    """Reads structs off a file's bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def _uvarint(self) -> int:
        number = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def _zigzag(self) -> int:
        number = self._uvarint()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def _take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def struct(self) -> Struct:
        """The struct that begins here."""
        fields: Struct = {}
        last = 0
        while (head := self._take(1)[0]) != 0:
            last = last + (head >> 4) if head >> 4 else self._zigzag()
            fields[last] = (head & 15, self._value(head & 15))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == BINARY:
            return self._take(self._uvarint())
        if kind in (LIST, SET):
            head = self._take(1)[0]
            count = head >> 4 if head >> 4 < 15 else self._uvarint()
            return head & 15, [self._element(head & 15) for _ in range(count)]
        return self.struct() if kind == STRUCT else self._take({BYTE: 1, DOUBLE: 8}[kind])

    def _element(self, kind: int) -> Any:
        return self._take(1) if kind in (TRUE, FALSE) else self._value(kind)


def struct_bytes(fields: Struct) -> bytes:
    """A struct as it stands in a file."""
    out = bytearray()
    last = 0
    for number, (kind, value) in sorted(fields.items()):
        kind = (TRUE if value else FALSE) if kind in (TRUE, FALSE) else kind
        near = 0 < number - last < 16
        out += bytes([(number - last) << 4 | kind]) if near else bytes([kind]) + zigzag(number)
        out += b"" if kind in (TRUE, FALSE) else _value_bytes(kind, value)
        last = number
    return bytes(out) + b"\0"


def _value_bytes(kind: int, value: Any) -> bytes:
    if kind in (I16, I32, I64):
        return zigzag(value)
    if kind == BINARY:
        return uvarint(len(value)) + bytes(value)
    if kind in (LIST, SET):
        of, values = value
        head = bytes([len(values) << 4 | of]) if len(values) < 15 else bytes([15 << 4 | of]) + uvarint(len(values))
        return head + b"".join(item if of in (TRUE, FALSE) else _value_bytes(of, item) for item in values)
    return struct_bytes(value) if kind == STRUCT else bytes(value)


@dataclass
class Page:
    """A page: its header and what follows it."""

    header: Struct
    body: bytes

    @property
    def sizes(self) -> Struct:
        """The part of the header of its kind: of a data page (5, 8) or a dictionary page (7)."""
        value: Struct = next(self.header[field][1] for field in (5, 7, 8) if field in self.header)
        return value


@dataclass
class Chunk:
    """A column of a row group: its meta data in the footer, and its pages."""

    meta: Struct
    pages: list[Page]


@dataclass
class Taken:
    """A Parquet file taken apart."""

    footer: Struct
    groups: list[list[Chunk]]

    def chunk(self, name: str, group: int = 0) -> Chunk:
        """The chunk of a column."""
        return next(chunk for chunk in self.groups[group] if chunk.meta[3][1][1][0] == name.encode())

    def row_group(self, index: int = 0) -> Struct:
        """A row group's struct in the footer."""
        group: Struct = self.footer[4][1][1][index]
        return group


def take_apart(data: bytes) -> Taken:
    """Any Parquet file without encryption."""
    size = int.from_bytes(data[-8:-4], "little")
    footer = Reader(data[-8 - size : -8]).struct()
    return Taken(footer, [[_chunk(data, one[3][1]) for one in group[1][1][1]] for group in footer[4][1][1]])


def _chunk(data: bytes, meta: Struct) -> Chunk:
    at = meta[11][1] if 11 in meta else meta[9][1]
    stop, pages = at + meta[7][1], []
    while at < stop:
        reader = Reader(data, at)
        header = reader.struct()
        at = reader.at + header[3][1]
        pages.append(Page(header, data[reader.at : at]))
    return Chunk(meta, pages)


def put_together(taken: Taken, *, fix_sizes: bool = True) -> bytes:
    """The file, offsets and lengths following what its parts have become; the footer's numbers of values stay."""
    out = bytearray(MAGIC)
    for chunks in taken.groups:
        for chunk in chunks:
            start = len(out)
            for page in chunk.pages:
                if 7 not in page.header:
                    chunk.meta[9] = (I64, len(out))
                else:
                    chunk.meta[11] = (I64, len(out))
                if fix_sizes:
                    page.header[3] = (I32, len(page.body))
                    page.header.pop(4, None)  # checksum
                out += struct_bytes(page.header) + page.body
            first = next((page for page in chunk.pages if 7 not in page.header), None)
            if first is not None:  # the first data page, not the last
                at = start + sum(
                    len(struct_bytes(page.header)) + len(page.body) for page in chunk.pages[: chunk.pages.index(first)]
                )
                chunk.meta[9] = (I64, at)
            chunk.meta[7] = (I64, len(out) - start)
    return bytes(out) + with_footer(struct_bytes(taken.footer))


def with_footer(footer: bytes) -> bytes:
    """A footer and what stands behind it."""
    return footer + len(footer).to_bytes(4, "little") + MAGIC


def runs(*pairs: tuple[int, int], width: int) -> bytes:
    """(value, count) as runs of the hybrid encoding, of numbers of some bits."""
    size = -(-width // 8)
    return b"".join(uvarint(count << 1) + value.to_bytes(size, "little") for value, count in pairs)


def levels(*pairs: tuple[int, int], width: int) -> bytes:
    """`runs` as levels of a data page of version 1: their length first."""
    data = runs(*pairs, width=width)
    return len(data).to_bytes(4, "little") + data


def long_row(data: bytes, values: int, pages: int = 1) -> bytes:
    """The first row group's features made one frame of `values` numbers in each of `pages` pages of one row.

    Args:
        data: an uncompressed file of one row, with dictionary pages of version 1.
        values: of a page, below 2**31.
        pages: of which the row is made.
    """
    taken = take_apart(data)
    chunk = taken.chunk("features")
    (first,) = [page for page in chunk.pages if 5 in page.header]
    size = int.from_bytes(first.body[:4], "little")
    defined = first.body[4 + size :]
    level = Reader(defined, 4)._uvarint()
    assert level % 2 == 0, "a run"
    width = max(1, int(defined[4 + len(uvarint(level))]).bit_length())
    value = int(defined[4 + len(uvarint(level))])
    new = []
    for index in range(pages):
        repeated = [(0, 1), (2, values - 1)] if index == 0 else [(2, values)]
        body = levels(*repeated, width=2) + levels((value, values), width=width) + b"\x01" + runs((0, values), width=1)
        header = dict(first.header)
        header[5] = (STRUCT, {**first.header[5][1], 1: (I32, values)})
        header[2] = (I32, len(body))
        new.append(Page(header, body))
    chunk.pages = [page for page in chunk.pages if 7 in page.header] + new
    chunk.meta[5] = (I64, values * pages)
    return put_together(taken)
