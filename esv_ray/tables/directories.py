"""Columns that the names of directories give, as Hive, Spark and DuckDB partition tables: ``label=3/x.parquet``.

Every directory of a file's location counts, so that a file means the same by its own name, by a glob and by the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from esv_ray.errors import DataError
from esv_ray.tables.numbers import whole_number

_NAMED = ("video_id", "label")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def named_by_directories(url: str) -> Mapping[str, str | None]:
    """Return the columns that the directories of a file name: column to value, None for a null.

    Raises:
        DataError: a directory names a column twice, or a label that is not a number.
    """
    found: dict[str, str | None] = {}
    for part in url.split("/")[:-1]:
        name, equals, escaped = part.partition("=")
        if not equals or name not in _NAMED:
            continue
        value = None if escaped == _NULL else unquote(escaped)
        if name in found and found[name] != value:
            raise DataError(f"{url}: expected one directory {name}=..., got {found[name]!r} and {value!r}; rename one")
        if name == "label" and value is not None and whole_number(value) is None:
            raise DataError(
                f"{url}: directory {part}: expected the number of a class, got {value!r}; rename it to label=ID"
            )
        found[name] = value
    return found
