"""The preprocessing that a feature table records against that of a model bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from esv_ray.attribution.work import run_job
from esv_ray.errors import DataError
from esv_ray.extraction.work import extract
from esv_ray.input.files import list_files
from esv_ray.input.parquet.footers import PREPROCESSING
from esv_ray.input.parquet.opening import read_footers
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec
from esv_ray.spec_extract import load_extract_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.support.videos import write_video

RECORDED = {
    "color": "RGB", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": [224, 224], "short_side": 256,
    "clip": 1, "digest": "aa", "backbone": "mine:vit",
}  # fmt: skip


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
        {**RECORDED, "backbone": "other:name", "frames": 3},
        {"size": [224, 224], "short_side": 256},
    ],
)
def test_equal_or_unknown_preprocessing_is_accepted(bundle: str, tmp_path: Path, extraction: Any) -> None:
    features = write(tmp_path / "table", json.dumps(RECORDED).encode())
    assert attribute(bundle, extraction, features, tmp_path / "out") == 2


@pytest.mark.parametrize(
    ("extraction", "message"),
    [
        ({"color": "BGR"}, r'with color "BGR", as the model .* says, got color "RGB"; extract them again'),
        ({"mean": [0.5, 0.5, 0.5]}, r"with mean \[0.5, 0.5, 0.5\], .*got mean \[0.485, 0.456, 0.406\]"),
        ({"std": [1.0, 1.0, 1.0]}, r"with std \[1.0, 1.0, 1.0\]"),
        ({"size": [224, 288]}, r"with size \[224, 288\], .*got size \[224, 224\]"),
        ({"size": 256}, r"with size 256"),
        ({"short_side": None, "clip": 8}, r"with short_side null, clip 8, .*got short_side 256, clip 1;"),
        ({**RECORDED, "digest": "bb"}, r'with digest "bb", as the model .* says, got digest "aa"'),
        ({"short_side": 224}, r"with short_side 224, .*got short_side 256"),
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


def test_an_extracted_table_against_its_model(tmp_path: Path) -> None:
    """From a clip to the job: each preparation that the model names otherwise is named, and the right one runs."""
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "v.mp4", frames=4)
    table, bundle = tmp_path / "table", str(tmp_path / "model")
    request = [f"videos={tmp_path}/clips", "backbone=pooled", f"output={table}", "frames=2", "size=[32,48]"]
    assert extract(load_extract_spec(None, [*request, "cluster.actors=0"])).counts.ok == 1
    recorded = read_footers(list_files(str(table)))[0].preprocessing
    assert recorded is not None
    kept = {key: recorded[key] for key in ("color", "mean", "std", "size", "short_side", "clip", "digest")}
    assert (kept["color"], kept["size"], kept["short_side"], kept["clip"]) == ("RGB", [32, 48], None, 1)
    save_heads(bundle, make_heads(n_max=2, feature_dim=recorded["dim"]), make_prior(3))
    for key, other in {"color": "BGR", "std": [0.5] * 3, "size": 224, "clip": 8, "digest": "other"}.items():
        with pytest.raises(DataError, match=rf"with {key} .*, as the model .* says, got {key} "):
            attribute(bundle, {**kept, key: other}, str(table), tmp_path / "out")
    assert attribute(bundle, kept, str(table), tmp_path / "out") == 1
