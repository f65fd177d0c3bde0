"""Write the tables of an analysis: whole files, which replace those of an earlier analysis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.analysis.result_files import write_file
from esv_ray.analysis.tables import Made


def write_tables(made: Sequence[Made], folder: str, kind: str = "parquet") -> list[str]:
    """Write tables as Parquet or CSV, one file each; return their locations.

    Raises:
        DataError: the storage refuses.
    """
    urls = []
    for each in made:
        url = storage.join(folder, f"{each.facet.name}.{kind}")
        if each.file is None:
            write_file(each.table.schema, each.table.to_batches(), kind, url)
        else:
            with pq.ParquetFile(each.file) as parquet:
                write_file(parquet.schema_arrow, _batches(parquet), kind, url)
        urls.append(url)
    return urls


def _batches(parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file. One call for all would hold on to every row group (Arrow 26)."""
    for group in range(parquet.num_row_groups):
        yield from parquet.iter_batches(row_groups=[group])
