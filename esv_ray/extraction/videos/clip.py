"""The videos of an extraction, as its plan freezes them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    video_id: str
    path: str
    label: int | None = None
    start: float | None = None
    end: float | None = None


def clips_file(clips: Sequence[Clip]) -> bytes:
    """Write clips as Parquet; the same clips give the same bytes."""
    columns = {name: [getattr(clip, name) for clip in clips] for name in SCHEMA.names}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SCHEMA), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def clips_checksum(clips: Sequence[Clip]) -> str:
    """Return a hash of clips, whatever software writes them."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(
            repr((clip.video_id, clip.path, clip.label, clip.start, clip.end)).encode("utf-8", "surrogatepass")
        )
    return digest.hexdigest()[:32]


def read_clips(data: bytes, location: str) -> list[Clip]:
    """Read clips that `clips_file` wrote.

    Raises:
        DataError: the file has other content.
    """
    try:
        table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read().cast(SCHEMA)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{location}: expected the videos of an extraction, got: {short_text(error, 200)}") from None
    return [Clip(**row) for row in table.to_pylist()]
