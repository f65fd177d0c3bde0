"""The files of a feature table: which they are, what their footers say, and exact ranges of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.tables.features import check_schema, columns_of

_READERS = 16  # footers are small: latency, not bandwidth


@dataclass(frozen=True)
class InputFile:
    """A Parquet file of the feature table, in the state in which it was planned.

    Attributes:
        url: its location.
        size: bytes.
        version: ETag, or time of the last change; another one means another content.
    """

    url: str
    size: int
    version: str


@dataclass(frozen=True)
class RowGroup:
    """What a file's footer says of a row group.

    Attributes:
        rows: of it.
        compressed: bytes on storage of the columns that are read.
        values: of the features, in all frames together, nulls included.
    """

    rows: int
    compressed: int
    values: int


@dataclass(frozen=True)
class Footer:
    """What the footer of an `InputFile` says."""

    schema: pa.Schema
    groups: tuple[RowGroup, ...]


def list_files(url: str) -> list[InputFile]:
    """The Parquet files of a feature table, in name order.

    Args:
        url: one file, a directory (searched through, names beginning with "_" or "." left out), or a glob.

    Raises:
        DataError: nothing is there, or it cannot be listed.
    """
    # What is asked for by its own name, or by a pattern, has no path below the folder, and is taken as it is.
    files = [
        InputFile(where, int(entry["size"]), _version(entry))
        for where, below, entry in storage.find(url, "list the feature table")
        if not below
        or (below.endswith((".parquet", ".pq")) and not any(part.startswith(("_", ".")) for part in below.split("/")))
    ]
    if not files:
        raise DataError(f"{url}: expected Parquet files, found none; check `features`")
    return files


def _version(entry: Mapping[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created"):
        value = entry.get(key)
        if isinstance(value, datetime):
            value = value.timestamp()  # some stores give a number in listings and a date for a single file
        if value is not None:
            return str(value).strip('"')
    return ""


def open_parquet(file: InputFile) -> pq.ParquetFile:
    """A Parquet file, opened for reading exact ranges.

    Raises:
        DataError: it is not there or is no Parquet file.
    """
    source = storage.reader(file.url, "read the feature table", file.size)
    with storage.locating(file.url, "read the feature table"), readable(file.url):
        # Read-ahead fetched 52 MB for 9 MB wanted; pyarrow's own coalescing of ranges (pre_buffer) 9.2 MB.
        return pq.ParquetFile(source, pre_buffer=True)


def read_footers(files: Sequence[InputFile]) -> list[Footer]:
    """The footers of files, in their order.

    Raises:
        DataError: a file is unreadable; says which.
    """

    def read(file: InputFile) -> Footer:
        with open_parquet(file) as parquet, readable(file.url):
            names = [parquet.schema.column(index).path for index in range(len(parquet.schema))]
            read = columns_of(parquet.schema_arrow)
            of = {index: name.partition(".")[0] for index, name in enumerate(names)}
            groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
            return Footer(parquet.schema_arrow, tuple(_row_group(group, of, read) for group in groups))

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, files))


def _row_group(group: Any, column_of: dict[int, str], read: Sequence[str]) -> RowGroup:
    chunks = {index: group.column(index) for index, name in column_of.items() if name in read}
    return RowGroup(
        rows=group.num_rows,
        compressed=sum(chunk.total_compressed_size for chunk in chunks.values()),
        values=sum(chunk.num_values for index, chunk in chunks.items() if column_of[index] == "features"),
    )


def check_unchanged(file: InputFile) -> None:
    """Whether a file is in the state in which it was planned.

    Raises:
        DataError: it changed since, or the storage refuses to say.
    """
    fs, path = storage.open_location(file.url)
    entry = storage.attempt(file.url, "read the feature table", lambda: fs.info(path))
    if (int(entry["size"]), _version(entry)) != (file.size, file.version):
        raise DataError(
            f"{file.url}: changed since the job was planned (expected {file.size} bytes, version "
            f"{file.version}; got {entry['size']}, {_version(entry)}); put it back or use a new output"
        )


def feature_dim_of(files: Sequence[InputFile]) -> int | None:
    """The feature size D of a table: from the type of a file, else the most frequent of its first good rows.

    Returns None if no row has frames of one size.

    Raises:
        DataError: a file is unreadable.
    """
    for file in files:
        with open_parquet(file) as parquet:
            dim = check_schema(parquet.schema_arrow, file.url)
            if dim is not None:
                return dim
            with storage.locating(file.url, "read the feature table"), readable(file.url):
                for rows in parquet.iter_batches(batch_size=16, columns=["features"]):
                    frames = [{len(frame or ()) for frame in row or ()} for row in rows.column(0).to_pylist()]
                    sizes = Counter(size.pop() for size in frames if len(size) == 1 and size != {0})
                    if sizes:
                        return sizes.most_common(1)[0][0]
    return None


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn what Arrow says of broken Parquet into a `DataError`."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: expected a Parquet file: {' '.join(str(error).split())[:300]}") from None


def has_labels(files: Sequence[InputFile]) -> bool:
    """Whether any row may have a label: there is such a column, and the footers do not say that it is all null."""

    def labelled(file: InputFile) -> bool:
        with open_parquet(file) as parquet, readable(file.url):
            names = [parquet.schema.column(index).path for index in range(len(parquet.schema))]
            if "label" not in names or pa.types.is_null(parquet.schema_arrow.field("label").type):
                return False
            groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
            known = [(group.num_rows, group.column(names.index("label")).statistics) for group in groups]
            return any(told is None or not told.has_null_count or told.null_count < rows for rows, told in known)

    return any(labelled(file) for file in files)
