"""SIGTERM and Ctrl-C end the command at every stage: soon, with exit code 130, its own last line and no traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from tests.support.bundles import python_bundle
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.jobs import all_of, attribute, poisoned_table, run
from tests.support.preloaded import Process
from tests.support.processes import ENDED, RESUMES, Command, wait_until
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.xdist_group("signals")

INT, TERM = signal.SIGINT, signal.SIGTERM
HERE = ("--set", "cluster.actors=0")


@pytest.mark.parametrize("sign", [INT, TERM])
def test_while_it_starts(sign: signal.Signals, features: str, bundle: str, tmp_path: Path) -> None:
    """As soon as its handler is there, which is before anything slow is imported."""
    command = Command(*attribute(features, bundle, tmp_path / "out"), new_interpreter=True)
    command.reach(lambda: command.handles(TERM))
    command.interrupt(sign)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["torch", "ray"])
def test_while_a_slow_module_is_imported(module: str, features: str, bundle: str, tmp_path: Path) -> None:
    command = Command(*attribute(features, bundle, tmp_path / "out", "cluster.actors=1"), new_interpreter=True)
    maps = Path(f"/proc/{command.process.pid}/maps")
    command.reach(lambda: f"site-packages/{module}/" in maps.read_text())
    command.interrupt(TERM)


# ---------------------------------------------------------------- a store that does not answer


@pytest.fixture(scope="module")
def silent() -> Iterator[tuple[str, Callable[[], bool]]]:
    """A server that accepts connections and never answers: its endpoint, and whether it was asked since."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)
        kept = []

        def asked() -> bool:
            try:
                kept.append(door.accept()[0])
            except BlockingIOError:
                return False
            return True

        yield f"http://127.0.0.1:{door.getsockname()[1]}", asked
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(
    "words",
    [
        ("attribute", "--model", "{bundle}", "--output", "{out}", "--features", "s3://b/f"),
        ("attribute", "--model", "{bundle}", "--output", "{out}", "--features", "s3://b/f", "--partitions"),
        ("attribute", "--features", "{features}", "--output", "{out}", "--model", "s3://b/m"),
        ("verify", "s3://b/out"),
        ("train", "--features", "s3://b/f", "--output", "{out}"),
    ],
    ids=["listing", "partitions", "model", "verify", "train"],
)
def test_while_a_store_does_not_answer(
    words: tuple[str, ...],
    silent: tuple[str, Callable[[], bool]],
    features: str,
    bundle: str,
    tmp_path: Path,
) -> None:
    endpoint, was_asked = silent
    while was_asked():
        pass
    names = {"features": features, "bundle": bundle, "out": str(tmp_path / "out")}
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    command = Command(*(word.format(**names) for word in words), environment={**keys, "AWS_ENDPOINT_URL": endpoint})
    command.reach(was_asked)
    command.interrupt(TERM)


@pytest.fixture(scope="module")
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


class Hangs:
    """Places on the S3 server behind a proxy, some requests to which hang from some time on."""

    def __init__(self, s3: S3Server, proxy: FaultProxy, features: str, bundle: str, root: str) -> None:
        self.proxy, self.bundle, self.root = proxy, bundle, root
        self.environment = {**s3.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}
        self.fs = fsspec.filesystem("s3", skip_instance_cache=True)
        self.fs.put(features + "/", f"{s3.bucket}/{root}/features/", recursive=True)
        self.features, self.output = f"s3://{s3.bucket}/{root}/features", f"s3://{s3.bucket}/{root}/out"
        proxy.inject()

    def hang(self, only: Callable[[str, str], bool]) -> Callable[[], bool]:
        """Requests (method, path) that are not answered; whether one has come."""
        self.proxy.inject(*[Fault.HANG] * 100, only=only)
        return lambda: any(only(method, path) for method, path, _ in list(self.proxy.seen))

    def attribute(self, *overrides: str) -> Command:
        options = ("compute.unit=4", "frames=3", *overrides)
        return Command(*attribute(self.features, self.bundle, self.output, *options), environment=self.environment)


@pytest.fixture
def hangs(s3: S3Server, proxy: FaultProxy, features: str, bundle: str, tmp_path: Path) -> Hangs:
    return Hangs(s3, proxy, features, bundle, tmp_path.name)


def test_while_footers_are_read(hangs: Hangs) -> None:
    reached = hangs.hang(lambda method, path: method == "GET" and "/features/part-" in path)
    command = hangs.attribute("cluster.actors=0")
    command.reach(reached)
    command.interrupt(INT)


def test_while_the_plan_is_written(hangs: Hangs) -> None:
    reached = hangs.hang(lambda method, path: method == "PUT" and "run.json" in path)
    command = hangs.attribute("cluster.actors=0")
    command.reach(reached)
    command.interrupt(TERM, INT)


def test_while_a_unit_is_committed(hangs: Hangs) -> None:
    reached = hangs.hang(lambda method, path: method == "PUT" and "/videos/" in path)
    command = hangs.attribute("cluster.actors=0")
    command.reach(reached)
    command.interrupt(TERM)
    assert json.loads(hangs.fs.cat_file(hangs.output + "/progress.json"))["state"] == "interrupted"


def test_while_the_progress_is_written(hangs: Hangs) -> None:
    """The last write of the progress file would wait for a minute."""
    reached = hangs.hang(lambda method, path: method == "PUT" and "progress.json" in path)
    command = hangs.attribute("cluster.actors=0")
    command.reach(reached)
    command.interrupt(TERM)


def reading(folder: str) -> Callable[[str, str], bool]:
    """Requests for the content of a table's files; whether there is one is asked while a unit is committed, too."""
    return lambda method, path: method == "GET" and f"/{folder}/part-" in path.partition("?")[0]


@pytest.mark.slow
def test_while_it_finishes_verifies_and_repairs(hangs: Hangs, tmp_path: Path) -> None:
    reached = hangs.hang(reading("videos"))
    command = hangs.attribute("cluster.actors=0")
    command.reach(reached)
    assert len(hangs.fs.ls(hangs.output + "/videos")) == 10, "all is committed; their footers are read"
    command.interrupt(TERM)
    assert not hangs.fs.exists(hangs.output + "/_SUCCESS")

    hangs.proxy.inject()
    assert hangs.attribute("cluster.actors=0").end()[0] == 0
    reached = hangs.hang(reading("attributions"))
    command = Command("verify", hangs.output, environment=hangs.environment)
    command.reach(reached)
    command.interrupt(INT)

    hangs.fs.pipe_file(hangs.output + "/videos/part-stray.parquet", b"none")
    reached = hangs.hang(lambda method, path: "/_aside/" in path and method == "PUT")
    command = Command("verify", "--repair", hangs.output, environment=hangs.environment)
    command.reach(reached)
    command.interrupt(TERM)


# ---------------------------------------------------------------- while it runs


def test_while_it_computes_and_it_goes_on_later(tmp_path: Path) -> None:
    """A second signal changes nothing. The progress file says what happened, and the next run ends the job."""
    fixed, out = tmp_path / "fixed", tmp_path / "out"
    hanging = python_bundle(tmp_path / "python", "poisonous", fixed=str(fixed))
    features = poisoned_table(tmp_path / "f.parquet", 12, {6: 663.0, 7: 663.0})
    options = ("compute.unit=1", "cluster.actors=0")
    command = Command(*attribute(features, hanging, out, *options))
    # Two units are computed at a time, on one thread: the first that hangs may come before the last that does not.
    command.reach(lambda: len(list(out.glob("videos/part-*"))) >= 5)
    command.interrupt(TERM, INT, TERM)
    assert json.loads((out / "progress.json").read_text())["state"] == "interrupted"
    fixed.touch()
    code, stdout, err = Command(*attribute(features, hanging, out, *options)).end()
    assert code == 0, err
    assert "units resumed" in stdout
    run(features, hanging, tmp_path / "clean", *options[:1])
    assert all_of(out) == all_of(tmp_path / "clean")


@pytest.mark.parametrize("sign", [INT, TERM])
def test_while_ray_starts(sign: signal.Signals, features: str, bundle: str, tmp_path: Path) -> None:
    command = Command(*attribute(features, bundle, tmp_path / "out", "cluster.actors=1"))
    command.reach(lambda: command.pids(named="gcs_server"))
    command.interrupt(sign)


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_terminal(features: str, tmp_path: Path) -> None:
    """Ctrl-C reaches Ray's processes, too; so does a scheduler's SIGTERM, which ends them before the command."""
    slow = python_bundle(tmp_path / "python", "slow", fixed=str(tmp_path / "quick"), seconds="0.3")
    options = ("compute.unit=1", "frames=1", "cluster.actors=2")
    for sign in (INT, TERM):
        out = tmp_path / sign.name
        command = Command(*attribute(features, slow, out, *options))
        command.reach(lambda: len(list(out.glob("videos/part-*"))) >= 2)  # noqa: B023
        os.killpg(command.process.pid, sign)
        command.interrupt()
        assert json.loads((out / "progress.json").read_text())["state"] == "interrupted"


def test_an_interrupt_that_is_swallowed_or_not_seen() -> None:
    """Raised in a finalizer, it is only printed; other code may swallow it, too; native code does not even see it."""
    code = """
import ctypes, sys, time
from esv_ray import signals
signals.install(); signals.started()
class Final:
    def __del__(self):
        print("in a finalizer", flush=True)
        time.sleep(60)
if sys.argv[1] == "finalizer":
    try:
        made = Final(); del made
        time.sleep(60)
    except KeyboardInterrupt:
        signals.report_interrupted(); signals.leave(130)
elif sys.argv[1] == "native":
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    try:
        print("in a deadlock", flush=True)
        library.pthread_mutex_lock(mutex)
    except KeyboardInterrupt:  # it came a moment before
        signals.report_interrupted(); signals.leave(130)
else:
    while True:
        try:
            print("in a loop", flush=True)
            time.sleep(60)
        except BaseException:
            pass
"""
    children = [
        subprocess.Popen([sys.executable, "-c", code, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for kind in ("finalizer", "loop", "native")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("in a")
        child.send_signal(INT)
    for child in children:
        _, err = child.communicate(timeout=30)
        assert (child.returncode, err) == (130, f"{ENDED}\n")


@pytest.mark.parametrize("acts", [False, True], ids=["nothing to clean up", "something to clean up"])
def test_an_interrupt_of_an_import_by_native_code(acts: bool) -> None:
    """torch imports numpy in C++, which swallows what is raised there and goes on with half of it."""
    code = f"""
import os, signal, sys, time
from contextlib import nullcontext
from esv_ray import signals
signals.install(); signals.started()
class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
with signals.last_act(lambda code: None) if {acts} else nullcontext():
    try:
        import torch
        time.sleep(60)
        print("went on")
    except KeyboardInterrupt:
        signals.report_interrupted()
        signals.leave(signals.INTERRUPTED)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{ENDED}\n")


def test_who_cannot_be_told_does_not_hold_the_end(tmp_path: Path) -> None:
    """Standard error is a pipe that is full and that nobody reads."""
    hanging = python_bundle(tmp_path / "python", "poisonous")
    features = poisoned_table(tmp_path / "f.parquet", 4, dict.fromkeys(range(4), 663.0))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b" " * 65536):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    out = tmp_path / "out"
    with Process(attribute(features, hanging, out, "cluster.actors=0"), stderr=writer) as child:
        wait_until(lambda: (out / "progress.json").exists())
        child.send_signal(TERM)
        assert child.wait(timeout=30) == 130
    os.close(reader)
    os.close(writer)


def test_a_command_that_runs_in_the_background_ignores_ctrl_c(features: str, bundle: str, tmp_path: Path) -> None:
    """As its shell asked; SIGTERM still ends it."""
    before = signal.signal(INT, signal.SIG_IGN)
    try:
        command = Command(*attribute(features, bundle, tmp_path / "out"), new_interpreter=True)
    finally:
        signal.signal(INT, before)
    command.reach(lambda: command.handles(TERM))
    assert not command.handles(INT)
    command.interrupt(TERM)


@pytest.mark.parametrize("resumes", [True, False])
def test_the_last_line_promises_to_resume_only_what_resumes(resumes: bool) -> None:
    code = f"""
import os, signal
from esv_ray import signals
signals.install(); signals.started()
if {resumes}:
    signals.resumes()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    signals.report_interrupted(); signals.leave(130)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=90)
    assert (done.returncode, done.stderr) == (130, f"{ENDED}{RESUMES if resumes else ''}\n")
