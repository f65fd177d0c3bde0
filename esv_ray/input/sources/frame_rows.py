"""Parquet with one row per frame: videos are the rows with one value of a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from esv_ray.input.faults import RecordError
from esv_ray.input.sources.files import DOING, SourceFile, list_files
from esv_ray.input.sources.records import Entry, Frames, Source
from esv_ray.input.sources.request import ImportRequest
from esv_ray.input.sources.segments import timing_of

_SUFFIXES = (".parquet", ".pq", ".parq")
_BATCH = 2**16  # ids that are read at a time
_MOST_RUNS = 2**22  # pieces of videos that are kept in memory, about 150 bytes each
_MOST_TIMES = 10  # how often the source may be decoded because its videos are spread over it ...
_FEW_BYTES = 2**34  # ... unless that is soon done


class _Run(NamedTuple):
    """Adjacent rows of one video: rows first ... stop - 1 of a file."""

    file: int
    first: int
    stop: int


class _Files:
    """The files of the source; keeps one of them open, and one of its row groups decoded."""

    def __init__(self, files: Sequence[SourceFile], columns: Sequence[str], read: Sequence[str]) -> None:
        self._files, self._columns, self._read = files, columns, read  # `columns` are needed, and `read` are decoded
        self._stack = ExitStack()
        self._open: tuple[int, pq.ParquetFile] | None = None
        self._group: tuple[int, int, pa.Table] | None = None

    def url(self, index: int) -> str:
        """Return the location of a file."""
        return self._files[index].url

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
                table = self.open(index).read_row_group(group, columns=list(self._read))
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
    decoded = list(dict.fromkeys([request.features, *([request.order] if request.order else [])]))
    listing = list_files(request.source, _SUFFIXES)
    files = _Files(listing.files, list(dict.fromkeys([request.id, *decoded])), decoded)
    try:
        videos, layouts = _videos(files, len(listing.files), request)
        _check_spread(videos.values(), layouts, request)

        def entries() -> Iterator[Entry]:
            for video_id, runs in videos.items():
                yield Entry(video_id, video_id, partial(_read, files, runs, request))

        yield Source(entries, listed=True, state=listing.state)
    finally:
        files.close()


def _videos(files: _Files, count: int, request: ImportRequest) -> tuple[dict[str, list[_Run]], list[_Layout]]:
    """Return the rows of each video, in the order of their first row, and the row groups of each file."""
    assert request.id is not None
    column = request.id
    videos: dict[str, list[_Run]] = {}
    layouts: list[_Layout] = []
    n_runs, first_type = 0, None
    for index in range(count):
        start = 0
        parquet = files.open(index)
        layouts.append(_Layout.of(parquet))
        first_type = _check_order(files, index, first_type, request)
        with decoding(files.url(index)):
            for batch in parquet.iter_batches(_BATCH, columns=[column]):
                for video_id, first, stop in _runs(batch.column(0), column):
                    runs = videos.setdefault(video_id, [])
                    if runs and runs[-1].file == index and runs[-1].stop == start + first:
                        runs[-1] = runs[-1]._replace(stop=start + stop)
                    else:
                        runs.append(_Run(index, start + first, start + stop))
                        n_runs += 1
                if n_runs > _MOST_RUNS:
                    raise _spread(request, f"videos in more than {_MOST_RUNS} pieces")
                start += len(batch)
    return videos, layouts


class _Layout(NamedTuple):
    """The row groups of a file: the row after the last one of each, and their decoded bytes."""

    stops: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, parquet: pq.ParquetFile) -> _Layout:
        """Return that of an open file."""
        groups = [parquet.metadata.row_group(group) for group in range(parquet.metadata.num_row_groups)]
        rows = np.array([group.num_rows for group in groups], np.int64)
        return cls(np.cumsum(rows), np.array([group.total_byte_size for group in groups], np.int64))


def _check_spread(videos: Iterable[Sequence[_Run]], layouts: Sequence[_Layout], request: ImportRequest) -> None:
    """Refuse a source whose videos are spread over so many row groups that it would be decoded again and again.

    Videos are read one after another, and one row group is kept decoded.

    Raises:
        DataError: it would.
    """
    size, total, last = sum(int(layout.sizes.sum()) for layout in layouts), 0, (-1, -1)
    for run in (run for runs in videos for run in runs):
        layout = layouts[run.file]
        begin, end = (int(np.searchsorted(layout.stops, row, "right")) for row in (run.first, run.stop - 1))
        total += int(layout.sizes[begin + ((run.file, begin) == last) : end + 1].sum())
        last = run.file, end
    if total > max(_MOST_TIMES * size, _FEW_BYTES):
        raise _spread(request, f"videos spread over it: it would be decoded {total / size:.0f} times")


def _spread(request: ImportRequest, got: str) -> DataError:
    by = ", ".join(name for name in (request.id, request.order) if name)
    return DataError(
        f"{request.source}: expected the rows of a video beside each other, got {got}; sort the rows by {by} and write "
        "them again"
    )


def _check_order(files: _Files, index: int, first: pa.DataType | None, request: ImportRequest) -> pa.DataType | None:
    """Check that the order is of frame numbers in all files, or of times in all; return its type in the first file.

    Raises:
        DataError: it is not.
    """
    if request.order is None or timing_of(request).given:
        return None
    kind = files.open(index).schema_arrow.field(request.order).type
    if first is not None and pa.types.is_floating(first) != pa.types.is_floating(kind):
        raise DataError(
            f"{files.url(index)}: expected {request.order} (--order) to be times in all files or frame numbers in all, "
            f"got {kind}, and {first} in {files.url(0)}; write the column with one type"
        )
    return kind if first is None else first


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
    features, orders = [], []
    for run in runs:  # files may store a column as different types
        table = files.rows(run)
        features.append(_array(table.column(request.features)).copy())  # a view would keep its row group in memory
        if request.order is not None:
            orders.append(_order(table.column(request.order)))
    if len({part.shape[1] for part in features}) > 1:
        raise RecordError("frames with different numbers of features", f"{sorted({p.shape[1] for p in features})[:5]}")
    return _ordered(np.concatenate(features), np.concatenate(orders) if orders else None, request)


def _ordered(features: npt.NDArray[Any], order: npt.NDArray[Any] | None, request: ImportRequest) -> Frames:
    """Return the rows in the order of the column --order: numbers of frames, or times if it has fractions."""
    if order is None:
        return Frames(features)
    places = np.argsort(order, kind="stable")
    order = order[places]
    if (np.diff(order) == 0).any():
        raise RecordError("several rows of one place in the order", f"{order[:-1][np.diff(order) == 0][0]}")
    features = features[places]
    if timing_of(request).given:  # the rows are windows, and their order is not that of the video's frames
        return Frames(features)
    if order.dtype.kind == "f":
        return Frames(features, times=order)
    return Frames(features, numbers=order)


def _order(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if column.null_count:
        raise RecordError("rows without a place in the order")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise RecordError("an order that is not a number", str(column.type))
    order: npt.NDArray[Any] = column.to_numpy()
    if order.dtype.kind == "f":
        if not np.isfinite(order).all():
            raise RecordError("rows without a place in the order", "NaN or infinity")
        return order.astype(np.float64)
    if len(order) and int(order.max()) > np.iinfo(np.int64).max:
        raise RecordError("an order beyond 64 bits with a sign", f"{order.max()}")
    return order.astype(np.int64)


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
