"""Parts that many tests share: the recorded cases, small models and tables, one S3 server, one Ray runtime."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, settings

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.model import VideoModel, multiscale_model
from esv_ray.machine import cores
from esv_ray.models.saving import save_heads
from tests.support.processes import mark_ours
from tests.support.s3_server import S3Server, s3_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

mark_ours()
# Nothing fails because the machine is busy: no example has a deadline.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="of the slow tests and those of a release, only part K of N parts")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests of the other parts. Those of a module are of one part: they share what they start."""
    if not (part := config.getoption("--part")):
        return
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or int(found[1]) >= int(found[2]):
        raise pytest.UsageError(f"--part: expected K/N with K from 0 to N - 1, such as 0/5, got {part!r}")
    k, n = int(found[1]), int(found[2])
    left_out = [
        item
        for item in items
        if any(item.get_closest_marker(mark) for mark in ("slow", "release"))
        and not item.get_closest_marker("always")
        and crc32(item.location[0].encode()) % n != k
    ]
    config.hook.pytest_deselected(items=left_out)
    leave = {id(item) for item in left_out}
    items[:] = [item for item in items if id(item) not in leave]


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores, four at most: tests of clusters and of stores mostly wait."""
    return min(cores() + 1, 4)


REFERENCE = Path(__file__).parent / "reference"
FILES = REFERENCE / "play_fair_files"


def make_heads(
    *, feature_dim: int = 4, hidden: int = 8, n_classes: int = 3, n_max: int = 3, seed: int = 0, gain: float = 2.0
) -> dict[int, MlpHead]:
    """Random heads whose outputs are far enough from zero that classes differ."""
    generator = torch.Generator().manual_seed(seed)
    heads = {}
    for s in range(1, n_max + 1):
        head = MlpHead(scale=s, feature_dim=feature_dim, hidden_dims=[hidden], n_classes=n_classes)
        with torch.no_grad():
            for parameter in head.parameters():
                fan_in = parameter.shape[-1] if parameter.ndim > 1 else 25
                parameter.copy_(gain * torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        heads[s] = head.eval()
    return heads


def make_prior(n_classes: int) -> torch.Tensor:
    """A prior that is not uniform."""
    prior = torch.arange(1, n_classes + 1, dtype=torch.float64)
    return prior / prior.sum()


def make_model(*, feature_dim: int = 4, n_classes: int = 3, n_max: int = 3, seed: int = 0) -> VideoModel:
    """A small multi-scale model."""
    heads = make_heads(feature_dim=feature_dim, n_classes=n_classes, n_max=n_max, seed=seed)
    return multiscale_model(heads, make_prior(n_classes), feature_dim=feature_dim)


def make_table(
    lengths: list[int], *, feature_dim: int = 4, n_classes: int | None = 3, seed: int = 0, prefix: str = "v"
) -> pa.Table:
    """A feature table of random videos; without labels if n_classes is None."""
    rng = np.random.default_rng(seed)
    frames = [rng.standard_normal((length, feature_dim)).astype(np.float32) for length in lengths]
    columns = {
        "video_id": pa.array([f"{prefix}{index}" for index in range(len(lengths))]),
        "features": pa.array([list(video) for video in frames], pa.list_(pa.list_(pa.float32(), feature_dim))),
    }
    if n_classes is not None:
        columns["label"] = pa.array([index % n_classes for index in range(len(lengths))], pa.int32())
    return pa.table(columns)


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    """A small model bundle: D = 4, C = 3, n_max = 3."""
    url = str(tmp_path / "model")
    save_heads(url, make_heads(), make_prior(3), classes=("one", "two", "three"))
    return url


@pytest.fixture
def features(tmp_path: Path) -> str:
    """A feature table of 40 videos of 1 to 9 frames, in two files and several row groups."""
    folder = tmp_path / "features"
    folder.mkdir()
    lengths = [1 + index % 9 for index in range(20)]
    pq.write_table(make_table(lengths, prefix="a"), folder / "part-0.parquet", row_group_size=8)
    pq.write_table(make_table(lengths, seed=1, prefix="b"), folder / "part-1.parquet", row_group_size=20)
    return str(folder)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, its credentials in the environment."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors: a second thread costs more than it brings."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium, one per process: tests that use it are of the group `browser`."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
