"""Text that is safe to print on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text with its control characters escaped: ids and names of tables may hold any."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def shortened(text: str, most: int) -> str:
    """Return a printable text of at most `most` characters, shortened in the middle, where class names differ least."""
    text = printable(text)
    if len(text) <= most:
        return text
    kept = most - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
