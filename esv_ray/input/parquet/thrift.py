"""Structs in Thrift's compact protocol, the encoding of Parquet's footers and page headers.

Why this project has a reader of its own: a corrupt file must end in an error, and Arrow may end the process instead.

- pyarrow 26.0.1 calls abort() in `RowGroupMetaData.column` where a column chunk's metadata are wrong: for 12 files of
  seeds 0 to 399 of `tests/support/hostile_tables.py`.
- Crashes on corrupt files while values are decoded, fixed upstream: https://github.com/apache/arrow/issues/41317 (heap
  buffer overflow) and https://github.com/apache/arrow/issues/41321 (use after free). So sizes are checked first.
- pyarrow gives no access to page headers, which alone bound the memory that decoding takes (`sizes`).

When pyarrow raises an exception for each of those files, `footers.parse_row_groups` can use its metadata instead. When
it also gives page sizes, this module and `sizes.chunk_size` can be deleted.

This reader is stricter than Arrow's where the two could read different things: a field that occurs twice, a number that
is out of its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from esv_ray.errors import DataError

I32, I64, LIST, STRUCT = 5, 6, 9, 12
_BINARY, _SET = 8, 10
_BOOLS, _BITS, _FIXED = (1, 2), {4: 16, I32: 32, I64: 64}, {3: 1, 7: 8}
_DEEPEST = 32

Fields = dict[tuple[int, int], object]
"""Numbers, structs and lists of a struct by field id and type; other values are skipped."""


Spans = dict[int, tuple[int, int]]
"""First byte and end of fields, their headers included, by field id."""


def read_struct(
    data: bytes, spans: Spans | None = None, known: Mapping[int, bytes] = MappingProxyType({})
) -> tuple[Fields, int]:
    """Read the struct at the start of data; return it and its number of bytes.

    Args:
        data: its bytes; what follows the struct is ignored.
        spans: gets the place of each of its fields.
        known: bytes of fields that were read before, by field id; where the data have them they are passed over, and
            their values are not in the result.

    Raises:
        IndexError: the data end before the struct.
        DataError: the data are not a valid struct.
    """
    return _Compact(data).struct(0, spans, known)


class _Compact:
    """A reader of structs in the compact protocol; IndexError at the end of the data.

    A table of many small files spends its planning here: numbers of one byte, most of them, are read in place (half
    the time).
    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(
        self, depth: int, spans: Spans | None = None, known: Mapping[int, bytes] = MappingProxyType({})
    ) -> tuple[Fields, int]:
        """Read the struct at the current position; return its fields and the position of its end."""
        if depth > _DEEPEST:
            raise DataError("its metadata are nested too deeply")
        data, fields = self._data, Fields()
        numbers, last = set[int](), 0
        while (head := data[begin := self._at]) != 0:
            self._at += 1
            kind, step = head & 15, head >> 4
            last = last + step if step else self._signed(16)
            if last in numbers:
                raise DataError(f"its metadata have field {last} twice in a struct")
            numbers.add(last)
            start = self._at
            if known and data.startswith(passed := known.get(last, b"\0"), begin):
                self._at = begin + len(passed)
            elif kind in _BITS:
                byte = data[start]
                if byte < 128:
                    self._at = start + 1
                    fields[last, kind] = (byte >> 1) ^ -(byte & 1)
                else:
                    fields[last, kind] = self._signed(_BITS[kind])
            elif kind not in _BOOLS:
                value = self._value(kind, depth)
                if value is not None:
                    fields[last, kind] = value
            if spans is not None:
                spans[last] = begin, self._at
        self._at += 1
        return fields, self._at

    def _value(self, kind: int, depth: int) -> object:
        if kind == STRUCT:
            return self.struct(depth + 1)[0]
        if kind in _BITS:
            return self._signed(_BITS[kind])
        if kind in (LIST, _SET):
            return self._list(depth)
        if kind != _BINARY and kind not in _FIXED:
            raise DataError(f"its metadata have a value of the unknown type {kind}")
        self._pass(_FIXED[kind] if kind in _FIXED else self._unsigned())
        return None

    def _list(self, depth: int) -> list[object]:
        head = self._byte()
        count, kind = head >> 4 if head >> 4 < 15 else self._unsigned(), head & 15
        return [self._byte() if kind in _BOOLS else self._value(kind, depth + 1) for _ in range(count)]

    def _pass(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise IndexError

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _unsigned(self) -> int:
        data, at = self._data, self._at
        number = shift = 0
        while (byte := data[at]) >= 128:
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise DataError("its metadata have a number of more than 64 bits")
        self._at = at + 1
        return number | byte << shift

    def _signed(self, bits: int) -> int:
        number = self._unsigned()
        if number >> bits:
            raise DataError(f"its metadata have a number of more than {bits} bits")
        return (number >> 1) ^ -(number & 1)
