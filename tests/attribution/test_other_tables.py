"""Jobs over tables as people have them: other column names, names of classes as labels, flat lists of features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from esv_ray import storage
from esv_ray.attribution.partitions import plan_partitions, run_partitions
from esv_ray.attribution.recompute import recompute
from esv_ray.cli import cli
from esv_ray.errors import DataError, EsvError, JobError, SpecError
from esv_ray.models.saving import save_heads
from esv_ray.output.manifest import checksum_of, existing_manifest
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.input.test_flat_features import flattened
from tests.support.jobs import run

OPTIONS = ("compute.unit=4", "compute.memory_budget=100000000", "frames=[2,9]", "estimator.m=6")
NAMES = {"video_id": "clip id", "features": "observation.state", "label": "y"}
COLUMNS = [f"columns.{key}={name}" for key, name in NAMES.items()]
CLASSES = ("one", "two", "three")  # of the fixture `bundle`


def foreign(table: pa.Table, *, categories: bool = False) -> pa.Table:
    """The same videos as somebody else stores them."""
    labels = [None if label is None else CLASSES[label] for label in table.column("label").to_pylist()]
    column = pa.array(labels)
    table = table.set_column(2, "label", column.dictionary_encode() if categories else column)
    table = flattened(table).rename_columns([NAMES.get(name, name) for name in table.column_names])
    return table.append_column("features", pa.array(["notes"] * table.num_rows))


@pytest.fixture
def others(features: str, tmp_path: Path) -> str:
    """The table `features` as somebody else stores it."""
    folder = tmp_path / "others"
    folder.mkdir()
    for number, path in enumerate(sorted(Path(features).iterdir())):
        table = foreign(pq.read_table(path), categories=number == 1)
        pq.write_table(table, folder / path.name, row_group_size=(8, 20)[number])
    return str(folder)


def rows_of(output: Path | str) -> dict[str, list[dict[str, Any]]]:
    """All rows of an output; floats compare equal only if they have the same bits, since none is NaN or -0."""
    return {
        name: [row for path in sorted(Path(output, name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
        for name in ("videos", "attributions")
    }


def by_id(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    keys = ("video_id", "n_elements", "class", "element")
    return {name: sorted(table, key=lambda row: [str(row.get(key)) for key in keys]) for name, table in rows.items()}


def esv(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.slow
def test_a_foreign_table_gives_the_same_bits(features: str, others: str, bundle: str, tmp_path: Path) -> None:
    assert run(features, bundle, tmp_path / "a", *OPTIONS).exit_code == 0
    assert run(others, bundle, tmp_path / "b", *OPTIONS, *COLUMNS).exit_code == 0
    mine, theirs = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert len(mine["videos"]) == 68
    assert {row["label"] for row in mine["videos"]} == {0, 1, 2}
    assert mine == theirs
    verified = verify_output(str(tmp_path / "b"))
    assert (verified.problems, verified.notes) == ((), ())
    again = recompute(str(tmp_path / "b"), 8)
    assert (again.videos, again.same, again.problems) == (8, 8, ())
    moved = tmp_path / "moved"
    Path(others).rename(moved)
    again = recompute(str(tmp_path / "b"), 8, features=str(moved))
    assert (again.same, again.problems) == (8, ())


@pytest.mark.slow
def test_the_commands_take_foreign_tables(others: str, bundle: str, tmp_path: Path) -> None:
    places = ["--features", others, "--model", bundle]
    options = [word for override in (*OPTIONS, *COLUMNS, "cluster.actors=0") for word in ("--set", override)]
    job = [*places, "--output", tmp_path / "out", *options]
    planned = esv("plan", *job, "--json", "--check-ids", "--read-lengths")
    assert planned.exit_code == 0, planned.output
    assert esv("attribute", *job).exit_code == 0
    verified = esv("verify", tmp_path / "out", "--recompute", 3)
    assert verified.exit_code == 0, verified.output
    columns = [word for key, name in NAMES.items() for word in ("--column", f"{key}={name}")]
    grid = ["-n", 8, "-m", 8, "--iterations", 1, "--threshold", 0]
    compared = esv("convergence", *places, *grid, *columns)
    assert compared.exit_code == 0, compared.output
    assert "left out" not in compared.output
    for wrong, message in (
        ("features", "--column: expected KEY=NAME, such as features=embedding, got 'features'"),
        ("feature=x", "--column: unknown key 'feature'; did you mean 'features'?"),
        ("label=", "--column: label: expected a text, got ''"),
        ("label=observation.state", "--column: expected another column for each key, got 'observation.state' for fea"),
        ("video_id=x", "--column: expected each key once, got 'video_id=x'"),
    ):
        refused = esv("convergence", *places, *grid, *columns[:4], "--column", wrong)
        assert isinstance(refused.exception, SpecError)
        assert message in str(refused.exception)


@pytest.mark.slow
def test_partitions_and_directories_of_foreign_tables(bundle: str, tmp_path: Path) -> None:
    for day in ("dt=1", "dt=2"):
        for label in (0, 2):
            table = make_table([5, 3], prefix=f"{day}-{label}-").drop_columns(["label"])
            table = table.append_column("label", pa.array([label] * 2))
            for root, shown in (("plain", f"label={label}"), ("others", f"y={CLASSES[label]}")):
                folder = tmp_path / root / day / shown
                folder.mkdir(parents=True)
                written = table if root == "plain" else foreign(table).drop_columns(["y"])
                pq.write_table(written, folder / "a.parquet")
    outputs = []
    for root, columns in (("plain", []), ("others", COLUMNS)):
        places = {"features": str(tmp_path / root), "model": bundle, "output": str(tmp_path / f"esv-{root}")}
        spec = load_spec(places, ["cluster.actors=0", *OPTIONS, *columns])
        states = [run_partitions(spec.output, plan_partitions(spec), lambda part, result: None) for _ in range(2)]
        assert states == [{"attributed": 2}, {"finished": 2}]
        outputs.append([by_id(rows_of(Path(spec.output) / day)) for day in ("dt=1", "dt=2")])
    assert outputs[0] == outputs[1]
    assert {row["label"] for row in outputs[0][0]["videos"]} == {0, 2}


# The job that it is ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_other_columns_are_another_job(others: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(others, bundle, out, *OPTIONS, *COLUMNS).exit_code == 0
    manifest = existing_manifest(str(out))
    assert manifest.spec["columns"] == NAMES
    assert {key: name for key, name in manifest.keys.items() if key.startswith("columns")} == {
        f"columns.{key}": name for key, name in NAMES.items()
    }
    assert run(others, bundle, out, *OPTIONS, *reversed(COLUMNS)).units_left == 0
    with pytest.raises(JobError, match=r'columns.features: expected "observation.state", got "copy"'):
        run(others, bundle, out, *OPTIONS, *COLUMNS, "columns.features=copy")
    with pytest.raises(JobError, match=r'columns.features: expected "observation.state", got null; columns.label: exp'):
        run(others, bundle, out, *OPTIONS)


def test_an_output_from_before_the_key_is_resumed(features: str, bundle: str, tmp_path: Path) -> None:
    """Its spec has no `columns`, and its fingerprints are those of a spec without other names."""
    out = tmp_path / "out"
    assert run(features, bundle, out, *OPTIONS).exit_code == 0
    before = existing_manifest(str(out))
    content = json.loads((out / "run.json").read_text())
    assert not [key for key in content["keys"] if key.startswith("columns")]
    del content["spec"]["columns"]
    content["checksum"] = checksum_of(content)
    storage.replace(str(out / "run.json"), json.dumps(content).encode(), "write")
    kept = sorted((out / "videos").iterdir())
    kept[3].unlink()
    files = {path.name: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert run(features, bundle, out, *OPTIONS, "columns.label=label", "columns.video_id=null").exit_code == 0
    assert existing_manifest(str(out)).job == before.job
    assert {path.name: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}.items() > files.items()
    assert verify_output(str(out)).problems == ()


# What is refused, and what fails --------------------------------------------------------------------------------------


def refused(*arguments: Any) -> str:
    with pytest.raises(EsvError) as caught:
        run(*arguments)
    assert isinstance(caught.value, DataError)
    text = str(caught.value)
    assert text.splitlines() == [text]
    return text


def test_names_without_a_classes_csv_are_refused_before_anything_is_written(others: str, tmp_path: Path) -> None:
    save_heads(str(tmp_path / "nameless"), make_heads(), make_prior(3))
    message = refused(others, str(tmp_path / "nameless"), tmp_path / "out", *OPTIONS, *COLUMNS)
    assert message == (
        f"{others}: column 'y' (columns.label) holds names of classes, such as 'one', whose ids are not known; add "
        f"classes.csv (header name,id) to the model {tmp_path}/nameless, or store ids (esv import features --classes)"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_unknown_name_fails_its_row_alone(others: str, bundle: str, tmp_path: Path) -> None:
    path = Path(others) / "part-0.parquet"
    table = pq.read_table(path)
    labels = ["four" if row == 5 else label for row, label in enumerate(table.column("y").to_pylist())]
    pq.write_table(table.set_column(table.column_names.index("y"), "y", pa.array(labels)), path, row_group_size=8)
    result = run(others, bundle, tmp_path / "out", *OPTIONS, *COLUMNS, "max_failed=0.05")
    assert (result.exit_code, result.counts.failed, result.counts.ok) == (0, 1, 39)
    failed = [row for row in rows_of(tmp_path / "out")["videos"] if row["status"] == "failed"]
    assert {row["video_id"] for row in failed} == {"a5"}
    assert failed[0]["reason"].startswith("label 'four' is not a class: expected an id, or a name in the classes.csv")
    assert {row["label"] for row in failed} == {None}


@pytest.mark.slow
def test_the_failed_rows_of_a_foreign_table_are_tried_again(others: str, bundle: str, tmp_path: Path) -> None:
    path = Path(others) / "part-0.parquet"
    table = pq.read_table(path)
    state = table.column_names.index("observation.state")
    lists = [values[:-1] if row == 2 else values for row, values in enumerate(table.column(state).to_pylist())]
    table = table.set_column(state, "observation.state", pa.array(lists, pa.list_(pa.float32())))
    pq.write_table(table, path, row_group_size=8)
    assert run(others, bundle, tmp_path / "out", *OPTIONS, *COLUMNS).counts.failed == 1
    before = rows_of(tmp_path / "out")
    result = run(others, bundle, tmp_path / "out", *OPTIONS, *COLUMNS, retry_failed=True)
    assert (result.counts.failed, result.units_left) == (1, 0)
    assert rows_of(tmp_path / "out") == before
    (reason,) = {row["reason"] for row in before["videos"]} - {None}
    assert reason == "features must be flat lists of T * 4 numbers, got 11, which is not a multiple of 4"


def test_flat_features_of_another_model_are_refused(others: str, tmp_path: Path) -> None:
    wide = str(tmp_path / "wide")
    save_heads(wide, make_heads(feature_dim=50), make_prior(3), classes=CLASSES)
    message = refused(others, wide, tmp_path / "out", *OPTIONS, *COLUMNS)
    assert message == (
        f"{others}: features must be flat lists of T * 50 numbers, got lists of up to 36, none of which is a multiple "
        "of 50; check `features` and `model`"
    )


def test_a_table_under_its_own_names_needs_none(features: str, bundle: str, tmp_path: Path) -> None:
    message = refused(features, bundle, tmp_path / "out", *OPTIONS, *COLUMNS)
    assert message.startswith(f"{features}/part-0.parquet: expected a column 'clip id' (columns.video_id), got columns")
    assert pc.sum(pq.read_table(features).column("label")).as_py() == 38, "it is a good table"
