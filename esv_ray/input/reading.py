"""Rows of units: opened, checked, read a few at a time, decoded. Each step calls only modules below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError
from esv_ray.input.columns import is_flat
from esv_ray.input.features import FeatureRows, decode_rows
from esv_ray.input.files import unchanged
from esv_ray.input.frames import frame_sizes
from esv_ray.input.label_names import shown_label
from esv_ray.input.numbers import whole_number
from esv_ray.input.parquet.footers import Footer, has_labels
from esv_ray.input.parquet.opening import open_file
from esv_ray.input.parquet.row_groups import Piece, RowGroupReader
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import Unit

_ROWS_OF_DIM = 16  # rows that are read at a time to find D, or the first labels
_PIECES = 64  # of so many rows, that are looked at for the first labels and flat lists
_FLOAT32_BYTES = 4


def read_rows(unit: Unit, reader: UnitReader) -> FeatureRows:
    """Read, decode and check the rows of a unit.

    A row group whose decoding could take more memory than the reader's budget gives failed rows with ids and labels,
    and no error: the other row groups can be read.

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    piece, repeated = read_piece(unit, reader)
    return decode_rows(
        piece.table, reader.contract, repeated=repeated.tolist(), refusal=piece.refusal, named=unit.file.named
    )


def read_piece(unit: Unit, reader: UnitReader) -> tuple[Piece, npt.NDArray[np.int64]]:
    """Read the rows of a unit from a file that is as it was planned, before and after (`UnitReader.read`).

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    with unchanged(unit.file):
        return reader.read(unit)


def feature_dim_of(footers: Sequence[Footer], budget: int) -> int | None:
    """Find the feature size D of a table.

    The type of a file may fix it; otherwise it is the most frequent frame size of the first rows.

    Args:
        footers: of the files.
        budget: bytes that decoding a row group may take; the rows of one that could take more are not read.

    Returns:
        D, or None if no row has frames of one size, as with flat lists.

    Raises:
        DataError: a file is unreadable.
    """
    for footer in footers:
        dim = footer.feature_dim if footer.feature_dim is not None else _dim_of_rows(footer, budget)
        if dim is not None:
            return dim
    return None


def check_label_names(footers: Sequence[Footer], budget: int, url: str, advice: str) -> None:
    """Refuse a table whose labels are names of classes, where nothing says which ids these have.

    Args:
        footers: of the files.
        budget: bytes that decoding a row group may take.
        url: the table, for the error.
        advice: where the names of the classes are expected.

    Raises:
        DataError: labels are names.
    """
    name = name_in_labels(footers, budget)
    if name is not None:
        shown = footers[0].file.columns.shown("label")
        raise DataError(
            f"{url}: column {shown} holds names of classes, such as {shown_label(name)}, whose ids are not known; "
            f"{advice}, or store ids (esv import features --classes)"
        )


def name_in_labels(footers: Sequence[Footer], budget: int) -> str | None:
    """Return the first label of a table if its labels are names of classes, else None.

    They are if those of the first labelled rows are text, and none of them is a number.

    Args:
        footers: of the files.
        budget: bytes that decoding a row group may take.

    Raises:
        DataError: a file is unreadable.
    """
    for footer in footers:
        directory = footer.file.named.get("label")
        named = [directory] if directory is not None else _first_labels(footer, budget)
        if named:
            return named[0] if all(whole_number(label) is None and label.strip() for label in named) else None
    return None


def check_flat_sizes(footers: Sequence[Footer], dim: int, budget: int, url: str) -> None:
    """Refuse features that are flat lists if none of the first ones is T * D long.

    Args:
        footers: of the files.
        dim: D.
        budget: bytes that decoding a row group may take.
        url: the table, for the error.

    Raises:
        DataError: no list is T * D long.
    """
    flat = next((footer for footer in footers if is_flat(footer.schema.field("features").type)), None)
    largest = 0
    for rows in () if flat is None else islice(_first_rows(flat, budget), _PIECES):
        sizes = pc.list_value_length(rows.column("features")).fill_null(0).to_numpy()
        sizes = sizes[sizes > 0]
        if len(sizes) and not (sizes % dim).all():
            return
        largest = max(largest, *sizes.tolist(), 0)
    if largest:
        raise DataError(
            f"{url}: features must be flat lists of T * {dim} numbers, got lists of up to {largest}, none of which is "
            f"a multiple of {dim}; check `features` and `model`"
        )


def _first_labels(footer: Footer, budget: int) -> list[str]:
    """Return the labels of the first rows that have any, if they are text."""
    is_text = "label" in footer.text_widths and has_labels([footer])
    for rows in islice(_first_rows(footer, budget), _PIECES) if is_text else ():
        labels = rows.column("label").drop_null().to_pylist()
        if labels:
            return [label.decode(errors="replace") for label in labels]
    return []


def _dim_of_rows(footer: Footer, budget: int) -> int | None:
    if is_flat(footer.schema.field("features").type):
        return None
    for rows in _first_rows(footer, budget):
        sizes = frame_sizes(rows.column("features"))
        if sizes:
            return Counter(sizes).most_common(1)[0][0]
    return None


def _first_rows(footer: Footer, budget: int) -> Iterator[pa.Table]:
    """Yield the rows of a file, a few at a time, without row groups that could take more memory than the budget."""
    with closing(open_file(footer.file)) as opened:
        for row_group, group in enumerate(footer.groups):
            reader = RowGroupReader(opened, row_group, budget, _FLOAT32_BYTES)
            for start in range(0, 0 if reader.refusal else group.rows, _ROWS_OF_DIM):
                yield reader.take(start, min(start + _ROWS_OF_DIM, group.rows)).table
