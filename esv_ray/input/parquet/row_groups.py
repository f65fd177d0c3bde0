"""Rows of a row group, read in ascending order, a few at a time."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from esv_ray.errors import DataError
from esv_ray.input.parquet.opening import OpenedFile, decoding
from esv_ray.input.parquet.row_starts import most_values
from esv_ray.input.parquet.sizes import ROWS_AT_ONCE, group_size
from esv_ray.input.plain import FLAT_COLUMNS
from esv_ray.spec_columns import COLUMNS

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
        group, location = opened.footer.groups[row_group], opened.location(row_group)
        fetched = [name for name in group.chunks if group.compressed <= budget or name in FLAT_COLUMNS]
        with decoding(location):
            opened.source.fetch([group.chunks[name] for name in fetched])
            size = group_size(opened.source.at, group, fetched, budget, itemsize, location)
        features = group.chunks["features"]
        width = features.values * features.itemsize // max(1, group.rows)
        # No text is longer than its page, however often a page may repeat it, but for nulls of a fixed size.
        text_widths = [max(size.largest_pages[name], fixed) for name, fixed in opened.footer.text_widths.items()]
        rows = max(1, min(ROWS_AT_ONCE, _STEP // max(1, width), budget // (4 * max(text_widths, default=0) + 1)))
        if size.refusal is not None and "features" in fetched:
            depth = opened.parquet.schema.column(opened.footer.leaves["features"]).max_repetition_level
            with decoding(location):
                values = most_values(opened.source.at, features, group.rows, rows, depth)
                if values is not None:
                    size = group_size(opened.source.at, group, fetched, budget, itemsize, location, at_once=values)
        columns = FLAT_COLUMNS if size.refusal else COLUMNS
        self.number = row_group
        self.refusal = size.refusal
        self.position = 0
        self._location = location
        self._batches = opened.batches(row_group, [name for name in columns if name in group.chunks], rows)
        self._batch: pa.Table | None = None  # what is left of the latest

    def take(self, start: int, stop: int) -> Piece:
        """Return rows start..stop, at least one; start is not before the rows that were taken.

        Raises:
            DataError: the row group is broken or has fewer rows.
        """
        pieces = []
        while self.position < stop:
            batch = self._batch if self._batch is not None else next(self._batches, None)
            if batch is None:
                raise DataError(f"{self._location}: has fewer rows than its footer says; write the file again")
            first, last = max(start - self.position, 0), min(stop - self.position, batch.num_rows)
            if last > first:
                pieces.append(batch.slice(first, last - first))
            self._batch = batch.slice(last) if last < batch.num_rows else None
            self.position += last
        table = pa.concat_tables(pieces)
        if self.refusal is not None:
            table = table.append_column("features", pa.nulls(table.num_rows, _FRAMES))
        return Piece(table, self.refusal)


def without_features(rows: int, refusal: str) -> Piece:
    """Return rows of a row group of which nothing is read."""
    table = pa.table({"video_id": pa.nulls(rows, pa.large_binary()), "features": pa.nulls(rows, _FRAMES)})
    return Piece(table, refusal)
