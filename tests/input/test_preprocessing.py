"""The preprocessing that a feature table records against that of a model bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from esv_ray.attribution.work import run_job
from esv_ray.errors import DataError
from esv_ray.input.files import list_files
from esv_ray.input.parquet.footers import PREPROCESSING
from esv_ray.input.parquet.opening import read_footers
from esv_ray.spec import load_spec
from tests.conftest import make_table

RECORDED = {"color": "RGB", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": [224, 224],
            "short_side": 256}  # fmt: skip


def write(folder: Path, recorded: bytes | None) -> str:
    table = make_table([3, 4])
    if recorded is not None:
        table = table.replace_schema_metadata({PREPROCESSING: recorded})
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / "part.parquet")
    return str(folder)


def attribute(bundle: str, extraction: Any, features: str, output: Path) -> int:
    manifest = Path(bundle) / "model.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "extraction": extraction}))
    spec = load_spec(None, [f"features={features}", f"model={bundle}", f"output={output}", "cluster.actors=0"])
    return run_job(spec).counts.ok


@pytest.mark.parametrize(
    "extraction",
    [
        None,
        {},
        {"color": "rgb"},
        {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},  # of values 0..255, as mmaction2 has them
        {"size": 224, "mean": [0.485, 0.456, 0.406]},
        {"size": "large", "layout": "NCHW"},
        {"size": [224, 224], "short_side": 256},
    ],
)
def test_equal_or_unknown_preprocessing_is_accepted(bundle: str, tmp_path: Path, extraction: Any) -> None:
    features = write(tmp_path / "table", json.dumps(RECORDED).encode())
    assert attribute(bundle, extraction, features, tmp_path / "out") == 2


@pytest.mark.parametrize(
    ("extraction", "message"),
    [
        ({"color": "BGR"}, r'with color "BGR", as the model .* says, got "RGB"; extract them again'),
        ({"mean": [0.5, 0.5, 0.5]}, r"with mean \[0.5, 0.5, 0.5\], .*got \[0.485, 0.456, 0.406\]"),
        ({"std": [1.0, 1.0, 1.0]}, r"with std \[1.0, 1.0, 1.0\]"),
        ({"size": [224, 288]}, r"with size \[224, 288\], .*got \[224, 224\]"),
        ({"size": 256}, r"with size 256"),
        ({"short_side": 224}, r"with short_side 224, .*got 256"),
    ],
)
def test_other_preprocessing_is_refused_in_one_line(bundle: str, tmp_path: Path, extraction: Any, message: str) -> None:
    features = write(tmp_path / "table", json.dumps(RECORDED).encode())
    with pytest.raises(DataError, match=message) as caught:
        attribute(bundle, extraction, features, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("recorded", [None, b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_tables_of_other_writers_record_nothing(bundle: str, tmp_path: Path, recorded: bytes | None) -> None:
    features = write(tmp_path / "table", recorded)
    assert read_footers(list_files(features))[0].preprocessing is None
    assert attribute(bundle, {"color": "BGR"}, features, tmp_path / "out") == 2
