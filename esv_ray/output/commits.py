"""One unit's two files on storage: published once, or replaced where its failed rows were tried again.

Attributions come first; the videos file is the mark that the unit is done. Both are create-only, so that two drivers on
one output are harmless.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.units import Unit
from esv_ray.output.committed import read_mark
from esv_ray.output.layout import attributions_url, videos_url
from esv_ray.output.results import UnitTables
from esv_ray.output.schemas import ATTRIBUTIONS, VIDEOS
from esv_ray.output.unit_files import Origin, UnitFiles, check_origin, origin_of

_WRITE_ATTRIBUTIONS, _WRITE_VIDEOS = "write the attributions", "write the videos table"


def commit_unit(output: str, unit: Unit, files: UnitFiles) -> None:
    """Publish a unit's two files, the mark last; what another run of the same job published first stays.

    Contents are the same, unless one run had to leave out a video that the other could do: then the mark decides, and
    says by its checksum which attributions belong to it.

    Raises:
        JobError: a file of another job is in the way.
        DataError: the storage refuses; the unit is not marked done then.
    """
    where = attributions_url(output, unit)
    there = files.attributions
    if not storage.commit_new(where, files.attributions, _WRITE_ATTRIBUTIONS):
        # Of a run that was killed between the two files, or of one that goes on beside this.
        there = storage.read_bytes(where, "read the attributions")
        if there != files.attributions and not storage.exists(videos_url(output, unit)):
            _check_not_of_another_job(there, files.footer.origin, where)
            storage.replace(where, files.attributions, _WRITE_ATTRIBUTIONS)
    if not storage.commit_new(videos_url(output, unit), files.videos, _WRITE_VIDEOS):
        _follow_mark(output, unit, files, there)


def _follow_mark(output: str, unit: Unit, files: UnitFiles, earlier: bytes) -> None:
    """Leave the attributions that the mark of another run belongs to.

    Args:
        output, unit: where.
        files: of this run.
        earlier: attributions that this run found, and may have replaced.
    """
    where = attributions_url(output, unit)
    mark = read_mark(output, unit, files.footer.origin.job)
    there = storage.read_bytes(where, "read the attributions")
    if _checksum(there) == mark.attributions:
        return
    for known in (files.attributions, earlier):
        if _checksum(known) == mark.attributions:
            storage.replace(where, known, _WRITE_ATTRIBUTIONS)
            return
    replace_unit(output, unit, files)  # nobody has what the mark was of: it was removed, or damaged


def replace_unit(output: str, unit: Unit, files: UnitFiles) -> None:
    """Put a unit's files in place of those that are there.

    Raises:
        DataError: the storage refuses.
    """
    storage.replace(attributions_url(output, unit), files.attributions, _WRITE_ATTRIBUTIONS)
    storage.replace(videos_url(output, unit), files.videos, _WRITE_VIDEOS)


def with_retried(output: str, unit: Unit, retried: UnitTables, ids: Sequence[str], rows: Sequence[int]) -> UnitTables:
    """A unit's committed tables, with some of its rows replaced.

    Args:
        output: of the job.
        unit: which is committed.
        retried: tables of the rows that were tried again, and of nothing else.
        ids: of all rows of the unit, "" where there is none.
        rows: those that were tried again.

    Raises:
        DataError: what is committed cannot be read.
    """
    # Among rows that did not fail an id stands once: a row that repeats one is a failed one.
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
    """Committed rows of the videos in `place`, and retried ones, in the order of the input rows; and those."""
    of = np.array([place.get(video_id, -1) for video_id in committed.column("video_id").to_pylist()], dtype=np.int64)
    both = pa.concat_tables([committed.filter(pa.array(of >= 0)), retried.replace_schema_metadata(None)])
    input_rows = np.concatenate([of[of >= 0], rows])
    order = np.argsort(input_rows, kind="stable")  # the rows of a video all come from one of the two, in their order
    return both.take(pa.array(order)).combine_chunks(), input_rows[order]


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_not_of_another_job(data: bytes, own: Origin, url: str) -> None:
    try:
        found = origin_of(_opened(data, url).metadata, url)
    except DataError:
        return  # damaged, and no mark refers to it
    check_origin(found, own, url)


def _parquet(url: str) -> pq.ParquetFile:
    return _opened(storage.read_bytes(url, "read the output"), url)


def _opened(data: bytes, url: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{url}: expected a Parquet file: {' '.join(str(error).split())[:200]}") from None
