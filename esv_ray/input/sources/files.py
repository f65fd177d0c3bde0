"""The files of a source: listed once, in a fixed order, with names relative to the source."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from esv_ray import storage
from esv_ray.errors import DataError, SpecError

_TEXTS = (".csv", ".tsv", ".txt", ".json", ".md")  # never features, and likely labels or lists
DOING = "read the features"
_COPY_BYTES = 16 * 2**20


class SourceFile(NamedTuple):
    """A file of a source.

    Attributes:
        path: relative to the source; its name if it is the source.
        url: its location.
        size: bytes.
    """

    path: str
    url: str
    size: int


class Listing(NamedTuple):
    """The files of a source.

    Attributes:
        files: in the order of their paths.
        state: changes with their names, sizes and versions.
        is_file: whether the source is one file, not a folder or a glob.
    """

    files: list[SourceFile]
    state: str
    is_file: bool


def list_files(source: str, suffixes: Collection[str]) -> Listing:
    """List the files of a source: one file, a folder at any depth, or a glob.

    Names that begin with a dot are skipped below a folder (macOS leaves such files), but not those that begin with
    ``_``, as ids of videos do.

    Args:
        source: its location.
        suffixes: of the files below a folder or of a glob, in lower case.

    Raises:
        DataError: there are none, or the store refuses to list.
    """

    def is_meant(below: str) -> bool:
        parts = below.split("/")
        return below.lower().endswith(tuple(suffixes)) and not any(part.startswith(".") for part in parts)

    found = storage.find(source, DOING, is_meant, hidden=True)
    root = storage.root_of(source, found[0].url) if found and not found[0].below else None
    is_file = len(found) == 1 and root == found[0].url
    files = []
    checksum = hashlib.sha256()
    for file in found:
        below = file.below or (storage.path_below(root, file.url) if root and root != file.url else "")
        path = below or storage.split_archive(file.url)[0].rpartition("/")[2]
        if not is_file and not is_meant(path):
            continue
        files.append(SourceFile(path, file.url, file.state.size))
        checksum.update(f"{path}\0{file.state.size}\0{file.state.version}\n".encode(errors="surrogateescape"))
    expected = f"expected files {', '.join(f'*{suffix}' for suffix in suffixes)}"
    if is_file and not is_meant(files[0].path) and files[0].path.lower().endswith(_TEXTS):
        raise DataError(f"{source}: {expected}, or a folder with some, got {files[0].path!r:.80}; check the location")
    if not files:
        raise DataError(f"{source}: {expected}, found none; check the location")
    return Listing(sorted(files), checksum.hexdigest(), is_file)


@contextmanager
def on_disk(url: str) -> Iterator[str]:
    """Give the path of a file on this machine; a file on an object store is copied to a temporary folder first.

    HDF5 and LMDB make many small reads. And h5py holds its global lock while it reads. The thread of a store's client
    waits for that lock if it frees an object of h5py, which is a deadlock.
    """
    fs, path = storage.open_location(url)
    if storage.is_local(fs):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="esv-import-") as folder:
        copy = Path(folder) / url.rpartition("/")[2]
        with storage.locating(url, DOING), storage.reader(url, DOING) as file, copy.open("wb") as target:
            shutil.copyfileobj(file, target, _COPY_BYTES)
        yield str(copy)


class NamePattern:
    """Which files or keys of a source are videos, and their ids (``--match``)."""

    def __init__(self, pattern: str | None) -> None:
        """Compile a regular expression, which is searched in each name; None: every name is a video.

        Raises:
            SpecError: it is malformed, or names groups other than ``video_id``.
        """
        try:
            self._pattern = None if pattern is None else re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise SpecError(f"--match: expected a regular expression, got {pattern!r:.80}: {error}") from None
        groups = sorted(set(self._pattern.groupindex if self._pattern else ()) - {"video_id"})
        if groups:
            raise SpecError(
                f"--match: expected no named group but (?P<video_id>...), which names the ids, got "
                f"{', '.join(groups)}; write (...) for other groups"
            )
        self.names_ids = self._pattern is not None and "video_id" in self._pattern.groupindex

    def id_of(self, name: str, plain: str) -> str | None:
        """Return the id of a name, `plain` unless the pattern names ids; None: it does not match."""
        if self._pattern is None:
            return plain
        match = self._pattern.search(name)
        if match is None:
            return None
        return (match["video_id"] or "") if self.names_ids else plain
