"""The files of a feature table: which they are, and whether they are still what was planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from esv_ray import storage
from esv_ray.errors import DataError

_READERS = 16  # footers are small: latency, not bandwidth


@dataclass(frozen=True)
class InputFile:
    """A Parquet file of the feature table, in the state in which it was planned.

    Attributes:
        url: its location.
        size: bytes.
        version: ETag, or time of the last change; another one means another content.
    """

    url: str
    size: int
    version: str


def list_files(url: str) -> list[InputFile]:
    """The Parquet files of a feature table, in name order.

    Args:
        url: one file, a directory (searched through, names beginning with "_" or "." left out), or a glob.

    Raises:
        DataError: nothing is there, or it cannot be listed.
    """
    files = list_files_if_any(url)
    if not files:
        raise DataError(f"{url}: expected Parquet files, found none; check `features`")
    return files


def list_files_if_any(url: str) -> list[InputFile]:
    """As `list_files`, but a directory may be without Parquet files."""
    # What is asked for by its own name, or by a pattern, has no path below the folder, and is taken as it is.
    return [
        InputFile(where, int(entry["size"]), _version(entry))
        for where, below, entry in storage.find(url, "list the feature table")
        if not below
        or (below.endswith((".parquet", ".pq")) and not any(part.startswith(("_", ".")) for part in below.split("/")))
    ]


def _version(entry: Mapping[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created"):
        value = entry.get(key)
        if isinstance(value, datetime):
            value = value.timestamp()  # some stores give a number in listings and a date for a single file
        if value is not None:
            return str(value).strip('"')
    return ""


def check_unchanged(file: InputFile) -> None:
    """Whether a file is in the state in which it was planned.

    Raises:
        DataError: it changed since, or the storage refuses to say.
    """
    fs, path = storage.open_location(file.url)
    entry = storage.attempt(file.url, "read the feature table", lambda: fs.info(path))
    if (int(entry["size"]), _version(entry)) != (file.size, file.version):
        raise DataError(
            f"{file.url}: changed since the job was planned (expected {file.size} bytes, version "
            f"{file.version}; got {entry['size']}, {_version(entry)}); put it back or use a new output"
        )
