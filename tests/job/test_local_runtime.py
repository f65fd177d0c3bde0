"""A runtime of the command's own: nobody else enters its folder, nothing of it is left, and its death ends no job."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from esv_ray.errors import SpecError
from esv_ray.job.on_ray import session_folder
from esv_ray.job.on_ray.local_runtime import own_runtime
from esv_ray.job.on_ray.session_folder import PREFIX, end_processes, remove_left
from esv_ray.machine import others_can_rename
from tests.support.bundles import python_bundle
from tests.support.jobs import all_of, attribute, run
from tests.support.processes import Command, wait_until

pytestmark = pytest.mark.xdist_group("runtime")

OPTIONS = ("compute.unit=1", "frames=3")
KILL = signal.SIGKILL
AGAIN = "run again to resume"


@pytest.fixture
def slow(tmp_path: Path) -> str:
    return python_bundle(tmp_path / "python", "slow", fixed=str(tmp_path / "quick"), seconds="0.1")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A temporary folder whose path is too long for sockets; Ray by itself would put its folder there."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    return folder


class Job(Command):
    """`esv attribute` on two actors."""

    def __init__(self, features: str, bundle: str, out: Path, temporary: Path) -> None:
        self.out = out
        words = attribute(features, bundle, out, *OPTIONS, "cluster.actors=2")
        super().__init__(*words, environment={"TMPDIR": str(temporary)})

    def committed(self, units: int) -> None:
        self.reach(lambda: len(list(self.out.glob("videos/part-*"))) >= units)

    def kill(self, name: str) -> int:
        """Kill one of Ray's processes."""
        self.reach(lambda: self.pids(named=f"/{name}"))
        (pid,) = self.pids(named=f"/{name}/{name}" if name == "raylet" else f"/{name}")
        os.kill(pid, KILL)
        return pid

    def folders(self) -> list[Path]:
        """The private folder of each of its GCS servers; those that end meanwhile are left out."""
        found = []
        for pid in self.pids(named="/gcs_server"):
            with suppress(FileNotFoundError, ProcessLookupError):
                text = Path(f"/proc/{pid}/environ").read_text()
                pairs = dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)
                if "ESV_RAY_RUNTIME" in pairs:  # else it ended: a zombie
                    found.append(Path(pairs["ESV_RAY_RUNTIME"]))
        return found


def check_private(folder: Path) -> None:
    """Another user can neither look into a folder nor move it, nor what is in it."""
    status = folder.lstat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o700, os.getuid())
    assert folder == folder.resolve()
    assert not others_can_rename(folder.parent)
    if os.geteuid() == 0:
        other = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
        for attempt in ("ls {0}", "mv {0} {0}.moved", "ln -s / {0}/link"):
            words = [*other, *attempt.format(folder).split()]
            assert subprocess.run(words, capture_output=True, check=False).returncode != 0


@pytest.mark.slow
def test_a_lost_gcs_is_replaced_once_and_nobody_else_saw_the_folder(
    features: str, slow: str, elsewhere: Path, tmp_path: Path
) -> None:
    job = Job(features, slow, tmp_path / "out", elsewhere)
    job.committed(3)
    folders = job.folders()
    assert len(folders) == 1
    check_private(folders[0])
    assert folders[0].name.startswith(PREFIX)
    session = next(folders[0].glob("r/session_2*"))
    assert (session / "sockets" / "plasma_store").is_socket()
    job.kill("gcs_server")

    def is_replaced() -> bool:
        new = [folder for folder in job.folders() if folder not in folders]
        folders.extend(new)
        return bool(new)

    job.reach(is_replaced)
    code, out, err = job.end()
    assert code == 0, err
    assert "Ray on this machine ended: its gcs_server was killed (SIGKILL); starting it again" in err.splitlines()
    assert out.startswith("40 videos: 40 ok"), "and nothing of Ray's"
    assert json.loads((tmp_path / "out" / "progress.json").read_text())["state"] == "done"
    assert not any(folder.exists() for folder in folders)
    assert not list(elsewhere.iterdir()), "Ray's usual folder is not touched"
    (tmp_path / "quick").touch()
    run(features, slow, tmp_path / "clean", *OPTIONS)
    assert all_of(tmp_path / "out") == all_of(tmp_path / "clean")


@pytest.mark.slow
def test_a_raylet_that_is_lost_twice_ends_the_job_and_it_can_go_on(
    features: str, slow: str, elsewhere: Path, tmp_path: Path
) -> None:
    job = Job(features, slow, tmp_path / "out", elsewhere)
    job.committed(3)
    actors = job.pids(named="ray::UnitActor")
    job.kill("raylet")
    job.reach(lambda: job.pids(named="ray::UnitActor") - actors)
    job.kill("raylet")
    code, out, err = job.end()
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == f"esv: Ray on this machine ended: its raylet was killed (SIGKILL); {AGAIN}"
    assert json.loads((tmp_path / "out" / "progress.json").read_text())["state"] == "failed"
    (tmp_path / "quick").touch()
    code, out, err = Job(features, slow, tmp_path / "out", elsewhere).end()
    assert (code, "units resumed" in out) == (0, True), err
    run(features, slow, tmp_path / "clean", *OPTIONS)
    assert all_of(tmp_path / "out") == all_of(tmp_path / "clean")


HANG = """
import os, signal, sys
from pathlib import Path
from esv_ray import signals
from esv_ray.job.on_ray import local_runtime
from esv_ray.job.on_ray.runtime import ray_runtime
from esv_ray.spec import ClusterSpec
local_runtime._STUCK_S = 1.0
signals.install(); signals.started()
told = lambda code: Path(sys.argv[1]).write_text(str(code))
with signals.last_act(told), ray_runtime(ClusterSpec(), 1):
    import ray
    from ray._private import worker
    os.kill(worker._global_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)
    ray.nodes()
"""


@pytest.mark.slow
def test_a_call_that_hangs_since_the_gcs_is_lost_ends_the_command(tmp_path: Path) -> None:
    """Ray would end the process after a minute, in words of its own; ours come before, with what is left to be done."""
    done = subprocess.run(
        [sys.executable, "-c", HANG, tmp_path / "told"], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 1
    assert done.stderr == (
        "esv: Ray on this machine ended: its gcs_server was killed (SIGKILL); run the same command again to resume\n"
    )
    assert (tmp_path / "told").read_text() == "1"


@pytest.mark.slow
def test_the_next_command_removes_what_a_killed_one_left(
    features: str, slow: str, elsewhere: Path, tmp_path: Path
) -> None:
    job = Job(features, slow, tmp_path / "out", elsewhere)
    job.reach(lambda: job.pids(named="/raylet/raylet"))
    (folder,) = job.folders()
    job.process.kill()
    job.end()
    assert folder.exists()
    with own_runtime():  # the command of a test in another process may be removing it as well
        wait_until(lambda: not folder.exists())


# ---------------------------------------------------------------- the folder alone


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    yield folder
    shutil.rmtree(folder)


def test_where_it_is(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the temporary folder, or the one chosen for Ray; not where another user could put something in its place."""
    with own_runtime() as folder:
        assert folder.parent.parent == short
        check_private(folder.parent)
    assert not list(short.iterdir())
    short.chmod(0o777)
    with own_runtime() as folder:
        assert folder.parent.parent == Path("/tmp").resolve()
    (short / "inner").mkdir()
    assert others_can_rename(short / "inner")
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    with own_runtime() as folder:
        assert folder.parent.parent == short, "who names it answers for it"
    short.chmod(0o1777)
    assert not others_can_rename(short)
    monkeypatch.setattr(session_folder, "_SOCKET_BYTES", 10)
    with pytest.raises(SpecError, match=r"expected a folder .* set RAY_TMPDIR to one, or set cluster\.actors to 0"):
        own_runtime().__enter__()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("letters", "letters beyond ASCII, which Ray cannot read"),
        ("long", "bytes long"),
        ("missing", "No such file or directory"),
        ("file", "not a folder"),
        ("loop", "No such file or directory"),
    ],
)
def test_a_folder_that_cannot_hold_sockets_is_passed_over(
    kind: str, why: str, short: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The temporary folder, in silence; the one that the user names for Ray, with a line."""
    place = {"letters": short / "t\u00e4\u00f6", "long": short / ("long" * 20)}.get(kind, short / kind)
    if kind in ("letters", "long"):
        place.mkdir()
    elif kind == "file":
        place.touch()
    elif kind == "loop":
        place.symlink_to(short / "nowhere")
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with own_runtime() as folder:
        assert folder.parent.parent == Path("/tmp").resolve()
    assert not caplog.messages
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    with own_runtime() as folder:
        assert folder.parent.parent == Path("/tmp").resolve()
    (line,) = caplog.messages
    assert line.startswith("RAY_TMPDIR=")
    assert why in line
    monkeypatch.setattr(session_folder, "_SOCKET_BYTES", 10)
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    with pytest.raises(SpecError, match=rf"tried {short} \(\d+ bytes long\), "):
        own_runtime().__enter__()


def test_a_folder_without_room_is_passed_over(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk, or one that has no sockets."""

    def full(folder: Path) -> None:
        if folder.parent == short:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(session_folder, "_try_out", full)
    with own_runtime() as folder:
        assert folder.parent.parent == Path("/tmp").resolve()
    assert not list(short.iterdir())


@pytest.mark.slow
def test_a_temporary_folder_with_letters_beyond_ascii(features: str, bundle: str, short: Path, tmp_path: Path) -> None:
    place = short / "t\u00e4\u00f6"
    place.mkdir()
    words = attribute(features, bundle, tmp_path / "out", "cluster.actors=1")
    environment = {"TMPDIR": str(place), "LC_ALL": "C"}
    code, out, err = Command(*words, environment=environment, new_interpreter=True).end()
    assert (code, out.startswith("40 videos: 40 ok")) == (0, True), err


def test_only_what_nobody_holds_is_removed(short: Path) -> None:
    left, link, other = short / f"{PREFIX}left", short / f"{PREFIX}link", short / "other"
    (left / "r" / "session").mkdir(parents=True)
    other.mkdir()
    link.symlink_to(other)
    with own_runtime() as folder:
        assert not left.exists()
        remove_left(short)
        assert folder.parent.exists(), "it is held"
    assert sorted(path.name for path in short.iterdir()) == sorted([link.name, other.name])


def test_a_folder_that_is_removed_before_it_is_held_is_made_again(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command that starts at the same moment takes it for left."""
    real, locks = fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        locks.append(descriptor)
        if len(locks) == 1:
            remove_left(short)  # takes the lock itself, and so comes back here
        elif len(locks) == 3:
            raise BlockingIOError
        else:
            real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with own_runtime() as folder:
        assert folder.parent.exists()
        assert len(locks) == 4, "removed, then in the hands of another, then ours"
    monkeypatch.undo()
    remove_left(short)
    assert not list(short.iterdir())


def test_only_marked_processes_are_ended(short: Path) -> None:
    with own_runtime() as folder:
        child = subprocess.Popen(["sleep", "1000"])
        other = subprocess.Popen(["sleep", "1000"], env={**os.environ, "ESV_RAY_RUNTIME": f"{folder.parent}x"})
        end_processes(folder.parent)
        assert child.wait(10) == -KILL
        assert other.poll() is None
        other.kill()
        other.wait()


@pytest.mark.slow
def test_a_notebook_that_imported_ray_before(features: str, bundle: str, tmp_path: Path) -> None:
    """Ray reads its settings when it is imported: they are applied again, so that it starts, on loopback only."""
    code = f"""
import ray
import esv_ray
from tests.support.processes import is_loopback, listening

def report(progress):
    open_to.update(listening() - before)

before, open_to = listening(), set()
spec = esv_ray.load_spec(
    {{"features": {features!r}, "model": {bundle!r}, "output": {str(tmp_path / "out")!r}}},
    ["frames=3", "cluster.actors=1"],
)
print(esv_ray.run(spec, report).exit_code, bool(open_to))
print({{address for address in open_to if not is_loopback(address)}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 True\nset()\n"
