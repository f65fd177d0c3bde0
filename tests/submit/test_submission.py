"""`esv submit` and what goes with it, against a real cluster with token authentication: `ray start --head`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from esv_ray.errors import SpecError
from esv_ray.extraction.verifying import verify_table
from esv_ray.models.bundle import load_model
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from esv_ray.spec_extract import load_extract_spec
from esv_ray.submit.polling import UnreachableError
from esv_ray.submit.ray_jobs import client as ray_client
from esv_ray.submit.ray_jobs import jobs as ray_jobs
from esv_ray.submit.ray_jobs import logs as ray_logs
from esv_ray.submit.ray_jobs import preflight
from esv_ray.submit.status import read_status, status_lines
from esv_ray.submit.submission import Submission, check_name, exit_code, name_of, parse_id
from tests.conftest import make_table
from tests.support import preloaded
from tests.support.bundles import python_bundle
from tests.support.head import PROGRAMS, free_port, ray_head
from tests.support.jobs import all_of, run
from tests.support.model_bundles import edit
from tests.support.preloaded import Process
from tests.support.processes import wait_until
from tests.support.videos import write_video

pytestmark = pytest.mark.xdist_group("clusters")

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A running cluster and its token."""

    url: str
    token: str

    def esv(
        self, *arguments: str, token: str | None = None, settings: Mapping[str, str] | None = None, given: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A command of a user who knows the token, or thinks so."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment["RAY_AUTH_TOKEN"] = self.token if token is None else token
        if not environment["RAY_AUTH_TOKEN"]:
            del environment["RAY_AUTH_TOKEN"]
            environment["HOME"] = "/nonexistent"  # where Ray would look for one
        environment |= settings or {}
        return preloaded.run([*arguments, *(["--address", self.url] if given else [])], environment=environment)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """A program of a user who knows the token."""
        environment = {**os.environ, "RAY_AUTH_TOKEN": self.token, "RAY_API_SERVER_ADDRESS": self.url}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)

    def ask(self, *arguments: str) -> str:
        """What a command that goes well says."""
        done = self.esv(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    token, dashboard = token_hex(32), free_port()
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",  # the entrypoint's python is the one on the node's PATH
        "PYTHONPATH": str(ROOT),
    }
    agent = f"--dashboard-agent-listen-port={free_port()}"  # Ray's own choice is one number for all of a machine
    options = ("--num-cpus=2", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", agent)
    with (  # a short path: those of Ray's sockets have a limit
        TemporaryDirectory(prefix="h-", ignore_cleanup_errors=True) as folder,
        ray_head(Path(folder), *options, port=free_port(), environment=environment),
    ):
        yield Head(f"http://127.0.0.1:{dashboard}", token)


def arguments(features: str, model: str, output: Path, *options: str) -> list[str]:
    given = ["--features", features, "--model", model, "--output", str(output), "--set", "compute.unit=1"]
    return [*given, "--set", "frames=3", "--code", "tests.support.job_factories", *options]


class Relay:
    """A way to a cluster that can break."""

    def __init__(self, url: str) -> None:
        self.there = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.here = ("127.0.0.1", free_port())
        self.url = f"http://127.0.0.1:{self.here[1]}"
        self.ends: list[socket.socket] = []
        self.join()

    def join(self) -> None:
        self.door = socket.create_server(self.here)
        threading.Thread(target=self._serve, args=(self.door,), daemon=True).start()

    def cut(self) -> None:
        for end in (self.door, *list(self.ends)):
            with suppress(OSError):  # it is at an end already
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends = []

    def _serve(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near = door.accept()[0]
                self.ends.append(near)
                far = socket.create_connection(self.there)
                self.ends.append(far)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(2**16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


def parts(out: Path) -> dict[Path, int]:
    """Return when each part of the videos table was written."""
    return {path: path.stat().st_mtime_ns for path in (out / "videos").glob("part-*")}


@pytest.mark.slow
def test_submit_status_logs_stop_submit_again_over_a_way_that_breaks(head: Head, features: str, tmp_path: Path) -> None:
    """One job: submitted, looked at, stopped; submitted again and followed, while its way to the cluster breaks."""
    held = python_bundle(tmp_path / "held", "held", fixed=str(tmp_path / "quick"))
    out = tmp_path / "My $HOME Output"
    job = arguments(features, held, out)

    assert "submitted esv-my-home-output-1" in head.ask("submit", *job)
    spec = (out / "_submissions" / "esv-my-home-output-1.yaml").read_text()
    assert "address: auto" in spec
    assert load_spec(yaml.safe_load(spec)).code == ("tests.support.job_factories",), "the consent goes with it"
    wait_until(lambda: len(parts(out)) >= 3 and (out / "progress.json").exists())
    told = json.loads(head.ask("status", "my-home-output", "--json"))
    assert (told["state"], told["job"]) == ("RUNNING", "esv-my-home-output-1")
    assert told["progress"] is not None
    assert told["progress_of_this_attempt"] is True
    assert "40 videos" in head.ask("status", "esv-my-home-output-1")
    again = head.esv("submit", *job)
    assert (again.returncode, again.stdout) == (2, "")
    assert "esv-my-home-output-1 is in use" in again.stderr

    stopped = head.ask("stop", "my-home-output")
    assert "STOPPED" in stopped
    assert "interrupted" in stopped, "the driver had the time to say so"
    committed = parts(out)
    assert 3 <= len(committed) < 40
    assert "had already ended" in head.ask("stop", "my-home-output")
    assert "interrupted" in head.ask("logs", "my-home-output")

    relay = Relay(head.url)
    environment = {**os.environ, "RAY_AUTH_TOKEN": head.token}
    words = ["submit", *job, "--follow", "--address", relay.url]
    with Process(words, environment=environment, stderr=subprocess.STDOUT) as follow:
        assert follow.stdout is not None
        before = []
        for line in follow.stdout:
            before.append(line)
            if "videos" in line:
                break
        relay.cut()
        (tmp_path / "quick").touch()
        wait_until(lambda: json.loads((out / "progress.json").read_text())["state"] == "done")
        assert follow.poll() is None
        relay.join()
        rest, _ = follow.communicate(timeout=240)
        followed = "".join([*before, rest])
        assert follow.returncode == 0, followed
    relay.cut()
    assert "submitted esv-my-home-output-2" in followed
    assert followed.count("40 videos: 40 ok") == 1, "each line once"
    assert "units resumed" in followed
    assert "esv-my-home-output-2 SUCCEEDED" in followed
    assert all(path.stat().st_mtime_ns == when for path, when in committed.items())
    listed = [line.split()[:2] for line in head.ask("jobs").splitlines()]
    assert ["esv-my-home-output-2", "SUCCEEDED"] in listed
    assert ["esv-my-home-output-1", "STOPPED"] in listed
    assert head.ask("logs", "-f", "my-home-output") == head.ask("logs", "my-home-output")

    run(features, held, tmp_path / "clean", "compute.unit=1", "frames=3")
    assert all_of(out) == all_of(tmp_path / "clean")
    assert verify_output(str(out)).problems == ()
    other = head.esv("submit", *arguments(features, held, tmp_path / "other"), "--name", "my-home-output")
    assert other.returncode == 2
    assert "the name my-home-output is in use for the output" in other.stderr


@pytest.mark.slow
def test_who_leaves_and_what_is_killed(head: Head, features: str, tmp_path: Path) -> None:
    held = python_bundle(tmp_path / "held", "held", fixed=str(tmp_path / "quick"))
    out = tmp_path / "victim"
    assert "submitted esv-victim-1" in head.ask("submit", *arguments(features, held, out))
    wait_until(lambda: (out / "progress.json").exists())

    environment = {**os.environ, "RAY_AUTH_TOKEN": head.token}
    with Process(["logs", "-f", "victim", "--address", head.url], environment=environment) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert any("videos" in line for line in watch.stdout), "as it goes on"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 130
        where = f"--address {head.url}"
        told = watch.stderr.read().strip()
        assert told == f"esv-victim-1 continues: esv logs -f esv-victim-1 {where}, esv stop esv-victim-1 {where}"
    told_of = json.loads(head.ask("status", "victim", "--json"))
    assert told_of["state"] == "RUNNING", told_of

    drivers = [pid for pid in Path("/proc").iterdir() if pid.name.isdecimal() and _runs(pid, "esv-victim-1.yaml")]
    assert drivers
    for pid in drivers:
        os.kill(int(pid.name), signal.SIGKILL)
    head.ask("logs", "-f", "victim")  # until the cluster knows that it has ended
    lines = head.ask("status", "victim").splitlines()
    assert any("FAILED" in line for line in lines), lines
    assert any(line.startswith("  killed while running: ") for line in lines), lines
    assert not any("actors" in line for line in lines)
    assert all(len(line) < 400 for line in lines)


@pytest.mark.slow
def test_modules_in_the_working_directory_travel_with_the_job(head: Head, features: str, tmp_path: Path) -> None:
    """The driver and its actors import the factory from there; nothing is installed."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "esv_travels.py").write_text(
        "import esv_ray\nfrom tests.support.factories import variable\n"
        "@esv_ray.factory\ndef make():\n    return variable()\n"
    )
    model = python_bundle(tmp_path / "model", "none")
    edit(model, factory="esv_travels:make")
    job = ["submit", "--features", features, "--model", model, "--code", "esv_travels", "--set", "frames=3"]
    done = head.esv(*job, "--output", str(tmp_path / "without"))
    assert (done.returncode, "No module named 'esv_travels'" in done.stderr) == (2, True), done.stderr
    done = head.esv(*job, "--output", str(tmp_path / "with"), "--working-dir", str(code), "--wait")
    assert done.returncode == 0, done.stderr
    assert verify_output(str(tmp_path / "with")).problems == ()


@pytest.mark.slow
def test_an_address_that_is_given_is_the_one(head: Head) -> None:
    """Ray's own client prefers the variables."""
    wrong = f"http://127.0.0.1:{free_port()}"
    settings = {"RAY_API_SERVER_ADDRESS": wrong, "RAY_ADDRESS": wrong}
    assert head.esv("jobs", settings=settings).returncode == 0
    refused = head.esv("jobs", settings=settings, given=False)
    assert (refused.returncode, wrong in refused.stderr) == (2, True)
    assert "RAY_API_SERVER_ADDRESS: cannot reach a cluster" in refused.stderr
    short = head.url.removeprefix("http://")
    for known in ({"RAY_API_SERVER_ADDRESS": short, "RAY_ADDRESS": wrong}, {"RAY_ADDRESS": head.url}):
        told = head.esv("jobs", settings=known, given=False)
        assert told.returncode == 0, told.stderr


@pytest.mark.slow
def test_an_id_that_somebody_else_took_a_moment_ago(head: Head) -> None:
    code = """
from esv_ray.submit.ray_jobs.client import connect
from esv_ray.submit.ray_jobs.submit import _start
client = connect(None)
for _ in range(2):
    _start(client, "true", "esv-twice-1", {})
"""
    done = head.python(code)
    assert done.stderr.splitlines()[-1] == (
        "esv_ray.errors.SpecError: esv-twice-1 is in use: another process has just submitted this id; run esv jobs"
    )


def _runs(process: Path, argument: str) -> bool:
    try:
        return argument in (process / "cmdline").read_text()
    except OSError:  # it is gone
        return False


def test_an_output_tells_where_it_stands_without_a_cluster(features: str, bundle: str, tmp_path: Path) -> None:
    run(features, bundle, tmp_path / "out")
    told = preloaded.run(["status", str(tmp_path / "out")]).stdout
    assert "done: 40 of 40 videos (0 failed" in told
    nothing = preloaded.run(["status", f"{tmp_path}/no"])
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "no: expected the output of a job, found no progress.json" in nothing.stderr


@pytest.mark.slow
@pytest.mark.parametrize("token", ["", "b" * 64])
def test_a_wrong_token_is_told_in_one_line(head: Head, token: str) -> None:
    refused = head.esv("jobs", token=token)
    assert refused.returncode == 2, refused.stdout
    assert "refuses the token; set RAY_AUTH_TOKEN" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert "b" * 64 not in refused.stderr


@pytest.mark.slow
def test_what_would_stop_a_job_is_told_before_it_runs(head: Head, features: str, bundle: str, tmp_path: Path) -> None:
    """The cluster cannot see it, whatever this machine sees."""
    hostile = Path(python_bundle(tmp_path / "hostile", "none"))
    text = (
        (hostile / "model.json")
        .read_text()
        .replace("tests.support.job_factories:none", "tests.support.factories:heads")
    )
    (hostile / "model.json").write_text(text)
    wrong = [
        (
            arguments(features, str(hostile), tmp_path / "o1"),
            "consent to run code, got none for tests.support.factories",
        ),
        (arguments(features, bundle, tmp_path / "o4", "--name", "No Name"), "--name: expected lower-case"),
        (arguments(features, bundle, tmp_path / "o4", "--partitions"), "expected only partitions (subfolders)"),
        (arguments(features, bundle, tmp_path / "o4", "--partitions", "--ready", "a/b"), "--ready: expected the name"),
        (arguments(features, bundle, tmp_path / "o4", "--working-dir", str(tmp_path / "none")), "does not exist"),
    ]
    for given, expected in wrong:
        refused = head.esv("submit", *given)
        assert refused.returncode == 2, refused.stdout
        assert expected in refused.stderr.splitlines()[-1]
    jobs = json.loads(head.ask("jobs", "--json"))
    assert not [job for job in jobs if Path(job["output"]).name in ("o1", "o2", "o3", "o4")]
    assert not [name for name in ("o1", "o2", "o3", "o4") if (tmp_path / name).exists()], "nothing is left behind"
    assert "no such job" in head.esv("status", "nobody").stderr


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"features": "{none}"}, "none was not found"),
        ({"model": "{none}"}, "model.json"),
        ({"classes": [77]}, "expected ids 0..2"),
    ],
    ids=["features", "model", "classes"],
)
def test_the_check_of_the_head_tells_what_is_wrong(
    change: dict[str, Any],
    expected: str,
    features: str,
    bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The check as it runs on the cluster, in this process: it ends before it asks the nodes, and stores no spec."""
    filled = {key: str(tmp_path / "none") if value == "{none}" else value for key, value in change.items()}
    spec = load_spec({"features": features, "model": bundle, "output": str(tmp_path / "o"), **filled})
    monkeypatch.setenv(preflight.SPEC, preflight.packed(spec))
    with pytest.raises(SystemExit) as ended:
        preflight.main()
    assert ended.value.code == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line.removeprefix(preflight.MARK))
    (objection,) = preflight.objections(found, preflight.versions())
    assert objection.startswith("on the cluster: ")
    assert expected in objection
    assert not (tmp_path / "o").exists(), "nothing is left behind"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"videos": "{none}"}, "none was not found"),
        ({"backbone": "tests.support.backbones:none"}, "consent to run code"),
        ({"weights": "{none}"}, "weights: the backbone pooled takes none"),
    ],
    ids=["videos", "backbone", "weights"],
)
def test_the_check_of_an_extraction_tells_what_is_wrong(
    change: dict[str, Any],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "v.mp4", frames=2)
    filled = {key: str(tmp_path / "none") if value == "{none}" else value for key, value in change.items()}
    spec = load_extract_spec(
        {"videos": str(tmp_path), "backbone": "pooled", "output": str(tmp_path / "o"), **filled}, []
    )
    monkeypatch.setenv(preflight.SPEC, preflight.packed(spec))
    with pytest.raises(SystemExit):
        preflight.main()
    (line,) = capsys.readouterr().out.splitlines()
    (objection,) = preflight.objections(json.loads(line.removeprefix(preflight.MARK)), preflight.versions())
    assert objection.startswith("on the cluster: ")
    assert expected in objection
    assert not (tmp_path / "o").exists(), "nothing is left behind"


@pytest.mark.slow
def test_an_extraction_is_submitted_as_a_job_is(head: Head, tmp_path: Path) -> None:
    """Its status, its log and its table; a second submission has nothing left to do."""
    (tmp_path / "clips").mkdir()
    for number in range(6):
        write_video(tmp_path / "clips" / f"{number}.mp4", frames=6)
    spec, table = tmp_path / "extract.yaml", tmp_path / "table"
    text = f"videos: {tmp_path}/clips\nbackbone: pooled\noutput: {table}\nframes: 3\ncompute: {{unit: 2}}\n"
    spec.write_text(text)
    assert "esv-table-1 SUCCEEDED" in head.ask("submit", str(spec), "--wait")
    assert "6 of 6 videos (0 failed" in head.ask("status", "table")
    assert "6 videos: 6 ok" in head.ask("logs", "table")
    assert pq.read_table(table / "features").num_rows == 6
    assert verify_table(str(table)).problems == ()
    assert "esv-table-2 SUCCEEDED" in head.ask("submit", str(spec), "--wait", "--set", "max_failed=0.5")
    assert "3 of 3 units resumed" in head.ask("logs", "table")
    refused = head.esv("submit", str(spec), "--partitions")
    assert refused.returncode == 2
    assert "--partitions is for jobs of esv attribute, not of esv extract" in refused.stderr


@pytest.mark.slow
def test_a_training_is_submitted_as_a_job_is(head: Head, tmp_path: Path) -> None:
    pq.write_table(make_table([4] * 30), tmp_path / "f.parquet")
    spec, model = tmp_path / "train.yaml", tmp_path / "model"
    spec.write_text(f"features: {tmp_path}/f.parquet\noutput: {model}\nn_max: 2\nhidden: 4\nepochs: 2\n")
    assert "esv-model-1 SUCCEEDED" in head.ask("submit", str(spec), "--wait")
    assert "trained on 27 videos" in head.ask("logs", "model")
    assert "2 of 2 heads" in head.ask("status", "model")
    assert load_model(str(model)).n_max == 2


@pytest.mark.slow
def test_partitions_without_files_yet(head: Head, bundle: str, tmp_path: Path) -> None:
    (tmp_path / "daily" / "dt=1").mkdir(parents=True)
    job = arguments(str(tmp_path / "daily"), bundle, tmp_path / "none-yet", "--partitions", "--wait")
    assert "esv-none-yet-1 SUCCEEDED" in head.ask("submit", *job)
    # Ray keeps looking after a check for some seconds after it has ended; those of earlier tests ended long ago.
    code = """
from esv_ray.submit.ray_jobs.client import connect
checks = [one for one in connect(None).list_jobs() if one.submission_id.startswith("check-esv-")]
print({one.status.value for one in checks})
"""
    assert head.python(code).stdout.strip() == "{'SUCCEEDED'}"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("12 videos: 10 ok, 2 failed", "Job entrypoint command failed with exit code 1"),
        ("esv: note\nesv: s3://b/f: no such   bucket\n", "esv: s3://b/f: no such bucket"),
        ("esv: " + "x" * 500, "esv: " + "x" * 295 + "..."),
    ],
)
def test_why_a_job_failed(log: str, expected: str) -> None:
    ray = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"
    assert ray_jobs._reason(f"{ray}2026-11-23 INFO job_manager.py:581 -- Runtime env is setting up.\n{log}") == expected


def test_no_cluster_is_one_line(features: str, bundle: str, tmp_path: Path) -> None:
    given = arguments(features, bundle, tmp_path / "out")
    for address, expected in (
        (f"http://127.0.0.1:{free_port()}", "cannot reach a cluster"),
        ("http://", "expected the address of a cluster's dashboard"),
        ("http://x:99999", "expected the address of a cluster's dashboard"),
        ("ftp://127.0.0.1:8265", "expected the address of a cluster's dashboard"),
        ("ray://127.0.0.1:10001", "expected the address of a cluster's dashboard"),
        ("http://me:secret@127.0.0.1:8265", "without user and password"),
    ):
        refused = preloaded.run(["submit", *given, "--address", address])
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert expected in refused.stderr
        assert "secret" not in refused.stderr


@pytest.mark.slow
def test_a_cluster_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and never answers, as behind a way on which packets are lost."""
    monkeypatch.setattr(ray_client, "_TIMEOUT_S", (1.0, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as door, pytest.raises(UnreachableError, match="does not answer"):
        ray_client.connect(f"http://127.0.0.1:{door.getsockname()[1]}")


def test_a_log_that_falls_silent_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell a quiet driver from a lost way; what was shown is not shown again."""
    monkeypatch.setattr(ray_logs, "_QUIET_S", 0.05)
    shown: list[str] = []
    asked: list[str] = []

    class Quiet:
        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            asked.append(job)
            yield "ab"
            if len(asked) == 1:
                await asyncio.sleep(60)
            yield "c"

    client: Any = Quiet()
    with pytest.raises(ray_logs._BrokenError) as broken:
        asyncio.run(ray_logs._tail(client, "esv-a-1", 0, shown.append))
    assert broken.value.written == 2
    assert asyncio.run(ray_logs._tail(client, "esv-a-1", 2, shown.append)) == 3
    assert shown == ["ab", "c"]


@pytest.mark.slow
def test_a_long_spec_is_packed() -> None:
    places = {"features": "s3://b/f", "model": "s3://b/m", "output": "s3://b/a$HOME"}
    long = load_spec({**places, "classes": list(range(15_000))})
    assert len(preflight.packed(long)) < 60_000
    assert "$" not in preflight.packed(long)
    digits = Random(0)
    endless = long.model_copy(update={"classes": tuple(digits.randrange(10**9) for _ in range(30_000))})
    with pytest.raises(SpecError, match="give shorter lists"):
        preflight.packed(endless)


def test_a_driver_that_is_silent_while_it_waits(tmp_path: Path) -> None:
    told = {"state": "running", "waiting_for": "a node", "units": {"total": 0}, "updated": "2026-11-23T00:00:00+00:00"}
    (tmp_path / "progress.json").write_text(json.dumps(told))
    lines = list(status_lines(read_status(str(tmp_path)), datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp()))
    assert [line.strip() for line in lines[:-1]] == [
        "running: the job has not checked its input yet",
        "waiting for a node",
        "no update for 9 h 0 min: the job may have been killed; submit it again to resume it",
    ]


HERE = {"python": "3.11.7", "esv-ray": "0.1.0", "ray": "2.60.0", "torch": "2.13.0"}


def node(**changes: object) -> dict[str, object]:
    return {"node": "10.0.0.1", "resources": {}, "versions": HERE, "problem": None, **changes}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"versions": HERE, "problem": None, "nodes": [node()]}, None),
        (
            {"versions": {**HERE, "esv-ray": "0.0.9"}, "problem": None, "nodes": []},
            "version mismatch: the cluster has esv-ray 0.0.9, this machine 0.1.0",
        ),
        (
            {"versions": HERE, "problem": None, "nodes": [node(versions={**HERE, "ray": "2.50.0"})]},
            "version mismatch: node 10.0.0.1 has ray 2.50.0 (the head has 2.60.0)",
        ),
        (
            {"versions": HERE, "problem": None, "nodes": [node(problem="s3://b/f: no such bucket")]},
            "on node 10.0.0.1: s3://b/f: no such bucket",
        ),
        ({"versions": HERE, "problem": "DataError: no", "nodes": []}, "on the cluster: DataError: no"),
    ],
)
def test_objections(found: dict[str, object], expected: str | None) -> None:
    told = list(preflight.objections(found, HERE))
    assert [line.startswith(str(expected)) for line in told] == ([] if expected is None else [True])


@pytest.mark.parametrize(
    ("output", "name"),
    [("s3://bucket/esv/mTRN_8/", "mtrn-8"), ("/a/--", "job"), ("x" * 90, "x" * 36), ("é b", "e-b"), ("日本-x", "x")],
)
def test_names(output: str, name: str) -> None:
    assert name_of(output) == name
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 37, "a--b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(SpecError, match="--name: expected lower-case"):
        check_name(name)


@pytest.mark.parametrize(
    ("state", "code", "ours"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", -9, 1),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_exit_codes(state: str, code: int | None, ours: int) -> None:
    assert exit_code(Submission("esv-a-1", "a", 1, state, "o", 0.0, 1.0, "", code)) == ours


@pytest.mark.parametrize("attempt", ["", "x", "\u0663", "9" * 5000])
def test_ids_that_are_none_of_ours(attempt: str) -> None:
    assert parse_id("esv-a-b-12") == ("a-b", 12)
    assert parse_id(f"esv-a-{attempt}") is None
