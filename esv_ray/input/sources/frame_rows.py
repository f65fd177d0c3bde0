"""Parquet with one row per frame: videos are the rows with one value of a column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.input.sources.files import DOING, SourceFile, list_files
from esv_ray.input.sources.records import Entry, Frames, RecordError, Source
from esv_ray.input.sources.request import ImportRequest
from esv_ray.input.sources.segments import timing_of

_SUFFIXES = (".parquet", ".pq", ".parq")
_BATCH = 2**16  # ids that are read at a time


class _Run(NamedTuple):
    """Adjacent rows of one video: rows first ... stop - 1 of a file."""

    file: int
    first: int
    stop: int


class _Files:
    """The files of the source; keeps one of them open, and one of its row groups decoded."""

    def __init__(self, files: Sequence[SourceFile], columns: Sequence[str]) -> None:
        self._files, self._columns = files, columns
        self._stack = ExitStack()
        self._open: tuple[int, pq.ParquetFile] | None = None
        self._group: tuple[int, int, pa.Table] | None = None

    def open(self, index: int) -> pq.ParquetFile:
        """Return a file of the source.

        Raises:
            DataError: it is no Parquet file, or lacks a column.
        """
        if self._open is None or self._open[0] != index:
            self.close()
            url = self._files[index].url
            with decoding(url):
                reader = self._stack.enter_context(storage.reader(url, DOING, self._files[index].size))
                parquet = pq.ParquetFile(reader)
            names = parquet.schema_arrow.names
            missing = [name for name in self._columns if names.count(name) != 1]
            if missing:
                raise DataError(f"{url}: expected the columns {', '.join(self._columns)}, got {', '.join(names)[:400]}")
            self._open = index, parquet
        return self._open[1]

    def rows(self, run: _Run) -> pa.Table:
        """Return the rows of a run.

        Raises:
            DataError: the file is damaged.
        """
        parquet = self.open(run.file)
        parts, start = [], 0
        for group in range(parquet.metadata.num_row_groups):
            stop = start + parquet.metadata.row_group(group).num_rows
            if start < run.stop and run.first < stop:
                first = max(run.first, start) - start
                parts.append(self._decoded(run.file, group).slice(first, min(run.stop, stop) - start - first))
            start = stop
        return pa.concat_tables(parts)

    def _decoded(self, index: int, group: int) -> pa.Table:
        if self._group is None or self._group[:2] != (index, group):
            self._group = None
            with decoding(self._files[index].url):
                table = self.open(index).read_row_group(group, columns=list(self._columns))
            self._group = index, group, table
        return self._group[2]

    def close(self) -> None:
        """Close the open file."""
        self._open = self._group = None
        self._stack.close()


@contextmanager
def decoding(url: str) -> Iterator[None]:
    """Turn what Arrow raises on broken Parquet into a `DataError`."""
    try:
        with storage.locating(url, DOING):
            yield
    except (pa.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{url}: expected a Parquet file: {short_text(error, 200)}") from None


@contextmanager
def open_rows(request: ImportRequest) -> Iterator[Source]:
    """Open a file, a folder or a glob of Parquet; ids are the values of the column --id.

    Raises:
        DataError: there are no such files, or they lack a column.
    """
    assert request.id is not None
    assert request.features is not None
    columns = list(dict.fromkeys([request.id, request.features, *([request.order] if request.order else [])]))
    listing = list_files(request.source, _SUFFIXES)
    files = _Files(listing.files, columns)
    try:
        videos = _videos(files, len(listing.files), request.id)

        def entries() -> Iterator[Entry]:
            for video_id, runs in videos.items():
                yield Entry(video_id, video_id, partial(_read, files, runs, request))

        yield Source(entries, listed=True, state=listing.state)
    finally:
        files.close()


def _videos(files: _Files, count: int, column: str) -> dict[str, list[_Run]]:
    """Return the rows of each video, in the order of their first row."""
    videos: dict[str, list[_Run]] = {}
    for index in range(count):
        start = 0
        parquet = files.open(index)
        with decoding(column):
            for batch in parquet.iter_batches(_BATCH, columns=[column]):
                for video_id, first, stop in _runs(batch.column(0), column):
                    runs = videos.setdefault(video_id, [])
                    if runs and runs[-1].file == index and runs[-1].stop == start + first:
                        runs[-1] = runs[-1]._replace(stop=start + stop)
                    else:
                        runs.append(_Run(index, start + first, start + stop))
                start += len(batch)
    return videos


def _runs(ids: pa.Array, column: str) -> list[tuple[str, int, int]]:
    """Return adjacent rows with one id: the id as text, first row, and the row after the last; "" for null."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if not (pa.types.is_integer(ids.type) or pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise DataError(f"column {column} (--id): expected text or integers, got {ids.type}")
    encoded = ids.cast(pa.string()).fill_null("").dictionary_encode()
    codes = encoded.indices.to_numpy()
    if not len(codes):
        return []
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1]).tolist()
    names = encoded.dictionary.to_pylist()
    return [(names[codes[first]], first, stop) for first, stop in zip(firsts, [*firsts[1:], len(codes)], strict=True)]


def _read(files: _Files, runs: Sequence[_Run], request: ImportRequest) -> Frames:
    table = pa.concat_tables([files.rows(run) for run in runs])
    features = _array(table.column(request.features))
    if request.order is None:
        return Frames(features)
    order = _order(table.column(request.order))
    places = np.argsort(order, kind="stable")
    order = order[places]
    if (np.diff(order) == 0).any():
        raise RecordError("several rows of one place in the order", f"{order[:-1][np.diff(order) == 0][0]}")
    features = features[places]
    if timing_of(request).given:  # the rows are windows, and their order is not that of the video's frames
        return Frames(features)
    if order.dtype.kind == "f":
        return Frames(features, times=order.astype(np.float64))
    return Frames(features, numbers=order.astype(np.int64))


def _order(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if column.null_count:
        raise RecordError("rows without a place in the order")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise RecordError("an order that is not a number", str(column.type))
    order: npt.NDArray[Any] = column.to_numpy()
    if order.dtype.kind == "f" and not np.isfinite(order).all():
        raise RecordError("rows without a place in the order", "NaN")
    return order


def _array(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return (T, D) from lists of D numbers, or from T numbers (D = 1)."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    kind, rows, dim = array.type, len(array), 1
    if array.null_count:
        raise RecordError("rows without features")
    if pa.types.is_fixed_size_list(kind):
        dim, array = kind.list_size, array.flatten()
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.unique(pc.list_value_length(array)).to_pylist()
        if len(lengths) != 1:
            raise RecordError("frames with different numbers of features", f"{sorted(lengths)[:5]}")
        dim, array = lengths[0], array.flatten()
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise RecordError("not numbers", str(kind)[:80])
    if array.null_count:
        raise RecordError("NaN or infinity", "null")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(rows, dim)
