"""Limits of what a pickle may cost: its size bounds what it can make, and what its keys can cost."""

from __future__ import annotations

_PER_BYTE = 4  # copies: of an array in an old pickle, from text to bytes to numbers
_FREE = 10_000
_MOST_KEY = 1000  # values in a key
_MOST_BITS = 4096  # of a number in a key: Python prints no numbers of many thousand digits
_PLAIN = (str, bytes, int, float, complex, type(None))


class Budget:
    """Bytes and items that may be copied while a file is read, as instructions can copy the same value repeatedly."""

    def __init__(self, size: int) -> None:
        """Take the size of the file in bytes."""
        self._left = _PER_BYTE * size + _FREE

    def spend(self, count: int) -> None:
        """Count bytes or items.

        Raises:
            ValueError: there are more than the file can hold.
        """
        self._left -= count
        if self._left < 0:
            raise ValueError("one that claims more numbers or items than it holds")


def check_key(key: object) -> object:
    """Return a key of a dictionary or a set, whose hash is cheap.

    Raises:
        ValueError: it is a tuple of very many values: nested tuples that share their parts take forever to hash.
        TypeError: it has no hash.
    """
    waiting, count = [key], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError("one with a key of very many digits")
        if isinstance(value, _PLAIN):
            continue
        if isinstance(value, tuple | frozenset):
            waiting += value
        count += 1
        if count + len(waiting) > _MOST_KEY:
            raise ValueError("one with a key of very many values")
    hash(key)
    return key
