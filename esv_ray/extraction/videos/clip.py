"""The videos of an extraction, as its plan freezes them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.errors import DataError, short_text

SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Clip:
    """A video, or a part of one.

    Attributes:
        video_id: unique in the table.
        path: location of the file.
        label: class id, or None.
        start, end: seconds in the file; None: its begin and its end.
        further: values of further columns of the list (`columns.FurtherColumns`).
    """

    video_id: str
    path: str
    label: int | None = None
    start: float | None = None
    end: float | None = None
    further: tuple[Any, ...] = ()


def clips_file(clips: Sequence[Clip], further: pa.Schema | None = None) -> bytes:
    """Write clips, and the further columns of their list, as Parquet; the same clips give the same bytes."""
    columns = {name: [getattr(clip, name) for clip in clips] for name in SCHEMA.names}
    schema = _with(further)
    values = dict(zip(schema.names[len(SCHEMA) :], zip(*(clip.further for clip in clips), strict=True), strict=True))
    sink = io.BytesIO()
    pq.write_table(pa.table({**columns, **values}, schema=schema), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def clips_checksum(clips: Sequence[Clip]) -> str:
    """Return a hash of clips, whatever software writes them."""
    digest = hashlib.sha256()
    for clip in clips:
        values = (clip.video_id, clip.path, clip.label, clip.start, clip.end, *clip.further)
        digest.update(repr(values).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def read_clips(data: bytes, location: str, further: pa.Schema | None = None) -> list[Clip]:
    """Read clips that `clips_file` wrote, with the same further columns.

    Raises:
        DataError: the file has other content.
    """
    try:
        table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read().cast(_with(further))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{location}: expected the videos of an extraction, got: {short_text(error, 200)}") from None
    own = table.select(SCHEMA.names).to_pylist()
    values = [column.to_pylist() for column in table.columns[len(SCHEMA) :]]
    rows = zip(*values, strict=True) if values else [()] * table.num_rows
    return [Clip(**row, further=more) for row, more in zip(own, rows, strict=True)]


def _with(further: pa.Schema | None) -> pa.Schema:
    return SCHEMA if further is None else pa.schema([*SCHEMA, *further])
