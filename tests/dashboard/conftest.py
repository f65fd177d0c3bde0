"""A made-up output with hostile ids and names, and a dashboard of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from esv_ray.bench.outputs import Shape
from tests.support.dashboards import NEW_IDS, Filmed, Served, filmed_videos, made_up, served
from tests.support.pictures import png

SHAPE = Shape(videos=300, elements=6, n_classes=12, rows=64)


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 videos of 6 elements and 12 classes, in 5 units."""
    return made_up(tmp_path_factory.mktemp("dashboard") / "esv", SHAPE)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of all frames of one video, of all but one of another, and a secret beside the folder."""
    folder = tmp_path_factory.mktemp("media") / "frames"
    for video_id, frames in (("video-00000010", range(6)), (NEW_IDS["video-00000005"], range(5))):
        for frame in frames:
            path = folder / video_id / f"{frame:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(32, 90))
    (folder.parent / "secret").mkdir()
    (folder.parent / "secret" / "0.png").write_bytes(png(32, 90))
    return folder


@pytest.fixture(scope="session")
def dashboard(output: Path, media: Path) -> Iterator[Served]:
    """The output, with pictures."""
    with served(str(output), media=str(media)) as running:
        yield running


@pytest.fixture(scope="session")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Filmed:
    """Videos of several kinds, their feature table, and an exact output with all further tables."""
    return filmed_videos(tmp_path_factory.mktemp("filmed"))


@pytest.fixture(scope="session")
def cinema(filmed: Filmed) -> Iterator[Served]:
    """The output of the videos, with the videos."""
    with served(filmed.output, media=filmed.videos) as running:
        yield running
