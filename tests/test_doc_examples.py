"""The Python of the documentation runs, and prints what the pages say."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import nn

import esv_ray
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior, make_table
from tests.support.command import run
from tests.support.pages import DOCS, ROOT, blocks, shell_lines

HERE = ["cluster.actors=0", "estimator.m=16"]


class Gru(nn.Module):
    """The last state of a GRU, classified."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(12, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, elements: torch.Tensor) -> torch.Tensor:  # (N, s, D)
        logits: torch.Tensor = self.out(self.gru(elements)[0][:, -1])
        return logits  # (N, C)


def run_blocks(page: str, space: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the Python of a page, one block after another."""
    space = {} if space is None else space
    for block in blocks((DOCS / page).read_text(), "python"):
        exec(block, space)
    return space


def save_model(url: Path, *, feature_dim: int, n_classes: int) -> None:
    """A small bundle."""
    heads = make_heads(feature_dim=feature_dim, n_classes=n_classes)
    save_heads(str(url), heads, make_prior(n_classes))


@pytest.mark.slow
def test_reading_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its Python runs on an output of the demo's form; `tests/cli/test_demo.py` runs the demo."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "esv-demo" / "data").mkdir(parents=True)
    test = pq.read_table(ROOT / "jobs" / "demo" / "test.parquet").slice(0, 12)
    pq.write_table(test, tmp_path / "esv-demo" / "data" / "test.parquet")
    save_model(tmp_path / "esv-demo" / "model", feature_dim=12, n_classes=9)
    places = {"features": "esv-demo/data/test.parquet", "model": "esv-demo/model", "output": "esv-demo/esv"}
    assert esv_ray.run(esv_ray.load_spec(places, HERE)).exit_code == 0
    space = run_blocks("howto/tables.md")
    video = space["video"]
    assert len(space["rows"]) == video.n_elements
    prior = float(make_prior(9)[int(video.predicted)])
    assert np.isclose(space["rows"].esv.sum(), space["score"] - prior, atol=1e-5)
    assert space["result"].esv.shape == (video.n_frames, 9)
    assert "stderr" in capsys.readouterr().out
    assert list(run_blocks("howto/analyze.md")["tables"]) == ["summary", "classes"]
    assert "distract" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", ["howto/sql.md", "howto/compare.md"])
def test_querying_and_comparing(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All commands and the Python of the pages run on an output of the demo's form."""
    monkeypatch.chdir(tmp_path)
    Path("esv-demo").mkdir()
    pq.write_table(pq.read_table(ROOT / "jobs" / "demo" / "test.parquet").slice(0, 12), "esv-demo/test.parquet")
    save_model(tmp_path / "esv-demo" / "model", feature_dim=12, n_classes=9)
    places = {"features": "esv-demo/test.parquet", "model": "esv-demo/model", "output": "esv-demo/esv"}
    Path("esv-demo/attribute.yaml").write_text(yaml.safe_dump(places))
    here = [word for override in HERE for word in ("--set", override)]
    assert run("attribute", "esv-demo/attribute.yaml", *here, monkeypatch=monkeypatch, capsys=capsys)[0] == 0
    for line in shell_lines((DOCS / page).read_text()):
        _, command, *words = shlex.split(line)
        if "OUTPUT" in words:
            continue
        words += here if command == "attribute" else []
        code, _, err = run(command, *words, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0, (line, err)
    run_blocks(page)
    assert capsys.readouterr().out


@pytest.mark.slow
def test_reading_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of the page on the demo's output, and its Python."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pq.read_table(ROOT / "jobs" / "demo" / "test.parquet").slice(0, 12), "test.parquet")
    save_model(tmp_path / "model", feature_dim=12, n_classes=9)
    assert esv_ray.run(
        esv_ray.load_spec({"features": "test.parquet", "model": "model", "output": "esv-demo/esv"}, HERE)
    ).exit_code == 0  # fmt: skip
    lines = [line for line in shell_lines((DOCS / "howto/export.md").read_text()) if "esv-demo" in line]
    assert len(lines) == 2
    for line in lines:
        code, out, _ = run(*shlex.split(line)[1:], monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0
        assert "written: " in out
    space = run_blocks("howto/export.md")
    rows = pq.read_table("esv-demo/esv/attributions").to_pylist()
    first = [row for row in rows if row["video_id"] == rows[0]["video_id"]]
    for class_id, values in zip(space["classes"], space["esv"], strict=True):
        assert values.tolist() == [row["esv"] for row in first if row["class"] == class_id]


def test_a_table_of_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks("howto/own-data.md")
    save_model(tmp_path / "model", feature_dim=256, n_classes=4)
    (tmp_path / "features").mkdir()
    (tmp_path / "features.parquet").rename(tmp_path / "features" / "part.parquet")
    (spec,) = blocks((DOCS / "howto" / "own-data.md").read_text(), "yaml")
    result = esv_ray.run(esv_ray.load_spec(yaml.safe_load(spec), HERE))
    assert (result.exit_code, result.counts.ok) == (0, 2)


def test_use_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "models" / "trn", feature_dim=4, n_classes=3)
    pq.write_table(make_table([9, 9]), tmp_path / "table.parquet")
    places = {"features": "table.parquet", "model": "models/trn", "output": "esv", "cluster": {"actors": 0}}
    (tmp_path / "job.yaml").write_text(json.dumps(places))
    space = run_blocks("howto/python.md", {"features": np.zeros((5, 4), np.float32)})
    assert space["result"].exit_code == 0


def test_what_an_esv_says(capsys: pytest.CaptureFixture[str]) -> None:
    """The page's game; ESVs of an element over all classes sum to 0; a prior higher by d lowers each ESV by d / n."""
    run_blocks("explanation/meaning.md")
    assert blocks((DOCS / "explanation" / "meaning.md").read_text(), "text") == [capsys.readouterr().out]
    torch.manual_seed(0)
    module, features, n = Gru(), torch.randn(6, 12), 6
    priors = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])
    one, other = (esv_ray.explain(module, features, prior=prior, estimator="exact").esv for prior in priors)
    torch.testing.assert_close(one.sum(dim=1), torch.zeros(n), atol=1e-6, rtol=0)
    torch.testing.assert_close(other - one, ((priors[0] - priors[1]) / n).expand(n, 3), atol=1e-6, rtol=0)


def test_own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of the page, with its function, print what it says, and the reference has the model.json."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "howto" / "model-factory.md").read_text()
    function, saving = blocks(text, "python")
    (tmp_path / "my_models.py").write_text(function)
    (tmp_path / "prior.csv").write_text("class,prior\n0,0.25\n1,0.75\n")
    (tmp_path / "classes.csv").write_text("name,id\nopen,0\nclose,1\n")
    exec(f"{function}\nmodule = make(hidden=128)\n{saving}", {"__name__": "training"})
    command, attribute = shell_lines(text)
    code, out, err = run(*shlex.split(command)[1:], monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert [out] == blocks(text, "text")
    reference = (DOCS / "reference" / "model-bundle.md").read_text()
    written = json.loads(Path("models/gru/model.json").read_text())
    assert {**json.loads(blocks(reference, "json")[-1]), "n_max": None} == written
    (tmp_path / "features").mkdir()
    pq.write_table(make_table([3, 5], feature_dim=256, n_classes=2), tmp_path / "features" / "table.parquet")
    local = ["--set", "cluster.actors=0"]
    assert run(*shlex.split(attribute)[1:], *local, monkeypatch=monkeypatch, capsys=capsys)[0] == 0
    sys.modules.pop("my_models")


def test_models_of_images() -> None:
    """The network of the page takes images, and has ESVs."""
    result = run_blocks("howto/pixels.md")["result"]
    assert result.esv.shape == (4, 3)
    assert result.exact
