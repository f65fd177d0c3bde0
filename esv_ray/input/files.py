"""The files of a feature table: listing them, and checking that they have not changed since planning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.directories import named_by_directories
from esv_ray.spec_columns import OWN_NAMES, ColumnNames

INCOMPLETE = "import-incomplete.json"
"""Marks a folder into which `esv import features` has not yet written all videos."""
UNFINISHED = "extraction-incomplete.json"
"""Marks a folder into which `esv extract` has not yet written all videos."""
SEVERAL = "extraction-tables.json"
"""Marks a folder in which `esv extract` has put the tables of several backbones, a folder each."""
_WRITERS = {INCOMPLETE: ("import", "esv import features"), UNFINISHED: ("extraction", "esv extract")}

_SHOWN = 3
_SUFFIXES = (".parquet", ".pq", ".parq")


@dataclass(frozen=True, slots=True)
class InputFile:
    """A Parquet file of the feature table, as it was when the job was planned.

    Attributes:
        url: its location.
        size: bytes.
        version: changes with the content (`storage.State`).
        footer: checksum of its footer; "" if it was not read. Listings do not contain it, so comparisons ignore it;
            `parquet.opening.open_file` checks it.
        directories: columns given by the names of its folders, with their values (`named_by_directories`).
        columns: names of its columns. Only what opens the file uses them (`parquet.opening`).
    """

    url: str
    size: int
    version: str
    footer: str = field(default="", compare=False)
    directories: tuple[tuple[str, str | None], ...] = ()
    columns: ColumnNames = OWN_NAMES

    @property
    def named(self) -> Mapping[str, str | None]:
        """Columns given by the names of its folders."""
        return dict(self.directories)


def list_files(url: str, columns: ColumnNames = OWN_NAMES) -> list[InputFile]:
    """List the Parquet files of a feature table, in the order of their names.

    Args:
        url: one file, a folder (searched recursively, links followed, names that begin with "_" or "." skipped), or
            a glob.
        columns: names of the table's columns.

    Raises:
        DataError: there are no Parquet files, or they cannot be listed.
    """
    files = list_files_if_any(url, columns)
    if not files:
        names = storage.list_names(url, "list the feature table")
        shown = ", ".join(f"{name!r:.60}" for name in names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
        hint = f" (found there: {shown})" if names else ""
        other = "; esv import features makes a feature table of files in other formats" if names else ""
        raise DataError(f"{url}: expected Parquet files, found none{hint}; check the location{other}")
    return files


def list_files_if_any(url: str, columns: ColumnNames = OWN_NAMES) -> list[InputFile]:
    """List files as `list_files` does; the list may be empty."""
    # A file that was named or matches a pattern has no path below a folder, and is taken whatever its name is.
    files = storage.find(url, "list the feature table", lambda below: _is_meant(below, url))
    root = storage.root_of(url, files[0].url) if files else None  # the same for all files
    return [
        InputFile(
            file.url,
            *file.state,
            directories=tuple(sorted(named_by_directories(file.url, root, columns).items())),
            columns=columns,
        )
        for file in files
    ]


def _is_meant(below: str, url: str) -> bool:
    if below.rpartition("/")[2] == SEVERAL:
        folder = below.rpartition("/")[0]
        raise DataError(
            f"{url}: expected a feature table, got a folder with a table for each of several backbones"
            f"{f' ({folder})' if folder else ''}; give one of these"
        )
    writer = _WRITERS.get(below.rpartition("/")[2])
    if writer is not None:
        work, command = writer
        raise DataError(
            f"{url}: expected a complete feature table, got one whose {work} was interrupted ({below}); run the same "
            f"{command} again to complete it"
        )
    return below.lower().endswith(_SUFFIXES) and not storage.is_hidden(below)


def check_unchanged(files: Sequence[InputFile]) -> None:
    """Check that files have not changed since the job was planned.

    Raises:
        DataError: one changed, or the storage does not say.
    """
    states = storage.states_of([file.url for file in files], "read the feature table")
    for file, now in zip(files, states, strict=True):
        if now != (file.size, file.version):
            raise DataError(
                f"{file.url}: changed since the job was planned (expected {file.size} bytes, version "
                f"{file.version}; got {now.size}, {now.version}): rewritten, moved, or its rights or links changed; "
                "put it back or use a new output"
            )


@contextmanager
def unchanged(files: Sequence[InputFile]) -> Iterator[None]:
    """Check files (`check_unchanged`) before they are read, and after: they may be overwritten in between."""
    check_unchanged(files)
    yield
    check_unchanged(files)
