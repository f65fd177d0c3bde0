"""Files of any storage as an fsspec file system, for libraries that want one, such as DuckDB.

Each file is read by `reader`, with this project's retries, limits and errors. Its path is ``esv-file://`` and its
escaped location, in which no library finds a pattern, a chain or a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import EsvError
from esv_ray.storage.location import is_local, open_location
from esv_ray.storage.objects import reader
from esv_ray.storage.states import state

_PROTOCOL = "esv-file"
_ESCAPED = re.compile(rf"{_PROTOCOL}://([\w.~%-]+)")
_PATTERN = re.compile(r"[*?\[\]{}\\]|::")
_DOING = "read"
# Libraries in other languages keep of an exception the text of its traceback only.
_MARK = "esv-storage-fault:"
_FAULT = re.compile(rf"{_MARK} (.*)")


class EscapedFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Files by their escaped locations, only for reading. They must not change: each is asked for its size once."""

    protocol = _PROTOCOL
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, int] = {}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return the size of a file."""
        return {"name": path, "size": self._size(self._strip_protocol(path)), "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the path: it is of one file."""
        return [path]

    def modified(self, path: str) -> datetime:
        """Return the same time always."""
        return datetime.fromtimestamp(0, UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> _MarkedFile:
        if mode != "rb":
            raise PermissionError(f"expected to read {path}, got the mode {mode}")
        with _marked():
            return _MarkedFile(reader(unquote(path), _DOING, self._size(path)))

    def _size(self, path: str) -> int:
        if path not in self._sizes:
            with _marked():
                self._sizes[path] = state(unquote(path), _DOING).size
        return self._sizes[path]


class _MarkedFile:
    """A file whose errors are marked for `fault_in`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        with _marked():
            return self._file.read(size)


@contextmanager
def _marked() -> Iterator[None]:
    """Mark an error for users in its text."""
    try:
        yield
    except EsvError as error:
        raise OSError(f"{_MARK} {' '.join(str(error).split())}") from None


def file_path(url: str) -> str:
    """Return the path of a file for a library with `EscapedFiles`: of a disk the plain path, unless it has a pattern.

    Raises:
        SpecError: the location is invalid.
    """
    fs, path = open_location(url)
    is_plain = is_local(fs) and not _PATTERN.search(path)
    return path if is_plain else f"{_PROTOCOL}://{quote(url, safe='')}"


def plain_path(path: str) -> str:
    """Return the location of a file from its `file_path`."""
    prefix = f"{_PROTOCOL}://"
    return unquote(path.removeprefix(prefix)) if path.startswith(prefix) else path


def unescaped(text: str) -> str:
    """Return a text with the locations of `EscapedFiles` in it as users know them."""
    return _ESCAPED.sub(lambda path: unquote(path[1]), text)


def fault_in(text: str) -> str | None:
    """Return the message of a storage's error in a text that a library made of it; None: there is none."""
    found = _FAULT.search(text)
    return None if found is None else found[1]
