"""What an import leaves in the folder of its table: a mark while it is incomplete, and a record when it is complete.

``import-incomplete.json`` holds the request; readers of feature tables refuse a folder with it (`input.files`).
``_import.json`` holds the request and what was written; readers skip it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.files import INCOMPLETE
from esv_ray.input.sources.table_writer import part_name
from esv_ray.input.table_classes import CLASSES

RECORD = "_import.json"
NAMES = (INCOMPLETE, CLASSES, RECORD, part_name(0))
"""Names of files that an import writes."""
_DOING = "look into the output"
_MOST_BYTES = 2**24


class Found(NamedTuple):
    """What is in the folder of the table before an import.

    Attributes:
        complete: the record of the same import, which is complete; else None.
        parts: number of files that an interrupted import of the same kind has written.
    """

    complete: Mapping[str, Any] | None
    parts: int


def check_free(out: str) -> None:
    """Refuse a folder that holds something else than an import, before the source is read.

    Raises:
        DataError: it does.
    """
    if not {RECORD, INCOMPLETE} & set(storage.list_names(out, _DOING)):
        storage.check_vacant(out)


def look(out: str, identity: Mapping[str, str]) -> Found:
    """Look into the folder of the table.

    Raises:
        DataError: it holds something else, or the table of another request; names the options that differ.
    """
    names = set(storage.list_names(out, _DOING))
    if RECORD in names:
        record = _read(storage.join(out, RECORD))
        _check_same(out, identity, record["request"], "is complete")
        storage.remove(storage.join(out, INCOMPLETE), "complete the import")
        return Found(record, 0)
    if INCOMPLETE not in names:
        storage.check_vacant(out)
        return Found(None, 0)
    _check_same(out, identity, _read(storage.join(out, INCOMPLETE))["request"], "is incomplete")
    parts = sorted(name for name in names if name.endswith(".parquet"))
    if parts != [part_name(number) for number in range(len(parts))]:
        raise DataError(
            f"{out}: expected the files {part_name(0)} to {part_name(len(parts) - 1)} of an interrupted import, got "
            f"{', '.join(parts[:5])}; remove the folder and import again"
        )
    storage.check_vacant(out, own={INCOMPLETE, CLASSES, *parts})
    return Found(None, len(parts))


def begin(out: str, identity: Mapping[str, str], classes: bytes | None) -> None:
    """Mark a table as incomplete, and write its classes, before its first file."""
    storage.commit_new(storage.join(out, INCOMPLETE), _json({"request": dict(identity)}), "begin the import")
    if classes is not None:
        storage.replace(storage.join(out, CLASSES), classes, "write the classes")


def complete(out: str, identity: Mapping[str, str], result: Mapping[str, Any]) -> None:
    """Record a table that is complete, and remove the mark."""
    record = _json({"request": dict(identity), "result": dict(result)})
    storage.replace(storage.join(out, RECORD), record, "complete the import")
    storage.remove(storage.join(out, INCOMPLETE), "complete the import")


def _check_same(out: str, identity: Mapping[str, str], earlier: Mapping[str, str], state: str) -> None:
    differing = [name for name in sorted({*identity, *earlier}) if identity.get(name) != earlier.get(name)]
    if differing:
        shown = ", ".join(name + _before(name, earlier) for name in differing)
        raise DataError(
            f"{out}: the import there {state}, and differs from this request in: {shown}; choose another --output, or "
            "remove the folder"
        )


def _before(name: str, earlier: Mapping[str, str]) -> str:
    if name not in earlier:
        return " (not given before)"
    return "" if name.startswith("content of ") else f" ({earlier[name]!r:.60} before)"


def _read(url: str) -> dict[str, Any]:
    data = storage.read_bytes(url, _DOING, most=_MOST_BYTES)
    try:
        content = json.loads(data)
        if isinstance(content["request"], dict) and isinstance(content.get("result", {}), dict):
            return dict(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(f"{url}: expected what esv import features writes there, got other content; remove the folder")


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()
