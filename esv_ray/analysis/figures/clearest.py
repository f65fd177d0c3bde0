"""Selection of lengths and classes of large tables, before their rows become Python objects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FloatArray = npt.NDArray[np.float64]


def numbers(table: pa.Table, name: str) -> FloatArray:
    """Return a column as (N,) floats, NaN for null and infinite."""
    values = np.asarray(table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def clearest_classes(table: pa.Table, n: int, strength: FloatArray, most: int) -> list[int]:
    """Return the classes of a length with the largest mean strength, the strongest first.

    Args:
        table: with `class` (null: all classes) and `n_elements`.
        n: the length.
        strength: (N,) of the rows; those with NaN do not count.
        most: number of classes.
    """
    classes = numbers(table, "class")
    inside = (numbers(table, "n_elements") == n) & np.isfinite(classes) & np.isfinite(strength)
    ids, places = np.unique(classes[inside].astype(np.int64), return_inverse=True)
    means = np.bincount(places, strength[inside], len(ids)) / np.maximum(1, np.bincount(places, minlength=len(ids)))
    order = np.lexsort((ids, -means))
    return [int(ids[at]) for at in order[:most] if means[at] > 0]


def of_class(table: pa.Table, n: int, class_id: int | None) -> pa.Table:
    """Return the rows of a length and of a class (None: of all classes)."""
    column = table.column("class").cast(pa.int64())
    chosen = pc.is_null(column) if class_id is None else pc.equal(column, class_id)
    return table.filter(pc.and_(pc.fill_null(chosen, False), pc.equal(table.column("n_elements"), n)))


def frequent_lengths(table: pa.Table, most: int, weight: str | None = None) -> tuple[list[int], str]:
    """Return the lengths with most rows or videos, in increasing order; and a note, if some are left out."""
    lengths = numbers(table, "n_elements").astype(np.int64)
    ids, places = np.unique(lengths, return_inverse=True)
    weights = np.ones(len(lengths)) if weight is None else np.nan_to_num(numbers(table, weight))
    # A row per pair of elements: long sequences have more rows of the same videos.
    sums = np.bincount(places, weights, len(ids)) / np.maximum(1, np.bincount(places, minlength=len(ids)))
    order = np.lexsort((-ids, -sums))[:most]  # of several the longest, as on pages
    note = f"{most} of {len(ids)} lengths: those with most videos." if len(ids) > most else ""
    return sorted(int(ids[at]) for at in order), note
