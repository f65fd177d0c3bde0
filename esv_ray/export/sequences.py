"""The sequences of an output one after the other: the row of each video, and its ESVs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esv_ray.analysis.sql import select
from esv_ray.errors import DataError
from esv_ray.export.source import Source

Key = tuple[str, int]
"""video_id and number of elements."""
_VIDEOS = "SELECT {} FROM videos WHERE status = 'ok'"
_ROWS = "SELECT video_id, n_elements, \"class\", element, frame_index, esv FROM attributions WHERE method = 'esv'"


class Run(NamedTuple):
    """Rows of a batch that belong to one sequence."""

    key: Key
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class AttributedSequence:
    """A sequence with ESVs.

    Attributes:
        video: the columns of its video that were asked for, by name.
        frames: (n,) frame number of each element; empty if no class is kept.
        esvs: ESVs (n,) by class, as far as they are kept.
    """

    video: dict[str, Any]
    frames: npt.NDArray[np.int32]
    esvs: dict[int, npt.NDArray[np.float32]]


def sequences_of(source: Source, columns: Sequence[str]) -> Iterator[AttributedSequence]:
    """Yield the sequences of an output in the order of its tables; rows stream.

    Args:
        source: the output.
        columns: of the table of videos, besides its keys.

    Raises:
        DataError: the rows of a sequence are not together, or not in the order of the videos.
    """
    # A connection has one result at a time, and two tables are read side by side.
    beside = replace(source.opened, con=source.opened.con.cursor())
    with beside.con:
        parts = _parts(batch for batch in select(beside, _ROWS).batches)
        key, part = next(parts, (None, None))
        names = ", ".join(dict.fromkeys(("video_id", "n_elements", *columns)))
        for batch in select(source.opened, _VIDEOS.format(names)).batches:
            for video in batch.to_pylist():
                if part is None or key != (video["video_id"], video["n_elements"]):
                    yield AttributedSequence(video, np.zeros(0, np.int32), {})
                    continue
                yield _sequence(video, part)
                key, part = next(parts, (None, None))
        if key is not None:
            raise out_of_order(source, key)


def runs_of(batch: pa.RecordBatch) -> Iterator[Run]:
    """Yield the runs of rows with the same key."""
    if not batch.num_rows:
        return
    codes = batch.column("video_id").dictionary_encode()
    numbers, lengths = codes.indices.to_numpy(False), batch.column("n_elements").to_numpy(False)
    ends = np.flatnonzero((np.diff(numbers) != 0) | (np.diff(lengths) != 0)) + 1
    for start, stop in zip([0, *ends.tolist()], [*ends.tolist(), batch.num_rows], strict=True):
        yield Run((codes.dictionary[int(numbers[start])].as_py(), int(lengths[start])), start, stop)


def out_of_order(source: Source, key: Key) -> DataError:
    """Return the error for rows that are not where their video is."""
    (output,) = source.opened.outputs.values()
    return DataError(
        f"{output}: expected the ESVs of each video together, in the order of the videos, found those of "
        f"{key[0]!r:.100} elsewhere; see esv verify {output}"
    )


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Key, pa.Table]]:
    """Yield the rows of each sequence, joined over batches."""
    current: Key | None = None
    pieces: list[pa.RecordBatch] = []
    for batch in batches:
        for run in runs_of(batch):
            if current is not None and run.key != current:
                yield current, pa.Table.from_batches(pieces)
                pieces = []
            current = run.key
            pieces.append(batch.slice(run.start, run.stop - run.start))
    if current is not None:
        yield current, pa.Table.from_batches(pieces)


def _sequence(video: dict[str, Any], part: pa.Table) -> AttributedSequence:
    n = video["n_elements"]
    classes, elements, frames, esvs = (
        part.column(name).to_numpy() for name in ("class", "element", "frame_index", "esv")
    )
    numbers = np.zeros(n, np.int32)
    numbers[elements] = frames
    values = {}
    for class_id in np.unique(classes).tolist():
        of_class = np.full(n, np.nan, np.float32)
        of_class[elements[classes == class_id]] = esvs[classes == class_id]
        values[class_id] = of_class
    return AttributedSequence(video, numbers, values)
