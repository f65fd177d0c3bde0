"""The whole numbers of a feature table: labels and frame numbers, stored as integers, floats, decimals, or digits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

INT32_MAX = 2**31 - 1
_LONGEST = 18  # digits: any such number fits an int64
_DIGITS = re.compile(rf"(-?[0-9]{{1,{_LONGEST}}})(\.0{{1,{_LONGEST}}})?")
_LARGEST_FLOAT = 2.0**53  # beyond it not every integer is a float64


class WholeNumbers(NamedTuple):
    """Whole numbers of an array.

    Attributes:
        values: (N,) int64, 0 where there is no value.
        null: (N,) bool, null or NaN, which pandas writes for a missing value.
        wrong: (N,) bool, a value that is not a whole number or does not fit an int64.
    """

    values: npt.NDArray[np.int64]
    null: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]


def whole_number(text: str) -> int | None:
    """Return the whole number that a text of digits, such as 3 or 3.0, writes, or None."""
    digits = _DIGITS.fullmatch(text)
    return int(digits[1]) if digits else None


def whole_numbers(array: pa.Array) -> WholeNumbers:
    """Read whole numbers from (N,) integers, floats, decimals or digits (large binary)."""
    null = array.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_null(array.type):
        return WholeNumbers(np.zeros(len(array), np.int64), null, np.zeros(len(array), bool))
    if pa.types.is_integer(array.type):
        integers = array.fill_null(0).to_numpy(zero_copy_only=False)
        wrong = integers > np.iinfo(np.int64).max if integers.dtype == np.uint64 else np.zeros(len(array), bool)
        return WholeNumbers(np.where(wrong, 0, integers).astype(np.int64), null, wrong)
    if pa.types.is_floating(array.type):
        # Null becomes NaN.
        floats = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        null = np.isnan(floats)
        integral = (np.abs(floats) <= _LARGEST_FLOAT) & (floats == np.rint(floats))
        return WholeNumbers(np.where(integral, floats, 0).astype(np.int64), null, ~null & ~integral)
    coded = array.dictionary_encode()
    number_of = _from_bytes if pa.types.is_large_binary(array.type) else _from_decimal
    parsed = [number_of(value.as_py()) for value in coded.dictionary]
    codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    numbers = np.array([0 if value is None else value for value in parsed] or [0], dtype=np.int64)
    unparsed = np.array([value is None for value in parsed] or [False])
    return WholeNumbers(np.where(null, 0, numbers[codes]), null, ~null & unparsed[codes])


def _from_bytes(value: bytes) -> int | None:
    return whole_number(value.decode(errors="replace"))


def _from_decimal(value: Decimal) -> int | None:
    fits = value == value.to_integral_value() and abs(value) < 10**_LONGEST
    return int(value) if fits else None


@dataclass(frozen=True, eq=False)
class NumberColumn:
    """The column `frame_index`; frames of rows without it are numbered 0..T-1.

    Attributes:
        faults: rows that break the contract, and the reasons.
    """

    faults: dict[int, str]
    _first: npt.NDArray[np.int64]  # (rows,) index of each row's first number; -1: numbered 0..T-1
    _values: npt.NDArray[np.int32]

    @classmethod
    def read(cls, column: pa.Array | None, n_frames: npt.NDArray[np.int64]) -> NumberColumn:
        """Read a column of lists of frame numbers; each row must have `n_frames` (rows,) of them."""
        if column is None or pa.types.is_null(column.type):
            return cls({}, np.full(len(n_frames), -1), np.zeros(0, np.int32))
        if pa.types.is_fixed_size_list(column.type):
            column = column.cast(pa.list_(column.type.value_type))
        offsets = column.offsets.to_numpy().astype(np.int64)
        raw = column.values.slice(offsets[0], offsets[-1] - offsets[0])
        offsets -= offsets[0]
        values, null, wrong = whole_numbers(raw)
        invalid = null | wrong | (values > INT32_MAX) | (values < -INT32_MAX)
        is_null = column.is_null().to_numpy(zero_copy_only=False)
        faults: dict[int, str] = {}
        if invalid.any():
            rows = np.unique(np.searchsorted(offsets, np.flatnonzero(invalid), side="right") - 1)
            faults = {
                int(row): "frame_index holds nulls or values that are not 32-bit integers"
                for row in rows[~is_null[rows]]
            }
        counts = np.diff(offsets)
        for row in np.flatnonzero(~is_null & (counts != n_frames)):
            faults[int(row)] = f"frame_index has {counts[row]} entries, features has {n_frames[row]} frames"
        return cls(faults, np.where(is_null, -1, offsets[:-1]), np.where(invalid, 0, values).astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence[NumberColumn]) -> NumberColumn:
        """Return the rows of several columns as one."""
        rows = np.cumsum([0, *(len(part._first) for part in parts)]).tolist()
        values = np.cumsum([0, *(len(part._values) for part in parts)]).tolist()
        return cls(
            {start + row: why for start, part in zip(rows, parts, strict=False) for row, why in part.faults.items()},
            np.concatenate(
                [np.where(part._first < 0, -1, part._first + start) for part, start in zip(parts, values, strict=False)]
            ),
            np.concatenate([part._values for part in parts]),
        )

    def take(self, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return (K, n): the numbers of the frames at places (K, n) of valid rows (K,)."""
        first = self._first[rows][:, None]
        if not len(self._values):
            return places.astype(np.int32)
        numbers = self._values[np.where(first < 0, 0, first + places)]
        return np.where(first < 0, places, numbers).astype(np.int32)
