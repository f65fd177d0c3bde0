"""The commit of a unit in storage: k tables, then the mark (`job.work`).

A unit counts as committed if its mark is there. All files are create-only, so that two drivers on one output are
harmless. Their contents are equal, unless one of them had to leave out a row that the other could compute: then the
first mark decides, and its checksums say which tables belong to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esv_ray import storage


@dataclass(frozen=True)
class File:
    """A file to publish: where, its bytes, and what an error message says was being done."""

    url: str
    data: bytes
    doing: str


def checksum(data: bytes) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def publish(
    tables: Sequence[File],
    mark: File,
    *,
    marked: Callable[[], Sequence[str]],
    check_owner: Callable[[bytes, str], None],
) -> None:
    """Publish the tables of a unit and then its mark; files that another run of the same job published first are kept.

    Args:
        tables: tables of the unit.
        mark: the file that marks the unit as committed; it holds the checksums of the tables.
        marked: reads the mark that is on storage; returns the checksums of the tables, in their order.
        check_owner: refuses the bytes of a table at a URL if they belong to another job.

    Raises:
        JobError: a file of another job is in the way.
        DataError: the storage refuses; the unit is not committed then.
    """
    earlier = [_publish_table(table, mark, check_owner) for table in tables]
    if not storage.commit_new(mark.url, mark.data, mark.doing):
        _follow_mark(tables, mark, marked(), earlier)


def replace(tables: Sequence[File], mark: File) -> None:
    """Replace the tables and the mark of a unit that are on storage.

    Raises:
        DataError: the storage refuses.
    """
    for file in (*tables, mark):
        storage.replace(file.url, file.data, file.doing)


def _publish_table(table: File, mark: File, check_owner: Callable[[bytes, str], None]) -> bytes:
    """Publish a table; return the bytes that were on storage before, or its own."""
    if storage.commit_new(table.url, table.data, table.doing):
        return table.data
    # From a run that was killed before the mark, or from one that runs at the same time.
    earlier = storage.read_bytes(table.url, "read the output")
    if earlier != table.data and not storage.exists(mark.url):
        check_owner(earlier, table.url)
        storage.replace(table.url, table.data, table.doing)
    return earlier


def _follow_mark(tables: Sequence[File], mark: File, marked: Sequence[str], earlier: Sequence[bytes]) -> None:
    """Leave the tables that belong to the mark of another run.

    Args:
        tables, mark: files of this run.
        marked: checksums in the mark on storage.
        earlier: tables that this run found, and may have replaced.
    """
    missing = False
    for table, expected, before in zip(tables, marked, earlier, strict=True):
        if checksum(storage.read_bytes(table.url, "read the output")) == expected:
            continue
        matching = next((data for data in (table.data, before) if checksum(data) == expected), None)
        if matching is None:
            missing = True
        else:
            storage.replace(table.url, matching, table.doing)
    if missing:  # a table that the mark names was removed or damaged, and no run has it
        replace(tables, mark)
