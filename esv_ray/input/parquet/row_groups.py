"""Row groups of a feature table, read a few rows at a time, and refused where decoding them would take too much.

Run lengths and dictionaries put any number of values into a few bytes, and no row can be skipped without decoding it.
So the page headers (`pages`) are asked what decoding the whole row group can take at most; a row group that could take
more than the budget gives ids and labels only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.errors import DataError
from esv_ray.input.columns import check_schema, columns_of, is_text, width_of
from esv_ray.input.features import constant
from esv_ray.input.files import InputFile
from esv_ray.input.frames import frame_sizes
from esv_ray.input.ids import LONGEST_ID, as_bytes, cut_text, plain_ids
from esv_ray.input.labels import LONGEST_TEXT
from esv_ray.input.parquet.fetched import Fetched
from esv_ray.input.parquet.footers import Group, Opened, decoding, open_file
from esv_ray.input.parquet.pages import ChunkSize, chunk_size

# Bytes of features decoded at a time. 2000 rows of 80 kB in units of 1000, of 1, 8, 32 and 100 MiB: 320, 350, 430 and
# 470 MB at the peak, against 760 of the row group read whole; in no more time.
_STEP = 8 * 2**20
_IDS_STEP = 2**16  # rows
_LOOK = 16  # rows whose frames tell D
_ID_BYTES = 48  # of an id beside its text: its place, its code, its part of a hash table
_FLAT = {"video_id": LONGEST_ID, "label": LONGEST_TEXT}  # bytes of their text that are kept, and one more


class Piece(NamedTuple):
    """Rows of a row group.

    Attributes:
        table: the columns of the contract; features null where they are refused.
        refused: why, or None.
    """

    table: pa.Table
    refused: str | None


class RowGroupReader:
    """A row group opened for reading rows in ascending order. One thread at a time."""

    def __init__(self, file: InputFile, row_group: int, budget: int, itemsize: int) -> None:
        """Open a row group and see what it takes.

        Args:
            file: where it is.
            row_group: which.
            budget: bytes that decoding it may take.
            itemsize: bytes of a number that features are wanted in.

        Raises:
            DataError: it is broken.
        """
        self._where = f"{file.url}, row group {row_group}"
        self.position = 0
        self._rest: pa.Table | None = None
        self._opened = open_file(file)
        schema, group = self._opened.schema, self._opened.groups[row_group]
        with decoding(self._where):
            texts = {name for name in _FLAT if name in group.chunks and is_text(schema.field(name).type)}
            self.refused, text_page = _refusal(self._opened.source, group, texts, budget, itemsize, self._where)
            names = [name for name in columns_of(schema) if self.refused is None or name in _FLAT]
            self._schema = pa.schema([_taken(schema.field(name)) for name in names])
            features = group.chunks["features"]
            width = features.values * features.itemsize // max(1, group.rows)
            # No text is longer than its page, however often a page may repeat it, but for nulls of a fixed size.
            text_page = max([text_page, *(width_of(schema.field(name).type) for name in texts)])
            step = max(1, min(_IDS_STEP, _STEP // max(1, width), budget // (4 * text_page + 1)))
            self._batches = self._opened.parquet.iter_batches(step, row_groups=[row_group], columns=names)

    def take(self, start: int, stop: int) -> Piece:
        """Rows start..stop, start not before those that were taken.

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
        return Piece(table if self.refused is None else self._without_features(table), self.refused)

    def close(self) -> None:
        """Let go of the file."""
        self._rest = None
        self._batches = iter(())
        self._opened.close()

    def _next(self) -> pa.Table:
        if self._rest is not None:
            return self._rest
        batch = next(self._batches, None)
        if batch is None:
            raise DataError(f"{self._where}: has fewer rows than its footer tells; write the file again")
        table = pa.Table.from_batches([batch])
        for place, field in enumerate(table.schema):
            if field.name in _FLAT and is_text(field.type):
                column = batch.column(place)
                if width_of(field.type):
                    column = as_bytes(column).cast(pa.binary())
                table = table.set_column(place, _taken(field), cut_text(column, _FLAT[field.name] + 1))
        return table

    def _without_features(self, table: pa.Table) -> pa.Table:
        features = pa.nulls(table.num_rows, pa.list_(pa.list_(pa.float32())))
        return table.append_column("features", features)


def group_ids(opened: Opened, row_group: int, room: int, where: str) -> tuple[pa.ChunkedArray, int] | None:
    """The ids of a row group as bytes, and how much memory they take; None where that is more than there is room.

    Raises:
        DataError: they are broken.
    """
    group = opened.groups[row_group]
    if "video_id" not in group.chunks:
        value = opened.named["video_id"]
        taken = group.rows * (_ID_BYTES + len(value or ""))
        return (plain_ids(pa.chunked_array([constant(value, group.rows)])), taken) if taken <= room else None
    chunk = group.chunks["video_id"]
    taken = chunk.size + _ID_BYTES * chunk.values
    if taken > room:
        return None
    size = _checked_size(opened.source, group, "video_id", where)
    taken += 2 * size.largest
    longest = max(size.largest, width_of(opened.schema.field("video_id").type))
    step = min(_IDS_STEP, (room - taken) // (4 * longest + 1))
    if step < 1:
        return None
    chunks: list[pa.Array] = []
    with decoding(where):
        for batch in opened.parquet.iter_batches(batch_size=step, row_groups=[row_group], columns=["video_id"]):
            ids = plain_ids(pa.chunked_array([batch.column(0)]))
            chunks += ids.chunks
            taken += pc.sum(pc.binary_length(ids)).as_py() or 0
            if taken > room:
                return None
    if sum(len(chunk) for chunk in chunks) != group.rows:
        raise DataError(f"{where}: has fewer rows than its footer tells; write the file again")
    return pa.chunked_array(chunks, pa.large_binary()), taken


def _taken(field: pa.Field) -> pa.Field:
    """Return a column as it is kept: text of a fixed size as bytes of any length."""
    return field.with_type(pa.binary()) if field.name in _FLAT and width_of(field.type) else field


def _refusal(
    source: Fetched, group: Group, texts: Collection[str], budget: int, itemsize: int, where: str
) -> tuple[str | None, int]:
    """Why a row group is not decoded, or None, and bytes of the largest page of text; what is to be read is fetched.

    Decoding takes levels and values, twice while they grow (measured: 11 to 17 bytes a float32), and what is made of
    them. How much ids take is known before: they were looked through for repetitions.
    """
    read = [name for name in group.chunks if name in _FLAT]
    needed, text_page = sum(chunk.size for chunk in group.chunks.values()), 0
    if needed <= budget:
        read = list(group.chunks)
    source.fetch([(group.chunks[name].start, group.chunks[name].size) for name in read])
    for name in read:
        chunk, size = group.chunks[name], _checked_size(source, group, name, where)
        needed += 2 * size.largest
        if name in texts:
            text_page = max(text_page, size.largest)
        if name != "video_id":
            needed += size.values * (2 * chunk.itemsize + 8 + (itemsize if name == "features" else 4))
    if needed <= budget:
        return None, text_page
    return (
        f"its row group takes up to {needed} bytes of memory when it is decoded, compute.memory_budget is {budget}: "
        "write smaller row groups, or leave absurdly long videos out"
    ), text_page


def _checked_size(source: Fetched, group: Group, name: str, where: str) -> ChunkSize:
    """What the pages of a column say; a column that is flat must have a value a row."""
    chunk = group.chunks[name]
    with _in_column(where, name):
        size = chunk_size(source.at, chunk.start, chunk.size, chunk.values)
        if name in _FLAT and size.values != group.rows:
            raise DataError(f"expected {group.rows} values, one a row, got pages of {size.values}")
    return size


@contextmanager
def _in_column(where: str, name: str) -> Iterator[None]:
    """Name the place in a `DataError` raised inside."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}, column {name}: {error}; write the file again") from None


def feature_dim_of(files: Sequence[InputFile], budget: int) -> int | None:
    """The feature size D of a table: from the type of a file, else the most frequent of its first rows of one size.

    Args:
        files: of the table.
        budget: bytes that decoding a row group may take; one that could take more is not looked into.

    Returns:
        D, or None if no row has frames of one size.

    Raises:
        DataError: a file is unreadable.
    """
    for file in files:
        opened = open_file(file)
        opened.close()
        dim = check_schema(opened.schema, file.url, opened.named)
        if dim is not None:
            return dim
        for row_group, group in enumerate(opened.groups):
            reader = RowGroupReader(file, row_group, budget, 4)
            with closing(reader):
                for start in range(0, 0 if reader.refused else group.rows, _LOOK):
                    sizes = frame_sizes(reader.take(start, min(start + _LOOK, group.rows)).table.column("features"))
                    if sizes:
                        return Counter(sizes).most_common(1)[0][0]
    return None
