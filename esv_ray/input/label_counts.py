"""Numbers of videos per class in a feature table, of which the labels alone are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError
from esv_ray.input.files import list_files, unchanged
from esv_ray.input.label_names import ClassNames
from esv_ray.input.labels import read_labels
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.opening import open_file, read_footers
from esv_ray.input.parquet.sizes import ROWS_AT_ONCE, checked_size
from esv_ray.input.plain import constant
from esv_ray.machine import host_memory

_COLUMN = "label"


def count_labels(
    url: str, n_classes: int, classes: Sequence[str] | None = None
) -> tuple[npt.NDArray[np.int64], Counter[str]]:
    """Count the videos of each class.

    Args:
        url: a feature table.
        n_classes: C.
        classes: C names, which labels may have in place of ids; None: names are not known.

    Returns:
        (C,) numbers of videos, and the numbers of rows without a usable label by reason.

    Raises:
        DataError: the table cannot be read.
    """
    counts = np.zeros(n_classes, np.int64)
    left_out: Counter[str] = Counter()
    names = None if classes is None else ClassNames.of(classes)
    for footer in read_footers(list_files(url)):
        with unchanged([footer.file]):
            _count(footer, names, counts, left_out)
    return counts, left_out


def _count(footer: Footer, names: ClassNames | None, counts: npt.NDArray[np.int64], left_out: Counter[str]) -> None:
    """Add the rows of a file to the counts."""
    named = footer.file.named.get(_COLUMN)
    if _COLUMN not in footer.schema.names:
        for group in footer.groups:
            _add(constant(named, group.rows), names, counts, left_out)
        return
    with closing(open_file(footer.file)) as opened:
        opened.fetch(_COLUMN, host_memory() // 4)
        for index, group in enumerate(footer.groups):
            size = checked_size(opened.source.at, group, _COLUMN, opened.location(index))
            if size.largest > host_memory() // 4:
                raise DataError(f"{opened.location(index)}: expected labels that fit in memory; write smaller pages")
            for batch in opened.batches(index, [_COLUMN], ROWS_AT_ONCE):
                _add(batch.column(_COLUMN).combine_chunks(), names, counts, left_out)


def _add(column: object, names: ClassNames | None, counts: npt.NDArray[np.int64], left_out: Counter[str]) -> None:
    labels = read_labels(column, len(counts), classes=names, mark_advice="write null in its place")
    usable = labels.labelled.copy()
    usable[list(labels.faults)] = False
    counts += np.bincount(labels.ids[usable], minlength=len(counts))
    left_out.update(labels.faults.values())
    without = int((~labels.labelled).sum()) - sum(not labels.labelled[row] for row in labels.faults)
    if without:
        left_out["no label"] += without
