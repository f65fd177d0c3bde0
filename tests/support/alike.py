"""Compare printed texts and pictures whose numbers may differ by rounding."""

from __future__ import annotations

import re
from pathlib import Path

_MINUS = "\N{MINUS SIGN}"  # of figures
_NUMBER = re.compile(rf"[-+{_MINUS}]?\d+(?:\.\d+)?(?:e-?\d+)?")
_BAR = re.compile(r"[█-▏]+")


def assert_alike(got: str, expected: str) -> None:
    """Check that two texts differ at most in spaces, lengths of bars, and a rounding of their numbers.

    A number may differ by two units of its last digit, for example 0.1234 and 0.1236; one below 1e-5 by anything that
    stays below 1e-5.
    """
    assert _words(got) == _words(expected)
    for mine, theirs in zip(_NUMBER.findall(got), _NUMBER.findall(expected), strict=True):
        unit = 10.0 ** -len(theirs.partition(".")[2]) if "." in theirs else 0.0
        assert abs(_value(mine) - _value(theirs)) <= max(2 * unit, 1e-5), (mine, theirs)


def assert_same_picture(got: Path, expected: Path) -> None:
    """Check that two SVG files hold the same texts and marks, with the same values up to rounding."""
    one, other = got.read_text(), expected.read_text()
    for pattern in (r"<text[^>]*>([^<]*)", r'aria-label="([^"]*)"'):
        assert_alike("\n".join(re.findall(pattern, one)), "\n".join(re.findall(pattern, other)))
    assert 0.9 < len(one) / len(other) < 1.1


def _words(text: str) -> list[str]:
    """Return the words of a text; a number counts as `0`, and bars do not count."""
    return _NUMBER.sub("0", _BAR.sub("", text)).split()


def _value(number: str) -> float:
    return float(number.replace(_MINUS, "-"))
