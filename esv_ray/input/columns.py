"""The columns of a feature table, and the Arrow types that each may have.

Writers store the same meaning as different types: numbers as decimals (Snowflake) or floats with NaN (pandas), text as
views, categories, or bytes without an annotation. A type is accepted if it can have one meaning only.

The names of the columns end here: `own_columns` gives each its own name, whatever the file calls it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

import pyarrow as pa

from esv_ray.errors import DataError
from esv_ray.input.plain import FLAT_COLUMNS, is_text, is_uuid, plain_type, width_of
from esv_ray.spec_columns import COLUMNS, OWN_NAMES, ColumnNames

_FEATURES = (
    "list<fixed_size_list<float16/32/64, D>>, list<list<float>>, a flat list of T * D floats, or images as "
    "list<fixed_size_list<uint8, D>>"
)
_SHOWN = 20  # names of columns in a message
_COMPARED = 1000  # of which the nearest is suggested


def own_columns(
    schema: pa.Schema, location: str, columns: ColumnNames = OWN_NAMES, named: Collection[str] = ()
) -> pa.Schema:
    """Return the columns of a file that are read, under their own names; others are ignored.

    Args:
        schema: of the file.
        location: the file, for the error.
        columns: names under which the file holds them.
        named: columns given by the names of its folders.

    Raises:
        DataError: a column is missing, exists twice, or exists with other letter case.
    """
    names, fields = names_of(schema, location), []
    for key in COLUMNS:
        name = columns.name_of(key)
        if names.count(name) > 1:
            raise DataError(f"{location}: expected one column {name!r}, got {names.count(name)}")
        if name in names:
            fields.append(schema.field(names.index(name)).with_name(key))
        else:
            _check_missing(key, names, location, columns, key in named)
    return pa.schema(fields)


def check_types(schema: pa.Schema, location: str, columns: ColumnNames = OWN_NAMES) -> int | None:
    """Check the types of columns; return the feature size D, or None if the type does not fix it.

    Args:
        schema: the columns, under their own names (`own_columns`).
        location: the file, for the error.
        columns: names under which the file holds them.

    Raises:
        DataError: a column is of another type; says which, expected, got, and what to do.
    """
    expected = {
        "video_id": ("string or integer", "cast it to string", is_id),
        "features": (_FEATURES, "store one list of D floats for each frame", _is_features),
        "label": ("integer class ids or names of classes", "cast it to int64", is_label),
        "frame_index": ("list<int>", "cast it to list<int32>", _is_frame_index),
    }
    for name, kind in zip(schema.names, schema.types, strict=True):
        type_, advice, fits = expected[name]
        if not fits(kind):
            raise DataError(f"{location}: column {columns.shown(name)}: expected {type_}, got {kind}; {advice}")
    return _feature_dim(schema.field("features").type)


def _check_missing(key: str, names: Collection[str], location: str, columns: ColumnNames, named: bool) -> None:
    """Raise a DataError if a missing column is required, or exists with other letter case."""
    name = columns.name_of(key)
    expected = f"{location}: expected a column {name!r:.80}" + (f" (columns.{key})" if columns.is_given(key) else "")
    # Data warehouses write names in capitals; spreadsheets leave spaces.
    similar = [other for other in names if other.strip().lower() == name.strip().lower()]
    if similar:
        raise DataError(f"{expected}, got {similar[0]!r}; rename it, or give this name as columns.{key}")
    required = key == "features" or (key == "video_id" and not named)
    if required or (columns.is_given(key) and not named):
        shown = ", ".join(f"{other!r:.80}" for other in [*names][:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
        advice = f"give the name of the one that holds it as columns.{key}"
        if columns.is_given(key):
            near = get_close_matches(name, [*names][:_COMPARED], n=1)
            advice = f"did you mean {near[0]!r:.80}?" if near else f"correct columns.{key}"
        raise DataError(f"{expected}, got columns [{shown}]; {advice}")


def names_of(schema: pa.Schema, location: str) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        DataError: a name is not UTF-8.
    """
    try:
        return list(schema.names)
    except UnicodeDecodeError:
        raise DataError(f"{location}: expected column names in UTF-8") from None


def text_widths(schema: pa.Schema) -> Mapping[str, int]:
    """Return the flat columns that hold text, with the bytes of each value, nulls included; 0: each has its own."""
    kinds = {name: schema.field(name).type for name in FLAT_COLUMNS if name in schema.names}
    return {name: width_of(kind) for name, kind in kinds.items() if is_text(kind)}


def is_flat(kind: pa.DataType) -> bool:
    """Return whether features are flat lists of T * D numbers, without a list for each frame."""
    return not is_any_list(plain_type(plain_type(kind).value_type))


def feature_number(kind: pa.DataType) -> pa.DataType:
    """Return the type of the numbers of features."""
    inner = plain_type(plain_type(kind).value_type)
    return inner if is_flat(kind) else plain_type(inner.value_type)


def feature_itemsize(kind: pa.DataType) -> int:
    """Return the bytes per number of features."""
    return int(feature_number(kind).bit_width) // 8


def is_id(kind: pa.DataType) -> bool:
    """Return whether a type may hold ids: text, integers, which become decimal text, or UUIDs."""
    plain = plain_type(kind)
    is_whole = pa.types.is_integer(plain) or (pa.types.is_decimal(plain) and plain.scale == 0)
    return is_whole or is_text(plain) or is_uuid(plain)


def is_label(kind: pa.DataType) -> bool:
    """Return whether a type may hold labels: numbers that are whole, their digits, or the names of classes."""
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
    if not is_any_list(rows) or (_is_tensor(kind) and _tensor_dim(kind) is None):
        return False
    number = feature_number(kind)
    return bool(pa.types.is_floating(number) or pa.types.is_uint8(number))


def _is_tensor(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.FixedShapeTensorType)


def _tensor_dim(kind: pa.FixedShapeTensorType) -> int | None:
    """Return D of rows that are tensors (T, D) in memory order; None for other tensors."""
    in_order = kind.permutation is None or list(kind.permutation) == [0, 1]
    return int(kind.shape[1]) if len(kind.shape) == 2 and in_order else None


def _feature_dim(kind: pa.DataType) -> int | None:
    """Return the feature size D that a type of features fixes, or None."""
    if _is_tensor(kind):
        return _tensor_dim(kind)
    frame = plain_type(plain_type(kind).value_type)
    return int(frame.list_size) if pa.types.is_fixed_size_list(frame) else None


def _is_frame_index(kind: pa.DataType) -> bool:
    plain = plain_type(kind)
    return pa.types.is_null(plain) or (is_any_list(plain) and _is_number(plain_type(plain.value_type)))
