"""Outputs that exports read; no test changes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.export.registry import export
from esv_ray.export.request import Request
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run

NAMES = ("=HYPERLINK(0)", 'jump, "high"\x1b[31m', "stånd")
IDS = ("-dQw4w9WgXcQ", "a,b", "c/d e", "ünï", "@x", "v5", "v6", "v7", "v8", "v9", "v10", "v11")


@dataclass(frozen=True)
class Out:
    """An output, and its tables in memory."""

    folder: Path

    def rows(self, table: str) -> list[dict[str, Any]]:
        files = sorted((self.folder / table).glob("part-*"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def esvs(self, video_id: str, n: int, n_classes: int = 3) -> npt.NDArray[np.float32]:
        """(n, C) as the table has them; NaN for classes that are not kept."""
        values = np.full((n, n_classes), np.nan, np.float32)
        for row in self.rows("attributions"):
            if (row["video_id"], row["n_elements"], row["method"]) == (video_id, n, "esv"):
                values[row["element"], row["class"]] = row["esv"]
        return values


def write(to: str, output: Path | str, path: Path | str, **options: Any) -> list[str]:
    """Export, and return the notes."""
    return export(to, Request(str(output), str(path), **options))


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of twelve videos of 1 to 6 frames (one without a label, one that fails), and a model."""
    folder = tmp_path_factory.mktemp("export")
    table = make_table([1 + index % 6 for index in range(12)])
    rows = table.to_pylist()
    for row, video_id in zip(rows, IDS, strict=True):
        row["video_id"] = video_id
    rows[5]["label"] = None
    rows[7]["features"][0][0] = float("nan")
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "f.parquet")
    save_heads(str(folder / "model"), make_heads(), make_prior(3), classes=NAMES)
    return folder


@pytest.fixture(scope="package")
def sweep(made: Path) -> Out:
    """All classes, at 1, 2 and 4 elements."""
    options = ("compute.unit=5", "frames=[1,2,4]", "classes=all", "max_failed=1")
    run(str(made / "f.parquet"), str(made / "model"), made / "sweep", *options)
    return Out(made / "sweep")


@pytest.fixture(scope="package")
def plain(made: Path) -> Out:
    """Label and predicted class, at 3 elements, sampled, with a further table and another method."""
    options = ("frames=3", "max_failed=1", "estimator.kind=algorithm1", "estimator.m=2", "tables=[discards]")
    run(str(made / "f.parquet"), str(made / "model"), made / "plain", *options, "methods=[esv,occlusion]")
    return Out(made / "plain")
