"""Checks that files written to one location are not found at another, through links and patterns too."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence

from fsspec.spec import AbstractFileSystem

from esv_ray.errors import SpecError
from esv_ray.storage.links import is_followed, is_hidden
from esv_ray.storage.location import is_local, open_location
from esv_ray.storage.objects import exists
from esv_ray.storage.patterns import Pattern, fixed_part, is_pattern
from esv_ray.storage.transport.bounds import RequestLimits
from esv_ray.storage.transport.requests import MOST_ENTRIES, in_time


def check_outside(features: str, output: str, names: Sequence[str]) -> None:
    """Refuse an output that would be read as input.

    Args:
        features: one file, a folder, or a glob.
        output: the folder to write into.
        names: paths below it of files to be written.

    Raises:
        SpecError: the output lies inside the features, or one of the two is not a location.
        DataError: as for `would_find`.
    """
    if would_find(features, output, names):
        raise SpecError(f"output {output} lies inside features {features}; it would be read as input: put it elsewhere")


def would_find(location: str, folder: str, names: Sequence[str]) -> bool:
    """Return whether `find` of a location would return files that are to be written into a folder.

    Args:
        location: one file, a folder, or a glob; it need not exist.
        folder: the folder; it need not exist. If it is the location or lies below one that is not a glob, its files
            count as found, whatever their names.
        names: paths below the folder of files to be written; a glob is matched with them.

    Raises:
        SpecError: the location is invalid.
        DataError: a link leads to a folder that contains the location, or a store refuses to list.
    """
    (fs, path), (folder_fs, place) = open_location(location), open_location(folder)
    if _store(fs) is not _store(folder_fs):
        return False
    path, place = path.rstrip("/"), place.rstrip("/")
    if not is_pattern(path) or exists(location):
        return any(True for _ in _ways(fs, path, place, lambda name: not is_hidden(name.rpartition("/")[2])))
    try:
        pattern = Pattern.of(path)
    except (ValueError, re.error):  # a malformed pattern: the listing reports it
        return False
    ways = _ways(fs, fixed_part(path), place, pattern.may_hold)
    return any(pattern.matches(f"{way}/{name}") for way in ways for name in names)


def _store(fs: AbstractFileSystem) -> type:
    return type(getattr(fs, "fs", fs))  # behind a cache, too


def _ways(fs: AbstractFileSystem, root: str, place: str, is_searched: Callable[[str], bool]) -> Iterator[str]:
    """Return the names that a folder has at or below another; on a disk also through links that a listing follows."""
    if not is_local(fs):
        if _is_below(place, root):
            yield place
        return
    names: list[str] = in_time(
        lambda: list(_ways_on_disk(root, place, is_searched)), RequestLimits(entries=MOST_ENTRIES)
    )
    yield from names


def _ways_on_disk(root: str, place: str, looked_into: Callable[[str], bool]) -> Iterator[str]:
    target = os.path.realpath(place)
    top = os.path.realpath(root or "/")
    if _is_below(target, top):
        yield root + target[len(top.rstrip("/")) :]
    waiting = [root or "/"]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                folders = [entry for entry in entries if looked_into(entry.path) and entry.is_dir()]
        except OSError:  # missing, a file, or no permission: the listing reports it
            continue
        for entry in folders:
            if entry.is_symlink():
                if not is_followed(entry.path, root or "/"):
                    continue
                real = os.path.realpath(entry.path)
                if _is_below(target, real):
                    yield entry.path + target[len(real.rstrip("/")) :]
            waiting.append(entry.path)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/") or not folder
