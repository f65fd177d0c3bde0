"""Marked key moments: the columns key_start and key_end of a feature table, numbers of frames, both included.

The job does not read them. An analysis reads them from the files that the job was planned with, if the output's
run.json may be trusted to name them (`output.verify.input.check_near`) or the user names the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, EsvError, one_line
from esv_ray.input.ids import read_ids
from esv_ray.input.plain import plain_columns
from esv_ray.input.units import RowRange, Unit
from esv_ray.output.manifest import Manifest
from esv_ray.output.verify.input import features_location

START, END = "key_start", "key_end"
SCHEMA = pa.schema([("video_id", pa.string()), (START, pa.int64()), (END, pa.int64())])
_DOING = "read the key moments"


def lacks_moments(output: str, manifest: Manifest, features: str | None) -> str | None:
    """Return why an output has no key moments, in words; None if its feature table has them.

    Args:
        output: location of the output.
        manifest: its run.json.
        features: location of the feature table that the user gives; None: that of run.json.
    """
    try:
        location = features_location(output, manifest, features)
        url = manifest.files[0].url
        if not storage.is_of(location, url):
            return f"expected the feature table of the job, got {location}, which does not hold {url}"
        with storage.locating(url, _DOING), storage.reader(url, _DOING) as file:
            names = pq.read_schema(file).names
    except EsvError as error:
        return f"the key moments cannot be read: {error}"
    except (pa.ArrowException, UnicodeDecodeError) as error:
        return f"the key moments cannot be read: {one_line(error)}"
    own = manifest.spec["columns"].get("video_id", "video_id")
    missing = [name for name in (own, START, END) if name not in names]
    if missing:
        return f"expected the columns {START} and {END} (numbers of frames) in the feature table, found no {missing[0]}"
    return None


def read_moments(manifest: Manifest, units: Sequence[Unit]) -> pa.Table:
    """Read the key moments of the videos of some units, of videos that have them (`SCHEMA`), one row for each.

    Of rows with the same id the first counts: a job attributes that one, and the others are failed rows.

    Args:
        manifest: of the output.
        units: in the order of the plan.

    Raises:
        DataError: a file cannot be read, or a column is not of whole numbers.
    """
    own = manifest.spec["columns"].get("video_id", "video_id")
    tables = [table for unit in units for rows in unit.ranges for table in _of_rows(rows, own)]
    rows = pa.concat_tables([SCHEMA.empty_table(), *tables])
    first: dict[str, int] = {}
    for row, video_id in enumerate(rows.column("video_id").to_pylist()):
        first.setdefault(video_id, row)
    rows = rows.take(list(first.values())) if len(first) < rows.num_rows else rows
    return rows.filter(pc.is_valid(pc.add(rows.column(START), rows.column(END))))


def _of_rows(rows: RowRange, own: str) -> Iterator[pa.Table]:
    """Yield the key moments of rows of a row group; null where there are none."""
    url = rows.file.url
    try:
        with storage.locating(url, _DOING), storage.reader(url, _DOING) as file:
            table = pq.ParquetFile(file).read_row_group(rows.row_group, columns=[own, START, END])
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{url}: the key moments cannot be read: {one_line(error)}") from None
    found = table.slice(rows.start, rows.rows).rename_columns([*SCHEMA.names]) if table.num_columns == 3 else None
    if found is None:
        raise DataError(f"{url}: expected the columns {own}, {START} and {END}, found others")
    for name in (START, END):
        if not pa.types.is_integer(found.column(name).type):
            raise DataError(f"{url}: column {name}: expected whole numbers, got {found.column(name).type}")
    for batch in found.combine_chunks().to_batches():
        plain = plain_columns(batch)
        ids, _ = read_ids(plain.column("video_id").combine_chunks())
        yield pa.table(
            [pa.array(ids, pa.string()), plain.column(START).cast(pa.int64()), plain.column(END).cast(pa.int64())],
            schema=SCHEMA,
        )
