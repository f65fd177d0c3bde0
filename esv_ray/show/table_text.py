"""Tables of any columns as text for people: names are shortened in the middle, numbers never."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

from rich.cells import cell_len

from esv_ray.show.text import distinct, printable, shortened

_GAPS = ("  ", " ")
_LEAST = 12  # characters to which a text may be shortened
_LEAST_HEAD = 8  # and the name of a column of numbers


def table_lines(names: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> list[str]:
    """Return the lines of a table: a head, a rule, and a line for each row.

    Numbers have six significant digits. If the columns do not fit, each row becomes a block with a line for each of its
    values.

    Args:
        names: of the columns.
        rows: with a value for each column: numbers, texts, lists, None.
        width: characters of a line.
    """
    cells = [[value_text(value) for value in row] for row in rows]
    numeric = [_is_numeric(column) for column in zip(*rows, strict=True)] or [False] * len(names)
    heads = [printable(name) for name in names]
    for gap in _GAPS:
        widths = _widths(heads, cells, numeric, width - len(gap) * (len(names) - 1))
        if widths is not None:
            by_column = zip(*cells, strict=True), zip(*rows, strict=True)
            head = _line(
                [shortened(name, most) for name, most in zip(names, widths, strict=True)], widths, numeric, gap
            )
            columns = [_fitted_column(*column) for column in zip(*by_column, widths, strict=False)]
            lines = [_line(row, widths, numeric, gap) for row in zip(*columns, strict=True)]
            return [head, gap.join("─" * most for most in widths), *lines]
    return _blocks(heads, cells, rows, width) or [shortened(head, width) for head in heads]


def value_text(value: Any) -> str:
    """Return a value as text: numbers with six significant digits, control characters escaped, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{printable(str(key))}: {value_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Real):
        return f"{float(value):.6g}"
    return printable(value.hex() if isinstance(value, bytes) else str(value))


def _is_numeric(values: Sequence[Any]) -> bool:
    numbers = [
        isinstance(value, Real | Decimal) and not isinstance(value, bool) for value in values if value is not None
    ]
    return bool(numbers) and all(numbers)


def _widths(
    names: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> list[int] | None:
    """Return the widths of the columns, which add up to `width` at most; None if they cannot be made to fit."""
    columns = list(zip(*cells, strict=True)) or [()] * len(names)
    content = [max(map(cell_len, column), default=0) for column in columns]
    heads = [cell_len(name) for name in names]
    full = [max(pair) for pair in zip(content, heads, strict=True)]
    least = [
        max(own, min(head, _LEAST_HEAD)) if number else min(max(own, head), _LEAST)
        for own, head, number in zip(content, heads, numeric, strict=True)
    ]
    excess = sum(full) - width
    while excess > 0:
        wide = [place for place, (now, low) in enumerate(zip(full, least, strict=True)) if now > low]
        if not wide:
            return None
        full[max(wide, key=full.__getitem__)] -= 1  # the widest gives way first
        excess -= 1
    return full


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool], gap: str) -> str:
    padded = []
    for cell, most, number in zip(cells, widths, numeric, strict=True):
        space = " " * (most - cell_len(cell))
        padded.append(space + cell if number else cell + space)
    return gap.join(padded).rstrip()


def _fitted_column(cells: Sequence[str], values: Sequence[Any], most: int) -> list[str]:
    """Return the texts of a column; different ones look different where a cut can show it."""
    texts = distinct(cells, most)
    pairs = zip(texts, values, strict=True)
    return [_fitted_list(value, most) if isinstance(value, list | tuple) else text for text, value in pairs]


def _fitted_value(cell: str, value: Any, most: int) -> str:
    if isinstance(value, list | tuple):
        return _fitted_list(value, most)
    return shortened(cell, most)


def _fitted_list(values: Sequence[Any], most: int) -> str:
    """Return a list of which only whole values are left out."""
    text = value_text(values)
    for kept in range(len(values) - 1, -1, -1):
        if cell_len(text) <= most:
            return text
        text = f"[{''.join(value_text(value) + ', ' for value in values[:kept])}... {len(values)}]"
    return text if cell_len(text) <= most else f"({len(values)})"


def _blocks(
    names: Sequence[str], cells: Sequence[Sequence[str]], rows: Sequence[Sequence[Any]], width: int
) -> list[str]:
    """Return a block for each row, with a line for each value."""
    left = min(max(map(cell_len, names)), width // 2)
    lines = []
    for number, (texts, values) in enumerate(zip(cells, rows, strict=True)):
        lines += [""] * bool(number) + [f"row {number + 1}"]
        for name, text, value in zip(names, texts, values, strict=True):
            is_number = isinstance(value, Real | Decimal)
            shown = text if is_number else _fitted_value(text, value, max(_LEAST, width - left - 2))
            head = shortened(name, left)
            lines.append(f"{head}{' ' * (left - cell_len(head))}  {shown}".rstrip())
    return lines
