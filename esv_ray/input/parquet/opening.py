"""Open files of a feature table: the footer is read and checked before Arrow decodes anything.

A footer of at most 64 KiB is read in one request. Of the data, the ranges of a row group are kept; others
are read as needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import BinaryIO, NamedTuple

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

    def __init__(self, file: InputFile, end: bytes | None = None) -> None:
        """Open a file when its bytes are first needed.

        Args:
            file: the file.
            end: its last bytes (`read_ends`), if they were read; of a small file that is all of it.
        """
        self._url, self._size = file.url, file.size
        self._file: BinaryIO | None = None
        self._ranges: list[tuple[int, bytes]] = []
        self._tail = end or b""

    def read_tail(self) -> bytes:
        """Read the end of the file, at least its whole footer, and keep it.

        Raises:
            DataError: the file is not Parquet.
        """
        size = self._size
        if size < FEWEST_BYTES:
            raise too_small(size, self._url)
        tail = self._tail or self.at(max(0, size - _TAIL_BYTES), min(size, _TAIL_BYTES))
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

        Those of a file on a disk are read when they are used, and a small file is kept whole with its footer.
        """
        self._ranges = []
        if len(self._tail) < self._size and not storage.is_local(storage.open_location(self._url)[0]):
            ranges = [(chunk.start, min(chunk.start + chunk.size + _AFTER_CHUNK, self._size)) for chunk in chunks]
            self._ranges = storage.read_ranges(self._url, _DOING, self._size, ranges)

    def stream(self) -> storage.RangeFile | pa.BufferReader:
        """Return a file object for Arrow; of a small file the bytes themselves, which Arrow reads without Python."""
        if len(self._tail) == self._size:
            return pa.BufferReader(self._tail)
        return storage.RangeFile(self._size, self.at)

    def close(self) -> None:
        """Close the file and drop the bytes that are kept."""
        self._ranges = []
        if self._file is not None:
            self._file.close()

    def _stored(self, start: int, size: int) -> bytes:
        for first, data in self._ranges:
            if first <= start and start + size <= first + len(data):
                return data[start - first : start - first + size]
        if self._file is None:
            self._file = storage.reader(self._url, _DOING, self._size)
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
            for batch in self.parquet.reader.iter_batches(
                rows, row_groups=[row_group], column_indices=indices, use_threads=False
            ):
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


def read_footer(file: InputFile, end: bytes | None = None) -> Footer:
    """Read the footer of a file; arguments and errors as for `open_file`."""
    with decoding(file.url), closing(FileSource(file, end)) as source:
        return parse_footer(source.read_tail(), file).footer


def _footers_of(files: Sequence[InputFile]) -> list[Footer]:
    """Read the footers of a few files; errors as for `open_file`."""
    return [read_footer(file, end) for file, end in zip(files, read_ends(files), strict=True)]


def read_ends(files: Sequence[InputFile]) -> list[bytes | None]:
    """Read the last bytes of files of a disk at a time; None: not of a disk, or it is read, and refused, by itself."""
    ends = storage.read_ends([file.url for file in files], _DOING, _TAIL_BYTES)
    if ends is None:
        return [None] * len(files)
    return [end if len(end) == min(file.size, _TAIL_BYTES) else None for file, end in zip(files, ends, strict=True)]


def open_file(file: InputFile, end: bytes | None = None) -> OpenedFile:
    """Open a file of the table for reading exact ranges.

    Args:
        file: the file.
        end: its last bytes (`read_ends`), if they were read.

    Raises:
        DataError: it does not exist, is not a feature table, or its footer changed since the job was planned.
    """
    with decoding(file.url), ExitStack() as on_error:
        source = FileSource(file, end)
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
