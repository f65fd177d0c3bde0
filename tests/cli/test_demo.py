"""esv demo: the main job on its real data, and a second run that resumes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from esv_ray.output.verify.output import verify_output

DATA = Path(__file__).parents[2] / "jobs" / "demo"


def demo(folder: Path, *limits: str) -> str:
    command = [*limits, sys.executable, "-m", "esv_ray", "demo", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_demo_from_end_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    stdout = demo(folder)
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
    again = demo(folder, "prlimit", "--nofile=60:60")  # with which Ray would not be started
    assert "24 of 24 units resumed" in again


def test_the_data_are_as_documented() -> None:
    train, test = (pq.read_table(DATA / f"{name}.parquet") for name in ("train", "test"))
    assert (train.num_rows, test.num_rows) == (270, 370)
    lengths = [len(row) for row in test.column("features").to_pylist()]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert set(train.column("label").to_pylist()) == set(range(9))
    assert "CC BY 4.0" in (DATA / "README.md").read_text()
