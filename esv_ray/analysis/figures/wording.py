"""Words and numbers of figures: wrapped to a width, never cut."""

from __future__ import annotations

import unicodedata

from esv_ray.show.text import printable

_WIDE = {"W", "F"}  # East Asian signs and most emoji take two columns
METHODS = {
    "esv": "ESV",
    "integrated_gradients": "integrated gradients",
    "grad_cam": "Grad-CAM",
    "occlusion": "occlusion",
    "random": "random",
}
"""Methods in words, in the order of figures."""
RANKED = {"descending": "largest", "ascending": "smallest"}
"""Orders by a method's values: which values come first."""
ORDERS = ("descending", "ascending", "center", "edges", "uniform", "random")
"""Orders in which elements are taken away, in the order of tables and figures."""
_FIXED = {
    "center": "from the center",
    "edges": "from the edges",
    "uniform": "evenly",
    "random": "at random",
}


def method_name(method: str) -> str:
    """Return a method in words."""
    return METHODS.get(method, printable(method))


def method_place(method: str) -> tuple[int, str]:
    """Return the place of a method in a figure: those that are known first."""
    return (list(METHODS).index(method) if method in METHODS else len(METHODS), method)


def order_name(order: str, value: str = "") -> str:
    """Return an order in which elements are taken away in words.

    Args:
        order: one of `ORDERS`, or any.
        value: what orders by values are of, such as `ESV`: "largest ESV first".
    """
    if order in RANKED:
        return " ".join(word for word in (RANKED[order], value, "first") if word)
    return _FIXED.get(order, printable(order))


def order_place(order: str) -> tuple[int, str]:
    """Return the place of an order in a table or figure: those that are known first."""
    return (ORDERS.index(order) if order in ORDERS else len(ORDERS), order)


def place_name(element: int, n: int) -> str:
    """Return an element of n in words. Elements are numbered from 0 as in all tables, so its place is said beside it.

    For example `element 3 (the 4th of 8)`, `element 7 (the last of 8)`.
    """
    if n <= 1:
        return "the only element"
    place = {0: "first", n - 1: "last"}.get(element) or ordinal(element + 1)
    return f"element {element} (the {place} of {n})"


def ordinal(number: int) -> str:
    """Return 2nd, 3rd, 4th, 11th."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ends.get(number % 10, 'th')}"


def percent(share: float) -> str:
    """Return a share in percent: two digits where it is small."""
    value = 100 * share
    return f"{value:.0f} %" if abs(value) >= 9.95 or value == 0 else f"{value:.1f} %"


def signed(value: float, digits: int = 2) -> str:
    """Return a value with its sign, which is none of a hyphen, and without a negative zero."""
    return minus(f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}")


def minus(number: str) -> str:
    """Return a number whose sign is none of a hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")


def wrapped(text: str, pixels: float, size: float = 11, bold: bool = False) -> list[str]:
    """Return the lines of a text that is broken at a width, between words where possible.

    Args:
        text: any; control characters are escaped.
        pixels: width of a line.
        size: of the letters, in pixels.
        bold: whether they are bold, which takes more room.
    """
    most = max(4, int(pixels / (size * (0.63 if bold else 0.58))))
    lines, line = [], ""
    for word in printable(text).split(" "):
        joined = f"{line} {word}" if line else word
        if _columns(joined) <= most:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = _pieces(word, most)
        lines += full
    return [*lines, line]


def balanced(text: str, pixels: float, size: float = 11) -> list[str]:
    """Return the lines of a text as `wrapped` does, but of about equal length."""
    lines = wrapped(text, pixels, size)
    narrower = pixels
    while len(lines) > 1 and narrower > pixels / 2:
        narrower -= 2 * size
        tried = wrapped(text, narrower, size)
        if len(tried) > len(lines):
            break
        lines = tried
    return lines


def _pieces(word: str, most: int) -> list[str]:
    """Return the pieces of a word that is too long for a line."""
    pieces, piece = [], ""
    for character in word:
        if _columns(piece + character) > most:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece]


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in _WIDE else 1 for character in text)
