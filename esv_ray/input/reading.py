"""Rows of units: opened, checked, read a few at a time, decoded. Each step calls only modules below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError
from esv_ray.input.columns import is_flat
from esv_ray.input.features import FeatureRows, decode_rows, joined_rows
from esv_ray.input.files import InputFile, unchanged
from esv_ray.input.frames import frame_sizes
from esv_ray.input.label_names import shown_label
from esv_ray.input.numbers import whole_number
from esv_ray.input.parquet.footers import Footer, has_labels
from esv_ray.input.parquet.opening import open_file
from esv_ray.input.parquet.row_groups import RowGroupReader
from esv_ray.input.unit_reader import RowsRead, UnitReader
from esv_ray.input.units import RowRange, Unit

_ROWS_OF_DIM = 16  # rows that are read at a time to find D, or the first labels
_PIECES = 64  # of so many rows, that are looked at for the first labels and flat lists
_FLOAT32_BYTES = 4


def read_rows(unit: Unit, reader: UnitReader) -> FeatureRows:
    """Read, decode and check the rows of a unit, from files that are as they were planned, before and after.

    A row group whose decoding could take more memory than the reader's budget gives failed rows with ids and labels,
    and no error: the other row groups can be read. Of a unit of several files, so does a file that is broken.

    Raises:
        DataError: a file changed since the plan was made; or the only one cannot be read.
        StorageError: a file cannot be read now.
    """
    with unchanged(unit.files):
        if len(unit.ranges) == 1:
            return _decoded([reader.read(unit.ranges[0])], unit.ranges[0].file, reader)
        parts = list[FeatureRows]()
        alike = groupby(zip(unit.ranges, reader.read_small(unit.ranges), strict=True), key=_kind)
        for _, group in alike:
            ranges, read = zip(*group, strict=True)
            parts.append(_decoded(read, ranges[0].file, reader))
        rows = parts[0] if len(parts) == 1 else joined_rows(parts)
        return replace(rows, faults=rows.faults | _repeats(unit, rows))


def _repeats(unit: Unit, rows: FeatureRows) -> dict[int, str]:
    """Return the valid rows of a unit of several files that repeat an id of an earlier file."""
    first: dict[str, InputFile] = {}
    places = (each.file for each in unit.ranges for _ in range(each.rows))
    return {
        row: "video_id is repeated: it stands in an earlier file of the same unit"
        for row, (video_id, file) in enumerate(zip(rows.ids, places, strict=True))
        if video_id and first.setdefault(video_id, file) is not file and row not in rows.faults
    }


def _kind(read: tuple[RowRange, RowsRead]) -> tuple[object, ...]:
    """Return what rows have in common that are decoded together."""
    rows, (piece, _) = read
    return rows.file.directories, piece.refusal, piece.table.schema.names, piece.table.schema.types


def _decoded(read: Sequence[RowsRead], file: InputFile, reader: UnitReader) -> FeatureRows:
    """Decode and check rows of one kind.

    Args:
        read: rows that follow one another.
        file: one of their files.
        reader: that read them.
    """
    starts = np.cumsum([0, *(piece.table.num_rows for piece, _ in read)])
    repeated = [row for start, (_, rows) in zip(starts.tolist(), read, strict=False) for row in (rows + start).tolist()]
    tables = [piece.table for piece, _ in read]
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    return decode_rows(table, reader.contract, repeated=repeated, refusal=read[0].piece.refusal, named=file.named)


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
