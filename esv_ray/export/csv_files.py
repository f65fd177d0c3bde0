"""The tables of an output as CSV files, for spreadsheets and programs; rows stream through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray import storage
from esv_ray.analysis.csv_text import guarded
from esv_ray.analysis.database import quoted
from esv_ray.analysis.result_files import write_rows
from esv_ray.analysis.sql import Rows, select
from esv_ray.errors import count_of
from esv_ray.export.request import Request
from esv_ray.export.source import check_place, open_source, publish
from esv_ray.output.layout import VIDEOS

CLASSES = "classes"
_ROWS = 500  # that become text together: a row of videos has a score of each class


def write(request: Request) -> list[str]:
    """Write a CSV file for each table to a folder; videos.csv comes last.

    Returns:
        Notes, one line each.

    Raises:
        DataError: as `registry.export`.
    """
    source = open_source(request)
    with source.opened.con, TemporaryDirectory(prefix="esv-export-") as folder:
        tables = [CLASSES, *(name for name in source.manifest.folders if name != VIDEOS), VIDEOS]
        check_place(request, request.path, [f"{table}.csv" for table in tables])
        notes, changed, files = list(source.opened.unfinished), 0, {}
        for table in tables:
            file = Path(folder) / f"{table}.csv"
            rows = select(source.opened, f"FROM {quoted(table)}")
            guard = _Guard(rows, exact=request.exact_text)
            with file.open("wb") as sink:
                write_rows(rows.schema, guard.batches(), "csv", sink)
            changed += guard.changed
            files[storage.join(request.path, file.name)] = file
        publish(request, files)
    if changed:
        notes.append(
            f"{count_of(changed, 'text')} changed so that spreadsheets do not read them as formulas; --exact-text "
            "leaves them unchanged"
        )
    return notes


class _Guard:
    """Rows without texts that spreadsheets read as formulas.

    Attributes:
        changed: texts that were changed so far.
    """

    def __init__(self, rows: Rows, *, exact: bool) -> None:
        self._rows, self._exact = rows, exact
        self.changed = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows."""
        whole = self._rows.batches
        for batch in (each.slice(start, _ROWS) for each in whole for start in range(0, each.num_rows, _ROWS)):
            if self._exact:
                yield batch
                continue
            table = pa.Table.from_batches([batch])
            safe = guarded(table)
            self.changed += sum(_differences(table.column(name), safe.column(name)) for name in _texts(table.schema))
            yield from safe.to_batches()


def _texts(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_string(field.type)]


def _differences(before: pa.ChunkedArray, after: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.not_equal(before, after)).as_py() or 0)
