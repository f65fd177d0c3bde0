"""Labels of a feature table: ids of classes, or their names."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.input.label_names import ClassNames, label_id, shown_label, with_ids
from esv_ray.input.numbers import INT32_MAX, whole_numbers
from esv_ray.input.plain import LONGEST_LABEL

IN_SPEC = "add it to `unlabelled` in the spec"
"""How a user says which label marks videos without one."""


class Labels(NamedTuple):
    """Labels of the rows of a table.

    Attributes:
        ids: (rows,) int32, 0 where there is none.
        labelled: (rows,) bool, whether there is a label that fits an int32.
        faults: reason by row.
    """

    ids: npt.NDArray[np.int32]
    labelled: npt.NDArray[np.bool_]
    faults: dict[int, str]


def read_labels(
    column: pa.Array,
    n_classes: int,
    unlabelled: Collection[int] = (),
    classes: ClassNames | None = None,
    *,
    mark_advice: str = IN_SPEC,
) -> Labels:
    """Read (rows,) labels in their plain form (`plain.plain_columns`).

    Args:
        column: the labels; null and NaN mean that a video has no label.
        n_classes: C; labels are 0..C-1. INT32_MAX if it is unknown.
        unlabelled: numbers that mark videos without a label.
        classes: names that stand for ids; None: names are not known.
        mark_advice: how a user says which label marks videos without one.
    """
    faults: dict[int, str] = {}
    ids = column
    if classes is not None and pa.types.is_large_binary(column.type):
        ids, faults = with_ids(column, classes)
    values, null, wrong = whole_numbers(ids)
    present = ~null & (wrong | ~np.isin(values, list(unlabelled)))
    labelled = present & ~wrong & (values >= -INT32_MAX) & (values <= INT32_MAX)
    beyond = present & ~wrong & ((values < 0) | (values >= n_classes))
    expected = f"the model has classes 0..{n_classes - 1}" if n_classes < INT32_MAX else "class ids are 0 and up"
    for row in np.flatnonzero(beyond | wrong).tolist():
        label = column[row].as_py()
        faults[row] = f"label {_shown(label)} is " + (
            f"out of range: {expected}; if it marks videos without a label, "
            + (mark_advice if beyond[row] else "write null in its place")
            if beyond[row] or _is_whole(label)
            else f"not a class id: expected a whole number{_name_hint(label)}"
        )
    return Labels(np.where(labelled, values, 0).astype(np.int32), labelled, faults)


def check_labels(
    labels: Labels, value: str | None, unlabelled: Collection[int] = (), classes: ClassNames | None = None
) -> None:
    """Add a fault for each row whose label differs from that of its folder; arguments as for `read_labels`."""
    named = None if value is None else label_id(value, classes)
    if named in unlabelled:
        named = None
    for row, (has_label, label) in enumerate(zip(labels.labelled.tolist(), labels.ids.tolist(), strict=True)):
        row_label = label if has_label else None
        if row_label != named:
            shown = "no label" if row_label is None else f"label {row_label}"
            labels.faults.setdefault(row, f"{shown}, but its folder is label={value}")


def _is_whole(value: object) -> bool:
    """Return whether a label is a whole number, even if it does not fit an int64."""
    if isinstance(value, bytes):
        return len(value) <= LONGEST_LABEL and value.removeprefix(b"-").isdigit()  # the end of a longer one is cut off
    if isinstance(value, Decimal):
        return value.is_finite() and value == value.to_integral_value()
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _name_hint(value: object) -> str:
    """Return advice for a label that is a name, where names of classes are not known."""
    is_name = isinstance(value, bytes) and any(letter.isalpha() for letter in value.decode(errors="replace"))
    return "; names need a classes.csv" if is_name else ""


def _shown(value: object) -> str:
    """Return a label for a message."""
    return shown_label(value.decode(errors="replace")) if isinstance(value, bytes) else str(value)
