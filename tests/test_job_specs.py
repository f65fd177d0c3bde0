"""Every file in jobs/specs as it stands: loaded, planned and run to its end, with small data at the places it names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from esv_ray import storage
from esv_ray.attribution.partitions import plan_partitions, run_partitions
from esv_ray.attribution.planning import check_job
from esv_ray.attribution.work import run_job
from esv_ray.core.games.modules import Average
from esv_ray.extraction.work import extract
from esv_ray.models.bundle import load_model
from esv_ray.models.saving import save_average, save_heads
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import JobSpec, load_spec
from esv_ray.spec_extract import FRAMES, ExtractSpec, load_extract_spec
from esv_ray.spec_kinds import EXTRACTION, kind_in
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train
from tests.conftest import make_heads, make_prior, make_table
from tests.support.s3_server import S3Server, client
from tests.support.videos import write_video

ROOT = Path(__file__).parents[1]
SPECS = sorted((ROOT / "jobs" / "specs").iterdir())
TRAINING = [path for path in SPECS if path.name.startswith("train-")]
EXTRACTIONS = [path for path in SPECS if kind_in(str(path)) is EXTRACTION]
JOBS = [path for path in SPECS if path not in (*TRAINING, *EXTRACTIONS)]
HERE = ["cluster.actors=0"]
LENGTHS = [3, 5, 9, 9]


def name_of(path: Path) -> str:
    return path.name


def heads(url: str) -> None:
    save_heads(url, make_heads(n_max=8), make_prior(3))


def tsn(url: str) -> None:
    save_average(url, Average(torch.randn(3, 4), torch.zeros(3), input_relu=True), make_prior(3))


MODELS: dict[str, Callable[[str], None]] = {"tsn.yaml": tsn}


@pytest.fixture
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder like a checkout's root, where relative places lead."""
    shutil.copytree(ROOT / "jobs" / "demo", tmp_path / "jobs" / "demo")
    monkeypatch.chdir(tmp_path)


def put(path: Path, request: pytest.FixtureRequest) -> JobSpec:
    """Small features and a model of the right kind, where the spec says; buckets of its names on a real S3 server."""
    spec = load_spec(str(path))
    places = (spec.features, spec.model, spec.output)
    remote = {url.split("/")[2] for url in places if url.startswith("s3://")}
    if remote:
        server: S3Server = request.getfixturevalue("s3")
        for bucket in remote:
            if not client(server).exists(bucket):
                client(server).mkdir(bucket)
    if path.name == "smoke.yaml":
        return spec  # its data come along
    Path("made-up.parquet").unlink(missing_ok=True)
    pq.write_table(make_table(LENGTHS), "made-up.parquet")
    partition = "dt=2026-11-23/" if path.name == "nightly.yaml" else ""
    where = storage.join(spec.features, f"{partition}part.parquet")
    storage.replace(where, Path("made-up.parquet").read_bytes(), "write features")
    MODELS.get(path.name, heads)(spec.model)
    return spec


def test_the_folder_holds_specs_alone() -> None:
    assert {path.suffix for path in SPECS} == {".yaml"}
    assert len(JOBS) >= 8
    assert TRAINING
    outputs = [yaml.safe_load(path.read_text())["output"] for path in SPECS]
    assert len(set(outputs)) == len(outputs), "two specs with one output would refuse each other"


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_every_key_is_explained(path: Path) -> None:
    """Beside the places and the frames, by a comment on its line."""
    places = {"videos", "features", "model", "output"}
    plain = {*places, "frames", "classes", "estimator", "compute", "cluster", "hidden", "seed"}
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    bare = {line.partition(":")[0].strip() for line in lines if "#" not in line}
    assert path.read_text().startswith("# ")
    assert bare <= plain, bare - plain
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("_checkout")
@pytest.mark.parametrize(
    "path", [path for path in JOBS if path.name not in ("smoke.yaml", "nightly.yaml")], ids=name_of
)
def test_jobs_are_planned_and_run(path: Path, request: pytest.FixtureRequest) -> None:
    spec = put(path, request)
    checked = check_job(spec)
    assert (checked.manifest.rows, checked.planned) == (len(LENGTHS), False)
    result = run_job(load_spec(str(path), HERE))
    assert (result.exit_code, result.counts.failed) == (0, 0)
    assert result.counts.skipped == (2 if spec.short == "skip" else 0)
    assert verify_output(spec.output).problems == ()


@pytest.mark.usefixtures("_checkout")
def test_nightly(request: pytest.FixtureRequest) -> None:
    path = ROOT / "jobs" / "specs" / "nightly.yaml"
    command = next(line for line in path.read_text().splitlines() if "esv attribute" in line)
    assert command.endswith("jobs/specs/nightly.yaml --partitions --ready _SUCCESS")
    spec = put(path, request)
    planned = plan_partitions(load_spec(str(path), HERE), ready="_SUCCESS")
    assert [planned_partition.state for planned_partition in planned] == ["not ready"]
    storage.replace(storage.join(spec.features, "dt=2026-11-23/_SUCCESS"), b"", "mark")
    planned = plan_partitions(load_spec(str(path), HERE), ready="_SUCCESS")
    assert dict(run_partitions(spec.output, planned, lambda planned_partition, result: None)) == {"attributed": 1}
    assert verify_output(f"{spec.output}/dt=2026-11-23").problems == ()


@pytest.mark.slow
@pytest.mark.usefixtures("_checkout")
def test_smoke_after_its_training() -> None:
    """The two commands that smoke.yaml names, one after the other, with fewer and smaller steps."""
    specs = ROOT / "jobs" / "specs"
    assert [path.name for path in TRAINING] == ["train-demo.yaml"], "another training spec wants a test"
    trained = train(load_train_spec(str(specs / "train-demo.yaml"), ["epochs=2", "hidden=16", "patience=1"]))
    spec = load_spec(str(specs / "smoke.yaml"), HERE)
    assert storage.absolute(trained.output) == spec.model
    assert load_model(spec.model).n_max == 8
    result = run_job(spec)
    assert (result.counts.ok, result.exit_code) == (370, 0)
    assert verify_output(spec.output).problems == ()


def test_the_extraction_shows_every_key_with_its_default(tmp_path: Path) -> None:
    """It runs as it stands, over videos in another place."""
    (path,) = EXTRACTIONS
    shown = yaml.safe_load(path.read_text())
    defaults = ExtractSpec(videos="v", output="o", backbone="pooled", frames=FRAMES).model_dump(mode="json")
    places = {"videos", "output"}
    assert {key: value for key, value in shown.items() if key not in places} == {
        key: value for key, value in defaults.items() if key not in places
    }
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "v.mp4", frames=4)
    moved = [f"videos={tmp_path}/videos", f"output={tmp_path}/table", *HERE]
    result = extract(load_extract_spec(str(path), moved))
    assert (result.exit_code, result.counts.ok) == (0, 1)
