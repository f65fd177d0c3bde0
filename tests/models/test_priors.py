"""Class priors from labels, from the model's outputs, and how they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result

from esv_ray.cli import cli
from esv_ray.core.games.modules import Average, Over
from esv_ray.errors import DataError, ModelError, SpecError
from esv_ray.estimator import Kind
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.priors import difference, prior_of
from esv_ray.models.sources.built_in import imported_average
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.play_fair import read_play_fair
from tests.conftest import FILES, make_table

TSN, C, D = str(FILES / "tsn.pth"), 7, 16
LENGTHS = [1, 2, 3, 6, 9, 20]


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Two files of a feature table, the second one with rows of faults and without a label."""
    folder = tmp_path / "table"
    folder.mkdir()
    rows = make_table(LENGTHS, feature_dim=D, n_classes=C)
    position = rows.schema.get_field_index("label")
    for name, labels in (("a", [0, 0, 1, 2, 0, 6]), ("b", [0, None, 9, -1, 1, None])):
        column = pa.array(labels, rows.schema.field("label").type)
        ids = pa.array([f"{name}{index}" for index in range(len(LENGTHS))])
        renamed = rows.set_column(position, "label", column).set_column(0, "video_id", ids)
        pq.write_table(renamed, folder / f"{name}.parquet", row_group_size=4)
    return str(folder)


def model(kind: str) -> Imported:
    if kind in ("logits", "probabilities"):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn((C, D), generator=generator)
        over: Over = "logits" if kind == "logits" else "probabilities"
        return imported_average(Average(weight, torch.zeros(C), input_relu=False, over=over), found="TSN")
    names = [f"trn_{s}_frames.pth" for s in (1, 2, 3, 4)] if kind == "trn" else ["tsn.pth"]
    return read_play_fair([str(FILES / name) for name in names])


def test_labels(table: str) -> None:
    prior, notes = prior_of(f"labels:{table}", model("tsn").model, C)
    assert np.allclose(prior, np.array([4, 2, 1, 0, 0, 0, 1]) / 8)
    assert notes[0] == "labels of 8 videos"
    assert notes[1].startswith("4 rows left out (2: no label; 1: label ")
    assert "if it marks videos without a label, write null in its place" in notes[1], "there is no spec"
    assert "spec" not in notes[1]
    assert notes[2] == "prior of 0 for 3 of 7 classes: 3, 4, 5"


def test_labels_in_the_names_of_directories(tmp_path: Path) -> None:
    rows = make_table([1, 2], feature_dim=D, n_classes=C).drop_columns(["label"])
    for label, count in (("0", 2), ("3", 1)):
        (tmp_path / "t" / f"label={label}").mkdir(parents=True)
        pq.write_table(rows.slice(0, count), tmp_path / "t" / f"label={label}" / "x.parquet")
    prior, _ = prior_of(f"labels:{tmp_path / 't'}", model("tsn").model, C)
    assert np.allclose(prior, np.array([2, 0, 0, 1, 0, 0, 0]) / 3)


def test_labels_that_are_names_of_classes(tmp_path: Path) -> None:
    rows = make_table([3, 3, 3, 3], feature_dim=D, n_classes=C)
    names = [f"name {c}" for c in range(C)]
    column = pa.array([names[1], names[1], names[2], "elsewhere"])
    named = rows.set_column(rows.schema.get_field_index("label"), "label", column)
    pq.write_table(named, tmp_path / "t.parquet")
    prior, notes = prior_of(f"labels:{tmp_path / 't.parquet'}", model("tsn").model, C, names)
    assert prior.tolist() == pytest.approx([0, 2 / 3, 1 / 3, *[0] * (C - 3)])
    assert "1 row left out (1: label 'elsewhere' is not a class" in "; ".join(notes)


@pytest.mark.parametrize("source", ["labels:", "model: "])
def test_a_table_must_be_named(source: str) -> None:
    with pytest.raises(SpecError, match=f"prior: expected {source.strip()}TABLE with the location of a feature table"):
        prior_of(source, model("tsn").model, C)


def test_uniform_in_any_case() -> None:
    assert prior_of("Uniform", model("tsn").model, C)[0].tolist() == [1 / C] * C


@pytest.mark.parametrize("kind", ["tsn", "logits", "probabilities", "trn"])
def test_mean_output(table: str, kind: str) -> None:
    """Of each video the value of the full sequence; a multi-scale model gets four frames, evenly sampled."""
    imported = model(kind)
    prior, notes = prior_of(f"model:{table}", imported.model, C)
    assert notes[0] == "mean output over 11 videos"
    assert notes[1].startswith("1 row left out (1: label -1 is out of range")
    ready = imported.model(torch.full((C,), 1 / C).double())
    scores = []
    for file in ("a", "b"):
        for row in pq.read_table(f"{table}/{file}.parquet").to_pylist():
            if row["label"] == -1:
                continue
            frames = np.array(row["features"], np.float32)
            n = min(4, len(frames)) if kind == "trn" else len(frames)
            places = np.floor((np.arange(n) + 0.5) * len(frames) / n).astype(int)
            estimator: Kind = "algorithm1" if kind in ("tsn", "logits") else "exact"
            scores.append(explain(ready, torch.from_numpy(frames[places]), estimator=estimator).scores.double())
    assert torch.allclose(prior, torch.stack(scores).mean(dim=0), atol=1e-6)


def test_uniform() -> None:
    prior, notes = prior_of("uniform", model("tsn").model, C)
    assert prior.tolist() == [1 / C] * C
    assert notes == ["1/7 for each class"]


def test_difference() -> None:
    first, second = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    assert difference(first, second) == (
        "total variation distance 0.5; class 2: 0 -> 0.5, class 0: 0.5 -> 0.25, class 1: 0.5 -> 0.25"
    )
    assert difference(first, first) == "total variation distance 0"


def test_tables_without_use(tmp_path: Path, table: str) -> None:
    rows = make_table([1, 2], feature_dim=D, n_classes=C)
    unlabelled = str(tmp_path / "unlabelled.parquet")
    pq.write_table(rows.drop_columns(["label"]), unlabelled)
    with pytest.raises(DataError, match=r"expected videos with labels, got none in 2 rows \(2: no label\)"):
        prior_of(f"labels:{unlabelled}", model("tsn").model, C)
    assert prior_of(f"model:{unlabelled}", model("tsn").model, C)[1] == ["mean output over 2 videos"]
    wide = str(tmp_path / "wide.parquet")
    pq.write_table(make_table([1, 2], feature_dim=D + 1, n_classes=C), wide)
    with pytest.raises(DataError, match="expected videos, got none in 2 rows"):
        prior_of(f"model:{wide}", model("tsn").model, C)
    with pytest.raises(DataError):
        prior_of(f"labels:{tmp_path / 'nowhere'}", model("tsn").model, C)
    (tmp_path / "two.csv").write_text("class,prior\n0,0.5\n1,0.5\n")
    with pytest.raises(ModelError, match="expected a prior of 7 classes"):
        prior_of(str(tmp_path / "two.csv"), model("tsn").model, C)


def ran(tmp_path: Path, *options: str) -> Result:
    words = ["import", "model", "--from", "play-fair", "--out", str(tmp_path / "model"), *options, TSN]
    return CliRunner().invoke(cli, words)


def test_the_command(tmp_path: Path, table: str) -> None:
    done = ran(
        tmp_path, "--prior", f"labels:{table}", "--compare-prior", "uniform", "--compare-prior", f"model:{table}"
    )
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"prior    labels:{table}: labels of 8 videos; 4 rows left out" in done.output
    assert "uniform: total variation distance 0.4643; class 0: 0.5 -> 0.1429, class 3: 0 -> 0.1429" in done.output
    assert f"model:{table}: total variation distance " in done.output
    assert load_model(str(tmp_path / "model")).prior.tolist() == [0.5, 0.25, 0.125, 0, 0, 0, 0.125]


def test_of_outputs(tmp_path: Path) -> None:
    words = ["--outputs", "a=0:3", "--outputs", "b=3:7", "--prior", "a=uniform", "--prior", "b=uniform"]
    done = ran(tmp_path, *words, "--compare-prior", "b=uniform")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output.count("total variation distance 0") == 1
    assert len(load_model(str(tmp_path / "model" / "b")).prior) == 4
    wrong = ran(tmp_path, *words, "--classes", "c=classes.csv")
    assert "expected --classes NAME=... with NAME of a, b, got 'c=classes.csv'" in wrong.output
