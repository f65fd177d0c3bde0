"""CSV that is safe to open in a spreadsheet: no text cell is taken for a formula."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.result_files import write_rows
from esv_ray.show.text import printable

_SIGNS = r"[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - spreadsheets take the full-width signs, too
_FORMULA = rf"(^|;[\s\"']*)({_SIGNS})"
_ROWS = 100  # between looks at the size


def guarded_csv(table: pa.Table, most_bytes: int) -> tuple[bytes, int]:
    """Return the first rows of a table as CSV, and their number: all, unless the file would be larger.

    A text that begins like a formula gets an apostrophe before it (OWASP, CSV injection), also after a semicolon: where
    the comma is a decimal point, spreadsheets begin a cell there, whatever quotation marks are around it. Numbers are
    unchanged. Control characters are escaped, so that no tab begins a cell.

    Args:
        table: any.
        most_bytes: of the file; a little more, since rows are whole.
    """
    table = guarded(table)
    file = BytesIO()

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in table.to_batches(max_chunksize=_ROWS):
            if file.tell() > most_bytes:
                return
            yield batch

    rows = write_rows(table.schema, batches(), "csv", file)
    return file.getvalue(), rows


def guarded(table: pa.Table) -> pa.Table:
    """Return a table whose texts are no formulas and have no control characters."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = pc.replace_substring_regex(table.column(place), _FORMULA, r"\1'\2")
            texts = [None if text is None else printable(text) for text in column.to_pylist()]
            table = table.set_column(place, field, pa.array(texts, pa.string()))
    return table
