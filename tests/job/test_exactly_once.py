"""Whatever is killed and whenever: run again, both tables are those of an undisturbed run, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.output.verify.output import verify_output
from tests.conftest import make_table
from tests.support import preloaded
from tests.support.bundles import python_bundle
from tests.support.jobs import all_of, attribute, esv, run
from tests.support.killed import Killed, Mortal
from tests.support.preloaded import Process

pytestmark = pytest.mark.xdist_group("jobs")

OPTIONS = ("compute.unit=10", "frames=[2,9]", "estimator.m=6")


@pytest.mark.slow
def test_killed_at_any_write(features: str, bundle: str, tmp_path: Path) -> None:
    """Before and after every single write to storage, from run.json to _SUCCESS."""
    with pytest.MonkeyPatch.context() as patch:
        writes = Mortal(patch).writes
        run(features, bundle, tmp_path / "clean", *OPTIONS)
    clean = all_of(tmp_path / "clean")
    assert len(writes) == 2 + 2 * 5, "run.json, _SUCCESS, two files a unit"
    for place in range(1, len(writes) + 1):
        for done in (False, True):
            output = tmp_path / f"{place}-{done}"
            with pytest.MonkeyPatch.context() as patch:
                Mortal(patch, place, done=done)
                with pytest.raises(Killed):
                    run(features, bundle, output, *OPTIONS)
            kept = {path: path.stat().st_mtime_ns for path in output.glob("videos/part-*")}
            result = run(features, bundle, output, *OPTIONS)
            assert (result.exit_code, result.resumed_units) == (0, len(kept))
            assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "committed units stay"
            assert all_of(output) == clean


def test_killed_at_any_write_while_failed_videos_are_tried_again(tmp_path: Path) -> None:
    """Tables never lose a good row, and trying again ends the same whenever the first try was killed."""
    fixed = tmp_path / "fixed"
    bundle = python_bundle(tmp_path / "python", "poisonous", fixed=str(fixed))
    table = make_table([3] * 12)
    rows = table.column("features").to_pylist()
    for row in (2, 7):
        rows[row] = [[665.0] * 4] * 3
    column = pa.array(rows, table.schema.field("features").type)
    pq.write_table(table.set_column(1, "features", column), tmp_path / "f.parquet")
    options = ("compute.unit=4", "max_failed=1.0")

    def failed_first(output: Path) -> None:
        fixed.unlink(missing_ok=True)
        assert run(str(tmp_path / "f.parquet"), bundle, output, *options).counts.failed == 2
        fixed.touch()

    failed_first(tmp_path / "clean")
    with pytest.MonkeyPatch.context() as patch:
        writes = Mortal(patch).writes
        assert run(str(tmp_path / "f.parquet"), bundle, tmp_path / "clean", *options, retry_failed=True).counts.ok == 12
    clean = all_of(tmp_path / "clean")
    for place in range(1, len(writes) + 1):
        output = tmp_path / str(place)
        failed_first(output)
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, place, done=place % 2 == 0)
            with pytest.raises(Killed):
                run(str(tmp_path / "f.parquet"), bundle, output, *options, retry_failed=True)
        ok = {row["video_id"] for row in pq.read_table(output / "videos").to_pylist() if row["status"] == "ok"}
        assert len(ok) >= 10
        result = run(str(tmp_path / "f.parquet"), bundle, output, *options, retry_failed=True)
        assert (result.counts.ok, result.exit_code) == (12, 0)
        assert all_of(output) == clean
        assert verify_output(str(output)).problems == ()


# The command, in processes of its own ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_drivers_on_one_output(features: str, bundle: str, tmp_path: Path) -> None:
    options = ("compute.unit=1", "frames=[4,9]", "estimator.m=8")
    run(features, bundle, tmp_path / "clean", *options)
    both = [
        Process(
            attribute(features, bundle, tmp_path / "out", *options, f"cluster.actors={actors}"),
            stderr=subprocess.STDOUT,
        )
        for actors in (0, 2)
    ]
    told = [driver.communicate(timeout=240)[0] for driver in both]
    assert [driver.returncode for driver in both] == [0, 0], told
    assert all_of(tmp_path / "out") == all_of(tmp_path / "clean")
    assert verify_output(str(tmp_path / "out")).problems == ()


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_goes_on_when_there_is_room(
    features: str, bundle: str, tmp_path: Path
) -> None:
    """A real file system of 64 kB, where this may be mounted; else a limit on the size of files."""
    options = ("compute.unit=1", "classes=all")
    run(features, bundle, tmp_path / "clean", *options)
    out = tmp_path / "small" / "out"
    out.parent.mkdir()
    command = attribute(features, bundle, out, *options, "cluster.actors=0")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "none", out.parent], capture_output=True)
    try:
        limit = [] if mounted.returncode == 0 else ["prlimit", "--fsize=4500"]
        full = subprocess.run([*limit, *esv(*command)], capture_output=True, text=True, check=False, timeout=240)
        assert full.returncode == 1, full.stderr
        line = full.stderr.strip().splitlines()[-1]
        assert line.startswith("stopped early, nothing succeeds any more: cannot write "), full.stderr
        assert ("No space left on device" if not limit else "File too large") in line
        assert line.endswith("run the same command again to resume")
        assert "Traceback" not in full.stderr
        if not limit:
            subprocess.run(["mount", "-o", "remount,size=16m", out.parent], check=True)
        done = preloaded.run(command)
        assert done.returncode == 0, done.stderr
        assert all_of(out) == all_of(tmp_path / "clean")
        if not limit:
            assert "units resumed" in done.stdout
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", out.parent], check=True)


@pytest.mark.slow
def test_an_output_that_may_not_be_written_ends_in_one_line(features: str, bundle: str, tmp_path: Path) -> None:
    """Rights are taken away in the middle of a job."""
    options = ("compute.unit=1", "cluster.actors=0")
    run(features, bundle, tmp_path / "clean", *options)
    out = tmp_path / "out"
    run(features, bundle, out, *options)
    for folder in ("attributions", "videos"):
        for path in sorted((out / folder).glob("part-*"))[20:]:
            path.unlink()
    (out / "_SUCCESS").unlink()
    folders = (out, out / "videos", out / "attributions")
    for path in folders:
        path.chmod(0o555)
    # Root is above the rights of files, unless it gives that up.
    drop = ["setpriv", "--inh-caps=-dac_override", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    command = [*drop, *esv(*attribute(features, bundle, out, *options))]
    denied = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert denied.returncode == 1, denied.stderr
    line = denied.stderr.strip().splitlines()[-1]
    assert line.startswith("stopped early, nothing succeeds any more: cannot write "), denied.stderr
    assert "was denied" in line
    assert "Traceback" not in denied.stderr
    for path in folders:
        path.chmod(0o755)
    assert run(features, bundle, out, *options).resumed_units == 20
    assert all_of(out) == all_of(tmp_path / "clean")


@pytest.mark.slow
def test_the_progress_file_tells_how_a_run_ended(features: str, bundle: str, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "units.jsonl"
    done = preloaded.run([*attribute(features, bundle, out, "compute.unit=4", "cluster.actors=1"), "--log", str(log)])
    assert done.returncode == 0, done.stderr
    told = json.loads((out / "progress.json").read_text())
    assert (told["state"], told["videos"]["ok"], told["units"]) == (
        "done",
        40,
        {"total": 10, "done": 10, "given_up": 0, "missing": 0},
    )
    assert told["seconds"]["compute"] > 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["unit"] for line in lines) == list(range(10))
    assert all((line["event"], line["worker"]) == ("done", "actor-0") for line in lines)
    assert sum(line["rows"] for line in lines) == 40
    assert all(line[stage] >= 0 for line in lines for stage in ("read_s", "compute_s", "commit_s"))
