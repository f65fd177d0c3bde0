"""Values of specs: whole numbers, numbers, booleans, strings and locations, without implicit conversions.

A number in quotes is a string, and true and false are not numbers. A whole number may be written with a point or an
exponent (1e3) if no digit is lost.
"""

from __future__ import annotations

import math
import re
from os import PathLike, fspath
from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from esv_ray import storage
from esv_ray.errors import SpecError

_EXACT = 2**53  # a float64 holds every whole number up to this one
_SEVERAL = re.compile(r"[^\s,;()]+")
_LIKE_A_NUMBER = re.compile(r"[-+]?[0-9_,.]*[0-9][0-9_,.]*(?:[eE][-+]?[0-9]+)?%?")
CLASS_WORDS = ("label", "predicted", "all")
"""Choices of classes that depend on the video, or are all; and there is ``top:K``."""
_CLASSES = "label, predicted, top:K, all, or class ids or names"
_AMOUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([kMGTKmgt])(i?)[Bb]?")


def whole_number(value: object, expected: str = "a whole number") -> int:
    """Return an integer, also from a float that is whole.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        if abs(value) <= _EXACT:
            return int(value)
        raise ValueError(
            f"expected {expected}; above 2^53 write digits only, without a decimal point or exponent; got {value!r}"
        )
    raise ValueError(f"expected {expected}, got {_shown(value)}")


def digits(text: str, most: int = 9) -> int | None:
    """Return the number that a text of at most `most` digits 0-9 writes, or None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= most else None


def number(value: object, expected: str = "a number") -> float:
    """Return an integer or a float as a float.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"expected {expected}, got {_shown(value)}")


def finite(value: object) -> float:
    """Return a number that is neither infinite nor NaN.

    Raises:
        ValueError: it is no finite number.
    """
    result = number(value)
    if not math.isfinite(result):
        raise ValueError(f"expected a finite number, got {value!r}")
    return result


def _truth(value: object) -> object:
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, got {value!r:.80}")


def _text(value: object) -> object:
    if not isinstance(value, str):
        hint = "; put it in quotes" if isinstance(value, bool | int | float) else ""
        raise ValueError(f"expected a string, got {value!r:.80}{hint}")
    if not value.strip():
        raise ValueError(f"expected a text, got {value!r:.80}; a variable in it may be empty")
    return value


def location(value: object) -> object:
    """Return a location as `storage.spelled` spells it.

    Raises:
        ValueError: it is no location.
    """
    if isinstance(value, PathLike):
        value = fspath(value)
    if not isinstance(value, str):
        return _text(value)
    try:
        return storage.spelled(value)
    except SpecError as error:
        raise ValueError(str(error)) from None


def share_or_location(value: object) -> object:
    """Return a share as a number, or a location.

    Raises:
        ValueError: it is neither, or a number in quotes, which could be meant as either.
    """
    if isinstance(value, str):
        if _LIKE_A_NUMBER.fullmatch(value):
            raise ValueError(f"expected a share such as 0.1, without quotes, or a location (./{value}), got {value!r}")
        return location(value)
    return number(value, "a share such as 0.1, or a location")


def one_or_many(value: object) -> list[object]:
    """Return a list, also from a single value.

    Raises:
        ValueError: it is a string of several values, which is not a YAML list without brackets.
    """
    if isinstance(value, list | tuple):
        return list(value)
    parts = _SEVERAL.findall(value) if isinstance(value, str) else []
    if len(parts) > 1:
        raise ValueError(f"expected one value, or a list in brackets ([{', '.join(parts):.80}]), got {value!r:.80}")
    return [value]


def class_choices(value: object) -> tuple[int | str, ...]:
    """Return the classes to keep, each once: `CLASS_WORDS` and `top:K`, ids, and names, which only a model can check.

    Raises:
        ValueError: one is none of these.
    """
    if isinstance(value, str) and all(map(is_class_word, _SEVERAL.findall(value))):  # others may be a name with spaces
        value = one_or_many(value)
    choices = [_class_choice(each) for each in (value if isinstance(value, list | tuple) else [value])]
    if not choices:
        raise ValueError(f"expected at least one of {_CLASSES}")
    return tuple(dict.fromkeys(choices))


def is_class_word(text: str) -> bool:
    """Return whether a text chooses classes by something else than their names."""
    return text in CLASS_WORDS or digits(text) is not None or top_k(text) is not None


def top_k(choice: str) -> int | None:
    """Return K of a class choice ``top:K``, or None."""
    head, _, count = choice.partition(":")
    k = digits(count) if head == "top" else None
    return k if k else None


def _class_choice(choice: object) -> int | str:
    if isinstance(choice, float):
        choice = whole_number(choice, "class ids")
    if isinstance(choice, int) and not isinstance(choice, bool):
        if choice < 0:
            raise ValueError(f"a class id is >= 0, got {choice}")
        return choice
    if not isinstance(choice, str):
        raise ValueError(f"expected {_CLASSES}, got {choice!r:.60}; put a name that is no text to YAML in quotes")
    if not choice.strip() or (choice.startswith("top:") and top_k(choice) is None):
        raise ValueError(f"expected {_CLASSES}, got {choice!r:.60}")
    number = digits(choice)
    return choice if number is None else number  # a name that is a number would be taken for an id elsewhere, too


def whole_or_auto(value: object) -> object:
    """Return a whole number, or ``auto``."""
    return value if value == "auto" else whole_number(value, "a whole number or auto")


def bytes_or_auto(value: object) -> object:
    """Return a number of bytes, also from a text such as 1GB, 512 MB or 1.5GiB; or ``auto``."""
    amount = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if amount is None:
        return value if value == "auto" else whole_number(value, "a number of bytes, 500MB, 2GB or auto")
    number_of, prefix, binary = amount.groups()
    return int(float(number_of) * (1024 if binary else 1000) ** ("kmgt".index(prefix.lower()) + 1))


def share_or_auto(value: object) -> object:
    """Return a number, or ``auto``."""
    return value if value == "auto" else number(value, "a number from 0 to 1 or auto")


def _shown(value: object) -> str:
    like_a_number = isinstance(value, str) and _LIKE_A_NUMBER.fullmatch(value)
    return f"{value!r:.80}" + ("; write it in digits, without quotes, commas, _ or %" if like_a_number else "")


Whole = Annotated[StrictInt, BeforeValidator(whole_number)]
Positive = Annotated[StrictInt, Field(ge=1), BeforeValidator(whole_number)]
Number = Annotated[StrictFloat, BeforeValidator(number)]
Truth = Annotated[StrictBool, BeforeValidator(_truth)]
Text = Annotated[StrictStr, BeforeValidator(_text)]
Location = Annotated[StrictStr, BeforeValidator(location)]
ShareOrLocation = Annotated[Annotated[StrictFloat, Field(gt=0, lt=1)] | StrictStr, BeforeValidator(share_or_location)]
