"""Listing: names in a folder, and files below one or of a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fsspec.spec import AbstractFileSystem
from fsspec.utils import glob_translate

from esv_ray.errors import DataError, SpecError
from esv_ray.storage.faults import attempt
from esv_ray.storage.location import is_local, lists_flat, open_location
from esv_ray.storage.objects import is_there

Entry = Mapping[str, Any]


def list_names(url: str, doing: str) -> list[str]:
    """Names of the objects directly in a folder, sorted; none where there is no such folder.

    Raises:
        DataError: the store refuses to list.
    """
    fs, path = open_location(url)

    def names() -> list[str]:
        try:
            entries: list[str] = fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return entries

    entries = attempt(url, doing, names)
    # A file is given as its own content, and so is a folder whose last object was deleted.
    inside = [entry.rstrip("/") for entry in entries if entry.rstrip("/").lstrip("/") != path.strip("/")]
    return sorted({entry.rpartition("/")[2] for entry in inside} - {""})


def list_folder(url: str, doing: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files directly in a folder, each sorted; a link to a folder is one.

    Raises:
        DataError: no folder is there, or the store refuses to list.
    """
    fs, path = open_location(url)

    def listed() -> tuple[list[str], list[str]]:
        folders: set[str] = set()
        files: set[str] = set()
        for entry in fs.ls(path, detail=True):
            whole = entry["name"].rstrip("/")
            if whole.lstrip("/") != path.strip("/"):  # stores of objects may keep the folder itself as one
                (folders if _is_folder(fs, entry) else files).add(whole.rpartition("/")[2])
            elif entry["type"] == "file" and not entry["name"].endswith("/"):
                raise DataError(f"cannot {doing}: {url}: expected a folder, found a file; check the location")
        return sorted(folders - {""}), sorted(files - {""})

    return attempt(url, doing, listed)


def _is_folder(fs: AbstractFileSystem, entry: Entry) -> bool:
    if entry["type"] in ("directory", "file"):
        return bool(entry["type"] == "directory")
    try:  # a link, of which a listing does not tell where it leads
        return bool(fs.info(entry["name"])["type"] == "directory")
    except FileNotFoundError:
        return False


def find(url: str, doing: str) -> list[tuple[str, str, Entry]]:
    """The files at a location: the one that is there, all below a folder, or those of a glob.

    The walks of fsspec leave out every folder whose listing fails, and so would pass for a smaller table; these here
    do not.

    Returns:
        (location, path below the folder or "" for a file and those of a glob, the client's entry), by location.

    Raises:
        SpecError: no such pattern.
        DataError: nothing is there, or the store refuses to list.
    """
    fs, path = open_location(url)
    found = attempt(url, doing, lambda: _found(fs, path, url))
    prefix = path.rstrip("/") + "/"
    listed = []
    for name, entry in found.items():
        location = name if is_local(fs) else str(fs.unstrip_protocol(name))
        listed.append((location, name.removeprefix(prefix) if name.startswith(prefix) else "", entry))
    return sorted(listed, key=lambda item: item[0])


def is_of(location: str, url: str) -> bool:
    """Whether `find` of a location could give a URL; asks no store.

    Args:
        location: one file, a folder, or a glob.
        url: spelled as `find` spells locations; ways up (``..``) and empty parts are never below a folder.
    """
    fs, path = open_location(location)
    parts = path.split("/")
    plain = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    for root in (path, "/".join(parts[:plain])):
        prefix = (root if is_local(fs) else str(fs.unstrip_protocol(root))).rstrip("/")
        below = url.removeprefix(prefix + "/")
        if url == prefix or (below != url and not {"", ".", ".."} & set(below.split("/"))):
            return True
    return False


def _found(fs: AbstractFileSystem, path: str, url: str) -> dict[str, Entry]:
    if any(sign in path for sign in "*?[") and not is_there(fs, path):
        return _of_pattern(fs, path, url)
    entry = fs.info(path)
    if entry["type"] == "file":
        return {entry["name"]: entry}
    return dict(_below(fs, path, None))


def _of_pattern(fs: AbstractFileSystem, path: str, url: str) -> dict[str, Entry]:
    parts = path.split("/")
    first = next(index for index, part in enumerate(parts) if any(sign in part for sign in "*?["))
    root = "/".join(parts[:first])
    try:
        if not root.strip("/") and not is_local(fs):
            raise ValueError("a pattern begins below a bucket")
        pattern = re.compile(glob_translate(path))
        deep = any("**" in part for part in parts)
        # A folder is looked into if it may hold a match.
        levels = [] if deep else [re.compile(glob_translate("/".join(parts[:end]))) for end in range(len(parts))]
    except (ValueError, re.error) as error:
        raise SpecError(f"{url}: {error}; write for instance data/**/*.parquet") from None
    found = _below(fs, root or "/", None if deep else levels)
    return {name: entry for name, entry in found if entry["type"] == "file" and pattern.match(name)}


def _below(fs: AbstractFileSystem, path: str, levels: list[re.Pattern[str]] | None) -> Iterator[tuple[str, Entry]]:
    """Files below a folder, names without a slash at the end; `levels`: what folders look like, by depth."""
    if levels is None and lists_flat(fs):
        found = fs.find(path, detail=True)  # an emptied folder is given as its own content
        yield from ((name, entry) for name, entry in found.items() if entry["type"] != "directory")
        return
    try:
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return  # removed since it was listed
    for entry in entries:
        name = entry["name"].rstrip("/")
        if name == path.rstrip("/"):
            continue  # stores of objects may keep the folder itself as one
        if entry["type"] != "directory":
            yield name, entry
        elif levels is None or (name.count("/") + 1 < len(levels) and levels[name.count("/") + 1].match(name)):
            yield from _below(fs, name, levels)
