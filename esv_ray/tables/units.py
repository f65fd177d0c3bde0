"""The work of a job cut into units: row ranges of Parquet row groups, planned once from the files' footers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, SpecError
from esv_ray.tables.features import Video, check_schema, columns_of, decode, repeated_rows
from esv_ray.tables.frames import INT32_MAX

_FEWEST_UNITS = 64  # of a large table, so that several actors share the work evenly
_MOST_ROWS, _FEWEST_ROWS = 1024, 16
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
class Unit:
    """The piece of work that is computed and committed whole: rows start..stop of a row group.

    Attributes:
        index: its number in the plan.
        file: where the rows are.
        row_group: in the file.
        start, stop: rows within the row group.
        first_row: the row of the file that `start` is.
    """

    index: int
    file: InputFile
    row_group: int
    start: int
    stop: int
    first_row: int

    @property
    def rows(self) -> int:
        """Number of input rows."""
        return self.stop - self.start

    @property
    def covers(self) -> tuple[int, ...]:
        """Which rows of the plan it is, wherever the input lies: index, row group, start, stop."""
        return self.index, self.row_group, self.start, self.stop

    @property
    def name(self) -> str:
        """Name of its files in the output: its number, and a hash of what it covers."""
        what = (self.file.url, self.file.size, self.file.version, self.row_group, self.start, self.stop)
        return f"part-{self.index:06d}-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.parquet"


def list_files(url: str) -> list[InputFile]:
    """The Parquet files of a feature table, in name order.

    Args:
        url: one file, a directory (searched through, names beginning with "_" or "." left out), or a glob.

    Raises:
        DataError: nothing is there, or it cannot be listed.
    """
    fs, path = storage.open_location(url)
    with storage.locating(url, "list the feature table"):
        if any(sign in path for sign in "*?[") and not fs.exists(path):
            try:
                found = fs.glob(path, detail=True)
            except ValueError as error:
                raise SpecError(f"{url}: {error}; write for instance data/**/*.parquet") from None
            entries = [entry for entry in found.values() if entry["type"] == "file"]
        else:
            info = fs.info(path)
            if info["type"] == "file":
                entries = [info]
            else:
                entries = [
                    entry
                    for name, entry in fs.find(path, detail=True).items()
                    if name.endswith((".parquet", ".pq"))
                    and not any(part.startswith(("_", ".")) for part in name[len(path) :].strip("/").split("/"))
                ]
    if not entries:
        raise DataError(f"{url}: expected Parquet files, found none; check `features`")
    files = [InputFile(_url_of(fs, entry["name"]), int(entry["size"]), _version(entry)) for entry in entries]
    return sorted(files, key=lambda file: file.url)


def _url_of(fs: Any, path: str) -> str:
    return path if storage.is_local(fs) else str(fs.unstrip_protocol(path))


def _version(entry: dict[str, Any]) -> str:
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
    fs, path = storage.open_location(file.url)
    with storage.locating(file.url, "read the feature table"), _readable(file.url):
        # Read-ahead fetched 52 MB for 9 MB wanted; pyarrow's own coalescing of ranges (pre_buffer) 9.2 MB.
        source = fs.open(path, "rb") if storage.is_local(fs) else fs.open(path, "rb", cache_type="none")
        return pq.ParquetFile(source, pre_buffer=True)


def plan_units(files: Sequence[InputFile], unit: int | Literal["auto"]) -> tuple[list[Unit], pa.Schema]:
    """Units of a feature table from the footers of its files.

    Args:
        files: from `list_files`.
        unit: rows of a unit; `auto`: large enough to keep commits few, small enough to share among actors.

    Returns:
        The units, and the schema of the first file.

    Raises:
        DataError: a file is unreadable or no feature table, or files disagree in D; says which.
    """
    footers = _footers(files)
    dims: dict[int, str] = {}
    for file, (schema, _) in zip(files, footers, strict=True):
        dim = check_schema(schema, file.url)
        if dim is not None:
            dims.setdefault(dim, file.url)
    if len(dims) > 1:
        shown = ", ".join(f"{dim} in {url}" for dim, url in dims.items())
        raise DataError(f"features: expected one feature size D in all files, got {shown}")
    total = sum(sum(sizes) for _, sizes in footers)
    rows = min(_MOST_ROWS, max(_FEWEST_ROWS, -(-total // _FEWEST_UNITS))) if unit == "auto" else unit
    units: list[Unit] = []
    for file, (_, sizes) in zip(files, footers, strict=True):
        first_row = 0
        for row_group, size in enumerate(sizes):
            for start in range(0, size, rows):
                stop = min(start + rows, size)
                units.append(Unit(len(units), file, row_group, start, stop, first_row + start))
            first_row += size
    return units, footers[0][0]


def _footers(files: Sequence[InputFile]) -> list[tuple[pa.Schema, list[int]]]:
    """Schema and row-group sizes of each file."""

    def read(file: InputFile) -> tuple[pa.Schema, list[int]]:
        with open_parquet(file) as parquet, _readable(file.url):
            groups = range(parquet.metadata.num_row_groups)
            return parquet.schema_arrow, [parquet.metadata.row_group(index).num_rows for index in groups]

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, files))


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
            with storage.locating(file.url, "read the feature table"), _readable(file.url):
                for rows in parquet.iter_batches(batch_size=16, columns=["features"]):
                    frames = [{len(frame or ()) for frame in row or ()} for row in rows.column(0).to_pylist()]
                    sizes = Counter(size.pop() for size in frames if len(size) == 1 and size != {0})
                    if sizes:
                        return sizes.most_common(1)[0][0]
    return None


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn what Arrow says of broken Parquet into a `DataError`."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: expected a Parquet file: {' '.join(str(error).split())[:300]}") from None


def has_labels(files: Sequence[InputFile]) -> bool:
    """Whether any row may have a label: there is such a column, and the footers do not say that it is all null."""

    def labelled(file: InputFile) -> bool:
        with open_parquet(file) as parquet, _readable(file.url):
            names = [parquet.schema.column(index).path for index in range(len(parquet.schema))]
            if "label" not in names or pa.types.is_null(parquet.schema_arrow.field("label").type):
                return False
            groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
            known = [(group.num_rows, group.column(names.index("label")).statistics) for group in groups]
            return any(told is None or not told.has_null_count or told.null_count < rows for rows, told in known)

    return any(labelled(file) for file in files)


def read_unit(unit: Unit) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The rows of a unit, and which of them (0 = first) repeat an id that stands earlier in the file.

    Raises:
        DataError: the file changed since the plan was made, or cannot be read.
    """
    fs, path = storage.open_location(unit.file.url)
    with storage.locating(unit.file.url, "read the feature table"):
        entry = fs.info(path)
    if (int(entry["size"]), _version(entry)) != (unit.file.size, unit.file.version):
        raise DataError(
            f"{unit.file.url}: changed since the job was planned (expected {unit.file.size} bytes, version "
            f"{unit.file.version}; got {entry['size']}, {_version(entry)}); put it back or use a new output"
        )
    repeated = _repeated(unit.file)
    own = repeated[(repeated >= unit.first_row) & (repeated < unit.first_row + unit.rows)]
    return _row_group(unit.file, unit.row_group).slice(unit.start, unit.rows), own - unit.first_row


_reading = Lock()


def _row_group(file: InputFile, row_group: int) -> pa.Table:
    with _reading:  # two units in flight would read their row group twice
        return _read_row_group(file, row_group)


# Units of a row group follow one another, so that the last one read serves them all.
@lru_cache(maxsize=1)
def _read_row_group(file: InputFile, row_group: int) -> pa.Table:
    where = f"{file.url}, row group {row_group}"
    with open_parquet(file) as parquet, storage.locating(file.url, f"read row group {row_group}"), _readable(where):
        return parquet.read_row_group(row_group, columns=columns_of(parquet.schema_arrow))


@lru_cache(maxsize=8)
def _repeated(file: InputFile) -> npt.NDArray[np.int64]:
    with open_parquet(file) as parquet, storage.locating(file.url, "read the ids"), _readable(file.url):
        return repeated_rows(parquet.read(columns=["video_id"]).column("video_id"))


def read_videos(url: str, n_classes: int | None = None) -> tuple[list[Video], int]:
    """All good rows of a feature table, in memory, and how many rows break the contract.

    Args:
        url: the table; its D is that of its type or of its first rows.
        n_classes: C; None: any label from 0 up.

    Raises:
        DataError: it is unreadable or no feature table.
    """
    files = list_files(url)
    dim = feature_dim_of(files)
    if dim is None:
        raise DataError(f"{url}: expected features (T, D), found no row with frames of one size D")
    videos: list[Video] = []
    bad = 0
    for unit in plan_units(files, _MOST_ROWS)[0]:
        table, repeated = read_unit(unit)
        good, broken = decode(table, feature_dim=dim, n_classes=n_classes or INT32_MAX, repeated=repeated.tolist())
        videos += good
        bad += len(broken)
    return videos, bad
