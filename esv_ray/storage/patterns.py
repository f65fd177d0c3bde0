"""Patterns of locations (globs): their fixed part, their matches, and the folders that may contain matches."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fsspec.utils import glob_translate

_SIGNS = "*?["


@dataclass(frozen=True)
class Pattern:
    """A pattern, ready to be matched.

    Attributes:
        deep: whether a part of it matches any number of folders (``**``).
    """

    deep: bool
    _whole: re.Pattern[str]
    _levels: tuple[re.Pattern[str], ...]  # of the first parts, by their number; empty if deep

    @classmethod
    def of(cls, path: str) -> Pattern:
        """Parse a path with wildcards.

        Raises:
            ValueError, re.error: the pattern is malformed.
        """
        parts = path.split("/")
        deep = any("**" in part for part in parts)
        firsts = [] if deep else ["/".join(parts[:end]) for end in range(len(parts))]
        return cls(deep, re.compile(glob_translate(path)), tuple(re.compile(glob_translate(first)) for first in firsts))

    def matches(self, path: str) -> bool:
        """Return whether a path matches."""
        return self._whole.match(path) is not None

    def may_hold(self, folder: str) -> bool:
        """Return whether a path below a folder may match."""
        depth = folder.count("/") + 1
        return self.deep or (depth < len(self._levels) and self._levels[depth].match(folder) is not None)


def is_pattern(path: str) -> bool:
    """Return whether a path has wildcards; names of files and folders may contain the same characters."""
    return any(sign in path for sign in _SIGNS)


def fixed_part(path: str) -> str:
    """Return the folder that contains all matches; the path itself if it is not a pattern."""
    parts = path.split("/")
    return "/".join(parts[: next((index for index, part in enumerate(parts) if is_pattern(part)), len(parts))])
