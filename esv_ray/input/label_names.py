"""Names of classes in place of their ids: in a label column of text, and in the names of folders.

Digits are an id. Any other text is the name of a class, as classes.csv has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from esv_ray.input.numbers import whole_number
from esv_ray.input.plain import LONGEST_LABEL

_SHOWN = 40  # characters of a label in a message
_FEW = 5  # classes in a message


@dataclass(frozen=True, eq=False)
class ClassNames:
    """Ids of classes by name.

    Attributes:
        ids: ids by name without spaces around it; several where classes share a name.
        similar: a name for each in lower case, to suggest.
    """

    ids: Mapping[str, tuple[int, ...]]
    similar: Mapping[str, str]

    @classmethod
    def of(cls, names: Sequence[str]) -> ClassNames:
        """Index C names; those that are empty name no class."""
        ids: dict[str, tuple[int, ...]] = {}
        for index, name in enumerate(names):
            if name.strip():
                ids[name.strip()] = (*ids.get(name.strip(), ()), index)
        return cls(ids, {name.lower(): name for name in ids})

    def id_of(self, text: str) -> int | None:
        """Return the id that a label means, or None if it means none or several."""
        number, named = whole_number(text), self.ids.get(text.strip(), ())
        if number is None:
            return named[0] if len(named) == 1 else None
        return number if named in ((), (number,)) else None

    def why_not(self, text: str) -> str:
        """Say why a label means no class."""
        number, named = whole_number(text), self.ids.get(text.strip(), ())
        shown = f"label {shown_label(text)}"
        if number is not None:
            return f"{shown} is ambiguous: the id of a class, and the name of class {named[0]}; store ids as integers"
        if named:
            listed = ", ".join(map(str, named[:_FEW])) + ", ..." * (len(named) > _FEW)
            return f"{shown} is the name of {len(named)} classes ({listed}): store the id of the class"
        near = self.similar.get(text.strip().lower())
        hint = f"; did you mean {shown_label(near)}?" if near is not None else ""
        return f"{shown} is not a class: expected an id, or a name in the classes.csv in use{hint}"


def label_id(text: str, classes: ClassNames | None) -> int | None:
    """Return the id that a label means, or None."""
    return whole_number(text) if classes is None else classes.id_of(text)


def with_ids(column: pa.Array, classes: ClassNames) -> tuple[pa.Array, dict[int, str]]:
    """Replace names by ids in (rows,) labels that are text.

    Args:
        column: large binary.
        classes: names of the classes.

    Returns:
        The labels as digits, null where one means no class; and the reasons of these rows.
    """
    coded = column.dictionary_encode()
    ids = [_id(value.as_py(), classes) for value in coded.dictionary]
    wrong = {
        code: _why_not(coded.dictionary[code].as_py(), classes) for code, number in enumerate(ids) if number is None
    }
    digits = pa.array([None if number is None else b"%d" % number for number in ids], pa.large_binary())
    codes = coded.indices.to_pylist() if wrong else []
    return digits.take(coded.indices), {row: wrong[code] for row, code in enumerate(codes) if code in wrong}


def _id(value: bytes, classes: ClassNames) -> int | None:
    if len(value) > LONGEST_LABEL:  # its end is cut off
        return None
    try:
        return classes.id_of(value.decode())
    except UnicodeDecodeError:
        return None


def _why_not(value: bytes, classes: ClassNames) -> str:
    text = value.decode(errors="replace")
    if len(value) > LONGEST_LABEL:
        return f"label {shown_label(text)} is longer than {LONGEST_LABEL} bytes"
    return classes.why_not(text)


def shown_label(text: str) -> str:
    """Return the beginning of a label for a message."""
    return repr(text[:_SHOWN])
