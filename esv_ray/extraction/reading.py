"""Read what an extraction wrote of single videos: their thumbnails, and the times of their frames."""

from __future__ import annotations

from functools import cached_property
from math import isfinite

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.extraction.run_file import ExtractionPlan, Written, plan_of, read_run
from esv_ray.extraction.tables import THUMBNAILS_SCHEMA
from esv_ray.extraction.units import VideoUnit
from esv_ray.output.files import parquet_errors, read_output
from esv_ray.output.layout import FEATURES, THUMBNAILS, table_url

_DOING = "read the feature table"
_TIMES = pa.schema(
    [("video_id", pa.string()), ("frame_index", pa.list_(pa.int32())), ("frame_time", pa.list_(pa.float64()))]
)


class ExtractedTable:
    """A feature table that an extraction wrote; the plan says in which unit a video is, so that little is read."""

    def __init__(self, output: str, written: Written) -> None:
        """Take a table and its run.json."""
        self.output, self._written = output, written

    @property
    def has_thumbnails(self) -> bool:
        """Whether the extraction keeps thumbnails."""
        return bool(self._written.keys["thumbnails"])

    @cached_property
    def _plan(self) -> ExtractionPlan:
        return plan_of(self.output, self._written)

    @cached_property
    def _units(self) -> dict[str, VideoUnit]:
        return {clip.video_id: unit for unit in self._plan.units for clip in unit.clips}

    def thumbnails_of(self, video_id: str) -> dict[int, bytes]:
        """Return the JPEG files of a video by the numbers of their frames; none if it is not in the table, or failed.

        Raises:
            DataError: the table cannot be read, or its unit is not committed.
        """
        unit = self._units.get(video_id)
        if unit is None:
            return {}
        url = table_url(self.output, THUMBNAILS, unit)
        rows = _of_video(read_output(url, THUMBNAILS_SCHEMA, url)[0], video_id)
        return dict(zip(rows.column("frame_index").to_pylist(), rows.column("jpeg").to_pylist(), strict=True))

    def times_of(self, video_id: str) -> dict[int, float]:
        """Return the seconds of the elements' frames by their numbers; errors as for `thumbnails_of`."""
        unit = self._units.get(video_id)
        if unit is None:
            return {}
        url = table_url(self.output, FEATURES, unit)
        names = _TIMES.names
        with storage.locating(url, _DOING), storage.reader(url, _DOING) as file, parquet_errors(url):
            table = pq.ParquetFile(file).read(names)
            if table.schema.names != names:
                raise DataError(f"{url}: expected the columns {names}, got {table.schema.names}")
            rows = _of_video(table.cast(_TIMES), video_id).to_pylist()
        frames, times = (rows[0][name] or [] if rows else [] for name in names[1:])
        pairs = zip(frames, times, strict=False)  # an extraction writes as many of both, all finite
        return {frame: time for frame, time in pairs if frame is not None and time is not None and isfinite(time)}


def extracted_table(location: str) -> ExtractedTable | None:
    """Return a feature table that an extraction wrote; None if there is none of that kind.

    Raises:
        JobError: there is the output of other work.
        DataError: its run.json is damaged, or the storage refuses.
    """
    written = read_run(location)
    return None if written is None else ExtractedTable(location, written)


def _of_video(table: pa.Table, video_id: str) -> pa.Table:
    return table.filter(pc.equal(table.column("video_id").cast(pa.string()), video_id))
