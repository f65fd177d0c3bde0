"""Measurements in a file, as a baseline for later runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from esv_ray.bench.measure import Ceilings, Measurement
from esv_ray.bench.setting import Setting
from esv_ray.errors import DataError
from esv_ray.estimator import Resolved
from esv_ray.forecast.throughput import ModelSize, Timing, Timings

FORMAT = 2
_KINDS: dict[str, Resolved] = {"exact": "exact", "alg1": "algorithm1", "adj": "adjusted"}
_MUST_AGREE = ("dimensions", "device", "threads", "matmul")


def as_json(measurements: Sequence[Measurement], limits: Ceilings, setting: Setting) -> dict[str, Any]:
    """Return the measurements of a run as JSON."""
    return {
        "format": FORMAT,
        "setting": asdict(setting),
        "device": torch.cuda.get_device_name() if setting.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "ceilings": asdict(limits),
        "measurements": [asdict(measurement) for measurement in measurements],
    }


def read_measurements(path: Path, setting: Setting) -> dict[tuple[int, str], Measurement]:
    """Read the measurements of a file written from `as_json`, by n and estimator.

    Raises:
        DataError: the file is not such a file, or of a run with other sizes, device or threads.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise DataError(f"{path}: expected measurements of format {FORMAT}, got {content['format']}; measure again")
        measurements = [Measurement(**measurement) for measurement in content["measurements"]]
        differ = [name for name in _MUST_AGREE if content["setting"][name] != asdict(setting)[name]]
        if differ or not all(measurement.video_ms > 0 for measurement in measurements):
            raise DataError(f"{path}: expected a run with the same {', '.join(differ) or 'units'}; measure again")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a file that `esv bench --json` wrote ({type(error).__name__})") from None
    return {(measurement.n, measurement.estimator): measurement for measurement in measurements}


def read_timings(path: Path) -> Timings:
    """Read the measurements of a file written from `as_json`, to estimate a job.

    Raises:
        DataError: the file is not such a file.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise DataError(f"{path}: expected measurements of format {FORMAT}, got {content['format']}; measure again")
        setting = content["setting"]
        measurements = [Measurement(**measurement) for measurement in content["measurements"]]
        if not all(measurement.video_ms > 0 and measurement.evaluations > 0 for measurement in measurements):
            raise ValueError("a measurement without time or evaluations")
        return Timings(
            tuple(
                Timing(
                    _KINDS[measurement.estimator.split()[0]],
                    measurement.n,
                    measurement.evaluations,
                    measurement.video_ms / 1e3,
                )
                for measurement in measurements
            ),
            f"--bench {path}",
            str(setting["device"]),
            int(setting["threads"]),
            str(setting["matmul"]),
            ModelSize(**setting["dimensions"]),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: expected a file that `esv bench --json` wrote ({type(error).__name__})") from None
