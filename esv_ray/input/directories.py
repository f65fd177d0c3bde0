"""Columns given by names of folders, as in tables partitioned by Hive, Spark or DuckDB: ``label=3/x.parquet``.

Only folders of the table count: those below its location, and those of the form ``name=value`` at the end of the
location, so that ``t``, ``t/label=3`` and ``t/label=3/x.parquet`` give a file the same label. Folders further above
do not belong to the table. A label is the id of a class, or its name (`label_names`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from esv_ray.errors import DataError
from esv_ray.input.numbers import whole_number
from esv_ray.spec_columns import OWN_NAMES, ColumnNames

_NAMED = ("video_id", "label")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def named_by_directories(url: str, root: str | None, columns: ColumnNames = OWN_NAMES) -> Mapping[str, str | None]:
    """Return the columns given by the folders of a file: value by column, None for null.

    Args:
        url: the file, as it was listed.
        root: of the table (`storage.root_of`); None: only folders ``name=value`` directly above the file count.
        columns: names of the table's columns.

    Raises:
        DataError: a column is named twice with different values, or with other letter case, or a label is empty.
    """
    keys = {columns.name_of(key): key for key in _NAMED}
    similar = {name.strip().lower(): name for name in keys}
    values: dict[str, str | None] = {}
    for part in _directories(url, root):
        written, equals, escaped = part.partition("=")
        plain = similar.get(written.strip().lower(), "") if written not in keys else written
        if not equals or not plain:
            continue
        if written != plain:
            raise DataError(f"{url}: folder {part}: expected {plain}=..., got {written}=...; rename it")
        name = keys[written]
        try:
            value = None if escaped == _NULL else unquote(escaped, errors="strict")
        except UnicodeDecodeError:
            raise DataError(f"{url}: folder {part}: expected UTF-8 after percent signs; rename it") from None
        if name == "label" and value is not None:
            if not value.strip():
                raise DataError(
                    f"{url}: folder {part}: expected the id or name of a class, got {value!r}; rename it to "
                    f"{written}=ID"
                )
            number = whole_number(value)
            value = value if number is None else str(number)
        if name in values and values[name] != value:
            raise DataError(f"{url}: expected one folder {written}=..., got {values[name]!r} and {value!r}; rename one")
        values[name] = value
    return values


def check_named(named: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """Check columns given by folders, as a run.json stores them; return them.

    Raises:
        ValueError: a column cannot be given by a folder.
    """
    for name, value in named.items():
        if name not in _NAMED or (name == "label" and value is not None and not value.strip()):
            raise ValueError(f"expected columns that folders name, got {name!r:.60}: {value!r:.60}")
    return named


def _directories(url: str, root: str | None) -> Sequence[str]:
    """Return the names of the folders that count, outermost first."""
    directories = url.split("/")[:-1]
    first = len(directories) if root is None else min(len(directories), len(root.split("/")))
    while first and "=" in directories[first - 1]:
        first -= 1
    return directories[first:]
