"""CSV files of labels and of segments, as spreadsheets and pandas write them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.csv_text import DELIMITERS, decode_csv
from esv_ray.input.faults import Lines, RecordError

_MOST_BYTES = 2**30


@dataclass(frozen=True)
class CsvRows:
    """The rows of a CSV.

    Attributes:
        url: its location.
        header: its first line.
        columns: those of the file among the ones asked for, by their plain names.
        rows: line number, and cell without spaces around it by column, of each row.
        checksum: of its content.
        others: rest of the cells of each row, by the names of the header; only if they are asked for.
    """

    url: str
    header: str
    columns: frozenset[str]
    rows: Sequence[tuple[int, Mapping[str, str]]]
    checksum: str
    others: Sequence[Mapping[str, str]] = ()

    def check(self, faults: Lines) -> None:
        """Refuse faults of lines.

        Raises:
            DataError: there are some; has all of them.
        """
        check_lines(self.url, faults)


def check_lines(url: str, faults: Lines) -> None:
    """Refuse faults of the lines of a file.

    Raises:
        DataError: there are some; has all of them.
    """
    if text := faults.text():
        raise DataError(f"{url}, {text}")


def read_csv(url: str, names: Mapping[str, str], doing: str, *, others: bool = False) -> CsvRows:
    """Read columns of a CSV with a header, in whose names case and spaces are ignored.

    Cells are separated by commas, semicolons, tabs or bars; the encoding is UTF-8, or UTF-16 with a byte-order mark.

    Args:
        url: its location.
        names: plain name of a column by each name that it may have, in lower case.
        doing: what is being done, for errors.
        others: whether the other columns are read too, but for those without a name and those whose name is repeated.

    Raises:
        DataError: it cannot be read, or its header repeats a column or has none of them, or lines are too
            short.
    """
    data = storage.read_bytes(url, doing, most=_MOST_BYTES)
    text = decode_csv(data)
    if text is None:
        raise DataError(f"{url}: expected a CSV in UTF-8, got other bytes; save it as CSV in UTF-8")
    lines = io.StringIO(text, newline="")
    header, before = "", 0
    while not header.strip() and (line := lines.readline()):
        before += 1
        header = "" if line.startswith("sep=") else line  # Excel's own mark
    delimiter = max(DELIMITERS, key=lambda sign: (header.count(sign), sign == ","))
    written = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])]
    cells = [cell.casefold() for cell in written]
    places = {names[cell]: place for place, cell in enumerate(cells) if cell in names}
    known = [names[cell] for cell in cells if cell in names]
    expected = f"expected a CSV whose header has columns such as {', '.join(dict.fromkeys(names.values()))}"
    if len(places) < len(known) or not places:
        raise DataError(f"{url}: {expected}, each once; got the header {header.strip()!r:.120}")
    further = [name for name, cell in zip(written, cells, strict=True) if name and cell not in names] * others
    more = {name: cells.index(name.casefold()) for name in further if cells.count(name.casefold()) == 1}
    rows: list[tuple[int, Mapping[str, str]]] = []
    rest: list[Mapping[str, str]] = []
    faults = Lines()
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter + " " in header)
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            number = before + reader.line_num
            with faults.at(number):
                if len(row) <= max(places.values()):
                    raise RecordError(f"expected {len(cells)} cells", f"got {len(row)}")
                rows.append((number, {name: row[place].strip() for name, place in places.items()}))
                rest.append({name: row[place].strip() if place < len(row) else "" for name, place in more.items()})
    except csv.Error as error:
        raise DataError(f"{url}, line {before + reader.line_num}: {expected}: {error}") from None
    check_lines(url, faults)
    checksum = hashlib.sha256(data).hexdigest()
    return CsvRows(url, header.strip(), frozenset(places), rows, checksum, rest if others else ())
