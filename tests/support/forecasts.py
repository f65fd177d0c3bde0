"""Jobs and tables for forecasts."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from esv_ray.spec import JobSpec, load_spec
from tests.conftest import make_table
from tests.support.job_factories import CONSENT


def job(features: str, bundle: str, output: Path | str, *overrides: str) -> JobSpec:
    spec = {"features": features, "model": bundle, "output": str(output)}
    return load_spec(spec, ["cluster.actors=0", CONSENT, *overrides])


def same_lengths(path: Path, *, lengths: tuple[int, ...], rows: int, n_classes: int | None = 3) -> str:
    """Write a table whose row groups have videos of one length each."""
    tables = [
        make_table([t] * rows, prefix=f"v{index}-", seed=index, n_classes=n_classes) for index, t in enumerate(lengths)
    ]
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return str(path)
