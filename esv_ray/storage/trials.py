"""Check before long work that a location is writable, and whether its store has create-only writes."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import DataError
from esv_ray.storage.commit import UnconditionalError, create_once, overwrite, remove
from esv_ray.storage.links import check_no_broken_link
from esv_ray.storage.local_files import is_special
from esv_ray.storage.location import in_archive, is_local, join, open_location
from esv_ray.storage.objects import read_bytes
from esv_ray.storage.transport.faults import attempt


def check_writable(folder: str, doing: str, names: Collection[str] = ()) -> None:
    """Check that files can be written below a folder, which need not exist; tried with a small hidden object.

    Args:
        folder: its location.
        doing: what will be written, for the error: "write the model bundle".
        names: of files that will be written or replaced, which must not be folders now. Nothing is tried if all of them
            are pipes or devices: these are written to, and the folder stays as it is.

    Raises:
        DataError: nothing can be written there.
    """
    fs, place = open_location(folder)
    if in_archive(fs):
        raise DataError(f"cannot {doing}: {folder}: archives are only read; choose a folder that is in none")
    if is_local(fs):
        for name in names or ("",):  # a name may be too long, or below what is no folder
            url = join(folder, name) if name else folder
            attempt(url, doing, lambda name=name: _check_free(place, name, doing))  # type: ignore[misc]
        if names and all(is_special(Path(place) / name) for name in names):
            return
    with _trial_object(folder) as (fs, path, _):
        attempt(folder, doing, lambda: _try(fs, path, folder, doing))


def _check_free(place: str, name: str, doing: str) -> None:
    """Check that a folder of this machine is no file, and that a name in it ("": none) is no folder."""
    check_no_broken_link(place)
    if Path(place).is_file():
        raise DataError(f"cannot {doing}: {place}: expected a folder or nothing, got a file; choose another place")
    if name and (Path(place) / name).is_dir():
        raise DataError(f"cannot {doing}: {join(place, name)}: expected a file or nothing, got a folder")


def _try(fs: AbstractFileSystem, path: str, folder: str, doing: str) -> None:
    try:
        overwrite(fs, path, b"trial")
    except FileNotFoundError as error:
        if not is_local(fs):
            raise
        # The folder of the trial exists, but makes no files: that of processes, of devices.
        raise DataError(
            f"cannot {doing}: {folder}: no file can be created in {Path(path).parent}; choose another folder"
        ) from error


def creates_only(folder: str) -> bool:
    """Return whether a store refuses to create an object that exists; tried on a small hidden object.

    Returns:
        True if the store refused; False if it overwrote, or if its client only checks before it writes.

    Raises:
        DataError: nothing can be written there.
    """
    doing = "write"
    with _trial_object(folder) as (fs, path, url):

        def create(data: bytes) -> bool | None:
            try:
                return create_once(fs, path, data)
            except UnconditionalError:
                return None

        if attempt(url, doing, lambda: create(b"first")) is None:
            attempt(url, doing, lambda: overwrite(fs, path, b"first"))
            return False
        # The content after the second write is the evidence: the answer to it may be lost.
        attempt(url, doing, lambda: create(b"second"))
        return read_bytes(url, doing) == b"first"


@contextmanager
def _trial_object(folder: str) -> Iterator[tuple[AbstractFileSystem, str, str]]:
    """Name a hidden object below a folder, and remove it at the end: its file system, its path there, its URL."""
    fs, place = open_location(folder)
    if is_local(fs):  # no folder is made for the trial: the nearest existing one has the same permissions
        folder = str(next(parent for parent in (Path(place), *Path(place).parents) if parent.exists()))
    url = join(folder, f".esv-probe-{uuid.uuid4().hex}")
    fs, path = open_location(url)
    try:
        yield fs, path, url
    finally:
        with suppress(DataError):  # the result, or the first error, is more useful
            remove(url, "remove the trial object")
