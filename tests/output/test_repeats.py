"""Ids that stand in several files of a feature table: the job says so when it ends, and `esv verify` agrees."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from esv_ray import cli
from esv_ray.attribution.work import run_job
from esv_ray.output.unit_files import HASH_BYTES, hash_ids
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from esv_ray.submit.status import read_status, status_lines
from tests.conftest import make_table


def table_of(folder: Path, *files: list[str]) -> str:
    folder.mkdir()
    for number, ids in enumerate(files):
        table = make_table([2] * len(ids))
        pq.write_table(table.set_column(0, "video_id", [ids]), folder / f"{number}.parquet")
    return str(folder)


def job(features: str, bundle: str, output: Path) -> list[str]:
    keys = {"features": features, "model": bundle, "output": output, "cluster.actors": 0, "compute.unit": 2}
    return [f"{key}={value}" for key, value in keys.items()]


def test_hashes_are_of_the_different_ids() -> None:
    assert len(hash_ids(["a", "b", "a", "", "é"])) == 3 * HASH_BYTES
    assert hash_ids(["a", "b"]) == hash_ids(["b", "a", "b", ""]) != hash_ids(["a"])
    assert hash_ids([]) == b""


def test_an_id_in_two_files_ends_the_job_with_its_name(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = table_of(tmp_path / "table", ["a", "b", "twice"], ["c", "twice", "c"], ["d", "e"])
    output = tmp_path / "out"
    for _ in range(2):  # resumed, it says the same
        result = run_job(load_spec(None, job(features, bundle, output)))
        assert (result.exit_code, result.finished, result.units_left) == (1, False, False)
        assert f"got 1 in several files ('twice' in {features}/0.parquet and {features}/1.parquet)" in result.repeated
        assert not (output / "_SUCCESS").exists()
        status = list(status_lines(read_status(str(output)), time.time()))
        assert "incomplete: 8 of 8 videos" in status[0]
        assert result.repeated in [line.strip() for line in status]
    problems = verify_output(str(output)).problems
    assert len(problems) == 1
    assert "video 'twice'" in problems[0]
    assert problems[0].endswith(": it is in two files of the feature table")
    words = ["attribute", "--features", features, "--model", bundle, "--output", str(output)]
    words += ["--set", "cluster.actors=0", "--set", "compute.unit=2"]
    with pytest.raises(SystemExit) as ended:
        cli.cli.main(words, standalone_mode=True)
    assert ended.value.code == 1
    err = capsys.readouterr().err.splitlines()
    assert any(
        line.startswith("expected every video_id once in the feature table, got 1 in several files ('twice' in ")
        and line.endswith("use a new output")
        for line in err
    ), err


def test_ids_that_repeat_within_a_file_only_are_failed_rows(bundle: str, tmp_path: Path) -> None:
    features = table_of(tmp_path / "table", ["a", "b", "a", "a"], ["c", "d"])
    result = run_job(load_spec(None, [*job(features, bundle, tmp_path / "out"), "max_failed=0.5"]))
    assert (result.exit_code, result.finished, result.repeated, result.counts.failed) == (0, True, "", 2)
    assert verify_output(str(tmp_path / "out")).problems == ()


def test_a_footer_with_hashes_of_other_ids_is_a_problem(bundle: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run_job(load_spec(None, job(table_of(tmp_path / "table", ["a", "b"]), bundle, output)))
    (part,) = (output / "videos").iterdir()
    content = pq.read_metadata(part).metadata[b"esv_ray"]
    own, other = (base64.b64encode(hash_ids(ids)) for ids in (["a", "b"], ["a", "c"]))
    assert own in content
    pq.write_table(pq.read_table(part).replace_schema_metadata({b"esv_ray": content.replace(own, other)}), part)
    assert verify_output(str(output)).problems == (
        f"videos/{part.name}: expected ids with the hashes in its footer, got other ids",
    )
