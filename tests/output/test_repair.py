"""Deep checks and repair: whatever was damaged is found, put aside, and done again with the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from esv_ray.attribution.work import run_job
from esv_ray.cli import cli
from esv_ray.job.result import JobResult
from esv_ray.models.saving import save_heads
from esv_ray.output.verify.output import repair_output, verify_output
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table


def attribute(folder: Path) -> JobResult:
    spec = {"features": str(folder / "f.parquet"), "model": str(folder / "model"), "output": str(folder / "out")}
    return run_job(load_spec({**spec, "cluster": {"actors": 0}, "compute": {"unit": 3}}))


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A finished job of four units; its output lies in out/."""
    save_heads(str(tmp_path / "model"), make_heads(), make_prior(3))
    pq.write_table(make_table([3, 4, 5, 6, 1, 2, 9, 8, 4, 5]), tmp_path / "f.parquet")
    assert attribute(tmp_path).exit_code == 0
    return tmp_path


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "progress.json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def parts(out: Path, kind: str) -> list[Path]:
    return sorted((out / kind).glob("part-*"))


@pytest.mark.slow
def test_a_flipped_bit_is_found_or_changes_nothing(job: Path) -> None:
    """Anywhere in the attributions; in the videos where it changes what is read."""
    out, chance = job / "out", Random(0)
    detected = {"attributions": 0, "videos": 0}
    for kind in detected:
        path = parts(out, kind)[1]
        original, table = path.read_bytes(), pq.read_table(path)
        for _ in range(150):
            torn = bytearray(original)
            torn[chance.randrange(len(torn))] ^= 1 << chance.randrange(8)
            path.write_bytes(torn)
            verification = verify_output(str(out))
            if verification.problems:
                detected[kind] += 1
                assert verification.redo == (path.name,)
            else:
                assert kind == "videos"
                assert pq.read_table(path).equals(table)
        path.write_bytes(original)
    assert detected["attributions"] == 150
    assert detected["videos"] > 75
    assert verify_output(str(out)).problems == ()


def test_what_is_damaged_is_moved_aside_and_done_again(job: Path) -> None:
    out = job / "out"
    clean = contents(out)
    torn, lost, foreign = parts(out, "attributions")[0], parts(out, "attributions")[2], parts(out, "videos")[3]
    torn.write_bytes(torn.read_bytes()[:-40])
    lost.unlink()
    foreign.write_bytes(parts(out, "videos")[1].read_bytes())
    shutil.copy(parts(out, "videos")[1], out / "videos" / "part-000009-stray.parquet")
    damaged = contents(out)
    verification = verify_output(str(out))
    assert verification.redo == tuple(sorted({torn.name, lost.name, foreign.name}))
    assert verification.strays == ("videos/part-000009-stray.parquet",)
    moved = repair_output(str(out), verification)
    assert moved[0] == "_SUCCESS"
    assert len(moved) == 1 + 2 * 3 - 1 + 1
    after = contents(out)
    assert {name.removeprefix("_aside/000001/"): data for name, data in after.items()} == damaged, "nothing is deleted"
    left = verify_output(str(out))
    assert left.problems == ("3 of 4 units are not committed; run the job again to resume",)
    assert repair_output(str(out), left) == ()
    assert attribute(job).resumed_units == 1
    again = contents(out)
    assert {name: data for name, data in again.items() if not name.startswith("_aside/")} == clean
    assert verify_output(str(out)).problems == ()
    assert pq.read_table(out / "videos").num_rows == 10, "who reads the tables sees nothing of it"


@pytest.mark.slow
def test_the_next_repair_leaves_what_is_aside(job: Path) -> None:
    out = job / "out"
    for _ in range(2):
        path = parts(out, "videos")[0]
        path.write_bytes(b"torn")
        repair_output(str(out), verify_output(str(out)))
        attribute(job)
    names = [name for name in contents(out) if name.startswith("_aside/")]
    assert {name.split("/")[1] for name in names} == {"000001", "000002"}
    assert len(names) == 2 * 3


def test_the_input_is_compared_where_it_is_still_there(job: Path) -> None:
    out = job / "out"
    table = pq.read_table(job / "f.parquet")
    (job / "f.parquet").unlink()
    gone = verify_output(str(out))
    assert gone.problems == ()
    (note,) = gone.notes
    assert note.startswith("not compared with the input: ")
    assert "was not found" in note
    pq.write_table(table.slice(0, 9), job / "f.parquet")
    (note,) = verify_output(str(out)).notes
    assert "changed since the job was planned" in note


@pytest.mark.slow
def test_the_command(job: Path) -> None:
    out = job / "out"
    parts(out, "videos")[0].write_bytes(b"torn")
    result = CliRunner().invoke(cli, ["verify", str(out)])
    assert result.exit_code == 1
    assert f"1 unit to recompute: {parts(out, 'videos')[0].name}" in result.output
    assert "esv verify --repair" in result.output
    result = CliRunner().invoke(cli, ["verify", "--repair", str(out)])
    assert result.exit_code == 1
    assert "3 files moved to" in result.output
    assert attribute(job).exit_code == 0
    result = CliRunner().invoke(cli, ["verify", "--repair", str(out)])
    assert result.exit_code == 0
    assert "no problems" in result.output
    assert "nothing to move aside" in result.output
