"""The memory of a training does not grow with its table: measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

D, T, ROWS = 256, 16, 1000

SCRIPT = """
import json, sys, threading, time
from esv_ray.forecast.training import forecast_training
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

warm, spec = (load_train_spec(keys) for keys in json.loads(sys.argv[1]))
train(warm)  # loads torch's code, of which much is mapped when it is first used
before, most, stop = resident(), [0], threading.Event()

def watch():
    while not stop.wait(0.01):
        most[0] = max(most[0], resident())

threading.Thread(target=watch, daemon=True).start()
forecast = forecast_training(spec)
train(spec)
stop.set()
print(json.dumps({"bound": forecast.actor_bytes, "took": most[0] - before, "table": forecast.training.bytes}))
"""


def write_table(path: Path, groups: int) -> None:
    """Random features of two classes, in row groups of 16 MB."""
    rng = np.random.default_rng(0)
    writer = None
    for group in range(groups):
        labels = rng.integers(0, 2, ROWS)
        values = rng.standard_normal((ROWS, T, D), dtype=np.float32) + labels[:, None, None].astype(np.float32)
        frames = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), D)
        videos = pa.ListArray.from_arrays(pa.array(np.arange(ROWS + 1, dtype=np.int32) * T), frames)
        ids = [f"v{group * ROWS + row}" for row in range(ROWS)]
        table = pa.table({"video_id": ids, "features": videos, "label": pa.array(labels)})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=ROWS)
    assert writer is not None
    writer.close()


@pytest.mark.soak
@pytest.mark.parametrize("groups", [48, 96])
def test_a_table_larger_than_the_bound(tmp_path: Path, groups: int) -> None:
    """Of 0.8 and 1.6 GB, which takes minutes; the bound is the same for both."""
    write_table(tmp_path / "warm.parquet", 1)
    write_table(tmp_path / "large.parquet", groups)
    keys = [
        {
            "features": str(tmp_path / f"{name}.parquet"),
            "output": str(tmp_path / f"model-{name}"),
            "n_max": 2,
            "hidden": 32,
            "epochs": 1,
            "validation": 0.05,
            "shuffle_buffer": 100 * 10**6,
        }
        for name in ("warm", "large")
    ]
    words = [sys.executable, "-c", SCRIPT, json.dumps(keys)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["table"] > 0.95 * groups * ROWS * T * D * 4 * 0.95
    assert found["took"] < found["bound"] < 420 * 10**6 < found["table"]
