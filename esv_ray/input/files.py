"""The files of a feature table: which they are, and whether they are still what was planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.directories import named_by_directories

_SHOWN = 3
_SUFFIXES = (".parquet", ".pq", ".parq")


@dataclass(frozen=True)
class InputFile:
    """A Parquet file of the feature table, in the state in which it was planned.

    Attributes:
        url: its location.
        size: bytes.
        version: all else that its store tells of the state (`storage.State`); another one means another content.
        footer: checksum of its footer as it was planned; "" where it was not read. Listings do not tell it, so that it
            counts for no comparison: `footers.open_file` looks at it.
        directories: columns that the names of its directories give, with their values (`named_by_directories`).
    """

    url: str
    size: int
    version: str
    footer: str = field(default="", compare=False)
    directories: tuple[tuple[str, str | None], ...] = ()

    @property
    def named(self) -> Mapping[str, str | None]:
        """Columns that the names of its directories give."""
        return dict(self.directories)


def list_files(url: str) -> list[InputFile]:
    """The Parquet files of a feature table, in name order.

    Args:
        url: one file, a directory (searched through, links followed, names that begin with "_" or "." left out), or a
            glob.

    Raises:
        DataError: nothing is there, or it cannot be listed.
    """
    files = list_files_if_any(url)
    if not files:
        names = storage.list_names(url, "list the feature table")
        shown = ", ".join(f"{name!r:.60}" for name in names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
        there = f" (what is there: {shown})" if names else ""
        raise DataError(f"{url}: expected Parquet files, found none{there}; check `features`")
    return files


def list_files_if_any(url: str) -> list[InputFile]:
    """As `list_files`, but a directory may be without Parquet files."""
    # What is asked for by its own name, or by a pattern, has no path below the folder, and is taken as it is.
    found = storage.find(url, "list the feature table", _is_meant)
    root = storage.root_of(url, found[0].url) if found else None  # that of all
    return [
        InputFile(file.url, *file.state, directories=tuple(sorted(named_by_directories(file.url, root).items())))
        for file in found
    ]


def _is_meant(below: str) -> bool:
    return below.lower().endswith(_SUFFIXES) and not storage.is_hidden(below)


def check_unchanged(file: InputFile) -> None:
    """Whether a file is in the state in which it was planned.

    Raises:
        DataError: it changed since, or the storage refuses to say.
    """
    now = storage.state(file.url, "read the feature table")
    if now != (file.size, file.version):
        raise DataError(
            f"{file.url}: changed since the job was planned (expected {file.size} bytes, version "
            f"{file.version}; got {now.size}, {now.version}): rewritten, moved, or its rights or links changed; put it "
            "back or use a new output"
        )
