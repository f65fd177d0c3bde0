"""Class names beside a feature table: a model with other names for the ids is refused, everywhere labels are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from esv_ray.attribution.planning import check_job
from esv_ray.errors import DataError
from esv_ray.input.class_names import classes_csv
from esv_ray.input.files import list_files
from esv_ray.input.table_classes import classes_of_table
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.support.command import HERE, run

NAMES, SWAPPED = ("open", "close", "push"), ("open", "push", "close")
WRONG = "class 1 is 'push' here and 'close' there, so labels would mean other classes; import the features again"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def esv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    save_heads("model", make_heads(), make_prior(3), classes=NAMES)
    return lambda *words: run(*words, monkeypatch=monkeypatch, capsys=capsys)


def table(folder: Path | str, names: tuple[str, ...] | None, rows: pa.Table | None = None, part: str = "part") -> str:
    """A folder with features, and the names of their classes."""
    fs, path = fsspec.core.url_to_fs(str(folder))
    fs.makedirs(path, exist_ok=True)
    with fs.open(f"{path}/{part}.parquet", "wb") as file:
        pq.write_table(make_table([5, 3, 4, 6, 5, 4, 3, 3]) if rows is None else rows, file)
    if names is not None:
        fs.pipe_file(f"{path}/classes.csv", classes_csv(names))
    return str(folder)


def plan(features: str, *options: str, model: str = "model") -> None:
    check_job(load_spec({"features": features, "model": model, "output": "out"}, ["cluster.actors=0", *options]))


def refused(features: str, *options: str) -> str:
    with pytest.raises(DataError) as caught:
        plan(features, *options)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert WRONG in text
    assert not Path("out").exists()
    return text


@pytest.mark.usefixtures("esv")
def test_a_job_over_other_classes_is_refused() -> None:
    text = refused(table("features", SWAPPED))
    folder = Path.cwd()
    assert text.startswith(f"{folder}/features/classes.csv: expected the classes of {folder}/model/classes.csv, but ")
    assert "(esv import features --classes), or, if the ids in the table are the model's, move this file away" in text
    refused("features/*.parquet")
    refused(table("memory://names/features", SWAPPED))
    refused("features/part.parquet")
    refused("memory://names/features/part.parquet")
    Path("features/model.json").write_text("{}")  # the names of a model, and a file beside it
    plan("features/part.parquet")
    Path("features/model.json").unlink()
    Path("features/classes.csv").unlink()
    plan("features")


@pytest.mark.usefixtures("esv")
@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        NAMES[:2],
        (*NAMES, "a class more"),
        ("Open", " close ", "PUSH"),
        ("", "close", ""),  # an empty name says nothing
        None,
    ],
)
def test_names_that_agree(names: tuple[str, ...] | None) -> None:
    plan(table("features", names))


@pytest.mark.usefixtures("esv")
def test_spaces_underscores_and_hyphens_are_alike() -> None:
    save_heads("spaced", make_heads(), make_prior(3), classes=("pick up", "put-down", "Turn"))
    plan(table("features", ("pick_up", "put down", "turn")), model="spaced")
    save_heads("signs", make_heads(), make_prior(3), classes=("+", "*", "/"))
    with pytest.raises(DataError, match=r"class 0 is '\*' here and '\+' there"):
        plan(table("other", ("*", "+", "/")), model="signs")


@pytest.mark.usefixtures("esv")
def test_what_says_nothing_about_the_ids_is_ignored() -> None:
    features = table("features", SWAPPED)
    save_heads("nameless", make_heads(), make_prior(3))
    plan(features, model="nameless")
    rows = make_table([5, 3, 4])
    named = rows.drop_columns(["label"]).append_column("label", pa.array(["push", "open", "close"]))
    plan(table("named", SWAPPED, named))  # the labels are names
    digits = rows.drop_columns(["label"]).append_column("label", pa.array(["0", "1", "2"]))
    refused(table("digits", SWAPPED, digits))
    plan(table("unlabelled", SWAPPED, rows.drop_columns(["label"])), "classes=[predicted]")
    renamed = rows.rename_columns(["y" if name == "label" else name for name in rows.column_names])
    plan(table("renamed", SWAPPED, renamed), "columns.label=y")  # the file names the classes of `label`
    Path("features/classes.csv").write_text("class,name of it\nopen,1\n")  # of other software
    plan(features)


@pytest.mark.usefixtures("esv")
def test_names_in_the_folders_of_a_table() -> None:
    table("features/a", NAMES)
    table("features/b", SWAPPED, make_table([4, 4], prefix="b"))
    assert "features/b/classes.csv" in refused("features")
    for index in range(9):  # of many folders none is read
        table(f"features/c{index}", None, make_table([4], prefix=f"c{index}"))
    files = list_files("features")
    assert len(files) == 11
    assert classes_of_table("features", files) == []


def test_partitions(esv: Command) -> None:
    table("daily/one", None)
    table("daily/two", SWAPPED, make_table([3, 4], prefix="two"))
    places = ["--features", "daily", "--model", "model", "--output", "out", "--partitions", *HERE]
    code, out, err = esv("attribute", *places)
    assert code != 0
    assert WRONG in " ".join((out + err).split()), "the partition's own names"
    assert "daily/two/classes.csv" in " ".join((out + err).split())
    Path("daily/classes.csv").write_bytes(classes_csv(SWAPPED))
    code, out, err = esv("attribute", *places)
    assert code == 2
    assert "daily/classes.csv: expected the classes of " in err
    assert WRONG in err


def test_convergence(esv: Command) -> None:
    features = table("features", SWAPPED)
    words = ["convergence", "--features", features, "--model", "model", "-n", "3", "-m", "2", "--iterations", "1"]
    code, out, err = esv(*words, "--threshold", "0")
    assert (code, out) == (2, "")
    assert WRONG in err


TRAINING = ["--set", "n_max=2", "--set", "hidden=8", "--set", "epochs=1", "--set", "validation=0.3"]


@pytest.mark.slow
def test_training_takes_the_names_beside_the_features(esv: Command) -> None:
    features = table("features", NAMES, make_table([5] * 12))
    code, out, err = esv("train", "--features", features, "--output", "trained", *TRAINING)
    assert code == 0, err
    assert "names of 3 classes: " in out
    assert "features/classes.csv" in out
    assert Path("trained/classes.csv").read_bytes() == classes_csv(NAMES)
    plan(features, model="trained")
    code, out, err = esv("train", "--features", f"{features}/part.parquet", "--output", "of-one-file", *TRAINING)
    assert code == 0, err
    assert Path("of-one-file/classes.csv").read_bytes() == classes_csv(NAMES)
    # Names of classes that no video has count, too; and n_classes limits them.
    table("more", (*NAMES, "pull"), make_table([5] * 12))
    assert esv("train", "--features", "more", "--output", "four", *TRAINING)[0] == 0
    assert json.loads(Path("four/model.json").read_text())["n_classes"] == 4
    assert esv("train", "--features", "more", "--output", "three", *TRAINING, "--set", "n_classes=3")[0] == 0
    assert Path("three/classes.csv").read_bytes() == classes_csv(NAMES)
    code, out, err = esv("train", "--features", "more", "--output", "five", *TRAINING, "--set", "n_classes=5")
    assert code == 0, err
    assert "more/classes.csv: 4 class names, fewer than n_classes = 5, are not used" in out
    assert not Path("five/classes.csv").exists()


@pytest.mark.slow
def test_training_on_labels_that_are_names(esv: Command) -> None:
    """The names beside the features say which ids they have."""
    rows = make_table([5] * 12)
    labels = pa.array([NAMES[index % 3] for index in range(12)])
    features = table("features", NAMES, rows.drop_columns(["label"]).append_column("label", labels))
    code, _, err = esv("train", "--features", features, "--output", "trained", *TRAINING)
    assert code == 0, err
    assert Path("trained/classes.csv").read_bytes() == classes_csv(NAMES)


def test_training_with_other_names_is_refused(esv: Command) -> None:
    table("features", SWAPPED, make_table([5] * 12))
    Path("names.csv").write_bytes(classes_csv(NAMES))
    code, _, err = esv("train", "--features", "features", "--output", "m", *TRAINING, "--set", "classes=names.csv")
    assert (code, WRONG in err, "names.csv, but class 1 is" in err) == (2, True, True), err
    table("train", NAMES, make_table([5] * 12))
    held = ["--set", f"validation={table('held', SWAPPED, make_table([5] * 6, prefix='h'))}"]
    code, _, err = esv("train", "--features", "train", "--output", "m", *TRAINING[:6], *held)
    assert (code, WRONG in err, "held/classes.csv: expected" in err) == (2, True, True), err
    assert not Path("m").exists()


def imported(esv: Command, *options: str, out: str = "bundle") -> tuple[int, str, str]:
    if not Path("fc.safetensors").exists():
        weight = torch.tensor(np.random.default_rng(0).normal(size=(3, 4)), dtype=torch.float32)
        save_file({"fc.weight": weight, "fc.bias": torch.zeros(3)}, "fc.safetensors")
    return esv("import", "model", "--from", "linear", "--layer", "fc", "fc.safetensors", "--out", out, *options)


def test_an_import_takes_the_names_beside_the_table_of_its_prior(esv: Command) -> None:
    table("features", NAMES)
    code, out, err = imported(esv, "--prior", "labels:features")
    assert code == 0, err
    assert "features/classes.csv (beside the table of the prior)" in out
    assert Path("bundle/classes.csv").read_bytes() == classes_csv(NAMES)
    code, out, err = imported(esv, "--prior", "uniform", out="uniform")
    assert code == 0, err
    assert not Path("uniform/classes.csv").exists()
    table("four", (*NAMES, "pull"))
    code, out, err = imported(esv, "--prior", "labels:four", out="other")
    assert code == 0, err
    assert "four/classes.csv: 4 class names, not 3, are not used" in out
    assert not Path("other/classes.csv").exists()


def test_an_import_with_other_names_than_those_beside_its_table_is_refused(esv: Command) -> None:
    table("features", SWAPPED)
    Path("names.csv").write_bytes(classes_csv(NAMES))
    for options in (["--prior", "labels:features"], ["--prior", "uniform", "--compare-prior", "labels:features"]):
        code, _, err = imported(esv, *options, "--classes", "names.csv")
        assert (code, WRONG in err, "names.csv, but class 1 is" in err) == (2, True, True), err
        assert not Path("bundle").exists()
    # Two tables that differ, and no --classes.
    table("train", NAMES)
    code, _, err = imported(esv, "--prior", "labels:train", "--compare-prior", "labels:features")
    assert (code, WRONG in err) == (2, True), err
