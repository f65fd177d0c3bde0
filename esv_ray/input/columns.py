"""The columns of a feature table: the Arrow types that each may have, and the one form that flat columns are read in.

Writers store the same meaning as different types: numbers as decimals (Snowflake) or floats with NaN (pandas), text as
views, categories, or bytes without an annotation. A type is accepted if it can have one meaning only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError

COLUMNS = ("video_id", "features", "label", "frame_index")
LONGEST_ID = 2**12
"""Most bytes of an id: every row of the results repeats it."""
LONGEST_LABEL = 40
"""Most bytes of a label that is text: more than any number has."""
FLAT_COLUMNS = {"video_id": LONGEST_ID, "label": LONGEST_LABEL}
"""Columns with one value per row, and the most bytes of their text."""
_WIDEST = LONGEST_ID  # bytes of text of a fixed size: each null takes as many in memory
_FEATURES = "list<fixed_size_list<float16/32/64, D>> or list<list<float>>"


def check_schema(schema: pa.Schema, where: str, named: Collection[str] = ()) -> int | None:
    """Check the columns of a file; return the feature size D, or None if the type does not fix it.

    Args:
        schema: of the file.
        where: the file, for the error.
        named: columns given by the names of its directories.

    Raises:
        DataError: a column is missing or of another type; says which, expected, got, and what to do.
    """
    names = names_of(schema, where)
    for name in COLUMNS:
        if names.count(name) > 1:
            raise DataError(f"{where}: expected one column {name!r}, got {names.count(name)}")
        if name not in names:
            _check_missing(name, names, where, name in named)
    kinds = {name: schema.field(name).type for name in COLUMNS if name in names}
    expected = {
        "video_id": ("string or integer", "cast it to string", is_id),
        "features": (_FEATURES, "store one list of D floats for each frame", _is_features),
        "label": ("integer class ids", "cast it to int64", is_label),
        "frame_index": ("list<int>", "cast it to list<int32>", _is_frame_index),
    }
    for name, kind in kinds.items():
        type_, advice, fits = expected[name]
        if not fits(kind):
            raise DataError(f"{where}: column {name}: expected {type_}, got {kind}; {advice}")
    frame = plain_type(plain_type(kinds["features"]).value_type)
    return int(frame.list_size) if pa.types.is_fixed_size_list(frame) else None


def _check_missing(name: str, names: Collection[str], where: str, named: bool) -> None:
    """Raise a DataError if a missing column is required, or is there in other letters."""
    # Data warehouses write names in capitals; spreadsheets leave spaces.
    alike = [other for other in names if other.strip().lower() == name]
    if alike:
        raise DataError(f"{where}: expected a column {name!r}, got {alike[0]!r}; rename it")
    if name == "features" or (name == "video_id" and not named):
        raise DataError(f"{where}: expected a column {name!r}, got columns {names}; rename the one that holds it")


def names_of(schema: pa.Schema, where: str) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        DataError: a name is not UTF-8.
    """
    try:
        return list(schema.names)
    except UnicodeDecodeError:
        raise DataError(f"{where}: expected column names in UTF-8") from None


def columns_of(schema: pa.Schema) -> list[str]:
    """Return the columns of a feature table that are read; others are ignored."""
    return [name for name in COLUMNS if name in schema.names]


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


def text_widths(schema: pa.Schema) -> Mapping[str, int]:
    """Return the flat columns that hold text, with the bytes of each value, nulls included; 0: each has its own."""
    kinds = {name: schema.field(name).type for name in FLAT_COLUMNS if name in schema.names}
    return {name: _width_of(kind) for name, kind in kinds.items() if _is_text(kind)}


def plain_columns(batch: pa.RecordBatch) -> pa.Table:
    """Return columns as a table, the flat ones in their plain form.

    Ids become large binary: the bytes of their text, integers in decimal, UUIDs in their usual form. Labels become
    large binary if they are text, and stay as they are if they are numbers. Text is cut to one byte more than
    `FLAT_COLUMNS` allows, so that every longer one is seen to be too long.

    Args:
        batch: as Arrow decodes it by Parquet's own types; its schema passed `check_schema`.
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
    if _is_text(column.type):
        return _cut(_bytes_of(column), FLAT_COLUMNS[name] + 1)
    return column if name == "label" else column.cast(pa.string()).cast(pa.large_binary())


def _bytes_of(text: pa.Array) -> pa.Array:
    """Return text as large binary, since some writers do not check that it is UTF-8; without NULs that fill it up."""
    if pa.types.is_string_view(text.type):
        text = text.cast(pa.large_string())
    plain = text.cast(pa.large_binary())
    if not _width_of(text.type):
        return plain
    # A view, not a cast, which would require UTF-8: a row with other bytes must fail alone.
    return pc.ascii_rtrim(plain.view(pa.large_string()), characters="\0").view(pa.large_binary())


def _cut(text: pa.Array, most: int) -> pa.Array:
    """Return text (large binary) cut to a number of bytes, without the memory of what is cut off."""
    if not pc.any(pc.greater(pc.binary_length(text), most)).as_py():
        return text
    return pa.array([value.as_py()[:most] if value.is_valid else None for value in text], pa.large_binary())


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text, or bytes that are read as UTF-8, of any or of a fixed length."""
    plain = plain_type(kind)
    return 0 < _width_of(plain) <= _WIDEST or any(
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


def _width_of(kind: pa.DataType) -> int:
    """Return the bytes of each value, nulls included, of a fixed-size binary type; 0 for any other type."""
    plain = plain_type(kind)
    return int(plain.byte_width) if pa.types.is_fixed_size_binary(plain) else 0


def is_id(kind: pa.DataType) -> bool:
    """Return whether a type may hold ids: text, integers, which become decimal text, or UUIDs."""
    plain = plain_type(kind)
    whole = pa.types.is_integer(plain) or (pa.types.is_decimal(plain) and plain.scale == 0)
    return whole or _is_text(plain) or is_uuid(plain)


def is_label(kind: pa.DataType) -> bool:
    """Return whether a type may hold class ids: numbers that are whole, or their digits."""
    plain = plain_type(kind)
    return pa.types.is_null(plain) or _is_number(plain) or _is_text(plain)


def is_any_list(kind: pa.DataType) -> bool:
    """Return whether a type is a list, of any or of a fixed length."""
    return any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_features(kind: pa.DataType) -> bool:
    rows = plain_type(kind)
    frame = plain_type(rows.value_type) if is_any_list(rows) else None
    return frame is not None and is_any_list(frame) and bool(pa.types.is_floating(plain_type(frame.value_type)))


def _is_frame_index(kind: pa.DataType) -> bool:
    plain = plain_type(kind)
    return pa.types.is_null(plain) or (is_any_list(plain) and _is_number(plain_type(plain.value_type)))
