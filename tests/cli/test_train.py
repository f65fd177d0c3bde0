"""`esv train` and `esv plan` of a training: what they print and write, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from esv_ray.submit.status import read_status, status_lines
from tests.cli.test_plan import documented_keys, files_below, keys_of
from tests.support.training import LENGTHS, separable

SMALL = ["--set", "hidden=4", "--set", "epochs=2"]


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "f.parquet"
    pq.write_table(separable(LENGTHS), path)
    return str(path)


@pytest.fixture
def spec(tmp_path: Path, table: str) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(
        f"features: {table}\noutput: {tmp_path}/model\nn_max: 3\nseeds: 2\nbatch: 20\nhidden: 4\nepochs: 2\n"
    )
    return path


def test_the_plan_of_a_training(esv, spec: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    before = files_below(tmp_path)
    code, out, err = esv("plan", str(spec), "--set", "n_max=6")
    assert (code, err) == (0, "")
    for part in (
        "54 training videos, ",
        "6 validation videos, ",
        "D = 4, C = 3",
        "12 heads: scales 1 to 6 x 2 seeds",
        "54 (scale 1) to 12 (scale 6) per epoch, at most 2 epochs",
        "3 (scale 1) to 1 (scale 6) per epoch of batches of 20",
        "weights      115 in the longest head",
        "(kept), validation videos",
    ):
        assert part in out, (part, out)
    assert files_below(tmp_path) == before, "nothing is written"
    assert "(streamed)" in esv("plan", str(spec), "--set", "shuffle_buffer=1kB")[1]
    assert esv("train", str(spec))[0] == 0
    assert "6 heads: scales 1 to 3 x 2 seeds; done: 6, left: 0\nnothing is left" in esv("plan", str(spec))[1]


def test_the_plan_as_json_has_the_documented_keys(esv, spec: Path, table: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = esv("plan", str(spec), "--json")
    content = json.loads(out)
    nested = keys_of(content)
    leaves = {name for name in nested if not any(other.startswith(f"{name}.") for other in nested)}
    assert (code, leaves) == (0, documented_keys(of="training"))
    memory = content["memory"]
    parts = ("training", "validation", "weight", "reading", "batch")
    assert memory["actor_bytes"] == sum(memory[f"{name}_bytes"] for name in parts)
    assert content["input"]["bytes"] + content["input"]["validation_bytes"] == 4 * 4 * sum(LENGTHS)
    by_options = ["--features", table, "--output", str(tmp_path / "model"), "--set", "n_max=2", "--json"]
    assert json.loads(esv("plan", *by_options)[1])["work"]["heads"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--check-ids"], "--check-ids is for jobs of esv attribute, not of esv train"),
        (["--model", "m"], "--model is for jobs of esv attribute; this one is of esv train"),
        (["--actors", "2"], "--actors has no effect: the plan of a training is that of one actor"),
        (["--set", "epoch=3"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (["--code", "mine"], "training runs no code of packages, got mine"),
    ],
)
def test_requests_for_a_plan_that_are_wrong(esv, spec: Path, words: list[str], said: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = esv("plan", str(spec), *words)
    assert (code, out, said in err, len(err.splitlines())) == (2, "", True, 1), err


def test_what_a_training_prints(esv, spec: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = esv("train", str(spec), "--actors", "0")
    assert code == 0
    assert all(word in out for word in ("ECE", "best epoch", "seed", "F (all scales)", "trained on 54 videos; model: "))
    lines = list(status_lines(read_status(str(tmp_path / "model")), 0.0))
    assert "done: 6 of 6 heads (0 failed, 0 from earlier attempts), 6 of 6 units" in lines[0]


def test_a_training_with_failed_heads(esv, spec: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = esv("train", str(spec), "--set", "learning_rate=1e30", "--set", "seeds=1")
    assert (code, out) == (1, "no model yet: 0 of 3 heads trained\n")
    lines = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 3
    assert all(line.startswith("failed: f^") and "lower learning_rate" in line for line in lines)
    assert not (tmp_path / "model" / "model.json").exists()


@pytest.mark.slow
def test_the_figure_of_a_training(esv, spec: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = esv("train", str(spec), "--figures")
    folder = tmp_path / "model" / "training"
    assert (code, f"figure: {folder}/calibration.svg, .png, .html\n" in out) == (0, True)
    svg = (folder / "calibration.svg").read_text()
    assert all(word in svg for word in ("Accuracy of the heads", "confidence", "perfect", "scale s of the head"))
    assert (folder / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert esv("train", str(spec))[0] == 0, "the figure is not in the way"


def test_the_chart_says_what_the_tables_say(esv, spec: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from esv_ray.analysis.figures.calibration import chart
    from esv_ray.analysis.figures.look import NARROW, Look

    esv("train", str(spec))
    folder = tmp_path / "model" / "training"
    table = pq.read_table(folder / "calibration.parquet")
    accuracy = pq.read_table(folder / "accuracy.parquet").to_pylist()
    of_f = next(row for row in accuracy if row["kept"] and row["scale"] is None)
    for look in (Look(), Look(width=NARROW)):
        text = json.dumps(chart(table, look).to_dict())
        assert f"F: accuracy {100 * of_f['accuracy']:.1f} %, ECE {100 * of_f['ece']:.1f} %" in text
        best = max(row["accuracy"] for row in accuracy if row["kept"] and row["scale"] is not None)
        assert f"is the most accurate, {100 * best:.1f} %" in text
    assert "No data" in json.dumps(chart(table.slice(0, 0), Look()).to_dict())
