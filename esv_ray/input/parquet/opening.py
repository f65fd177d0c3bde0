"""Open files of a feature table: the footer is read and checked before Arrow decodes anything.

A footer of at most 64 KiB is read in one request. Of the data, the ranges of a row group are kept; others
are read as needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.input.files import InputFile
from esv_ray.input.parquet.chunks import ColumnChunk
from esv_ray.input.parquet.file_kinds import FEWEST_BYTES, HEAD_BYTES, MAGIC, not_parquet, too_small
from esv_ray.input.parquet.footers import Footer, footer_bytes, parse_footer
from esv_ray.input.plain import plain_columns
from esv_ray.parallel import READERS, in_parallel

_DOING = "read the feature table"
_BUFFER = 2**20  # bytes of a column that are read at a time; without it Arrow reads a chunk whole and is slower
_TAIL_BYTES = 2**16  # of a file that are read at first
_AFTER_CHUNK = 100  # bytes that Arrow may read after a column chunk
_TOGETHER = 32  # files of a disk whose footers a thread reads at a time

ReportFiles = Callable[[int, int], None]
"""Gets the number of files of a table that were read, and of all."""


class FileSource:
    """A file of the table, read in exact ranges. One thread at a time."""

    def __init__(self, file: InputFile) -> None:
        self._url, self._size = file.url, file.size
        self._file = storage.reader(file.url, _DOING, file.size)
        self._local = storage.is_local(storage.open_location(file.url)[0])
        self._ranges: list[tuple[int, bytes]] = []
        self._tail = b""

    def read_tail(self) -> bytes:
        """Read the end of the file, at least its whole footer, and keep it.

        Raises:
            DataError: the file is not Parquet.
        """
        size = self._size
        if size < FEWEST_BYTES:
            raise too_small(size, self._url)
        tail = self.at(max(0, size - _TAIL_BYTES), min(size, _TAIL_BYTES))
        end = tail[-len(MAGIC) :] if len(tail) == min(size, _TAIL_BYTES) else b""
        if end != MAGIC:
            raise not_parquet(self.at(0, min(size, HEAD_BYTES)), end, self._url)
        missing = min(size, footer_bytes(tail)) - len(tail)
        if missing > 0:
            tail = self.at(size - len(tail) - missing, missing) + tail
        self._tail = tail
        return tail

    def at(self, start: int, size: int) -> bytes:
        """Return `size` bytes from a position on, fewer only at the end of the file."""
        tail_start = self._size - len(self._tail)
        if start + size <= tail_start:
            return self._stored(start, size)
        before = self._stored(start, tail_start - start) if start < tail_start else b""
        return before + self._tail[max(0, start - tail_start) : start + size - tail_start]

    def fetch(self, chunks: Iterable[ColumnChunk]) -> None:
        """Read column chunks of an object in parallel and keep them in place of the earlier ones.

        Those of a file on a disk are read when they are used.
        """
        self._ranges = []
        if not self._local:
            ranges = [(chunk.start, min(chunk.start + chunk.size + _AFTER_CHUNK, self._size)) for chunk in chunks]
            self._ranges = storage.read_ranges(self._url, _DOING, self._size, ranges)

    def stream(self) -> storage.RangeFile:
        """Return a file object for Arrow."""
        return storage.RangeFile(self._size, self.at)

    def close(self) -> None:
        """Close the file and drop the bytes that are kept."""
        self._ranges = []
        self._file.close()

    def _stored(self, start: int, size: int) -> bytes:
        for first, data in self._ranges:
            if first <= start and start + size <= first + len(data):
                return data[start - first : start - first + size]
        self._file.seek(start)
        return self._file.read(size)


class OpenedFile(NamedTuple):
    """A file of the table, opened for reading.

    Attributes:
        parquet: the file as Arrow reads it, with Parquet's own types.
        source: its bytes.
        footer: what its footer says.
    """

    parquet: pq.ParquetFile
    source: FileSource
    footer: Footer

    def location(self, row_group: int) -> str:
        """Name a row group for errors."""
        return f"{self.footer.file.url}, row group {row_group}"

    def fetch(self, name: str, budget: int) -> None:
        """Read a column of all row groups in parallel, if it takes at most `budget` bytes, and keep it (`FileSource`).

        Raises:
            DataError: the storage refuses.
        """
        chunks = [group.chunks[name] for group in self.footer.groups if name in group.chunks]
        if sum(chunk.size for chunk in chunks) <= budget:
            with decoding(self.footer.file.url):
                self.source.fetch(chunks)

    def batches(self, row_group: int, names: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Decode columns of a row group by their own names, some rows at a time, flat ones in plain form (`plain`).

        This is the door: what is behind it does not know how the file names its columns.

        Raises:
            DataError: they are broken.
        """
        columns, leaves = self.footer.file.columns, self.footer.leaves
        own = {columns.name_of(name): name for name in names}
        with decoding(self.location(row_group)):
            # By numbers, since names with a dot may mean a field of another column.
            indices = sorted(leaves[name] for name in names)
            for batch in self.parquet.reader.iter_batches(rows, row_groups=[row_group], column_indices=indices):
                yield plain_columns(batch.rename_columns([own[name] for name in batch.schema.names]))

    def close(self) -> None:
        """Close the file."""
        self.parquet.close(force=True)
        self.source.close()


def read_footers(files: Sequence[InputFile], report: ReportFiles = lambda done, total: None) -> list[Footer]:
    """Read the footers of files in parallel; return them in the order of the files.

    Args:
        files: of a table; there may be tens of thousands.
        report: called now and then with the number of footers that were read, and that of the files.

    Raises:
        DataError: a file is unreadable or not a feature table.
    """
    footers: list[Footer] = []
    on_disk = bool(files) and storage.is_local(storage.open_location(files[0].url)[0])
    together = _TOGETHER if on_disk else 1  # a request of a store takes longer than all else
    groups = [files[start : start + together] for start in range(0, len(files), together)]
    step = READERS * _TOGETHER // together
    for start in range(0, len(groups), step):
        for read in in_parallel(_footers_of, groups[start : start + step], threads=READERS):
            footers += read
        report(len(footers), len(files))
    return footers


def read_footer(file: InputFile) -> Footer:
    """Read the footer of a file; errors as for `open_file`."""
    with decoding(file.url), closing(FileSource(file)) as source:
        return parse_footer(source.read_tail(), file).footer


def _footers_of(files: Sequence[InputFile]) -> list[Footer]:
    """Read the footers of a few files; errors as for `open_file`."""
    tails = storage.read_ends([file.url for file in files], _DOING, _TAIL_BYTES)
    if tails is None:
        return [read_footer(file) for file in files]
    return [_footer_in(tail, file) for tail, file in zip(tails, files, strict=True)]


def _footer_in(tail: bytes, file: InputFile) -> Footer:
    """Return the footer of a file, given its last bytes; what they do not hold is read."""
    whole = len(tail) == min(file.size, _TAIL_BYTES) and len(tail) >= FEWEST_BYTES and tail.endswith(MAGIC)
    if not whole or footer_bytes(tail) > len(tail):
        return read_footer(file)
    with decoding(file.url):
        return parse_footer(tail, file).footer


def open_file(file: InputFile) -> OpenedFile:
    """Open a file of the table for reading exact ranges.

    Raises:
        DataError: it does not exist, is not a feature table, or its footer changed since the job was planned.
    """
    with decoding(file.url), ExitStack() as on_error:
        source = FileSource(file)
        on_error.callback(source.close)
        tail, stream = source.read_tail(), source.stream()
        footer, metadata = parse_footer(tail, file)
        parquet = pq.ParquetFile(stream, metadata=metadata, buffer_size=_BUFFER, pre_buffer=False)
        on_error.pop_all()
    return OpenedFile(parquet, source, footer)


@contextmanager
def decoding(location: str) -> Iterator[None]:
    """Turn what Arrow raises on broken Parquet into a `DataError`."""
    try:
        with storage.locating(location, _DOING):
            yield
    except (pa.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{location}: expected a Parquet file: {short_text(error)}") from None
