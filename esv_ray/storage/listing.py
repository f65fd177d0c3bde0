"""Listings: names in a folder, and files below a folder or of a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import DataError, SpecError
from esv_ray.storage import links
from esv_ray.storage.location import in_archive, is_local, lists_flat, open_location, split_archive
from esv_ray.storage.objects import is_there
from esv_ray.storage.patterns import Pattern, fixed_part, is_pattern
from esv_ray.storage.states import State, state_of
from esv_ray.storage.transport import requests
from esv_ray.storage.transport.answers import InvalidResponseError
from esv_ray.storage.transport.bounds import RequestLimits
from esv_ray.storage.transport.faults import attempt
from esv_ray.storage.transport.requests import MOST_ENTRIES, Entry


class ListedFile(NamedTuple):
    """A file of a listing.

    Attributes:
        url: its location.
        below: its path below the folder; "" for a file that was named, and for those of a glob.
        state: its size and version.
    """

    url: str
    below: str
    state: State


def list_names(url: str, doing: str, most: int = MOST_ENTRIES) -> list[str]:
    """Return the names of the objects directly in a folder, sorted; an empty list if there is no such folder.

    Args:
        url: the folder.
        doing: what is being done, for the error.
        most: most entries; a longer listing is cut off and refused.

    Raises:
        DataError: the store refuses to list, or lists more.
    """
    fs, path = open_location(url)

    def names() -> list[str]:
        try:
            return requests.ls_names(fs, path, most)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            if not Path(path).exists():
                raise
            return []

    entries = attempt(url, doing, names)
    # A file is listed as its own content, and so is a folder whose last object was deleted.
    inside = [entry.rstrip("/") for entry in entries if entry.rstrip("/").lstrip("/") != path.strip("/")]
    return sorted({entry.rpartition("/")[2] for entry in inside} - {""})


def list_folder(url: str, doing: str, most: int = MOST_ENTRIES) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the files directly in a folder, each sorted; a link to a folder is one.

    Args:
        url, doing, most: as for `list_names`.

    Raises:
        DataError: there is no folder, or the store refuses to list, or lists more.
    """
    fs, path = open_location(url)
    no_folder = f"cannot {doing}: {url}: expected a folder, found a file; check the location"

    def listed() -> tuple[list[str], list[str]]:
        folders: set[str] = set()
        files: set[str] = set()
        try:
            entries = requests.ls(fs, path, most)
        except NotADirectoryError:
            raise DataError(no_folder) from None
        for entry in entries:
            name = entry["name"].rstrip("/")
            if name.lstrip("/") != path.strip("/"):  # object stores may list the folder itself as an object
                (folders if _is_folder(fs, entry) else files).add(name.rpartition("/")[2])
            elif entry["type"] == "file" and not entry["name"].endswith("/"):
                raise DataError(no_folder)
        return sorted(folders - {""}), sorted(files - {""})

    return attempt(url, doing, listed)


def _is_folder(fs: AbstractFileSystem, entry: Entry) -> bool:
    if entry["type"] in ("directory", "file", "other"):
        return bool(entry["type"] == "directory")
    try:  # a link: a listing does not say where it leads
        return bool(requests.info(fs, entry["name"])["type"] == "directory")
    except FileNotFoundError:
        return False


def find(
    url: str, doing: str, is_selected: Callable[[str], bool], most: int = MOST_ENTRIES, *, hidden: bool = False
) -> list[ListedFile]:
    """Find the files at a location: one file, those below a folder, or those of a glob.

    fsspec's walks skip every folder whose listing fails, and its globs every link, so that a table would look smaller;
    this function does not use them. Links are followed, and a file with several names is returned once (`links`).
    Hidden names below a folder are skipped by default.

    Args:
        url: the location.
        doing: what is being done, for the error.
        is_selected: returns whether to take a file, given its path below the folder; a pipe or a folder with such a
            name is refused.
        most: most entries; a longer listing is cut off and refused.
        hidden: whether to take also names that begin with ``_`` or ``.``; ids of videos may begin with ``_``.

    Returns:
        The files, sorted by location.

    Raises:
        SpecError: the pattern is malformed.
        DataError: nothing exists there, it is not a regular file, or the store refuses to list.
    """
    fs, path = open_location(url)

    def search() -> list[ListedFile]:
        entries = _select(fs, path, url, is_selected, most, hidden=hidden)
        if is_local(fs):
            return requests.in_time(
                lambda: [_with_state(fs, url, *entry) for entry in links.unique_files(entries)],
                RequestLimits(entries=len(entries)),
            )
        return [_with_state(fs, url, *entry) for entry in entries]

    return sorted(attempt(url, doing, search))


def is_of(location: str, url: str) -> bool:
    """Return whether `find` of a location could return a URL; without a request. Arguments as for `root_of`."""
    return root_of(location, url) is not None


def root_of(location: str, url: str) -> str | None:
    """Return the part of a location that contains a URL: the file, the folder, or the fixed part of a glob.

    Args:
        location: one file, a folder, or a glob.
        url: spelled as `find` spells locations; ways up (``..``) and empty parts are never below a folder.

    Returns:
        The root, spelled as `find` spells locations; None: `find` of the location could not return the URL.
    """
    fs, path = open_location(location)
    for root in (path, fixed_part(path)):
        prefix = _spelled(fs, root, location).rstrip("/")
        below = path_below(prefix, url)
        if url == prefix or (below is not None and not {"", ".", ".."} & set(below.split("/"))):
            return prefix
    return None


def path_below(root: str, url: str) -> str | None:
    """Return the path of a location below another, each spelled as `find` spells them; None: it is not below."""
    (folder, archive), (inside, of) = split_archive(root), split_archive(url)
    prefix = folder if archive and folder.endswith("://") else folder.rstrip("/") + "/"
    return inside.removeprefix(prefix) if archive == of and inside.startswith(prefix) else None


def _spelled(fs: AbstractFileSystem, name: str, url: str) -> str:
    """Return the location of a name that was found at another location."""
    if is_local(fs):
        return name
    return str(fs.unstrip_protocol(name)) + (split_archive(url)[1] if in_archive(fs) else "")


def _with_state(fs: AbstractFileSystem, url: str, name: str, below: str, entry: Entry) -> ListedFile:
    location = _spelled(fs, name, url)
    return ListedFile(location, below, state_of(fs, name, location, entry))


def _select(
    fs: AbstractFileSystem, path: str, url: str, is_selected: Callable[[str], bool], most: int, *, hidden: bool
) -> list[tuple[str, str, Entry]]:
    """Return (name, path below the folder, entry of the client) of the selected files."""
    if is_pattern(path) and not is_there(fs, path):
        return [(name, "", entry) for name, entry in _of_pattern(fs, path, url, is_selected, most).items()]
    if (entry := requests.info(fs, path))["type"] != "directory":
        return [(entry["name"], "", entry)]
    prefix = path.rstrip("/") + "/"
    files, folders = _below(fs, path, most, hidden=hidden)
    named = {name.removeprefix(prefix): (name, entry) for name, entry in files.items()}
    selected = sorted(below for below in named if is_selected(below))
    for folder in (name.removeprefix(prefix) for name in folders):
        if is_selected(folder) and not any(below.startswith(f"{folder}/") for below in selected):
            raise DataError(f"{prefix}{folder}: expected a file, got a folder without files of this kind; move it away")
    return [(named[below][0], below, named[below][1]) for below in selected]


def _of_pattern(
    fs: AbstractFileSystem, path: str, url: str, is_selected: Callable[[str], bool], most: int
) -> dict[str, Entry]:
    root = fixed_part(path)
    try:
        if not root.strip("/") and not (is_local(fs) or in_archive(fs)):
            raise ValueError("a pattern begins below a bucket")
        pattern = Pattern.of(path)
    except (ValueError, re.error) as error:
        raise SpecError(f"{url}: {error}; use a pattern such as data/**/*.parquet") from None
    files, folders = _below(fs, root or "/", most, hidden=True, may_hold=None if pattern.deep else pattern.may_hold)
    if not pattern.deep:
        for folder in folders:
            if pattern.matches(folder) and is_selected(folder.rpartition("/")[2]):
                raise DataError(
                    f"{folder}: expected a file, got a folder; use {url}/* to read the files in these folders"
                )
    return {name: entry for name, entry in files.items() if pattern.matches(name)}


def _below(
    fs: AbstractFileSystem, path: str, most: int, *, hidden: bool, may_hold: Callable[[str], bool] | None = None
) -> tuple[dict[str, Entry], list[str]]:
    """Return the files below a folder by name, and its folders; `may_hold` selects folders, by default all."""
    if may_hold is None and lists_flat(fs):
        objects = requests.find(fs, path, most)  # an empty folder is listed as its own content
        return {name: entry for name, entry in objects.items() if entry["type"] != "directory"}, []
    files: dict[str, Entry] = {}
    folders: dict[str, None] = {}
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            listed = requests.ls(fs, folder, most)
        except FileNotFoundError:
            continue  # removed since it was listed
        for entry in listed:
            name = entry["name"].rstrip("/")
            if name == folder.rstrip("/"):
                continue  # object stores may list the folder itself as an object
            if not hidden and links.is_hidden(name.rpartition("/")[2]):
                continue
            if not _is_folder(fs, entry):
                files[name] = entry
                if not hidden and entry.get("islink"):
                    links.check_link(name)
                continue
            folders[name] = None
            if may_hold is None:
                is_searched = not entry.get("islink") or links.is_followed(name, path)
            else:
                is_searched = may_hold(name)
            waiting += [name] * is_searched
        if len(files) + len(folders) > most:
            raise InvalidResponseError(f"expected at most {most} files and folders, the store lists more")
    return files, list(folders)
