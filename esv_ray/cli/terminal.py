"""Text that is safe to print on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text with its control characters escaped: ids and names of tables may hold any."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
