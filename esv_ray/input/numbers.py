"""Whole numbers stored as integers, floats, decimals, or digits in text."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.input.columns import bytes_of, is_text, plain_array

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
    """Read whole numbers from (N,) integers, floats, decimals or digits."""
    array = plain_array(array)
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
    if is_text(array.type):
        coded = bytes_of(array).dictionary_encode()
        parsed = [_from_bytes(value.as_py()) for value in coded.dictionary]
    else:
        coded = array.dictionary_encode()
        parsed = [_from_decimal(value.as_py()) for value in coded.dictionary]
    codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    numbers = np.array([0 if value is None else value for value in parsed] or [0], dtype=np.int64)
    unparsed = np.array([value is None for value in parsed] or [False])
    return WholeNumbers(np.where(null, 0, numbers[codes]), null, ~null & unparsed[codes])


def _from_bytes(value: bytes) -> int | None:
    return whole_number(value.decode(errors="replace"))


def _from_decimal(value: Decimal) -> int | None:
    fits = value == value.to_integral_value() and abs(value) < 10**_LONGEST
    return int(value) if fits else None
