"""Faults: what is tried again, how often, what is not, and what the user is told in the end."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from esv_ray import storage
from esv_ray.errors import DataError, JobError, SpecError, StorageError
from esv_ray.input.files import list_files
from esv_ray.input.parquet.opening import read_footers
from esv_ray.storage.transport import answers, faults
from esv_ray.storage.transport.answers import is_transient
from esv_ray.storage.transport.faults import RetryPolicy, attempt
from tests.conftest import make_table
from tests.support.client_errors import client_error, of
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.s3_server import S3Server, s3_server

DATA = bytes(range(256)) * 400


class Clock:
    """Time that is_transient by pauses alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pauses: list[float] = []
        monkeypatch.setattr(faults, "pause", self.pauses.append)
        monkeypatch.setattr(faults, "clock", lambda: sum(self.pauses))
        monkeypatch.setattr(faults, "draw", lambda most: most)


def failing(*errors: BaseException) -> Callable[[], int]:
    """Work that raises these, and then gives how often it was done."""
    left = list(errors)

    def work() -> int:
        if left:
            raise left.pop(0)
        return len(errors) + 1

    return work


# The policy -----------------------------------------------------------------------------------------------------------


def test_pauses_grow_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert attempt("s3://b/k", "read", failing(*[ConnectionResetError()] * 9)) == 10
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_pauses_are_drawn_from_nothing_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(faults, "pause", pauses.append)
    for _ in range(200):
        attempt("s3://b/k", "read", failing(TimeoutError()))
    assert 0 <= min(pauses) < 0.02
    assert 0.08 < max(pauses) <= 0.1


def test_the_bound_of_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    with pytest.raises(StorageError) as caught:
        attempt("s3://b/k", "read the model", failing(*[ConnectionResetError("reset by peer")] * 10))
    assert str(caught.value) == (
        "cannot read the model: s3://b/k: reset by peer (10 tries in 33 s); check the endpoint and the network"
    )
    assert caught.value.transient


def test_the_bound_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(StorageError, match=r"\(4 tries in 1 s\)"):
        attempt("s3://b/k", "read", failing(*[TimeoutError("slow")] * 10), policy=RetryPolicy(seconds=1.0))
    assert clock.pauses == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("k"), PermissionError("k"), OSError(errno.ENOSPC, "full"), OSError("no number"),
     botocore.exceptions.NoCredentialsError()],
)  # fmt: skip
def test_what_lasts_is_told_at_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(DataError) as caught:
        attempt("s3://b/k", "read", failing(error))
    assert clock.pauses == []
    assert not isinstance(caught.value, StorageError) or not caught.value.transient


@pytest.mark.parametrize("error", [JobError("ours"), ValueError("a bug"), KeyError("a bug"), pa.ArrowInvalid("broken")])
def test_what_is_no_fault_of_a_store_goes_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        attempt("s3://b/k", "read", failing(error))
    assert caught.value is error
    with pytest.raises(type(error)), storage.locating("s3://b/k", "read"):
        raise error


def endpoint_error(error: Exception) -> Exception:
    raised: Exception = botocore.exceptions.EndpointConnectionError(endpoint_url="http://s3", error=error)
    return raised


def name_error(number: int) -> Exception:
    import socket

    return endpoint_error(aiohttp.ClientConnectorDNSError(None, socket.gaierror(number, "name")))  # type: ignore[arg-type]


PASSING = {
    "503": client_error(503, "SlowDown"),
    "503 of HEAD": client_error(503, "503"),
    "500": client_error(500, "InternalError"),
    "502 of a balancer": client_error(502, "502"),
    "429": client_error(429, "TooManyRequests"),
    "conflict": client_error(409, "ConditionalRequestConflict"),
    "time-out": client_error(400, "RequestTimeout"),
    "damaged": client_error(400, "BadDigest"),
    "refused": endpoint_error(ConnectionRefusedError()),
    "closed": botocore.exceptions.ConnectionClosedError(endpoint_url="http://s3"),
    "read time-out": botocore.exceptions.ReadTimeoutError(endpoint_url="http://s3"),
    "cut": botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    "cut, of aiohttp": aiohttp.ClientPayloadError(),
    "name server busy": name_error(-3),
    "stale": OSError(errno.ESTALE, "stale"),
    "of a disk": OSError(errno.EIO, "in/out"),
    "gcs": of("gcsfs.retry", "HttpError", code=503),
    "gcs checksum": of("gcsfs.retry", "ChecksumError"),
    "azure": of("azure.core.exceptions", "HttpResponseError", status_code=500),
    "azure network": of("azure.core.exceptions", "ServiceResponseError"),
}
LASTING = {
    "404": client_error(404, "NoSuchKey"),
    "403": client_error(403, "AccessDenied"),
    "400": client_error(400, "InvalidRequest"),
    "501": client_error(501, "NotImplemented"),
    "no such bucket": client_error(404, "NoSuchBucket"),
    "unknown name": name_error(-2),
    "no certificate": botocore.exceptions.SSLError(endpoint_url="https://s3", error=ValueError()),
    "gcs": of("gcsfs.retry", "HttpError", code=401),
    "azure": of("azure.core.exceptions", "ClientAuthenticationError", status_code=403),
    "full": OSError(errno.ENOSPC, "full"),
    "too large": OSError(errno.EFBIG, "too large"),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing(name: str) -> None:
    assert is_transient(PASSING[name])
    assert answers.is_store_error(PASSING[name])


@pytest.mark.parametrize("name", LASTING)
def test_lasting(name: str) -> None:
    assert not is_transient(LASTING[name])
    assert answers.is_store_error(LASTING[name])


def test_patience_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage.retry_policy() == RetryPolicy()
    monkeypatch.setenv("ESV_STORAGE", "tries=3, read=2.5")
    assert storage.retry_policy() == RetryPolicy(tries=3, read=2.5)
    for text in (
        "tries",
        "tries=0",
        "tries=x",
        "try=3",
        "read=inf",
        "read=nan",
        "tries=2.5",
        "tries=1_0",
        "tries=\u0663",
        "read=\u0663",
        "read=1_0.5",
    ):
        monkeypatch.setenv("ESV_STORAGE", text)
        with pytest.raises(SpecError, match=f"ESV_STORAGE: expected .* got {text!r}"):
            storage.retry_policy()


def test_the_user_has_the_last_word_on_the_client(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 7, "max_pool_connections": 3}})
    fs, _ = storage.open_location(f"s3://{s3.bucket}/x")
    config = fs.s3.meta.config
    assert (config.read_timeout, config.connect_timeout, config.max_pool_connections) == (7, 10.0, 3)
    assert config.retries["total_max_attempts"] == 1
    assert fs.retries == 1


# Every kind of fault, at a real server --------------------------------------------------------------------------------


@pytest.fixture
def place(proxy: FaultProxy, s3: S3Server) -> str:
    """An empty location behind the proxy."""
    return f"s3://{s3.bucket}/{uuid.uuid4().hex}"


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.HANG])
def test_every_call_survives(fault: Fault, place: str, proxy: FaultProxy) -> None:
    proxy.inject(fault, fault)
    url = f"{place}/object"
    assert not storage.exists(url)
    assert storage.commit_new(url, DATA, "write")
    assert not storage.commit_new(url, b"other", "write")
    assert storage.exists(url)
    assert storage.read_bytes(url, "read", most=len(DATA)) == DATA
    assert storage.list_names(place, "list") == ["object"]
    assert storage.list_folder(place, "list") == ([], ["object"])
    assert [entry.url for entry in storage.find(place, "list", lambda below: True)] == [url]
    storage.replace(url, DATA[::-1], "write")
    with storage.reader(url, "read") as file:
        file.seek(10)
        assert file.read(100) == DATA[::-1][10:110]
    storage.remove(url, "remove")
    assert storage.list_names(place, "list") == []
    assert max(proxy.seen.values()) >= 3


@pytest.mark.slow
def test_a_stuck_answer_ends_by_the_read_time_out(place: str, proxy: FaultProxy, s3_as: Callable[..., None]) -> None:
    s3_as(ESV_STORAGE="tries=40,first=0.001,longest=0.005,read=1")
    proxy.inject(Fault.HANG)
    assert storage.commit_new(f"{place}/object", DATA, "write")
    assert storage.list_names(place, "list") == ["object"]


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET])
def test_a_server_that_never_recovers(
    fault: Fault, place: str, proxy: FaultProxy, s3_as: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{place}/object"
    s3_as(ESV_STORAGE="tries=5,first=0.001")
    acts: list[Callable[[], object]] = [
        lambda: storage.commit_new(url, DATA, "ask"),
        lambda: storage.replace(url, DATA, "ask"),
        lambda: storage.read_bytes(url, "ask"),
        lambda: storage.list_names(place, "ask"),
        lambda: storage.remove(url, "ask"),
        lambda: storage.reader(url, "ask"),
        lambda: storage.find(url, "ask", lambda below: True),
    ]
    for act in acts:
        proxy.inject(*[fault] * 1000)
        with pytest.raises(StorageError) as caught:
            act()
        assert re.fullmatch(
            rf"cannot ask: {place}\S*: .* \(5 tries in \d+ s\); check the endpoint and the network",
            str(caught.value),
        )
        assert proxy.requests == 5, "one request a try: nothing below retries too"


def test_a_large_object_in_parts(place: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3FileSystem._pipe_file, "__defaults__", (5 * 2**20, None, "overwrite"))
    proxy.inject(Fault.LOST)
    data = DATA * 110
    assert storage.commit_new(f"{place}/object", data, "write")
    assert storage.read_bytes(f"{place}/object", "read") == data


def test_a_lost_answer_is_told_from_a_lost_race(place: str, proxy: FaultProxy) -> None:
    proxy.inject()
    storage.commit_new(f"{place}/theirs", b"theirs", "write")
    proxy.inject(Fault.LOST)
    assert storage.commit_new(f"{place}/ours", b"ours", "write") is True
    assert storage.commit_new(f"{place}/theirs", b"ours", "write") is False
    assert storage.read_bytes(f"{place}/theirs", "read") == b"theirs"


def test_a_table_is_listed_and_read_whole(place: str, proxy: FaultProxy) -> None:
    """The walks and the globs of fsspec leave out a folder whose listing fails."""
    table = make_table([2] * 900)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=300)
    for name in ("a/0.parquet", "b/1.parquet"):
        storage.commit_new(f"{place}/{name}", bytes(sink.getvalue()), "write")
    for url in (place, f"{place}/*/*.parquet"):
        proxy.inject(Fault.SLOW_DOWN, Fault.RESET)
        assert [file.url for file in list_files(url)] == [f"{place}/a/0.parquet", f"{place}/b/1.parquet"]
    files = list_files(place)
    proxy.inject(Fault.CUT, Fault.SLOW_DOWN, only=lambda method, path: method == "GET")
    assert [sum(group.rows for group in footer.groups) for footer in read_footers(files)] == [900, 900]
    proxy.inject(Fault.CUT, Fault.SLOW_DOWN, only=lambda method, path: method == "GET")
    parquet = pq.ParquetFile(storage.reader(files[0].url, "read", files[0].size), pre_buffer=True)
    assert parquet.read_row_group(1).equals(table.slice(300, 300))


def test_pyarrow_passes_the_final_error_on(place: str, proxy: FaultProxy, s3_as: Callable[..., None]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"number": np.arange(9000)}), sink)
    storage.commit_new(f"{place}/t.parquet", bytes(sink.getvalue()), "write")
    parquet = pq.ParquetFile(storage.reader(f"{place}/t.parquet", "read the table"), pre_buffer=True)
    s3_as(ESV_STORAGE="tries=3,first=0.001")
    proxy.inject(*[Fault.CUT] * 1000)
    with pytest.raises(StorageError, match=r"cannot read the table: .* \(3 tries"):
        parquet.read()


def test_a_server_that_is_away_for_a_while(place: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.commit_new(f"{place}/object", DATA, "write")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            proxy.back()

    monkeypatch.setattr(faults, "pause", pause)
    proxy.away()
    assert storage.read_bytes(f"{place}/object", "read") == DATA
    assert len(pauses) == 4


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again(
    tmp_path: Path, s3_as: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path) as server:
        s3_as(**server.environment())
        url = f"s3://{server.bucket}/object"
        assert storage.commit_new(url, DATA, "write")
        server.kill()
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                server.start()

        monkeypatch.setattr(faults, "pause", pause)
        monkeypatch.setattr(faults, "clock", lambda: 0.0)
        assert storage.read_bytes(url, "read") == DATA
        assert not storage.commit_new(url, b"other", "write")
        assert len(pauses) >= 2
    s3_as()


# A disk, or what is mounted as one ------------------------------------------------------------------------------------


def test_a_disk_that_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sync, left = os.fsync, [errno.EIO, errno.ESTALE]

    def fsync(file: int) -> None:
        if left:
            raise OSError(left.pop(), "of the disk")
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    assert storage.commit_new(f"{tmp_path}/object", DATA, "write")
    assert storage.read_bytes(f"{tmp_path}/object", "read") == DATA
    assert len(clock.pauses) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_a_link_whose_answer_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS repeats the request, and finds the link that it made."""
    link = os.link

    def twice(source: str, target: str) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert storage.commit_new(f"{tmp_path}/object", b"first", "write") is True
    assert storage.commit_new(f"{tmp_path}/object", b"second", "write") is False
    assert storage.read_bytes(f"{tmp_path}/object", "read") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_new_names_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    for write in (storage.commit_new, storage.replace):
        synced.clear()
        folder = tmp_path / write.__name__ / "deep"
        write(f"{folder}/object", b"x", "write")
        assert {str(tmp_path), str(folder.parent), str(folder)} <= set(synced)
        assert synced[-1] == str(folder)


def test_a_disk_without_hard_links_does_not_create_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    assert storage.creates_only(str(tmp_path)) is False
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_replaces_does_not_create_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that never heard of the condition."""

    def overwrite(fs: Any, path: str, data: bytes) -> bool:
        fs.pipe_file(path, data)
        return True

    monkeypatch.setattr("esv_ray.storage.trials.create_once", overwrite)
    place = f"memory://{uuid.uuid4().hex}"
    assert storage.creates_only(place) is False
    assert storage.list_names(place, "list") == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder" / "file").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot write: "):
        storage.creates_only(f"{tmp_path}/file")
    for place, why in (("file", "file"), ("file/deep", "expected a folder above it"), ("link/x", "broken link")):
        with pytest.raises(DataError, match=why):
            storage.check_writable(str(tmp_path / place), "write the tables")
    with pytest.raises(DataError, match=r"cannot write the tables: .*/file: expected a file or nothing, got a folder"):
        storage.check_writable(f"{tmp_path}/folder", "write the tables", ["other", "file"])


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    for place in (str(tmp_path), str(tmp_path / "not" / "there"), f"memory://{uuid.uuid4().hex}/deep"):
        storage.check_writable(place, "write the tables")
        assert storage.list_names(place, "list") == []
    assert list(tmp_path.iterdir()) == []
