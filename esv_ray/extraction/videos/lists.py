"""Lists of videos: a CSV or Parquet file with the columns video_id, path, label, start, end, and further ones."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.extraction.videos.columns import FurtherColumns, columns_of_table, columns_of_texts
from esv_ray.input.faults import Lines, RecordError
from esv_ray.input.sources.csv_rows import check_lines, read_csv

COLUMNS = ("video_id", "path", "label", "start", "end")
SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".parq")
"""Of files that list videos."""
_DOING = "read the list of videos"
_MOST_BYTES = 2**30
_NOTHING = frozenset(("", "nan", "null", "none"))  # how CSV files write a missing value


@dataclass(frozen=True)
class Listed:
    """A row of a list.

    Attributes:
        place: the row, for errors.
        video_id: empty if the list has none.
        path: location of the file.
        label: id or name of a class; empty without one.
        start, end: seconds, or None.
        further: values of the further columns.
    """

    place: str
    video_id: str
    path: str
    label: str
    start: float | None
    end: float | None
    further: tuple[Any, ...] = ()


def read_list(url: str) -> tuple[list[Listed], FurtherColumns]:
    """Read a list of videos; return its rows, and which further columns they have.

    Args:
        url: a CSV, or a Parquet file. Paths are relative to its folder, or locations of their own.

    Raises:
        DataError: it cannot be read, has other columns or no rows; or a row has no path, a path that leaves the folder,
            or times that are no part of a video.
    """
    is_csv = url.lower().endswith((".csv", ".tsv"))
    rows, further = _of_csv(url) if is_csv else _of_parquet(url)
    if not rows:
        raise DataError(f"{url}: expected a list of videos, got no rows")
    faults, listed = Lines("line" if is_csv else "row"), []
    for (number, row), values in zip(rows, further.rows, strict=True):
        with faults.at(number):
            place = f"{url}, {'line' if is_csv else 'row'} {number}"
            listed.append(replace(_listed(url, place, row), further=values))
    check_lines(url, faults)
    return listed, further


_Rows = list[tuple[int, Mapping[str, str]]]
"""Number and cells of each row."""


def _of_csv(url: str) -> tuple[_Rows, FurtherColumns]:
    read = read_csv(url, {name: name for name in COLUMNS}, _DOING, others=True)
    _check_columns(url, read.columns, read.header)
    return list(read.rows), columns_of_texts(read.others)


def _of_parquet(url: str) -> tuple[_Rows, FurtherColumns]:
    data = storage.read_bytes(url, _DOING, most=_MOST_BYTES)
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        known = [name for name in COLUMNS if name in names]
        _check_columns(url, known, ", ".join(names))
        if any(names.count(name) > 1 for name in known):
            raise DataError(f"{url}: expected each of the columns {', '.join(known)} once")
        others = [name for name in names if name and name not in COLUMNS and names.count(name) == 1]
        table = file.read(columns=[*known, *others])
        columns = {name: _texts(name, table.column(name)) for name in known}
        further = columns_of_table(table.select(others))
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise DataError(f"{url}: expected a list of videos in Parquet, got: {short_text(error, 200)}") from None
    cells = [{name: values[row] or "" for name, values in columns.items()} for row in range(table.num_rows)]
    return list(enumerate(cells)), further


def _texts(name: str, column: pa.ChunkedArray) -> list[str | None]:
    """Return a column as texts; labels that are numbers must be whole, and pandas makes them floats beside nulls."""
    if name == "label" and pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column).cast(pa.int64())
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _check_columns(url: str, columns: Iterator[str] | frozenset[str] | list[str], header: str) -> None:
    if "path" not in columns:
        raise DataError(
            f"{url}: expected a column path, and maybe {', '.join(name for name in COLUMNS if name != 'path')}; got "
            f"{header!r:.120}"
        )


def _listed(url: str, place: str, row: Mapping[str, str]) -> Listed:
    path = row["path"]
    if not path.strip():
        raise RecordError("expected a path, got none")
    label = row.get("label", "")
    start, end = (_seconds(name, row.get(name, "")) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise RecordError("expected an end after the start", f"got {start or 0:g} to {end:g} seconds")
    return Listed(
        place, row.get("video_id", ""), _located(url, path), "" if label.lower() == "nan" else label, start, end
    )


def _seconds(name: str, text: str) -> float | None:
    if text.strip().lower() in _NOTHING:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise RecordError(f"{name}: expected seconds from 0", f"got {text!r:.60}")
    return value


def _located(url: str, path: str) -> str:
    """Return the location of a path in a list."""
    if "://" in path or "::" in path or path.startswith("/"):
        return storage.absolute(path)
    parts = path.removeprefix("./").split("/")
    if ".." in parts:
        raise RecordError("expected a path below the folder of the list, or a whole location", f"got {path!r:.120}")
    return storage.join(url.rpartition("/")[0], *[part for part in parts if part not in ("", ".")])
