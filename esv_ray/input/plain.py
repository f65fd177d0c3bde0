"""Flat columns in one form, whichever of the types that `columns` accepts a writer stored them as.

Ids become large binary: the bytes of their text, integers in decimal, UUIDs in their usual form. Labels become large
binary if they are text, and stay as they are if they are numbers. Bytes, since some writers do not check that strings
are UTF-8, and Arrow would refuse the whole column.
"""

from __future__ import annotations

from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

LONGEST_ID = 2**12
"""Most bytes of an id: every row of the results repeats it."""
LONGEST_LABEL = 2**9
"""Most bytes of a label that is text: more than names of classes have, and a batch of 65,536 of them takes 32 MB."""
FLAT_COLUMNS = {"video_id": LONGEST_ID, "label": LONGEST_LABEL}
"""Columns with one value per row, and the most bytes of their text."""


def plain_columns(batch: pa.RecordBatch) -> pa.Table:
    """Return columns as a table, the flat ones in their plain form.

    Text is cut to one byte more than `FLAT_COLUMNS` allows, so that every longer one is seen to be too long.

    Args:
        batch: as Arrow decodes it by Parquet's own types; its schema passed `columns.check_schema`.
    """
    columns = [
        _plain(column, name) if name in FLAT_COLUMNS else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, names=batch.schema.names)


def _plain(column: pa.Array, name: str) -> pa.Array:
    if is_uuid(column.type):
        text = [None if value is None else str(UUID(bytes=value)) for value in column.storage.to_pylist()]
        return pa.array(text, pa.large_string()).cast(pa.large_binary())
    while isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if is_text(column.type):
        return _cut(_bytes_of(column), FLAT_COLUMNS[name] + 1)
    return column if name == "label" else column.cast(pa.string()).cast(pa.large_binary())


def _bytes_of(text: pa.Array) -> pa.Array:
    """Return text as large binary, since some writers do not check that it is UTF-8; without NULs that fill it up."""
    if pa.types.is_string_view(text.type):
        text = text.cast(pa.large_string())
    plain = text.cast(pa.large_binary())
    if not width_of(text.type):
        return plain
    # A view, not a cast, which would require UTF-8: a row with other bytes must fail alone.
    return pc.ascii_rtrim(plain.view(pa.large_string()), characters="\0").view(pa.large_binary())


def _cut(text: pa.Array, most: int) -> pa.Array:
    """Return text (large binary) cut to a number of bytes, without the memory of what is cut off."""
    if not pc.any(pc.greater(pc.binary_length(text), most)).as_py():
        return text
    return pa.array([value.as_py()[:most] if value.is_valid else None for value in text], pa.large_binary())


def constant(value: str | None, rows: int) -> pa.Array:
    """Return text that a folder names, (rows,) times, in its plain form."""
    return pa.repeat(pa.scalar(None if value is None else value.encode(), pa.large_binary()), rows)


def short_ids(ids: pa.Array) -> pa.Array:
    """Return ids, null where they are too long."""
    long = pc.fill_null(pc.greater(pc.binary_length(ids), LONGEST_ID), False)
    if not pc.any(long).as_py():
        return ids
    # Not by pc.if_else, which keeps a buffer with the ids that are left out.
    kept = [None if too_long else value.as_py() for value, too_long in zip(ids, long.to_pylist(), strict=True)]
    return pa.array(kept, pa.large_binary())


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values that a dictionary or an extension type stores."""
    while True:
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType) and not is_uuid(kind):
            kind = kind.storage_type
        else:
            return kind


def is_uuid(kind: pa.DataType) -> bool:
    """Return whether a type is Arrow's UUID."""
    return isinstance(kind, pa.BaseExtensionType) and bool(kind.extension_name == "arrow.uuid")


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text, or bytes that are read as UTF-8, of any or of a fixed length."""
    plain = plain_type(kind)
    return 0 < width_of(plain) <= LONGEST_ID or any(
        test(plain)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
        )
    )


def width_of(kind: pa.DataType) -> int:
    """Return the bytes of each value, nulls included, of a fixed-size binary type; 0 for any other type."""
    plain = plain_type(kind)
    return int(plain.byte_width) if pa.types.is_fixed_size_binary(plain) else 0
