"""esv demo: the main job on its real data, or on rendered videos, and a second run that resumes at once."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import esv_ray
from esv_ray.analysis.tables import analyze
from esv_ray.cli import cli
from esv_ray.cli.demo_shapes import commands
from esv_ray.output.verify.output import verify_output
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train
from tests.support.command import run

DATA = Path(__file__).parents[2] / "jobs" / "demo"


def demo(*words: str, limits: tuple[str, ...] = ()) -> str:
    command = [*limits, sys.executable, "-m", "esv_ray", "demo", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.soak  # `.ci/run` runs this demo, verifies its output, and runs it a second time
@pytest.mark.xdist_group("jobs")
def test_demo_from_end_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    stdout = demo(str(folder))
    assert "370 videos: 370 ok, 0 skipped, 0 failed" in stdout
    assert all(f"speaker {speaker}" in stdout for speaker in range(1, 10))
    assert "…" not in stdout, "nothing is cut off at 80 columns"
    videos = pq.read_table(folder / "esv" / "videos")
    correct = pc.equal(videos.column("label"), videos.column("predicted"))
    assert pc.mean(correct.cast("float64")).as_py() > 0.95, "published accuracies on this data are 94 to 99 %"
    verification = verify_output(str(folder / "esv"))
    assert verification.problems == ()
    assert verification.worst_gap < 1e-5
    videos = pq.read_table(folder / "esv" / "videos")
    assert {True, False} == set(videos.column("exact").to_pylist()), "exact where short, sampled where long"
    assert videos.column("n_elements").to_pylist() == videos.column("n_frames").to_pylist(), "all their frames"
    again = demo(str(folder), limits=("prlimit", "--nofile=60:60"))  # with which Ray would not be started
    assert "24 of 24 units resumed" in again


def test_the_data_are_as_documented() -> None:
    train, test = (pq.read_table(DATA / f"{name}.parquet") for name in ("train", "test"))
    assert (train.num_rows, test.num_rows) == (270, 370)
    lengths = [len(row) for row in test.column("features").to_pylist()]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert set(train.column("label").to_pylist()) == set(range(9))
    assert "CC BY 4.0" in (DATA / "README.md").read_text()


def test_the_commands_of_the_shapes_are_commands(tmp_path: Path) -> None:
    """Each that is printed parses, and its options are in the folder."""
    home = tmp_path / "sh apes"
    steps = list(commands(home))
    assert [command[1] for _, command in steps if command[0] == "esv"] == [
        "extract", "extract", "train", "attribute", "order", "analyze", "report",
    ]  # fmt: skip
    for _, command in steps:
        assert all(word.startswith(str(home)) for word in command if "/" in word)
        if command[0] == "esv":
            found = cli.commands[command[1]]
            assert found.make_context(command[1], [*command[2:]]).command is found
        else:
            assert importlib.util.find_spec(command[2]) is not None


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ({"av"}, "rendering videos needs av (PyAV)"),
        ({"altair"}, "figures need altair"),
        ({"PIL.Image"}, "thumbnails need Pillow"),
        ({"av", "vl_convert"}, "rendering videos needs av (PyAV)"),
    ],
)
def test_a_package_that_is_missing_is_named_first(
    absent: set[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    folder = tmp_path / "shapes"
    code, out, err = run("demo", "shapes", "--output", str(folder), monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"esv: {message}")
    assert "pip install 'esv-ray[figures,video]'" in err
    assert not folder.exists()


def test_two_folders_and_a_folder_that_is_a_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run("demo", "a", "--output", "b", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (2, "esv: expected one folder, got a and --output b; see esv demo --help\n")
    (tmp_path / "file").touch()
    words = ("demo", "shapes", "--output", str(tmp_path / "file"))
    code, _, err = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "expected a folder" in err


def shuffled_accuracy(folder: Path) -> float:
    """Of the demo's model on half of its test videos, with their elements in random orders."""
    rows = pq.read_table(folder / "test" / "features").to_pylist()[:96]
    rng = np.random.default_rng(0)
    shuffled = [np.array(row["features"], np.float32)[rng.permutation(12)] for row in rows]
    results = esv_ray.explain(esv_ray.load_model(str(folder / "model")), shuffled)
    return float(np.mean([int(each.scores.argmax()) == row["label"] for each, row in zip(results, rows, strict=True)]))


@pytest.mark.slow
@pytest.mark.always
@pytest.mark.timeout(1500)  # 80 seconds on two free cores
@pytest.mark.xdist_group("jobs")
def test_shapes_from_videos_to_a_report(tmp_path: Path) -> None:
    """The class is found, its deciding frames have the largest ESVs, and the scores depend on the order of frames."""
    folder = tmp_path / "shapes"
    stdout = demo("shapes", "--output", str(folder))
    esv = str(folder / "esv")
    assert verify_output(esv).problems == ()
    tables = analyze(esv, ["summary", "moments"])
    (summary,) = tables["summary"].to_pylist()
    assert (summary["videos"], summary["exact_share"]) == (192, 1.0)
    assert summary["accuracy"] > 0.8, "8 classes; 0.5 without the order of frames"
    auc = {row["method"]: row for row in tables["moments"].to_pylist()}
    assert auc["esv"]["videos"] == 192
    assert auc["esv"]["auc_low"] > 0.9, "the whole 95 % interval"
    assert auc["random"]["auc_low"] < 0.5 < auc["random"]["auc_high"] < 0.6
    assert f"AUC of the deciding frames, ESVs: {auc['esv']['auc']:.3f}" in stdout
    (order,) = (row for row in pq.read_table(folder / "esv/analysis/order.parquet").to_pylist() if row["class"] is None)
    assert order["low"] > 0, "in other orders the label's score is lower"
    page = (folder / "report.html").read_text()
    assert all(name in page for name in ("Agreement with marked key moments", "What the order is worth"))


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.xdist_group("jobs")
def test_shapes_cannot_be_told_without_their_order_and_the_demo_resumes(tmp_path: Path) -> None:
    """Neither single frames nor frames in random orders give the class; a second run has nothing left to do."""
    folder = tmp_path / "shapes"
    stdout = demo("shapes", "--output", str(folder))
    keys = {"features": str(folder / "train"), "validation": str(folder / "test"), "output": str(tmp_path / "blind")}
    blind = train(load_train_spec({**keys, "n_max": 1, "epochs": 60, "learning_rate": 0.003}))
    assert 0.35 < blind.accuracy_f < 0.62, "single frames tell the pair of classes: half of them right, 0.036 deviation"
    assert 0.35 < shuffled_accuracy(folder) < 0.65, "in random orders the class of a pair is a coin flip"
    again = demo("shapes", "--output", str(folder), limits=("prlimit", "--nofile=60:60"))  # no Ray could start
    resumed = re.findall(r"(\d+) of (\d+) units resumed", again)
    assert len(resumed) == 4, "two tables of features, ESVs, and those of other orders"
    assert all(done == units for done, units in resumed)
    assert stdout.partition("\nResult\n")[2] == again.partition("\nResult\n")[2]
