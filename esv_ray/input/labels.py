"""Labels of videos: class ids as int32, rows without a label, and faults."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.input.columns import LONGEST_LABEL, is_text
from esv_ray.input.frames import INT32_MAX
from esv_ray.input.ids import as_bytes
from esv_ray.input.numbers import whole_number, whole_numbers


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


def read_labels(column: pa.Array, n_classes: int, unlabelled: Collection[int] = ()) -> Labels:
    """Read (rows,) labels of any type that `columns.is_label` accepts.

    Args:
        column: the labels; null and NaN mean that a video has no label.
        n_classes: C; labels are 0..C-1. INT32_MAX if it is unknown.
        unlabelled: numbers that mark videos without a label.
    """
    values, null, wrong = whole_numbers(column)
    present = ~null & (wrong | ~np.isin(values, list(unlabelled)))
    labelled = present & ~wrong & (values >= -INT32_MAX) & (values <= INT32_MAX)
    beyond = present & ~wrong & ((values < 0) | (values >= n_classes))
    expected = f"the model has classes 0..{n_classes - 1}" if n_classes < INT32_MAX else "class ids are 0 and up"
    faults = {}
    for row in np.flatnonzero(beyond | wrong).tolist():
        faults[row] = f"label {_shown(column, row)} is " + (
            f"out of range: {expected}; if it marks videos without a label, "
            + ("add it to `unlabelled` in the spec" if beyond[row] else "write null in its place")
            if beyond[row] or _is_whole(_value(column, row))
            else "not a class id: expected a whole number"
        )
    return Labels(np.where(labelled, values, 0).astype(np.int32), labelled, faults)


def check_directory(labels: Labels, value: str | None, unlabelled: Collection[int] = ()) -> None:
    """Add a fault for each row whose label differs from that of its directory."""
    named = None if value is None else whole_number(value)
    if named in unlabelled:
        named = None
    for row, (has_label, label) in enumerate(zip(labels.labelled.tolist(), labels.ids.tolist(), strict=True)):
        row_label = label if has_label else None
        if row_label != named:
            shown = "no label" if row_label is None else f"label {row_label}"
            labels.faults.setdefault(row, f"{shown}, but its directory is label={value}")


def _is_whole(value: object) -> bool:
    """Return whether a label is a whole number, even if it does not fit an int64."""
    if isinstance(value, bytes):
        return len(value) <= LONGEST_LABEL and value.removeprefix(b"-").isdigit()  # the end of a longer one is cut off
    if isinstance(value, Decimal):
        return value.is_finite() and value == value.to_integral_value()
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _shown(column: pa.Array, row: int) -> str:
    """Return the label of a row for a message."""
    value = _value(column, row)
    return repr(value[:LONGEST_LABEL].decode(errors="replace")) if isinstance(value, bytes) else str(value)


def _value(column: pa.Array, row: int) -> object:
    """Return the label of a row; text as bytes, because it may not be UTF-8."""
    return (as_bytes(column.slice(row, 1))[0] if is_text(column.type) else column[row]).as_py()
