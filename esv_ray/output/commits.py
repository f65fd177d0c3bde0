"""Commits of attributed units: the attributions, then the videos table, which is the mark (`publish`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.input.units import Unit
from esv_ray.output.committed import check_owner, read_mark
from esv_ray.output.files import open_parquet
from esv_ray.output.layout import attributions_url, videos_url
from esv_ray.output.publish import File, publish, replace
from esv_ray.output.results import UnitTables
from esv_ray.output.schemas import ATTRIBUTIONS, VIDEOS
from esv_ray.output.unit_files import UnitCounts, origin_for, unit_files


def commit_unit(output: str, unit: Unit, job: str, tables: UnitTables, *, again: bool = False) -> UnitCounts:
    """Publish a unit's two files, the mark last; files that another run of the same job published first are kept.

    Args:
        output: location of the output.
        unit: the unit.
        job: `Manifest.job`.
        tables: of all its rows.
        again: whether the unit is committed already, and its files are replaced.

    Returns:
        Counts of the tables.

    Raises:
        JobError: a file of another job is in the way.
        DataError: the storage refuses; the unit is not committed then.
    """
    origin = origin_for(unit, job)
    files = unit_files(tables, unit.rows, origin)
    attributions = File(attributions_url(output, unit), files.attributions, "write the attributions")
    videos = File(videos_url(output, unit), files.videos, "write the videos table")
    if again:
        replace([attributions], videos)
    else:
        publish(
            [attributions],
            videos,
            marked=lambda: [read_mark(output, unit, job).attributions],
            check_owner=lambda data, url: check_owner(data, origin, url),
        )
    return files.footer.counts


def with_retried(output: str, unit: Unit, retried: UnitTables, ids: Sequence[str], rows: Sequence[int]) -> UnitTables:
    """Merge recomputed rows into a unit's committed tables.

    Args:
        output: location of the output.
        unit: a committed unit.
        retried: tables of the recomputed rows only.
        ids: ids of all rows of the unit, "" where a row has none.
        rows: the recomputed rows.

    Raises:
        DataError: a committed table cannot be read.
    """
    # An id occurs once among the rows that did not fail: a row that repeats an id fails.
    again = set(rows)
    place = {video_id: row for row, video_id in enumerate(ids) if row not in again}
    videos = _parquet(videos_url(output, unit)).read().cast(VIDEOS)
    videos = videos.filter(pc.not_equal(videos.column("status"), "failed"))
    attributions = _parquet(attributions_url(output, unit)).read().cast(ATTRIBUTIONS)
    all_videos, video_rows = _merged(videos, place, retried.videos, retried.video_rows)
    all_attributions, attribution_rows = _merged(attributions, place, retried.attributions, retried.attribution_rows)
    return UnitTables(all_videos, all_attributions, video_rows, attribution_rows)


def _merged(
    committed: pa.Table, place: Mapping[str, int], retried: pa.Table, rows: npt.NDArray[np.int64]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Return the committed rows of the videos in `place` and the recomputed rows, in input order; and their rows."""
    places = np.array(
        [place.get(video_id, -1) for video_id in committed.column("video_id").to_pylist()], dtype=np.int64
    )
    both = pa.concat_tables([committed.filter(pa.array(places >= 0)), retried.replace_schema_metadata(None)])
    input_rows = np.concatenate([places[places >= 0], rows])
    order = np.argsort(input_rows, kind="stable")  # all rows of a video come from one table, in its order
    return both.take(pa.array(order)).combine_chunks(), input_rows[order]


def _parquet(url: str) -> pq.ParquetFile:
    return open_parquet(storage.read_bytes(url, "read the output"), url)
