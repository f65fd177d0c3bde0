"""The entry points in jobs/, as a cluster runs them: a copy of the folder anywhere, the package installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import make_table
from tests.support.videos import write_video

JOBS = Path(__file__).parents[1] / "jobs"
TRIED = {"train", "attribute", "verify", "analyze", "extract"}


class Entry:
    """Runs copied entry points, in a folder of a user's."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        (folder / "jobs").mkdir()
        self.folder = folder / "jobs"
        for path in JOBS.glob("*.py"):
            shutil.copy(path, self.folder)

    def __call__(self, name: str, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        command = [sys.executable, str(self.folder / f"{name}.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.home, timeout=120)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return Entry(tmp_path)


def test_entry_points_end_as_the_command_does() -> None:
    """At once: while the interpreter is finalized, a thread inside torch may abort the process of a finished job."""
    for path in JOBS.glob("*.py"):
        assert "from esv_ray.__main__ import main\n" in path.read_text()


@pytest.mark.slow
def test_one_after_another(entry: Entry) -> None:
    pq.write_table(make_table([5] * 30), entry.home / "f.parquet")
    (entry.home / "train.yaml").write_text("features: f.parquet\noutput: model\nn_max: 2\nhidden: 8\n")
    code, out, err = entry("train", "train.yaml", "--set", "epochs=2")
    assert (code, "F (all scales)" in out) == (0, True), err
    (entry.home / "job.yaml").write_text("features: f.parquet\nmodel: model\noutput: esv\ncluster: {actors: 0}\n")
    code, out, err = entry("attribute", "job.yaml", "--set", "frames=4")
    assert (code, "30 videos: 30 ok" in out) == (0, True), err
    code, out, err = entry("verify", "esv")
    assert (code, "no problems" in out) == (0, True), err
    code, out, err = entry("analyze", "esv", "--json")
    assert (code, json.loads(out)["sequences"]["ok"]) == (0, 30), err
    (entry.home / "clips").mkdir()
    write_video(entry.home / "clips" / "a.mp4", frames=4)
    (entry.home / "extract.yaml").write_text("videos: clips\nbackbone: pooled\noutput: table\ncluster: {actors: 0}\n")
    code, out, err = entry("extract", "extract.yaml", "--set", "frames=3")
    assert (code, "1 video: 1 ok" in out) == (0, True), (out, err)
    (entry.home / "esv" / "_SUCCESS").unlink()
    assert entry("verify", "esv")[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in JOBS.glob("*.py")))
def test_wrong_input_is_one_line_and_code_2(entry: Entry, name: str) -> None:
    assert name in TRIED, "an entry point that no test runs"
    code, out, err = entry(name, "none")
    assert (code, out) == (2, "")
    assert err.startswith("esv: ")
    assert ("none" if name != "extract" else "missing --backbone, --output") in err
    assert err.count("\n") == 1
