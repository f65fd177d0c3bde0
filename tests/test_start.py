"""What the command needs before it imports anything: threads, and a locale that can name files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from esv_ray.machine import lacks_threads, startable
from tests.support.jobs import attribute
from tests.support.processes import Command

pytestmark = pytest.mark.xdist_group("nobody")  # of one user, who has processes of one test at a time

USER = 54323
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ROOT = Path(__file__).parents[1]


def with_few(limit: int, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`esv ...` of a user who may have so many processes and threads, but may read what this one may."""
    caps = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    user = ["setpriv", f"--reuid={USER}", "--clear-groups", *caps, "prlimit", f"--nproc={limit}:{limit}"]
    return subprocess.run(
        [*user, sys.executable, "-m", "esv_ray", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )


@pytest.fixture
def few_allowed() -> None:
    """Skip where a user without other processes cannot be had."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or with_few(1000, "--version").returncode:
        pytest.skip("needs root, and setpriv with ambient capabilities")


@pytest.mark.usefixtures("few_allowed")
@pytest.mark.parametrize("limit", [1, 2, 3, 8, 14])
@pytest.mark.parametrize("words", [["--version"], ["analyze", "nothing"]], ids=" ".join)
def test_too_few_threads_are_one_line(limit: int, words: list[str]) -> None:
    ended = with_few(limit, *words)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    (line,) = ended.stderr.splitlines()
    assert line.startswith("esv: expected to start ")
    assert line.endswith(
        f" more processes and threads, got {limit - 1}; raise the user's limit (ulimit -u) or the container's (its "
        "pids limit)"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("few_allowed")
def test_as_many_threads_as_are_asked_for_are_enough(features: str, bundle: str, tmp_path: Path) -> None:
    """A line of 15 means that a job runs with 15: OpenBLAS, jemalloc, Arrow and torch included."""
    out = tmp_path / "out"
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    out.mkdir()
    out.chmod(0o777)
    needed = int(with_few(1, "--version").stderr.split("expected to start ")[1].split()[0])
    ended = with_few(needed + 1, *attribute(features, bundle, out, "cluster.actors=0"))
    assert (ended.returncode, ended.stderr) == (0, ""), ended


def test_the_threads_asked_for_grow_with_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def none(most: int) -> int:
        counts.append(most)
        return 0

    monkeypatch.setattr("esv_ray.machine.startable", none)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for processors in (1, 8, 64, 500):
        monkeypatch.setattr("esv_ray.machine.cores", lambda processors=processors: processors)
        assert "ulimit -u" in str(lacks_threads())
    assert [count - counts[0] for count in counts] == [0, 7, 63, 63]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    lacks_threads()
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    lacks_threads()
    assert [count - counts[0] for count in counts[-2:]] == [1, 0]


def test_there_is_room_here() -> None:
    assert lacks_threads() is None
    assert startable(3) == 3


@pytest.mark.slow
def test_a_job_of_another_locale_is_resumed(features: str, bundle: str, tmp_path: Path) -> None:
    """Paths are the same texts under every locale: in options, in specs and in run.json."""
    (tmp_path / "ué").symlink_to(features)
    spec = tmp_path / "spé.yaml"
    spec.write_text(f"{{features: {tmp_path}/ué, model: {bundle}, output: {tmp_path}/o→, cluster: {{actors: 0}}}}")
    words = ["attribute", "--features", f"{tmp_path}/ué", "--model", bundle, "--output", f"{tmp_path}/o→"]
    for said, environment, command in (
        ("", ASCII, ["attribute", str(spec)]),
        ("units resumed", {"LC_ALL": "C.UTF-8"}, ["attribute", str(spec)]),
        ("units resumed", ASCII, [*words, "--set", "cluster.actors=0"]),
        ("units resumed", {"PYTHONIOENCODING": "latin-1"}, [*words, "--set", "cluster.actors=0"]),
    ):
        code, out, err = Command(*command, environment=environment, new_interpreter=True).end()
        assert (code, err) == (0, ""), err
        assert said in out
    assert f"tables: {tmp_path}/o\\u2192" in out, "what the terminal cannot show is escaped"


def test_a_locale_that_cannot_be_left_is_told_of() -> None:
    words = [sys.executable, "-X", "utf8=0", "-m", "esv_ray", "--version"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **ASCII})
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("esv: expected a locale of UTF-8 for the names of files, got ascii; set LC_ALL=C.UTF-8")
