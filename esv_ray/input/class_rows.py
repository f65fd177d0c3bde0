"""CSV files that give each class id a value, as written by spreadsheets or pandas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from esv_ray.errors import ModelError
from esv_ray.input.csv_text import DELIMITERS, decode_csv
from esv_ray.input.faults import Lines, RecordError

_ID = re.compile(r"([+-]?\d{1,18})(?:\.0*)?", re.ASCII)  # pandas writes 3.0 where an id was once missing


class ClassRow(NamedTuple):
    """One row of a class CSV.

    Attributes:
        class_id: the class.
        value: unparsed cell of the other column.
        delimiter: separator of the file's cells.
    """

    class_id: int
    value: str
    delimiter: str


def class_rows(data: bytes, key: str, column: str, names: Sequence[str] | None = None) -> list[ClassRow]:
    """Read the columns `key` (class ids) and `column` of a CSV with a header.

    Spaces and case in the header, the order of columns and further columns do not matter; cells may be separated by
    commas, semicolons, tabs or bars; the encoding is UTF-8, or UTF-16 with a byte-order mark. A first column without a
    name is the id if there is no other (pandas' index).

    Args:
        data: the content of the file.
        key: column of the ids.
        column: the other column.
        names: of the classes, which may stand for their ids; None: ids alone.

    Raises:
        ModelError: the file is malformed; names all faulty rows.
    """
    text = decode_csv(data)
    if text is None:
        raise ModelError(f"{_expected(key, column)} in UTF-8, got other bytes; save it as CSV in UTF-8")
    lines = io.StringIO(text)
    excel = re.match(r"sep=[,;\t|]\r?\n", text)  # Excel's own mark
    if excel:
        lines.seek(excel.end())
    start = lines.tell()
    header_line = next((line for line in lines if line.strip()), "")
    if not header_line:
        return []
    candidates = [each for each in ((_columns(header_line, d, key, column), d) for d in DELIMITERS) if each[0]]
    if not candidates:
        raise _wrong_header(header_line, key, column)
    columns, delimiter = candidates[0]
    assert columns is not None
    lines.seek(start)
    spaced = delimiter + " " in header_line
    ids: dict[str, list[int]] = {}
    for class_id, name in enumerate(names or ()):
        if name.strip():
            ids.setdefault(name.strip(), []).append(class_id)
    rows, faults = [], Lines("row")
    width: int | None = None
    try:
        for number, cells in enumerate(csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced), start=1):
            if not any(cell.strip() for cell in cells):
                continue
            if width is None:
                width = len(cells)
                continue
            with faults.at(number):
                cells = _complete(cells, width, columns, delimiter)
                cell = cells[columns[0]].strip()
                rows.append(ClassRow(_class_id(cell, ids, key), cells[columns[1]], delimiter))
    except csv.Error as error:
        raise ModelError(f"{_expected(key, column)}: {error}") from None
    if text := faults.text():
        raise ModelError(f"{_expected(key, column)}; {text}")
    return rows


def _expected(key: str, column: str) -> str:
    return f"expected a CSV with the columns {key} (0..C-1) and {column}"


def _columns(header: str, delimiter: str, key: str, column: str) -> tuple[int, int] | None:
    """Return the places of the two columns in a header, or None if one is missing."""
    try:
        cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True))
    except (csv.Error, StopIteration):
        return None
    names = [cell.strip().casefold() for cell in cells]
    if key not in names and len(names) == 2 and names[0] == "" and names[1] == column:
        return 0, 1
    if key not in names or column not in names:
        return None
    for name in (key, column):
        if names.count(name) > 1:
            raise ModelError(f"{_expected(key, column)}, got {names.count(name)} columns {name!r}; keep one")
    return names.index(key), names.index(column)


def _wrong_header(header: str, key: str, column: str) -> ModelError:
    line = header.strip()
    if line.startswith(("{", "[")):
        got = "JSON; save it as CSV"
    elif re.match(r"[\d.+-]+\s*[,;\t|]|.*[,;\t|]\s*[\d.+-]+$", line):
        got = f"no header but {line!r:.80}; begin the file with the line {key},{column} (in the order of its columns)"
    else:
        got = f"the header {line!r:.80}; rename its columns"
    return ModelError(f"{_expected(key, column)}, got {got}")


def _complete(cells: list[str], width: int, columns: tuple[int, int], delimiter: str) -> list[str]:
    """Return the cells of a row, of which both columns are there."""
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) > width or max(columns) >= len(cells):
        raise RecordError(f"expected {width} cells", f"got {len(cells)}; put names that hold {delimiter!r} in quotes")
    return cells


def _class_id(cell: str, ids: Mapping[str, Sequence[int]], key: str) -> int:
    """Return the class of a row: the id in its cell, or that of the name in it."""
    match = _ID.fullmatch(cell)
    named = ids.get(cell, ())
    own = int(match[1]) if match else None
    if len(named) > 1 or (own is not None and any(class_id != own for class_id in named)):
        raise RecordError(
            "a name that could mean another class",
            f"{cell!r:.40} is class {', '.join(map(str, named[:4]))}; give ids",
        )
    if own is None and named:
        return named[0]
    if own is None or own < 0:
        also = " or one of the class names" if ids else ""
        hint = "" if ids or match else "; names are taken where the names of the classes are known (--classes)"
        raise RecordError(
            f"expected a whole number from 0{also} as {key}", f"got {cell!r:.40}{hint if key == 'class' else ''}"
        )
    return own
