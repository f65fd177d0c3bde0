"""_SUCCESS: marks an output whose units are all committed, and holds the counts of its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.output.layout import FOLDERS, SUCCESS
from esv_ray.output.unit_files import UnitCounts, counts_from

_MOST_BYTES = 2**16


def commit_success(output: str, counts: UnitCounts, units: int) -> None:
    """Publish _SUCCESS: every unit is committed.

    Raises:
        DataError: the storage refuses.
    """
    content = json.dumps({"units": units, **counts.asdict()}, indent=1, sort_keys=True) + "\n"
    storage.commit_new(storage.join(output, SUCCESS), content.encode(), "write _SUCCESS")


def remove_success(output: str) -> None:
    """Remove _SUCCESS: units are missing, or are about to change.

    Raises:
        DataError: the storage refuses.
    """
    url = storage.join(output, SUCCESS)
    if storage.exists(url):
        storage.remove(url, "remove _SUCCESS")


def read_success(output: str, folders: Sequence[str] = FOLDERS) -> Mapping[str, int] | None:
    """Read _SUCCESS of an output whose tables are in some of the folders; return None if there is none.

    Raises:
        DataError: it has other content.
    """
    url = storage.join(output, SUCCESS)
    if not storage.exists(url):
        return None
    try:
        content = json.loads(storage.read_bytes(url, "read _SUCCESS", most=_MOST_BYTES))
        units = content.pop("units")
        counts = {"units": units, **counts_from(content, folders).asdict()}
        if type(units) is not int or units < 0:
            raise ValueError(units)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{url}: expected the counts of a finished job, got other content") from None
    return counts
