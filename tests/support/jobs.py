"""Jobs of attributions: run in this process or as a command, and their outputs as bytes that can be compared."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.attribution.work import run_job
from esv_ray.job.result import JobResult
from esv_ray.spec import load_spec
from tests.conftest import make_table
from tests.support.job_factories import CONSENT


def run(features: str, bundle: str, output: Path | str, *overrides: str, retry_failed: bool = False) -> JobResult:
    """Run a job in this process; without Ray unless an override sets `cluster.actors`."""
    spec = {"features": features, "model": bundle, "output": str(output)}
    return run_job(load_spec(spec, ["cluster.actors=0", CONSENT, *overrides]), retry_failed=retry_failed)


def esv(*arguments: str) -> list[str]:
    """Return the command line of `esv ...` in a process of its own."""
    return [sys.executable, "-m", "esv_ray", *arguments]


def attribute(features: str, bundle: str, output: object, *overrides: str) -> list[str]:
    """Return the arguments of `esv attribute`."""
    arguments = ["attribute", "--features", features, "--model", bundle, "--output", str(output)]
    return arguments + [part for override in (CONSENT, *overrides) for part in ("--set", override)]


def files_of(output: Path) -> dict[str, bytes]:
    """Return the content of all files of both tables."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in output.glob("*/part-*") if path.is_file()}


def all_of(output: Path) -> dict[str, bytes]:
    """Return the content of all files of a finished output that are the same in every run."""
    return {**files_of(output), "_SUCCESS": (output / "_SUCCESS").read_bytes()}


def poisoned_table(path: Path, rows: int, poison: dict[int, float]) -> str:
    """Write videos of three frames; some rows hold a value that the modules in `job_factories` act on."""
    table = make_table([3] * rows)
    features = table.column("features").to_pylist()
    for row, value in poison.items():
        features[row][1] = [value] * 4
    column = pa.array(features, table.schema.field("features").type)
    pq.write_table(table.set_column(1, "features", column), path)
    return str(path)
