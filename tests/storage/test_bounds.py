"""Bounds: a store that drips, never ends or lies is cut off, and told in one line; an honest slow one is not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import fsspec
import pytest
from s3fs import S3FileSystem

from esv_ray import storage
from esv_ray.errors import DataError, EsvError, StorageError
from esv_ray.input.files import check_unchanged, list_files
from esv_ray.storage.transport import requests
from esv_ray.storage.transport.bounds import SLACK, RequestLimits
from tests.support.lying_server import Lie, LyingServer, lying_server

CALM = "tries=2,first=0.001,longest=0.002,seconds=1,rate=1e6"
"""For what is cut off by its size, however busy the machine is."""

SHORT = CALM + ",request=0.5"
DATA = bytes(range(256)) * 40
URL = "s3://bucket/o/object"


@pytest.fixture(scope="module")
def _server() -> Iterator[LyingServer]:
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    with lying_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables, "AWS_ENDPOINT_URL": server.endpoint, "ESV_STORAGE": CALM}.items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        assert not storage.exists(URL)  # to make a client takes longer than some bounds of these tests
        yield server
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def server(_server: LyingServer) -> LyingServer:
    """A lying server with one object, which tells the truth so far; a client of little patience."""
    _server.lie = Lie.NONE
    _server.stored = {"/bucket/o/object": DATA}
    _server.seen.clear()
    return _server


def message_of(act: Callable[[], object], kind: type[EsvError] = DataError) -> str:
    """The one line with which it ends."""
    with pytest.raises(kind) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("cannot ")
    return message


def read_range() -> bytes:
    with storage.reader(URL, "read", len(DATA)) as file:
        file.seek(100)
        return file.read(1000)


@pytest.mark.slow
def test_the_truth_passes(server: LyingServer) -> None:
    """Or the refusals below would prove nothing."""
    assert storage.read_bytes(URL, "read") == DATA
    assert read_range() == DATA[100:1100]
    assert storage.list_names("s3://bucket/o", "list") == ["object"]
    assert [file.below for file in storage.find("s3://bucket/o", "list", lambda below: True)] == ["object"]


READS: dict[str, Callable[[], object]] = {
    "whole": lambda: storage.read_bytes(URL, "read"),
    "range": read_range,
    "to its end": lambda: storage.reader(URL, "read").read(),
}
LISTINGS: dict[str, Callable[[], object]] = {
    "names": lambda: storage.list_names("s3://bucket/o", "list", most=200),
    "folder": lambda: storage.list_folder("s3://bucket/o", "list", most=200),
    "all below": lambda: storage.find("s3://bucket/o", "list", lambda below: True, most=200),
    "pattern": lambda: storage.find("s3://bucket/o/*.parquet", "list", lambda below: True, most=200),
}
ALL = {**READS, **LISTINGS}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("lie", [Lie.DRIP, Lie.NEVER_CLOSES])
def test_what_drips_or_stops_ends_by_the_time_of_a_request(
    server: LyingServer, lie: Lie, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESV_STORAGE", SHORT)
    server.lie = lie
    message = message_of(ALL[name], StorageError)
    assert "s3://bucket/o" in message
    assert "no complete answer in" in message
    assert message.endswith("check the endpoint and the network")


@pytest.mark.parametrize("name", ALL)
def test_a_body_without_end_is_cut_off(server: LyingServer, name: str) -> None:
    server.lie = Lie.ENDLESS
    message = message_of(ALL[name], StorageError)
    assert "the store sends more" in message
    assert "check the location, the endpoint and any proxy" in message


@pytest.mark.parametrize("name", READS)
def test_a_range_that_is_ignored(server: LyingServer, name: str) -> None:
    server.lie = Lie.RANGE_IGNORED
    assert "the store sends more" in message_of(READS[name], StorageError)


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("lie", [Lie.TOO_LONG, Lie.TOO_SHORT, Lie.HUGE])
def test_a_wrong_length(server: LyingServer, lie: Lie, name: str) -> None:
    server.lie = lie
    message = message_of(READS[name])
    assert "o/object: " in message
    assert "check " in message


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("lie", [Lie.SAME_PAGE, Lie.NEW_PAGES, Lie.NO_TOKEN])
def test_a_listing_without_end(server: LyingServer, lie: Lie, name: str) -> None:
    server.lie = lie
    message = message_of(LISTINGS[name], StorageError)
    assert "s3://bucket/o" in message
    assert {Lie.SAME_PAGE: "entries", Lie.NEW_PAGES: "at most 200 entries", Lie.NO_TOKEN: "cannot read the answer"}[
        lie
    ] in message
    assert server.seen["GET"] < 20, "it is cut off, and not asked again"


def test_the_same_page_again_and_again(server: LyingServer) -> None:
    server.lie = Lie.SAME_PAGE
    message = message_of(lambda: storage.list_names("s3://bucket/o", "list"), StorageError)
    assert "the store lists the same page again and again" in message


def test_a_changing_etag_is_another_content(server: LyingServer) -> None:
    server.lie = Lie.ETAG
    (file,) = list_files(URL)
    with pytest.raises(DataError, match=f"{URL}: changed since the job was planned"):
        check_unchanged([file])


@pytest.mark.parametrize("name", ["read_bytes", "list_names", "find"])
def test_the_web_is_bounded_too(server: LyingServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{server.endpoint}/bucket/o/object"
    server.stored["/bucket"] = b"an index " * 40
    act = {
        "read_bytes": lambda: storage.read_bytes(url, "read"),
        "list_names": lambda: storage.list_names(url, "list", most=10),
        "find": lambda: storage.find(f"{server.endpoint}/bucket/*", "list", lambda below: True, most=10),
    }[name]
    server.lie = Lie.ENDLESS
    assert "the store sends more" in message_of(act, StorageError)
    monkeypatch.setenv("ESV_STORAGE", SHORT)
    server.lie = Lie.DRIP
    assert "no complete answer in" in message_of(act, StorageError)


def test_a_slow_but_honest_answer_goes_on(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 bytes, 20 of them a second: longer than a request may take, but for what arrives."""
    monkeypatch.setenv("ESV_STORAGE", SHORT.replace("rate=1e6", "rate=1"))
    server.stored["/bucket/o/object"] = DATA[:30]
    server.lie = Lie.DRIP
    assert storage.read_bytes(URL, "read") == DATA[:30]


def test_what_is_sent_gives_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESV_STORAGE", "request=10,rate=100")
    assert 9 < RequestLimits().remaining_s() <= 10
    assert 19 < RequestLimits(takes=1000).remaining_s() <= 20
    received = RequestLimits(gives=1000)
    received.count()
    assert received.remaining_s() <= 10
    received.arrived(bytes(500))
    assert 14 < received.remaining_s() <= 15
    with pytest.raises(OSError, match="expected at most 1000 bytes"):
        received.arrived(bytes(SLACK + 501))


# What hangs in the kernel ---------------------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A file that is never written: opening it hangs, as on a mount whose server is gone."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_disk_that_hangs(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESV_STORAGE", SHORT)
    for act in (lambda: storage.read_bytes(str(pipe), "read the spec"), lambda: storage.reader(str(pipe), "read")):
        message = message_of(act, StorageError)
        assert str(pipe) in message
        assert "no complete answer in" in message


def test_a_hanging_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESV_STORAGE", SHORT)
    free = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda file: free.wait(30))
    try:
        for write in (storage.commit_new, storage.replace):
            assert "no complete answer in" in message_of(lambda write=write: write(f"{tmp_path}/a", b"x", "write"))  # type: ignore[misc]
    finally:
        free.set()


def test_a_client_without_a_loop_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the clients of HDFS and SFTP are."""
    monkeypatch.setenv("ESV_STORAGE", SHORT)
    free = threading.Event()

    class Hanging(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "hanging"

        def info(self, path: str, **options: object) -> dict[str, object]:
            free.wait(30)
            return {}

    fsspec.register_implementation("hanging", Hanging, clobber=True)
    try:
        assert "no complete answer in" in message_of(lambda: storage.exists("hanging://host/object"), StorageError)
    finally:
        free.set()


HANGS = """
import os, signal, sys, threading, time
from esv_ray import storage
def interrupt():
    while not any(thread.name == "esv-storage" for thread in threading.enumerate()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    storage.reader(sys.argv[1], "read")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_hanging_disk_can_be_interrupted_and_does_not_keep_the_process(pipe: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(pipe)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_a_request_that_is_interrupted_is_given_up(server: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESV_STORAGE", "request=60")
    server.lie = Lie.NEVER_CLOSES
    requested: list[Future[object]] = []

    def interrupted(futures: list[Future[object]], timeout: float) -> None:
        requested.extend(futures)
        raise KeyboardInterrupt

    monkeypatch.setattr(requests, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.read_bytes(URL, "read")
    deadline = time.monotonic() + 30
    while not requested[0].done() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert requested[0].cancelled()


def test_more_names_than_a_folder_should_hold(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.parquet").touch()
    place = str(tmp_path)
    assert len(storage.list_names(place, "list", most=5)) == 5
    acts: list[Callable[[], object]] = [
        lambda: storage.list_names(place, "list", most=4),
        lambda: storage.list_folder(place, "list", most=4),
        lambda: storage.find(place, "list", lambda below: True, most=4),
    ]
    for act in acts:
        assert "at most 4" in message_of(act, StorageError)
