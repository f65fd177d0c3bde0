"""A cluster whose autoscaler adds nodes while a job runs: what joins is used, what is idle is given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import pytest

from tests.support.autoscaled import autoscaled_cluster
from tests.support.bundles import python_bundle
from tests.support.jobs import all_of, run
from tests.support.ray_nodes import Driver

pytestmark = pytest.mark.xdist_group("clusters")

# Units of 8, 8, 4 and 20 videos, one at a time: the last one leaves the other actor idle for a while.
UNEVEN = ("compute.unit=20", "compute.batch=1", "frames=3")


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # the driver, too, keeps to loopback
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token_hex(32))
    # A short path: those of Ray's sockets have a limit.
    with (
        TemporaryDirectory(prefix="as-", ignore_cleanup_errors=True) as folder,
        autoscaled_cluster(Path(folder), 2) as address,
    ):
        yield address


@pytest.mark.slow
def test_an_autoscaler_grows_from_zero_and_shrinks_at_the_tail(growing: str, features: str, tmp_path: Path) -> None:
    quick = tmp_path / "quick"
    slow = python_bundle(tmp_path / "slow", "slow", fixed=str(quick))
    driver = Driver(
        growing, features, slow, tmp_path / "out", tmp_path / "log", *UNEVEN, "cluster.actors=2"
    )  # the memory budget, too, waits for a node
    driver.wait(lambda: len({line["worker"] for line in driver.done()}) == 2)
    driver.wait(lambda: driver.progress().get("actors", {}).get("ready") == 1)
    quick.touch()
    driver.end()
    run(features, slow, tmp_path / "clean", *UNEVEN)
    assert all_of(tmp_path / "out") == all_of(tmp_path / "clean")
