"""esv verify --recompute: a good output is reproduced, and whatever the model would not say is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from esv_ray.attribution.recompute import recompute
from esv_ray.cli import cli
from esv_ray.errors import DataError, EsvError, JobError, ModelError
from esv_ray.models.saving import save_heads
from esv_ray.output.manifest import checksum_of
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import fingerprint
from tests.conftest import make_heads, make_prior, make_table
from tests.support.bundles import large_bundle, python_bundle
from tests.support.job_factories import CALLS_OF_A_LOAD
from tests.support.jobs import run
from tests.support.outputs import Output, setting, with_defects

KINDS = {
    "exact": ("estimator.kind=exact", "frames=[3,5]", "short=skip"),
    "algorithm1": ("estimator.kind=algorithm1", "estimator.m=6", "estimator.iterations=2"),
    "tolerance": ("estimator.m=6", "estimator.iterations=2", "estimator.tolerance=0.05", "estimator.max_iterations=8"),
    "logit": ("estimator.output=logit", "estimator.m=6", "estimator.iterations=3", "classes=all"),
}


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A table of twelve videos, one of which breaks the contract, in two row groups."""
    url = str(tmp_path / "f.parquet")
    pq.write_table(with_defects(make_table([9, 8, 7, 3, 5, 6, 9, 4, 2, 7, 8, 9])), url, row_group_size=7)
    return url


@pytest.fixture
def job(table: str, bundle: str, tmp_path: Path) -> Path:
    """An output of four units; two videos of them failed."""
    run(table, bundle, tmp_path / "out", "compute.unit=4", "classes=all", "max_failed=1")
    return tmp_path / "out"


def esv(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["verify", *arguments])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_output_is_reproduced(table: str, bundle: str, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    run(table, bundle, out, "compute.unit=5", "max_failed=1", *KINDS[kind])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    few, again, all_of_them = recompute(str(out), 3), recompute(str(out), 3), recompute(str(out), 1000)
    assert few == again
    assert (few.videos, few.problems) == (3, ())
    assert (all_of_them.videos, all_of_them.problems) == (10, ()), "but those that failed"
    assert all_of_them.same > 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before, "nothing is written"


def test_one_batch_gives_the_same_bits(bundle: str, tmp_path: Path) -> None:
    pq.write_table(make_table([6] * 8), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    assert recompute(str(tmp_path / "out"), 8).same == 8


def test_large_logits_are_computed_in_the_batches_of_the_job(tmp_path: Path) -> None:
    """Alone, a video's logits of 1e6 round otherwise, and its probabilities with them."""
    model = large_bundle(tmp_path / "large", 1e6)
    pq.write_table(make_table([7] * 30), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), model, tmp_path / "out", "estimator.kind=exact")
    assert recompute(str(tmp_path / "out"), 10).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize(("column", "kind"), [("esv", "attributions"), ("frame_index", "attributions")])
def test_two_values_that_changed_places(job: Path, column: str, kind: str) -> None:
    """Sums and ranges are as they should be."""
    output = Output(job)
    rows = pq.read_table(output.part(kind)).to_pylist()
    n = rows[0]["n_elements"]

    def changed(values: list[object]) -> list[object]:
        """The first two elements of all three classes."""
        out = list(values)
        for start in (0, n, 2 * n):
            out[start], out[start + 1] = values[start + 1], values[start]
        return out

    output.rewrite(kind, setting(column, changed))
    assert verify_output(str(job)).problems == ()
    result = esv(str(job), "--recompute", "1000")
    assert result.exit_code == 1
    name = f"video {rows[0]['video_id']!r} at {n} elements"
    assert any(name in line and column in line for line in result.output.splitlines()), result.output
    assert "10 videos recomputed: " in result.output


def test_altered_videos(job: Path) -> None:
    output = Output(job)
    output.rewrite("videos", setting("evaluations", lambda values: [values[0] + 1, *values[1:]]))
    (problem,) = recompute(str(job), 1000).problems
    row = pq.read_table(output.part("videos")).to_pylist()[0]
    assert f"evaluations is {row['evaluations']}, but {row['evaluations'] - 1} when recomputed" in problem


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [{"above": "20"}, {"after": str(CALLS_OF_A_LOAD + 12)}], ids=["some features", "later calls"]
)
def test_a_model_that_draws_at_random_after_it_was_checked(tmp_path: Path, arguments: dict[str, str]) -> None:
    """Exact by the table, and no problem to be seen in it."""
    model, out = python_bundle(tmp_path / "python", "fickle", hidden="yes", **arguments), tmp_path / "out"
    table = make_table([5, 6, 5, 6, 5, 6])
    large = [[[40 * x for x in frame] for frame in video] for video in table.column("features").to_pylist()]
    table = table.set_column(1, "features", pa.array(large, table.schema.field("features").type))
    pq.write_table(table, tmp_path / "f.parquet")
    assert run(str(tmp_path / "f.parquet"), model, out, "compute.batch=1").counts.ok == 6
    assert {row["exact"] for row in pq.read_table(out / "videos").to_pylist()} == {True}
    assert verify_output(str(out)).problems == ()
    result = esv(str(out), "--recompute", "6", "--code", "tests.support.job_factories")
    assert result.exit_code == 1
    assert "esv differs by " in result.output
    assert "the model draws at random" in result.output


def test_the_output_gives_no_consent(tmp_path: Path) -> None:
    model, out = python_bundle(tmp_path / "python", "raising"), tmp_path / "out"
    pq.write_table(make_table([3, 4]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), model, out)
    consent = json.loads((out / "run.json").read_text())["spec"]["code"]
    assert consent == ["tests.support.job_factories"], "of whoever ran the job"
    with pytest.raises(ModelError, match="--code"):
        recompute(str(out), 1)
    assert isinstance(esv(str(out), "--recompute", "1").exception, ModelError)
    assert esv(str(out), "--recompute", "1", "--code", "tests.support.job_factories").exit_code == 0


def test_a_model_that_raises_is_a_finding(tmp_path: Path) -> None:
    model, out = python_bundle(tmp_path / "python", "poisonous", fixed=str(tmp_path / "fixed")), tmp_path / "out"
    table = make_table([2, 2])
    poisoned = pa.array([[[665.0] * 4] * 2] * 2, table.schema.field("features").type)
    pq.write_table(table.set_column(1, "features", poisoned), tmp_path / "f.parquet")
    (tmp_path / "fixed").touch()
    assert run(str(tmp_path / "f.parquet"), model, out).counts.ok == 2
    (tmp_path / "fixed").unlink()
    result = esv(str(out), "--recompute", "1", "--code", "tests.support.job_factories")
    assert result.exit_code == 1
    assert "recomputing failed: RuntimeError: poison (job_factories.py:" in result.output


@pytest.mark.slow
def test_another_model_is_refused_and_one_that_moved_is_not(job: Path, bundle: str, tmp_path: Path) -> None:
    moved = str(tmp_path / "moved")
    shutil.move(bundle, moved)
    with pytest.raises(EsvError, match="model"):
        recompute(str(job), 1)
    assert recompute(str(job), 1, model=moved).problems == ()
    save_heads(bundle, make_heads(seed=9), make_prior(3))
    with pytest.raises(
        JobError, match=r"expected the model that the job ran with.*give the location of the original with --model"
    ):
        recompute(str(job), 1)


def test_features_that_moved(job: Path, table: str, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.parquet"
    shutil.move(table, moved)
    with pytest.raises(DataError):
        recompute(str(job), 1)
    assert recompute(str(job), 5, features=str(moved)).problems == ()
    other = tmp_path / "other.parquet"
    pq.write_table(make_table([3, 4]), other)
    with pytest.raises(DataError, match="check --features"):
        recompute(str(job), 5, features=str(other))
    shutil.copy(moved, table)
    with pytest.raises(DataError, match="give its place with --features"):
        recompute(str(job), 5)


@pytest.mark.slow
def test_features_that_moved_and_are_others(job: Path, table: str, tmp_path: Path) -> None:
    """Of the same name and size: the footer's checksum tells."""
    moved = tmp_path / "moved.parquet"
    shutil.move(table, moved)
    result = esv(str(job), "--features", str(moved), "--recompute", "3")
    assert result.exit_code == 0, result.output
    assert "not compared with the input" in result.output
    data = bytearray(moved.read_bytes())
    data[data.index(b"parquet-cpp")] ^= 1  # who wrote it: nothing else would tell
    moved.write_bytes(data)
    problems = recompute(str(job), 3, features=str(moved)).problems
    assert problems
    assert all("its footer differs" in problem for problem in problems)


def signed(message: dict[str, Any]) -> str:
    """A run.json of somebody who knows of its checksum."""
    return json.dumps({**message, "checksum": checksum_of(message)})


def test_places_of_a_run_json_that_are_far_away(job: Path) -> None:
    """Nothing is sent to an address of the file's choosing."""
    content = json.loads((job / "run.json").read_text())
    for key, option in (("model", "--model"), ("features", "--features")):
        far = "s3://of-somebody-else/x"
        spec, keys = {**content["spec"], key: far}, dict(content["keys"])
        if key in keys and key != "model":
            keys[key] = far
        changed = {**content, "spec": spec, "keys": keys, "fingerprint": fingerprint(keys)}
        (job / "run.json").write_text(signed(changed))
        with pytest.raises(DataError, match=f"give {option} {far} if you trust that location"):
            recompute(str(job), 1)


def test_a_file_outside_the_planned_features_is_not_opened(job: Path, tmp_path: Path) -> None:
    """A run.json of anybody's names any file."""
    content = json.loads((job / "run.json").read_text())
    content["files"][0][0] = str(tmp_path / "secret.parquet")
    (job / "run.json").write_text(signed(content))
    with pytest.raises(DataError, match="not below"):
        recompute(str(job), 1)


def test_a_budget_that_this_machine_does_not_have(job: Path) -> None:
    content = json.loads((job / "run.json").read_text())
    content["memory_budget"] = 2**60
    (job / "run.json").write_text(signed(content))
    with pytest.raises(JobError, match="recompute on a larger one"):
        recompute(str(job), 1)


def test_units_that_are_broken_are_left_out(job: Path) -> None:
    Output(job).part("videos", 1).write_bytes(b"torn")
    result = esv(str(job), "--recompute", "1000")
    assert result.exit_code == 1
    assert "not readable as Parquet" in result.output
    assert "videos recomputed: " in result.output
    assert "no differences beyond rounding" in result.output


def test_options_that_go_with_it(job: Path) -> None:
    for option in (["--code", "tests"], ["--model", "x"]):
        result = esv(str(job), *option)
        assert result.exit_code == 2
        assert "require --recompute" in result.output
    assert esv(str(job), "--recompute", "0").exit_code == 2
    result = esv(str(job), "--recompute", "2")
    assert result.exit_code == 0, result.output
    assert "2 videos recomputed: " in result.output
