"""Places of every kind: a disk, memory, a real S3 server, and the same behind a proxy that injects faults."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.s3_server import S3Server

QUICK = "tries=40,first=0.001,longest=0.005"
"""RetryPolicy for faults that are counted, not waited for."""


@pytest.fixture
def s3_as(s3: S3Server) -> Iterator[Callable[..., None]]:
    """Change the client's environment. A client is kept with the credentials it began with, so forget it each time."""
    with pytest.MonkeyPatch.context() as patch:

        def change(**variables: str | None) -> None:
            for name, value in variables.items():
                patch.delenv(name) if value is None else patch.setenv(name, value)
            S3FileSystem.clear_instance_cache()

        yield change
    S3FileSystem.clear_instance_cache()


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


@pytest.fixture(params=["disk", "memory", "s3", "s3 with faults"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty location on each kind of storage."""
    return _place(request.param, request, tmp_path)


@pytest.fixture(params=["disk", "s3", "s3 with faults"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty location that several workers share; memory:// is one thread's of one process."""
    return _place(request.param, request, tmp_path)
