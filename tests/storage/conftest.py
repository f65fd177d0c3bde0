"""Places of every kind: a disk, memory, a real S3 server, and the same behind a proxy that injects faults."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.s3_server import S3Server

QUICK = "tries=40,first=0.001,longest=0.005"
"""RetryPolicy for faults that are counted, not waited for."""


_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_Clients = dict[tuple[str | None, ...], dict[str, S3FileSystem]]


@pytest.fixture(scope="session")
def _clients() -> _Clients:
    """Clients of the servers of this session, by credentials and endpoint; to make one takes a quarter of a second."""
    return {}


@pytest.fixture
def s3_as(s3: S3Server, _clients: _Clients, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Change the client's environment. s3fs keeps a client with the credentials it began with, so exchange it too."""
    before = S3FileSystem._cache
    with pytest.MonkeyPatch.context() as patch:

        def change(**variables: str | None) -> None:
            for name, value in variables.items():
                patch.delenv(name) if value is None else patch.setenv(name, value)
            key = tuple(os.environ.get(name) for name in _VARIABLES)
            lasting = key == (request.getfixturevalue("_proxy").endpoint, s3.key, s3.secret)
            S3FileSystem._cache = _clients.setdefault(key, {}) if lasting else {}

        yield change
    S3FileSystem._cache = before


@pytest.fixture(scope="session")
def _proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(_proxy: FaultProxy, s3_as: Callable[..., None]) -> Iterator[FaultProxy]:
    """A proxy before the S3 server, without faults so far, that the client of this test is sent to."""
    _proxy.inject()
    s3_as(AWS_ENDPOINT_URL=_proxy.endpoint, ESV_STORAGE=QUICK)
    yield _proxy
    _proxy.inject()


def _place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if kind == "disk":
        return str(tmp_path / "place")
    if kind == "memory":
        return f"memory://{uuid.uuid4().hex}"
    if kind == "s3 with faults":
        request.getfixturevalue("proxy").inject(Fault.SLOW_DOWN, Fault.LOST)
    return f"s3://{request.getfixturevalue('s3').bucket}/{uuid.uuid4().hex}"


@pytest.fixture(params=["disk", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty location on each kind of storage."""
    return _place(request.param, request, tmp_path)


@pytest.fixture(params=["disk", "memory", "s3", "s3 with faults"])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, and on a store that fails: for writes, of which it may be unknown whether they were done.

    Whatever reads is tried again in one way, which `test_faults` proves of every function.
    """
    return _place(request.param, request, tmp_path)


@pytest.fixture(params=["disk", "s3", "s3 with faults"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty location that several workers share; memory:// is one thread's of one process."""
    return _place(request.param, request, tmp_path)
