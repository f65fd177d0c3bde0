"""Patterns of locations (globs): the part that is fixed, what matches, and which folders may hold a match."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fsspec.utils import glob_translate

_SIGNS = "*?["


@dataclass(frozen=True)
class Pattern:
    """A pattern, ready to be matched.

    Attributes:
        deep: whether a part of it stands for any number of folders (``**``).
    """

    deep: bool
    _whole: re.Pattern[str]
    _levels: tuple[re.Pattern[str], ...]  # of the first parts, by their number; none where it is deep

    @classmethod
    def of(cls, path: str) -> Pattern:
        """Take a path with signs of patterns.

        Raises:
            ValueError, re.error: no such pattern.
        """
        parts = path.split("/")
        deep = any("**" in part for part in parts)
        firsts = [] if deep else ["/".join(parts[:end]) for end in range(len(parts))]
        return cls(deep, re.compile(glob_translate(path)), tuple(re.compile(glob_translate(first)) for first in firsts))

    def matches(self, path: str) -> bool:
        """Whether a path matches."""
        return self._whole.match(path) is not None

    def may_hold(self, folder: str) -> bool:
        """Whether a path below a folder may match."""
        depth = folder.count("/") + 1
        return self.deep or (depth < len(self._levels) and self._levels[depth].match(folder) is not None)


def is_pattern(path: str) -> bool:
    """Whether a path has signs of patterns; files and folders may have them in their names, too."""
    return any(sign in path for sign in _SIGNS)


def fixed_part(path: str) -> str:
    """Return the folder below which all matches are; the path itself where it is no pattern."""
    parts = path.split("/")
    return "/".join(parts[: next((index for index, part in enumerate(parts) if is_pattern(part)), len(parts))])
