"""Writing the tables of an analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.files import write_tables
from esv_ray.analysis.tables import Made

GROUPS, ROWS = 100, 20_000


@pytest.mark.slow
def test_a_large_table_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Arrow holds does not grow with the number of row groups."""
    source, held = tmp_path / "source.parquet", []
    random = np.random.default_rng(0)
    schema = pa.schema([("video_id", pa.string()), ("difference", pa.float64())])
    with pq.ParquetWriter(source, schema, compression="zstd") as writer:
        for group in range(GROUPS):
            ids = [f"video-{group}-{row}" for row in range(ROWS)]
            writer.write_batch(pa.record_batch([pa.array(ids), pa.array(random.random(ROWS))], schema=schema))
    before = pa.total_allocated_bytes()
    made = Made(FACETS["contrasts"], schema.empty_table(), source)
    real = pq.ParquetWriter.write_batch

    def write_batch(self: pq.ParquetWriter, batch: pa.RecordBatch) -> None:
        real(self, batch)
        held.append(pa.total_allocated_bytes() - before)

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", write_batch)
    (url,) = write_tables([made], str(tmp_path / "tables"))
    assert pq.read_table(url).equals(pq.read_table(source))
    assert len(held) >= GROUPS
    assert max(held) < 2 * max(held[:10])
