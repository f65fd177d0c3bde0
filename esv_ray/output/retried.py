"""Recomputed rows merged into the committed tables of their unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray import storage
from esv_ray.output.expanding import UnitTable
from esv_ray.output.files import open_parquet
from esv_ray.output.layout import PlannedUnit, table_url
from esv_ray.output.results import UnitTables
from esv_ray.output.schemas import SCHEMAS


def with_retried(
    output: str,
    unit: PlannedUnit,
    retried: UnitTables,
    ids: Sequence[str],
    rows: Sequence[int],
    schemas: Mapping[str, pa.Schema] = SCHEMAS,
) -> UnitTables:
    """Merge recomputed rows into a unit's committed tables.

    Args:
        output: location of the output.
        unit: a committed unit.
        retried: tables of the recomputed rows only.
        ids: ids of all rows of the unit, "" where a row has none.
        rows: the recomputed rows.
        schemas: of the tables, by their folders.

    Raises:
        DataError: a committed table cannot be read.
    """
    again = set(rows)
    place = {video_id: row for row, video_id in enumerate(ids) if row not in again}
    return {
        folder: _merged(table_url(output, folder, unit), schemas[folder], table, place)
        for folder, table in retried.items()
    }


def _merged(url: str, schema: pa.Schema, retried: UnitTable, place: Mapping[str, int]) -> UnitTable:
    """Return the rows of a committed table that stay and the recomputed rows, in input order.

    Args:
        url: file of the committed table.
        schema: schema of the table.
        retried: table of the recomputed rows.
        place: input rows of the videos that stay, by id.
    """
    committed = open_parquet(storage.read_bytes(url, "read the output"), url).read().cast(schema)
    if "status" in schema.names:  # an id occurs once among the rows that did not fail: a row that repeats an id fails
        committed = committed.filter(pc.not_equal(committed.column("status"), "failed"))
    places = np.array(
        [place.get(video_id, -1) for video_id in committed.column("video_id").to_pylist()], dtype=np.int64
    )
    both = pa.concat_tables([committed.filter(pa.array(places >= 0)), retried.table.replace_schema_metadata(None)])
    input_rows = np.concatenate([places[places >= 0], retried.rows])
    order = np.argsort(input_rows, kind="stable")  # all rows of a video come from one table, in its order
    return UnitTable(both.take(pa.array(order)).combine_chunks(), input_rows[order])
