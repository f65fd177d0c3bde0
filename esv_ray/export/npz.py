"""An output as one NumPy archive: arrays with an entry for each sequence, and arrays with an entry for each row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.analysis.sql import select
from esv_ray.errors import DataError, count_of
from esv_ray.export.columns import Columns
from esv_ray.export.request import Request
from esv_ray.export.sequences import out_of_order, runs_of
from esv_ray.export.source import Source, check_place, open_source, publish, split

OF_A_SEQUENCE = ("video_id", "label", "predicted", "n_frames", "n_elements", "exact", "evaluations", "scores")
OF_A_ROW = ("method", "class", "element", "frame_index", "esv", "stderr")
METHODS, NAMES, PRIOR, FIRST = "methods", "class_name", "prior", "first"

_COUNTS = """
SELECT count(*) FILTER (status = 'ok') AS n, count(*) FILTER (status <> 'ok') AS missing,
  max(length(video_id)) AS longest, bool_or(ends_with(video_id, chr(0))) AS cut FROM videos
"""
_VIDEOS = f"SELECT {', '.join(OF_A_SEQUENCE)} FROM videos WHERE status = 'ok'"
_ROWS = 'SELECT video_id, n_elements, method, "class", element, frame_index, esv, stderr FROM attributions'
_TYPES = {"label": "i4", "predicted": "i4", "n_frames": "i4", "n_elements": "i4", "exact": "?", "evaluations": "i8"}


def write(request: Request) -> list[str]:
    """Write the file.

    Returns:
        Notes, one line each.

    Raises:
        DataError: as `registry.export`; or an id ends in NUL, which NumPy cannot hold.
    """
    folder, name = split(request.path)
    source = open_source(request)
    with source.opened.con, TemporaryDirectory(prefix="esv-export-") as place, Columns(Path(place)) as columns:
        check_place(request, folder, [name])
        (counts,) = select(source.opened, _COUNTS).table().to_pylist()
        if counts["cut"]:
            raise DataError(f"{request.output}: a video_id ends in NUL, which NumPy drops; export with --to csv")
        _add_classes(columns, source)
        keys = Path(place) / "keys"
        with keys.open("w") as file:
            _add_sequences(columns, source, counts["longest"] or 1, file)
        with keys.open() as file:
            _add_rows(columns, source, file)
        made = Path(place) / "made.npz"
        columns.write_npz(made, [*OF_A_SEQUENCE, FIRST, *OF_A_ROW, METHODS, NAMES, PRIOR])
        publish(request, {request.path: made})
    missing = counts["missing"]
    return [*source.opened.unfinished, *[f"{count_of(missing, 'sequence')} without ESVs left out"] * bool(missing)]


def _add_classes(columns: Columns, source: Source) -> None:
    names = source.names or [f"class {number}" for number in range(source.manifest.model["n_classes"])]
    columns.append(NAMES, np.array(names))
    columns.append(PRIOR, np.array(source.manifest.model["prior"], np.float64))


def _add_sequences(columns: Columns, source: Source, longest: int, keys: IO[str]) -> None:
    """Add the arrays of sequences, and write the keys of each to a line."""
    n_classes = source.manifest.model["n_classes"]
    for batch in [_no_rows(source), *select(source.opened, _VIDEOS).batches]:
        ids = batch.column("video_id").to_pylist()
        columns.append("video_id", np.array(ids, f"<U{longest}"))
        for name, kind in _TYPES.items():
            values = batch.column(name)
            columns.append(name, (pc.fill_null(values, -1) if name == "label" else values).to_numpy(False).astype(kind))
        scores = batch.column("scores").flatten().to_numpy(False).astype(np.float32)
        columns.append("scores", scores.reshape(-1, n_classes))
        keys.writelines(f"{json.dumps(key)}\n" for key in zip(ids, batch.column("n_elements").to_pylist(), strict=True))


def _no_rows(source: Source) -> pa.RecordBatch:
    """Return a batch without rows, so that arrays have their types in an output without ESVs."""
    table = select(source.opened, f"{_VIDEOS} LIMIT 0").table()
    return pa.RecordBatch.from_pylist([], schema=table.schema)


def _add_rows(columns: Columns, source: Source, keys: IO[str]) -> None:
    """Add the arrays of rows, and where the rows of each sequence begin.

    Raises:
        DataError: the rows of a sequence are not together, or not in the order of the videos.
    """
    methods: dict[str, int] = {"esv": 0}
    columns.append(FIRST, np.zeros(1, np.int64))
    ends = _Ends(columns, keys, source)
    for name in OF_A_ROW:
        columns.append(name, np.zeros(0, "i1" if name == "method" else "f4" if name in ("esv", "stderr") else "i4"))
    for batch in select(source.opened, _ROWS).batches:
        ends.add(batch)
        names = batch.column("method").to_pylist()
        codes = [methods.setdefault(name, len(methods)) for name in names]
        columns.append("method", np.array(codes, np.int8))
        for name in ("class", "element", "frame_index"):
            columns.append(name, batch.column(name).to_numpy(False).astype(np.int32))
        for name in ("esv", "stderr"):
            columns.append(name, pc.fill_null(batch.column(name), np.nan).to_numpy(False).astype(np.float32))
    ends.end()
    columns.append(METHODS, np.array(list(methods)))


class _Ends:
    """Finds where the rows of each sequence end, in rows that stream."""

    def __init__(self, columns: Columns, keys: IO[str], source: Source) -> None:
        self._columns, self._source = columns, source
        self._keys: Iterator[tuple[str, int]] = (tuple(json.loads(line)) for line in keys)
        self._current: tuple[str, int] | None = None
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch of rows."""
        for run in runs_of(batch):
            if run.key != self._current:
                self._advance(run.key)
            self._rows += run.stop - run.start

    def end(self) -> None:
        """End the last sequence, and those without rows after it."""
        ends = [self._rows] * (self._current is not None) + [self._rows for _ in self._keys]
        self._columns.append(FIRST, np.array(ends, np.int64))

    def _advance(self, key: tuple[str, int]) -> None:
        ends = [] if self._current is None else [self._rows]
        for known in self._keys:
            if known == key:
                break
            ends.append(self._rows)  # a sequence of which no class is kept
        else:
            raise out_of_order(self._source, key)
        self._columns.append(FIRST, np.array(ends, np.int64))
        self._current = key
