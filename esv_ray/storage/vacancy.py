"""Checks that a folder for new files holds no other files."""

from __future__ import annotations

from collections.abc import Collection

from esv_ray.errors import DataError
from esv_ray.storage.links import check_no_broken_link
from esv_ray.storage.listing import list_names
from esv_ray.storage.location import is_local, open_location

_NAMED = 3
_OF_THE_SYSTEM = {"lost+found"}  # at the root of a file system


def check_vacant(url: str, own: Collection[str] = ()) -> None:
    """Refuse a folder that is not empty; hidden names do not count.

    Args:
        url: the folder; it need not exist.
        own: names that are allowed.

    Raises:
        DataError: the folder holds something, also a broken link; or the store refuses to list.
    """
    fs, path = open_location(url)
    if is_local(fs):
        check_no_broken_link(path)
    names = list_names(url, "look into the output")
    others = [name for name in names if name not in own and name not in _OF_THE_SYSTEM and not name.startswith(".")]
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        raise DataError(
            f"{url}: expected an empty or absent folder for the output, found {', '.join(others[:_NAMED])}{more}; "
            "choose another output, or move them away"
        )
