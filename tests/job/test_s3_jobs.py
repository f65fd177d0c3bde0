"""Jobs whose features, model and output lie on a real S3 server: one that fails all the time, one that is restarted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.jobs import all_of, attribute, files_of, run
from tests.support.preloaded import Process
from tests.support.processes import wait_until
from tests.support.s3_server import S3Server, client, s3_server

pytestmark = pytest.mark.xdist_group("jobs")

ROOT = "s3-jobs"  # the server of the session has other tests' objects, too
OPTIONS = ("compute.unit=2", "frames=[4,9]", "estimator.m=40")
FEW = ("compute.unit=4", *OPTIONS[1:])


@pytest.fixture
def own_s3(tmp_path: Path) -> Iterator[S3Server]:
    """A server of the test's own, which it may kill."""
    with s3_server(tmp_path / "s3") as server:
        yield server


def put(server: S3Server, features: str, bundle: str) -> tuple[str, str, str]:
    """Features and model on the server, and a place for the output."""
    fs, root = client(server), f"{server.bucket}/{ROOT}"
    fs.put(features + "/", f"{root}/features/", recursive=True)
    fs.put(bundle + "/", f"{root}/model/", recursive=True)
    return f"s3://{root}/features", f"s3://{root}/model", f"s3://{root}/out"


def same_as_clean(server: S3Server, features: str, bundle: str, tmp_path: Path, *options: str) -> None:
    """Both tables are those of a local run; names hold a hash of where the input lies, contents do not."""
    client(server).get(f"{server.bucket}/{ROOT}/out", str(tmp_path / "out"), recursive=True)
    run(features, bundle, tmp_path / "clean", *options)
    found, clean = files_of(tmp_path / "out"), files_of(tmp_path / "clean")
    assert [found[name] for name in sorted(found)] == [clean[name] for name in sorted(clean)]
    assert all_of(tmp_path / "out")["_SUCCESS"] == all_of(tmp_path / "clean")["_SUCCESS"]


@pytest.mark.slow
def test_a_store_that_fails_every_request_once_or_twice(
    s3: S3Server, features: str, bundle: str, tmp_path: Path
) -> None:
    """Every request of the driver and the actors meets faults of several kinds before it goes through."""
    places = put(s3, features, bundle)
    with fault_proxy(s3.endpoint) as proxy:
        proxy.inject(Fault.SLOW_DOWN, Fault.LOST, Fault.CUT)
        environment = {**os.environ, **s3.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}
        environment["ESV_STORAGE"] = "tries=40,first=0.01,longest=0.02,read=5"
        done = preloaded.run(attribute(*places, *FEW, "cluster.actors=2"), environment=environment)
        assert done.returncode == 0, done.stderr
        assert "40 videos: 40 ok" in done.stdout
        assert proxy.requests > 3 * 20, "two files of ten units, three faults each"
    same_as_clean(s3, features, bundle, tmp_path, *FEW)


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again(
    own_s3: S3Server, features: str, bundle: str, tmp_path: Path
) -> None:
    """In the middle of a job: it waits, and goes on; nothing is done twice."""
    places = put(own_s3, features, bundle)
    log = tmp_path / "log"
    command = [*attribute(*places, *OPTIONS, "cluster.actors=2"), "--log", str(log)]
    environment = {**os.environ, **own_s3.environment(), "ESV_STORAGE": "tries=1000,seconds=200,longest=0.5"}
    driver = Process(command, environment=environment)
    wait_until(lambda: log.exists() and log.read_text().count('"done"') >= 3, "nothing was committed")
    own_s3.kill()
    time.sleep(1)  # long enough that both actors meet it
    assert driver.poll() is None
    own_s3.start()
    _, told = driver.communicate(timeout=240)
    assert driver.returncode == 0, told
    lines = log.read_text().splitlines()
    assert len(lines) == len(list(client(own_s3).ls(f"{own_s3.bucket}/{ROOT}/out/videos"))), "each unit once"
    same_as_clean(own_s3, features, bundle, tmp_path, *OPTIONS)
