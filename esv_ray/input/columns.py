"""The columns of a feature table, and the Arrow types that each may have.

Writers store the same meaning as different types: numbers as decimals (Snowflake) or floats with NaN (pandas), text as
views, categories, or bytes without an annotation. A type is accepted if it can have one meaning only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from esv_ray.errors import DataError
from esv_ray.input.plain import FLAT_COLUMNS, is_text, is_uuid, plain_type, width_of

COLUMNS = ("video_id", "features", "label", "frame_index")
_FEATURES = "list<fixed_size_list<float16/32/64, D>> or list<list<float>>"


def check_schema(schema: pa.Schema, location: str, named: Collection[str] = ()) -> int | None:
    """Check the columns of a file; return the feature size D, or None if the type does not fix it.

    Args:
        schema: of the file.
        location: the file, for the error.
        named: columns given by the names of its directories.

    Raises:
        DataError: a column is missing or of another type; says which, expected, got, and what to do.
    """
    names = names_of(schema, location)
    for name in COLUMNS:
        if names.count(name) > 1:
            raise DataError(f"{location}: expected one column {name!r}, got {names.count(name)}")
        if name not in names:
            _check_missing(name, names, location, name in named)
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
            raise DataError(f"{location}: column {name}: expected {type_}, got {kind}; {advice}")
    frame = plain_type(plain_type(kinds["features"]).value_type)
    return int(frame.list_size) if pa.types.is_fixed_size_list(frame) else None


def _check_missing(name: str, names: Collection[str], location: str, named: bool) -> None:
    """Raise a DataError if a missing column is required, or exists with other letter case."""
    # Data warehouses write names in capitals; spreadsheets leave spaces.
    similar = [other for other in names if other.strip().lower() == name]
    if similar:
        raise DataError(f"{location}: expected a column {name!r}, got {similar[0]!r}; rename it")
    if name == "features" or (name == "video_id" and not named):
        raise DataError(f"{location}: expected a column {name!r}, got columns {names}; rename the one that holds it")


def names_of(schema: pa.Schema, location: str) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        DataError: a name is not UTF-8.
    """
    try:
        return list(schema.names)
    except UnicodeDecodeError:
        raise DataError(f"{location}: expected column names in UTF-8") from None


def columns_of(schema: pa.Schema) -> list[str]:
    """Return the columns of a feature table that are read; others are ignored."""
    return [name for name in COLUMNS if name in schema.names]


def text_widths(schema: pa.Schema) -> Mapping[str, int]:
    """Return the flat columns that hold text, with the bytes of each value, nulls included; 0: each has its own."""
    kinds = {name: schema.field(name).type for name in FLAT_COLUMNS if name in schema.names}
    return {name: width_of(kind) for name, kind in kinds.items() if is_text(kind)}


def is_id(kind: pa.DataType) -> bool:
    """Return whether a type may hold ids: text, integers, which become decimal text, or UUIDs."""
    plain = plain_type(kind)
    is_whole = pa.types.is_integer(plain) or (pa.types.is_decimal(plain) and plain.scale == 0)
    return is_whole or is_text(plain) or is_uuid(plain)


def is_label(kind: pa.DataType) -> bool:
    """Return whether a type may hold class ids: numbers that are whole, or their digits."""
    plain = plain_type(kind)
    return pa.types.is_null(plain) or _is_number(plain) or is_text(plain)


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
