"""Share of a job's time that is not compute."""

from __future__ import annotations

import tempfile
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from esv_ray.attribution.planning import plan_job
from esv_ray.attribution.unit import run_unit
from esv_ray.attribution.workplace import open_workplace
from esv_ray.bench.setting import Setting, random_heads
from esv_ray.core.threads import torch_settings
from esv_ray.estimator import Estimator
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec

_HOST_S, _MAX_HOST_VIDEOS, _HOST_UNITS = 1.0, 512, 4  # seconds of compute and videos per unit, number of units


def host_share(n: int, estimator: Estimator, setting: Setting, video_s: float) -> float:
    """Return the share of a unit that is reading, decoding, tables and commit, on a local disk, without overlap."""
    d = setting.dimensions
    videos = max(16, min(_MAX_HOST_VIDEOS, int(_HOST_S / video_s)))
    with tempfile.TemporaryDirectory() as folder:
        rows = _HOST_UNITS * videos
        values = np.random.default_rng(0).standard_normal((rows * 2 * n, d.feature_dim), dtype=np.float32)
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * 2 * n)
        frames = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), d.feature_dim)
        ids = [f"video {index}" for index in range(rows)]
        labels = pa.array(np.arange(rows) % d.n_classes)
        table = pa.table({"video_id": ids, "features": pa.ListArray.from_arrays(offsets, frames), "label": labels})
        pq.write_table(table, f"{folder}/features.parquet", row_group_size=videos, compression="none")
        save_heads(f"{folder}/model", random_heads(d), torch.full((d.n_classes,), 1 / d.n_classes))
        spec = load_spec(
            {
                "features": f"{folder}/features.parquet",
                "model": f"{folder}/model",
                "output": f"{folder}/out",
                "frames": n,
                "estimator": {"kind": estimator.kind, "m": estimator.m, "iterations": estimator.iterations},
                "compute": {
                    "threads": setting.threads,
                    "unit": videos,
                    "matmul": setting.matmul,
                    "batch": setting.batch or "auto",
                },
                "cluster": {"actors": 0},
            }
        )
        job = plan_job(spec)
        with torch_settings():
            place = open_workplace(job.spec, job.manifest.job, job.manifest.model["digest"], setting.device)
            _, *reports = [run_unit(place, unit, Task(unit.index)) for unit in job.pending]  # the first warms up
    return median(1 - report.compute_s / (report.read_s + report.compute_s + report.commit_s) for report in reports)
