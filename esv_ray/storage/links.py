"""Symbolic links below a folder of this machine: which are followed, and files that have several names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from esv_ray.errors import DataError
from esv_ray.storage.transport.requests import Entry


def is_hidden(below: str) -> bool:
    """Return whether a part of a path begins with ``_`` or ``.``: readers of tables skip such names."""
    return any(part.startswith(("_", ".")) for part in below.split("/"))


def is_followed(link: str, root: str) -> bool:
    """Return whether a link to a folder is followed: not if it leads to a folder that the walk is in.

    Args:
        link: its path, below the root.
        root: the folder that is searched.

    Raises:
        DataError: it leads to a folder that contains the root, and so to files outside it.
    """
    target, top = _resolved(Path(link)), Path(root)
    if target in _resolved(top).parents:
        raise DataError(
            f"{link}: expected a folder below {root}, got a link to {target}, which contains it; remove the link, or "
            "name the files by a pattern"
        )
    folder = Path(link).parent
    while not _resolved(folder).is_relative_to(target):
        if folder == top or folder == folder.parent:
            return True
        folder = folder.parent
    return False


def check_link(link: str) -> None:
    """Refuse a broken link that may have led to a folder of files: its name has no suffix.

    Raises:
        DataError: says where it leads.
    """
    path = Path(link)
    if not path.suffix and not path.exists():
        raise DataError(f"{link}: expected a folder, got a broken link to {path.readlink()}; repair or remove it")


def check_no_broken_link(path: str) -> None:
    """Refuse to make a folder at a path that is a broken link or lies below one.

    Raises:
        DataError: says where it leads.
    """
    for parent in (Path(path), *Path(path).parents):
        if parent.is_symlink() and not parent.exists():
            raise DataError(
                f"{parent}: expected a folder or nothing, got a broken link to {parent.readlink()}; create "
                "that folder, remove the link, or choose another place"
            )


def unique_files(files: Sequence[tuple[str, str, Entry]]) -> list[tuple[str, str, Entry]]:
    """Return every file once, by the name without links if it has one, else by its first name.

    The folders of a name give columns (``label=1/``). Names with other columns are different inputs and are all
    kept; a name with fewer columns is not.

    Args:
        files: (name, path below the folder, entry) of files.
    """
    folder_of = lru_cache(maxsize=None)(_resolved)
    of_target: dict[Path, dict[frozenset[str], tuple[str, str, Entry]]] = {}
    for file in sorted(files, key=lambda file: file[0]):
        path = Path(file[0])
        target = _resolved(path) if file[2].get("islink", True) else folder_of(path.parent) / path.name
        columns = frozenset(part for part in path.parent.parts if "=" in part)
        names = of_target.setdefault(target, {})
        if columns not in names or path == target:
            names[columns] = file
    return [
        file
        for names in of_target.values()
        for columns, file in names.items()
        if not any(columns < others for others in names)
    ]


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve fails on a loop
