"""Rows of a row group, read in ascending order, a few at a time."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from esv_ray.errors import DataError
from esv_ray.input.columns import FLAT_COLUMNS, columns_of, is_text, width_of
from esv_ray.input.ids import as_bytes, cut_text
from esv_ray.input.parquet.opening import OpenedFile, decoding
from esv_ray.input.parquet.sizes import ROWS_AT_ONCE, group_size

# Bytes of features decoded at a time. 2000 rows of 80 kB in units of 1000, of 1, 8, 32 and 100 MiB: 320, 350, 430 and
# 470 MB at the peak, against 760 of the row group read whole; in no more time.
_STEP = 8 * 2**20
_FRAMES = pa.list_(pa.list_(pa.float32()))


class Piece(NamedTuple):
    """Rows of a row group.

    Attributes:
        table: the columns of the contract; features are null where they were not read.
        refusal: why they were not read, or None.
    """

    table: pa.Table
    refusal: str | None


class RowGroupReader:
    """A row group opened for reading rows in ascending order. One thread at a time."""

    def __init__(self, opened: OpenedFile, row_group: int, budget: int, itemsize: int) -> None:
        """Open a row group and decide whether its features are read.

        Args:
            opened: the file. Of its readers only the latest can be used.
            row_group: number of the row group.
            budget: bytes that decoding it may take.
            itemsize: bytes of a number of the decoded features.

        Raises:
            DataError: it is broken.
        """
        schema, group = opened.footer.schema, opened.footer.groups[row_group]
        self._where = f"{opened.footer.file.url}, row group {row_group}"
        self.position = 0
        self._rest: pa.Table | None = None
        with decoding(self._where):
            fetched = [name for name in group.chunks if group.compressed <= budget or name in FLAT_COLUMNS]
            opened.source.fetch([group.chunks[name] for name in fetched], self._where)
            size = group_size(opened.source.at, group, fetched, budget, itemsize, self._where)
            self.refusal, largest_pages = size
            names = [name for name in columns_of(schema) if self.refusal is None or name in FLAT_COLUMNS]
            self._schema = pa.schema([_as_kept(schema.field(name)) for name in names])
            features = group.chunks["features"]
            width = features.values * features.itemsize // max(1, group.rows)
            texts = [name for name in FLAT_COLUMNS if name in group.chunks and is_text(schema.field(name).type)]
            # No text is longer than its page, however often a page may repeat it, but for nulls of a fixed size.
            text_width = max([0, *(max(largest_pages[name], width_of(schema.field(name).type)) for name in texts)])
            rows = max(1, min(ROWS_AT_ONCE, _STEP // max(1, width), budget // (4 * text_width + 1)))
            self._batches = opened.parquet.iter_batches(rows, row_groups=[row_group], columns=names)

    def take(self, start: int, stop: int) -> Piece:
        """Return rows start..stop; start is not before the rows that were taken.

        Raises:
            DataError: the row group is broken or has fewer rows.
        """
        pieces = []
        with decoding(self._where):
            while self.position < stop:
                batch = self._next()
                first, last = max(start - self.position, 0), min(stop - self.position, batch.num_rows)
                if last > first:
                    pieces.append(batch.slice(first, last - first))
                self._rest = batch.slice(last) if last < batch.num_rows else None
                self.position += last
            table = pa.concat_tables(pieces) if pieces else self._schema.empty_table()
        if self.refusal is not None:
            table = table.append_column("features", pa.nulls(table.num_rows, _FRAMES))
        return Piece(table, self.refusal)

    def _next(self) -> pa.Table:
        if self._rest is not None:
            return self._rest
        batch = next(self._batches, None)
        if batch is None:
            raise DataError(f"{self._where}: has fewer rows than its footer says; write the file again")
        table = pa.Table.from_batches([batch])
        for place, field in enumerate(table.schema):
            if field.name in FLAT_COLUMNS and is_text(field.type):
                column = batch.column(place)
                if width_of(field.type):
                    column = as_bytes(column).cast(pa.binary())
                table = table.set_column(place, _as_kept(field), cut_text(column, FLAT_COLUMNS[field.name] + 1))
        return table


def without_features(rows: int, refusal: str) -> Piece:
    """Return rows of a row group of which nothing is read."""
    return Piece(pa.table({"video_id": pa.nulls(rows, pa.string()), "features": pa.nulls(rows, _FRAMES)}), refusal)


def _as_kept(field: pa.Field) -> pa.Field:
    """Return a column as it is kept: text of a fixed size as bytes of any length."""
    return field.with_type(pa.binary()) if field.name in FLAT_COLUMNS and width_of(field.type) else field
