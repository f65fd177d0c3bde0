"""Storage: one contract on local disk, in memory and on a real S3 server; faults named in one line."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import resource
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.spec import AbstractFileSystem
from s3fs import S3FileSystem

from esv_ray import storage
from esv_ray.errors import DataError, EsvError, SpecError
from esv_ray.spec import load_spec
from esv_ray.storage.transport import requests
from tests.support.lying_server import Lie, LyingServer, lying_server
from tests.support.s3_server import S3Server

MANY = bytes(range(256)) * 4000


def everything(url: str) -> list[str]:
    """All names below a location, hidden ones too."""
    fs, path = storage.open_location(url)
    names = storage.attempt(url, "look", lambda: fs.find(path, withdirs=False))
    # An emptied folder may be kept, and is then given as its own content.
    return sorted({name[len(path) :].strip("/") for name in names} - {""})


def message_of(error: type[EsvError], act: Callable[[], object]) -> str:
    """The one line with which something is refused."""
    with pytest.raises(error) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    return message


# The contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"first", MANY], ids=["nothing", "little", "much"])
def test_commit_new_publishes_once(any_place: str, data: bytes) -> None:
    url = f"{any_place}/deep/down/object"
    assert storage.commit_new(url, data, "write") is True
    assert storage.commit_new(url, b"second", "write") is False
    assert storage.commit_new(url, data, "write") is False
    assert storage.read_bytes(url, "read") == data
    assert everything(any_place) == ["deep/down/object"]


@pytest.mark.parametrize("data", [b"", b"first", MANY], ids=["nothing", "little", "much"])
def test_commit_from_publishes_a_file_once(any_place: str, tmp_path: Path, data: bytes) -> None:
    url, file, other = f"{any_place}/deep/object", tmp_path / "file", tmp_path / "other"
    file.write_bytes(data)
    other.write_bytes(b"second")
    assert storage.commit_from(url, file, "write") is True
    assert storage.commit_from(url, other, "write") is False
    assert storage.commit_from(url, file, "write") is False
    assert storage.read_bytes(url, "read") == data
    assert everything(any_place) == ["deep/object"]


def test_replace_overwrites(any_place: str) -> None:
    url = f"{any_place}/deep/object"
    for data in (b"first", MANY, b"", b"last"):
        storage.replace(url, data, "write")
        assert storage.read_bytes(url, "read") == data
    assert everything(any_place) == ["deep/object"]


def test_replace_and_commit_new_see_each_other(any_place: str) -> None:
    url = f"{any_place}/object"
    assert storage.commit_new(url, b"first", "write")
    storage.replace(url, b"second", "write")
    assert not storage.commit_new(url, b"third", "write")
    assert storage.read_bytes(url, "read") == b"second"


def test_exists(place: str) -> None:
    url = f"{place}/folder/object"
    assert not storage.exists(url)
    storage.commit_new(url, b"x", "write")
    assert storage.exists(url)
    assert storage.exists(f"{place}/folder")
    assert not storage.exists(f"{place}/folder/object2")
    assert not storage.exists(f"{place}/folder/obj")
    assert not storage.exists(f"{place}/other")


def test_exists_after_a_removal_and_a_new_object(any_place: str) -> None:
    """Listings that a client keeps would hide what other workers do."""
    url = f"{any_place}/object"
    storage.commit_new(url, b"x", "write")
    assert (storage.exists(url), storage.list_names(any_place, "list")) == (True, ["object"])
    storage.commit_new(f"{any_place}/other", b"x", "write")
    storage.remove(url, "remove")
    assert (storage.exists(url), storage.list_names(any_place, "list")) == (False, ["other"])
    assert storage.commit_new(url, b"y", "write")
    assert (storage.exists(url), storage.list_names(any_place, "list")) == (True, ["object", "other"])


def test_list_names(place: str) -> None:
    assert storage.list_names(place, "list") == []
    for name in ("b", "a", "folder/c", "folder/deep/d", ".hidden", "a b+ü%20"):
        storage.commit_new(f"{place}/{name}", b"x", "write")
    expected = sorted(["b", "a", "folder", ".hidden", "a b+ü%20"])
    assert storage.list_names(place, "list") == expected
    assert storage.list_names(f"{place}/", "list") == expected
    assert storage.list_names(f"{place}/folder", "list") == ["c", "deep"]
    assert storage.list_names(f"{place}/fold", "list") == []
    assert storage.list_names(f"{place}/none", "list") == []
    assert storage.read_bytes(f"{place}/a b+ü%20", "read") == b"x"


def test_list_folder(place: str) -> None:
    for name in ("b", "a", "folder/c", "folder/deep/d", ".hidden/e", "a b+ü%20/f", "x=1/g", "same/h"):
        storage.commit_new(f"{place}/{name}", b"x", "write")
    expected = (sorted(["folder", ".hidden", "a b+ü%20", "x=1", "same"]), ["a", "b"])
    assert storage.list_folder(place, "list") == expected
    assert storage.list_folder(f"{place}/", "list") == expected
    assert storage.list_folder(f"{place}/folder", "list") == (["deep"], ["c"])
    for name, why in (("fold", "was not found"), ("a", "expected a folder, found a file")):
        assert why in message_of(DataError, lambda name=name: storage.list_folder(f"{place}/{name}", "list"))  # type: ignore[misc]


def test_list_folder_follows_links(tmp_path: Path) -> None:
    (tmp_path / "there" / "folder").mkdir(parents=True)
    (tmp_path / "there" / "file").touch()
    for name in ("folder", "file", "nothing"):
        (tmp_path / "there" / f"to-{name}").symlink_to(tmp_path / "there" / name)
    assert storage.list_folder(str(tmp_path / "there"), "list") == (
        ["folder", "to-folder"],
        ["file", "to-file", "to-nothing"],
    )


def test_what_is_missing_is_not_found(place: str) -> None:
    storage.commit_new(f"{place}/object", b"x", "write")
    for name in ("none", "object2", "folder/none"):
        url = f"{place}/{name}"
        message = message_of(DataError, lambda url=url: storage.read_bytes(url, "read the model"))  # type: ignore[misc]
        assert message == f"cannot read the model: {url} was not found; check the location"


def test_join() -> None:
    assert storage.join("s3://bucket/a/", "b", "c.json") == "s3://bucket/a/b/c.json"
    assert storage.join("/a", "b") == "/a/b"


@pytest.mark.slow
def test_of_racing_writers_exactly_one_publishes(shared_place: str) -> None:
    writers, rounds = 4, 4
    start = threading.Barrier(writers)

    def write(url: str, writer: int) -> bool:
        start.wait(timeout=30)
        return storage.commit_new(url, bytes([writer]) * 50_000, "write")

    with ThreadPoolExecutor(writers) as threads:
        for number in range(rounds):
            url = f"{shared_place}/object-{number}"
            won = list(threads.map(write, [url] * writers, range(writers)))
            assert sorted(won) == [False] * (writers - 1) + [True]
            assert storage.read_bytes(url, "read") == bytes([won.index(True)]) * 50_000
    assert len(everything(shared_place)) == rounds


def test_readers_see_whole_objects_alone(shared_place: str) -> None:
    """While one object is replaced again and again, every read gives one of its contents."""
    url = f"{shared_place}/object"
    contents = [bytes([number]) * 200_000 for number in range(2)]
    storage.replace(url, contents[0], "write")
    stop = threading.Event()

    def read() -> set[bytes]:
        seen = set()
        while not stop.is_set():
            seen.add(storage.read_bytes(url, "read"))
        return seen

    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(read)
        try:
            for number in range(40):
                storage.replace(url, contents[number % 2], "write")
        finally:
            stop.set()
        assert reader.result() <= set(contents)


def test_remove(any_place: str) -> None:
    url = f"{any_place}/folder/object"
    storage.remove(url, "remove")
    for name in ("object", "other"):
        storage.commit_new(f"{any_place}/folder/{name}", b"x", "write")
    storage.remove(url, "remove")
    storage.remove(url, "remove")
    assert everything(any_place) == ["folder/other"]


def test_move(any_place: str) -> None:
    url, to = f"{any_place}/object", f"{any_place}/aside/moved"
    storage.commit_new(url, MANY, "write")
    storage.move(url, to, "move")
    assert everything(any_place) == ["aside/moved"]
    assert storage.read_bytes(to, "read") == MANY
    storage.move(url, to, "move")  # as again after an answer that was lost
    assert everything(any_place) == ["aside/moved"]


def test_move_goes_on_where_it_was_killed(any_place: str) -> None:
    url, to = f"{any_place}/object", f"{any_place}/moved"
    for name in (url, to):
        storage.commit_new(name, b"x", "write")
    storage.move(url, to, "move")
    assert everything(any_place) == ["moved"]


def test_move_replaces_nothing(any_place: str) -> None:
    url, to = f"{any_place}/object", f"{any_place}/moved"
    storage.commit_new(url, b"first", "write")
    storage.commit_new(to, b"second", "write")
    message = message_of(DataError, lambda: storage.move(url, to, "move the unit"))
    assert message.startswith(f"cannot move the unit: {to}: expected no file there, or one with the content of {url}")
    assert [storage.read_bytes(name, "read") for name in (url, to)] == [b"first", b"second"]
    with pytest.raises(ValueError, match="two locations"):
        storage.move(url, url, "move")
    storage.remove(to, "remove")
    message = message_of(DataError, lambda: storage.move(f"{any_place}/none", to, "move"))
    assert message == f"cannot move: {any_place}/none was not found; check the location"


def test_creates_only(any_place: str) -> None:
    assert storage.creates_only(any_place) is True
    assert everything(any_place) == []


def test_read_bytes_refuses_what_is_too_large(place: str) -> None:
    url = f"{place}/object"
    storage.commit_new(url, MANY, "write")
    assert storage.read_bytes(url, "read", most=len(MANY)) == MANY
    message = message_of(DataError, lambda: storage.read_bytes(url, "read the model", most=1000))
    assert message.startswith(f"cannot read the model: {url}: expected at most 1000 bytes, got {len(MANY)}")


@pytest.mark.parametrize("known", [True, False])
def test_reader(place: str, known: bool) -> None:
    url = f"{place}/object"
    storage.commit_new(url, MANY, "write")
    with storage.reader(url, "read", len(MANY) if known else None) as file:
        assert (file.seek(-5, 2), file.read()) == (len(MANY) - 5, MANY[-5:])
        assert (file.seek(100), file.read(7), file.tell(), file.read(0)) == (100, MANY[100:107], 107, b"")
        assert (file.seek(3, 1), file.read(3)) == (110, MANY[110:113])
        assert (file.seek(len(MANY) + 5), file.read(3), file.read()) == (len(MANY) + 5, b"", b"")
        file.seek(0)
        assert file.read() == MANY
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)


def test_a_reader_of_what_is_not_there(place: str) -> None:
    message = message_of(DataError, lambda: storage.reader(f"{place}/none", "read the table"))
    assert message == f"cannot read the table: {place}/none was not found; check the location"


def test_pyarrow_through_a_reader(place: str) -> None:
    table = pa.table({"number": np.arange(100_000), "text": [str(number % 7) for number in range(100_000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=10_000)
    url = f"{place}/table.parquet"
    storage.commit_new(url, bytes(sink.getvalue()), "write")
    parquet = pq.ParquetFile(storage.reader(url, "read"), pre_buffer=True)
    assert parquet.read_row_group(3, columns=["text"]).equals(table.select(["text"]).slice(30_000, 10_000))
    assert parquet.read().equals(table)


def test_find(any_place: str) -> None:
    names = ["a.parquet", "deep/b.parquet", "deep/er/c.parquet", "other.txt"]
    for name in names:
        storage.commit_new(f"{any_place}/{name}", b"four", "write")
    for pattern, expected in {
        "": names,
        "/a.parquet": names[:1],
        "/*.parquet": names[:1],
        "/d*/?.parquet": names[1:2],
        "/deep/*/[a-c].parquet": names[2:3],
        "/**/*.parquet": names[:3],
        "/n*/*.parquet": [],
    }.items():
        files = storage.find(f"{any_place}{pattern}", "list", lambda below: True)
        root = storage.open_location(any_place)[1]
        assert [storage.open_location(file.url)[1] for file in files] == [f"{root}/{name}" for name in expected]
        assert [file.below for file in files] == (expected if not pattern else [""] * len(expected))
        assert [file.state for file in files] == [storage.state(file.url, "look") for file in files]
        assert {file.state.size for file in files} <= {4}
    parquet = storage.find(any_place, "list", lambda below: below.endswith(".parquet"))
    assert [file.below for file in parquet] == names[:3]


# Local disk -----------------------------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


Write = Callable[[str, bytes, str], object]
writes = pytest.mark.parametrize("write", [storage.commit_new, storage.replace], ids=["commit_new", "replace"])


@writes
def test_a_write_that_fails_half_way_leaves_nothing(write: Write, tmp_path: Path) -> None:
    url = f"{tmp_path}/folder/object"
    with largest_file(100_000):
        message = message_of(DataError, lambda: write(url, MANY, "write the table"))
    assert message.startswith(f"cannot write the table: {url}: ")
    assert "too large" in message
    assert everything(str(tmp_path)) == []
    assert not storage.exists(url)
    write(url, MANY, "write the table")
    assert everything(str(tmp_path)) == ["folder/object"]


def test_a_replacement_that_fails_half_way_keeps_the_old_object(tmp_path: Path) -> None:
    url = f"{tmp_path}/object"
    storage.replace(url, b"old", "write")
    with largest_file(100_000):
        message_of(DataError, lambda: storage.replace(url, MANY, "write"))
    assert storage.read_bytes(url, "read") == b"old"
    assert everything(str(tmp_path)) == ["object"]


@writes
def test_an_interrupted_write_leaves_nothing(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(f"{tmp_path}/object", b"x", "write")
    assert everything(str(tmp_path)) == []


@writes
def test_a_full_disk_says_what_to_do(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    url = f"{tmp_path}/object"
    message = message_of(DataError, lambda: write(url, b"x", "write the table"))
    assert message == f"cannot write the table: {url}: [Errno 28] No space left on device; free some space"
    assert everything(str(tmp_path)) == []


@writes
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "cannot write the table: access to {url} was denied (Permission denied); check the permissions"),
        (errno.EROFS, "cannot write the table: {url}: Read-only file system; give a location that can be written"),
        (errno.ENOSPC, "cannot write the table: {url}: No space left on device; free some space"),
    ],
)
def test_errors_of_the_file_system_name_no_temporary_file(
    number: int, says: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int) -> None:
        raise OSError(number, os.strerror(number), f"{tmp_path}/.object.0123456789abcdef.tmp")

    monkeypatch.setattr(os, "fsync", refuse)
    url = f"{tmp_path}/object"
    assert message_of(DataError, lambda: write(url, b"x", "write the table")) == says.format(url=url)


@writes
@pytest.mark.parametrize("name", ["file/object", "file/deep/object"])
def test_a_file_where_a_folder_should_be(write: Write, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    message = message_of(DataError, lambda: write(f"{tmp_path}/{name}", b"y", "write"))
    assert message.startswith(f"cannot write: {tmp_path}/{name}: ")
    assert everything(str(tmp_path)) == ["file"]


@writes
def test_new_files_have_the_permissions_of_others(write: Write, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"x")
    write(f"{tmp_path}/object", b"x", "write")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "object")}
    assert len(modes) == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_system_without_hard_links(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    url = f"{tmp_path}/object"
    assert storage.commit_new(url, b"x", "write")
    assert storage.read_bytes(url, "read") == b"x"
    assert everything(str(tmp_path)) == ["object"]


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    message = message_of(DataError, lambda: storage.read_bytes(str(tmp_path), "read the spec"))
    assert message.startswith(f"cannot read the spec: {tmp_path}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_permission_denied(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    act: list[Callable[[], object]] = [
        lambda: storage.read_bytes(f"{tmp_path}/locked/a", "read"),
        lambda: storage.commit_new(f"{tmp_path}/locked/a", b"", "write"),
        lambda: storage.exists(f"{tmp_path}/locked/a"),
        lambda: storage.list_names(f"{tmp_path}/locked", "list"),
    ]
    for action in act:
        assert "was denied" in message_of(DataError, action)


def test_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("a/b/") == f"{tmp_path}/a/b"
    assert storage.absolute("./a") == f"{tmp_path}/a"
    assert storage.absolute(f"file://{tmp_path}/a") == f"{tmp_path}/a"
    assert storage.absolute("a/*.parquet") == f"{tmp_path}/a/*.parquet"
    assert storage.absolute("memory://a/b/") == "memory://a/b"
    assert storage.absolute(f"{tmp_path}//a/./c/..//b/") == f"{tmp_path}/a/b"
    assert storage.absolute(f"/{tmp_path}/a") == storage.absolute(f"file:///{tmp_path}/a") == f"{tmp_path}/a"
    storage.replace("here", b"x", "write")
    assert (tmp_path / "here").read_bytes() == b"x"


def test_absolute_of_a_bucket(s3: S3Server) -> None:
    assert storage.absolute(f"s3://{s3.bucket}/a/b/") == f"s3://{s3.bucket}/a/b"


def test_what_lies_in_memory() -> None:
    assert storage.in_this_process("memory://a")
    assert not storage.in_this_process("/memory/a")
    assert storage.is_local(storage.open_location("/a")[0])
    assert not storage.is_local(storage.open_location("memory://a")[0])


# S3 -------------------------------------------------------------------------------------------------------------------


def calls(place: str) -> dict[str, Callable[[], object]]:
    """Every function that asks a store, on an object that is there and one that is not."""
    return {
        "read": lambda: storage.read_bytes(f"{place}/object", "read"),
        "read what is missing": lambda: storage.read_bytes(f"{place}/none", "read"),
        "exists": lambda: storage.exists(f"{place}/object"),
        "exists what is missing": lambda: storage.exists(f"{place}/none"),
        "list_names": lambda: storage.list_names(place, "list"),
        "list_folder": lambda: storage.list_folder(place, "list"),
        "list_names of what is missing": lambda: storage.list_names(f"{place}/none", "list"),
        "commit_new": lambda: storage.commit_new(f"{place}/new", b"x", "write"),
        "commit_new over another": lambda: storage.commit_new(f"{place}/object", b"x", "write"),
        "replace": lambda: storage.replace(f"{place}/object", b"x", "write"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "was denied"),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, "was denied"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "Unable to locate credentials"),
    ],
    ids=["wrong secret", "wrong key", "no key"],
)
def test_refused_credentials_are_no_empty_answer(
    s3: S3Server, s3_as: Callable[..., None], variables: dict[str, str | None], said: str
) -> None:
    place = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    storage.commit_new(f"{place}/object", b"first", "write")
    s3_as(**variables)
    for name, call in calls(place).items():
        message = message_of(DataError, call)
        assert message.startswith("cannot "), name
        assert place in message, name
        assert said in message, name
        assert "credentials" in message, name
        assert s3.secret not in message, name
    s3_as(AWS_ACCESS_KEY_ID=s3.key, AWS_SECRET_ACCESS_KEY=s3.secret)
    assert storage.read_bytes(f"{place}/object", "read") == b"first"
    assert storage.list_names(place, "list") == ["object"]


def test_a_bucket_that_is_not_there(s3: S3Server) -> None:
    url = "s3://no-such-bucket/object"
    for act in (lambda: storage.read_bytes(url, "read"), lambda: storage.commit_new(url, b"x", "write")):
        assert f"{url} was not found; check the location" in message_of(DataError, act)


def test_a_server_that_does_not_answer(s3_as: Callable[..., None]) -> None:
    s3_as(AWS_ENDPOINT_URL="http://127.0.0.1:9", ESV_STORAGE="tries=3,first=0.001")
    message = message_of(DataError, lambda: storage.exists("s3://bucket/object"))
    assert message.startswith("cannot look up: s3://bucket/object: Could not connect to the endpoint URL")
    assert re.search(r"\(3 tries in \d s\); check the endpoint", message)


@pytest.mark.slow
def test_what_others_do_is_seen_at_once(s3: S3Server) -> None:
    """A listing is not kept: between two of them other workers commit, and people delete."""
    place = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    other = S3FileSystem(skip_instance_cache=True)
    assert storage.list_names(place, "list") == []
    other.pipe_file(f"{place}/a", b"x")
    assert (storage.list_names(place, "list"), storage.exists(f"{place}/a")) == (["a"], True)
    other.pipe_file(f"{place}/b", b"x")
    assert (storage.list_names(place, "list"), storage.exists(f"{place}/b")) == (["a", "b"], True)
    other.rm_file(f"{place}/a")
    assert (storage.list_names(place, "list"), storage.exists(f"{place}/a")) == (["b"], False)


def test_large_objects_are_published_once_too(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 100 MB an object is put together from parts, here beyond 10 MB."""
    monkeypatch.setattr(S3FileSystem._pipe_file, "__defaults__", (5 * 2**20, None, "overwrite"))
    url = f"s3://{s3.bucket}/{uuid.uuid4().hex}/object"
    large = MANY * 11
    assert storage.commit_new(url, large, "write")
    assert not storage.commit_new(url, large[::-1], "write")
    assert storage.read_bytes(url, "read") == large
    storage.replace(url, large[::-1], "write")
    assert storage.read_bytes(url, "read") == large[::-1]


@contextmanager
def refusing_server(status: int, code: str, condition: bool) -> Iterator[tuple[str, dict[str, bytes]]]:
    """What no server here does: an endpoint that answers conditional puts (or all) with an error of its own."""
    stored: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if "If-None-Match" in self.headers or not condition:
                body = f"<Error><Code>{code}</Code><Message>says the server</Message></Error>"
                self.answer(status, body.encode())
            else:
                stored[self.path] = data
                self.answer(200)

        def do_DELETE(self) -> None:
            stored.pop(self.path, None)
            self.answer(204)

        def do_HEAD(self) -> None:
            self.answer(200 if self.path in stored else 404)

        def do_GET(self) -> None:
            body = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
            self.answer(200, body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", stored
        finally:
            server.shutdown()
            thread.join()


def test_an_error_of_the_server_is_one_line(s3_as: Callable[..., None]) -> None:
    with refusing_server(400, "InvalidRequest", condition=False) as (endpoint, stored):
        s3_as(AWS_ENDPOINT_URL=endpoint)
        message = message_of(DataError, lambda: storage.commit_new("s3://bucket/object", b"x", "write"))
    assert message == "cannot write: s3://bucket/object: [Errno 22] says the server"
    assert stored == {}


def test_a_store_without_conditional_puts(s3_as: Callable[..., None]) -> None:
    """Such stores are overwritten, as the docstring says: contents are deterministic."""
    with refusing_server(501, "NotImplemented", condition=True) as (endpoint, stored):
        s3_as(AWS_ENDPOINT_URL=endpoint)
        assert storage.commit_new("s3://bucket/object", b"x", "write")
        assert storage.creates_only("s3://bucket") is False
    assert stored == {"/bucket/object": b"x"}


# Locations ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:hush@bucket/key",
        "s3://AKIAKEY:hush@bucket",
        "s3://:hush@bucket/key",
        "https://user:hush@host/key",
        "ftp://user:hush@host:21/key",
        "gs://user:hush@bucket/key",
    ],
)
def test_credentials_in_a_location_are_refused_and_not_printed(url: str) -> None:
    acts: list[Callable[[], object]] = [
        lambda: storage.open_location(url),
        lambda: storage.absolute(url),
        lambda: storage.read_bytes(url, "read"),
        lambda: storage.exists(url),
        lambda: storage.list_names(url, "list"),
        lambda: storage.commit_new(url, b"", "write"),
        lambda: storage.replace(url, b"", "write"),
        lambda: load_spec({"features": url, "model": "m", "output": "o"}),
        lambda: load_spec(url),
    ]
    for act in acts:
        message = message_of(SpecError, act)
        assert message.startswith("a location holds no credentials, got ")
        assert "***@" in message
        assert "hush" not in message
        assert "AWS_ACCESS_KEY_ID" in message


@pytest.mark.parametrize("url", ["foo://bucket/key", "s4://bucket/key"])
def test_an_unknown_protocol(url: str) -> None:
    message = message_of(SpecError, lambda: storage.open_location(url))
    said = (
        f"{url}: expected a path or an fsspec URL such as s3://bucket/prefix, got {url.partition('bucket')[0]}, which"
    )
    assert message.startswith(said)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="the client is installed")
def test_a_client_that_is_not_installed() -> None:
    message = message_of(SpecError, lambda: storage.open_location("gs://bucket/key"))
    assert message.startswith("gs://bucket/key: ")
    assert "gcsfs" in message


def test_what_is_no_url() -> None:
    url = "s3://[bucket/key"
    assert url in message_of(SpecError, lambda: storage.open_location(url))


def test_a_client_that_connects_at_once() -> None:
    url = "ftp://127.0.0.1:9/key"
    assert url in message_of(EsvError, lambda: storage.exists(url))


# Found and mended -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:hu/sh@bucket/key",
        "s3://AKIAKEY:hu?sh@bucket/key",
        "s3://AKIAKEY:hu#sh@bucket/key",
        "simplecache::s3://AKIAKEY:hush@bucket/key",
    ],
)
def test_credentials_of_other_shapes_are_refused_too(url: str) -> None:
    message = message_of(SpecError, lambda: storage.open_location(url))
    assert "sh@" not in message


def test_an_emptied_folder_is_empty(s3: S3Server) -> None:
    """SeaweedFS keeps the folder, and the consoles of other stores make such: an output there is refused."""
    place = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    storage.commit_new(f"{place}/videos/object", b"x", "write")
    fs, path = storage.open_location(f"{place}/videos/object")
    fs.rm(path)
    assert storage.list_names(f"{place}/videos", "list") == []
    assert storage.find(f"{place}/videos", "list", lambda below: True) == []


def test_an_object_is_no_folder(place: str) -> None:
    storage.commit_new(f"{place}/object", b"x", "write")
    assert storage.list_names(f"{place}/object", "list") == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_the_first_stays_without_hard_links_too(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    url = f"{tmp_path}/object"
    assert storage.commit_new(url, b"first", "write")
    assert not storage.commit_new(url, b"second", "write")
    assert storage.read_bytes(url, "read") == b"first"


# What a fault hunt found


def test_a_secret_that_begins_like_a_port() -> None:
    message = message_of(SpecError, lambda: storage.open_location("s3://AKIAKEY:12/hush@bucket/key"))
    assert "hush" not in message


def test_an_access_point_is_no_credentials() -> None:
    storage.open_location("s3://arn:aws:s3:us-west-2:123456789012:accesspoint/name/clips@50fps")


def test_the_first_stays_without_conditional_puts_too(s3_as: Callable[..., None]) -> None:
    with refusing_server(501, "NotImplemented", condition=True) as (endpoint, stored):
        s3_as(AWS_ENDPOINT_URL=endpoint)
        assert storage.commit_new("s3://bucket/object", b"first", "write")
        assert not storage.commit_new("s3://bucket/object", b"second", "write")
    assert stored == {"/bucket/object": b"first"}


# A store that ignores the condition of a create-only write -----------------------------------------------------------


@pytest.fixture
def ignoring(s3_as: Callable[..., None]) -> Iterator[LyingServer]:
    """A store that speaks S3, and overwrites whatever the condition."""
    with lying_server() as server:
        server.lie = Lie.IGNORES_CONDITIONS
        s3_as(AWS_ENDPOINT_URL=server.endpoint)
        yield server


@pytest.mark.parametrize("check", [False, True])
def test_what_is_there_stays_where_conditions_are_ignored(ignoring: LyingServer, check: bool) -> None:
    assert storage.commit_new("s3://bucket/object", b"first", "write", check=check)
    assert not storage.commit_new("s3://bucket/object", b"second", "write", check=check)
    assert ignoring.stored == {"/bucket/object": b"first"}
    assert storage.creates_only("s3://bucket") is False


def test_who_was_overwritten_in_the_same_moment_is_told(ignoring: LyingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look before either writes; `check` looks again."""
    published = requests.pipe

    def overtaken(fs: AbstractFileSystem, path: str, data: bytes, mode: str = "overwrite") -> None:
        published(fs, path, data, mode)
        ignoring.stored[f"/{path}"] = b"theirs"

    monkeypatch.setattr(requests, "pipe", overtaken)
    assert storage.commit_new("s3://bucket/plain", b"ours", "write"), "contents are deterministic there"
    assert not storage.commit_new("s3://bucket/checked", b"ours", "write", check=True)


@pytest.mark.parametrize("data", [b"", b"ours"])
def test_a_checked_commit_is_one_like_others(any_place: str, data: bytes) -> None:
    assert storage.commit_new(f"{any_place}/object", data, "write", check=True)
    assert not storage.commit_new(f"{any_place}/object", b"theirs", "write", check=True)
    assert storage.read_bytes(f"{any_place}/object", "read") == data


def test_a_trial_leaves_no_folder_behind(tmp_path: Path) -> None:
    assert storage.creates_only(str(tmp_path / "not" / "yet" / "there"))
    assert list(tmp_path.iterdir()) == []
