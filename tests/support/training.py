"""Trainings on small made-up videos."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError, EsvError
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import TrainResult, train

LENGTHS = [3 + index % 4 for index in range(60)]


def separable(
    lengths: Sequence[int], labels: Sequence[int | None] | None = None, *, noise: float = 0.3, seed: int = 0
) -> pa.Table:
    """Videos whose frames lie about a point of their class; the 3 classes in turn unless told."""
    rng = np.random.default_rng(seed)
    centers = 2 * np.random.default_rng(9).standard_normal((3, 4))
    given = [index % 3 for index in range(len(lengths))] if labels is None else labels
    frames = [
        (centers[(label or 0) % 3] + noise * rng.standard_normal((length, 4))).astype(np.float32)
        for label, length in zip(given, lengths, strict=True)
    ]
    return pa.table(
        {
            "video_id": [f"v{index}" for index in range(len(lengths))],
            "features": pa.array([list(video) for video in frames], pa.list_(pa.list_(pa.float32()))),
            "label": pa.array(given, pa.int64()),
        }
    )


class Study:
    """Trainings in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count()

    def write(self, table: pa.Table) -> str:
        path = self.folder / f"table-{next(self.numbers)}.parquet"
        pq.write_table(table, path)
        return str(path)

    def keys(self, table: pa.Table, **keys: Any) -> dict[str, Any]:
        output = str(self.folder / f"model-{next(self.numbers)}")
        small = {"n_max": 3, "hidden": 16, "epochs": 12, "batch": 16, "learning_rate": 0.01}
        return {"features": self.write(table), "output": output, **small, **keys}

    def train(self, table: pa.Table, **keys: Any) -> TrainResult:
        return train(load_train_spec(self.keys(table, **keys)))

    def refusal(self, table: pa.Table, kind: type[EsvError] = DataError, **keys: Any) -> str:
        """The message, one line, with which a training is refused, no bundle having been written."""
        spec_keys = self.keys(table, **keys)
        with pytest.raises(EsvError) as caught:
            train(load_train_spec(spec_keys))
        text = str(caught.value)
        assert text.splitlines() == [text], text
        assert type(caught.value) is kind, repr(caught.value)
        assert not Path(spec_keys["output"]).exists()
        return text


def files(url: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(url).iterdir() if path.is_file()}


def history(result: TrainResult) -> list[dict[str, Any]]:
    assert result.trained is not None
    return result.trained.history.to_pylist()  # type: ignore[no-any-return]


def heads(url: str) -> list[bytes]:
    return [data for name, data in sorted(files(url).items()) if name.startswith("head-")]
