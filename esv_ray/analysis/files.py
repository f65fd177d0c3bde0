"""Write the tables of an analysis: whole files, which replace those of an earlier analysis."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.analysis.tables import Made

FOLDER = "analysis"
"""Folder of the tables in an output; no part of the job's own tables."""
Format = Literal["parquet", "csv"]
_DOING = "write the tables of the analysis"


def write_tables(made: Sequence[Made], folder: str, kind: Format = "parquet") -> list[str]:
    """Write tables, one file each; return their locations.

    Raises:
        DataError: the storage refuses.
    """
    urls = []
    for each in made:
        url = storage.join(folder, f"{each.facet.name}.{kind}")
        if each.file is None:
            storage.replace(url, _content(each.table, kind), _DOING)
        elif kind == "parquet":
            storage.replace_from(url, each.file, _DOING)
        else:
            with tempfile.TemporaryDirectory(prefix="esv-analyze-") as temporary:
                text = Path(temporary) / "table.csv"
                _convert(each.file, text)
                storage.replace_from(url, text, _DOING)
        urls.append(url)
    return urls


def _content(table: pa.Table, kind: Format) -> bytes:
    sink = pa.BufferOutputStream()
    if kind == "csv":
        pyarrow.csv.write_csv(table, sink)
    else:
        pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _convert(file: Path, text: Path) -> None:
    """Write the rows of a Parquet file as CSV, without reading all of it into memory."""
    with pq.ParquetFile(file) as parquet, pyarrow.csv.CSVWriter(text, parquet.schema_arrow) as writer:
        for batch in parquet.iter_batches():
            writer.write_batch(batch)
