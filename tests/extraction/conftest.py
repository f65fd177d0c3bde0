"""Real videos of a few frames, and extractions of them in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from esv_ray.extraction.work import extract
from esv_ray.job.result import JobResult
from esv_ray.spec_extract import load_extract_spec
from tests.support.videos import write_video

LENGTHS = {"a": 20, "b": 7, "c/a": 33, "c/d": 12, "e": 16}
"""Frames of the videos, by id."""

Extract = Callable[..., JobResult]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos; tests do not change it."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "c").mkdir()
    for name, frames in LENGTHS.items():
        write_video(folder / f"{name}.mp4", frames=frames)
    (folder / "notes.txt").write_text("not a video")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Extract:
    """Extract with the backbone `pooled` in this process, into the folder `table`, unless options say otherwise."""

    def run(videos: object, *options: str, retry_failed: bool = False, code: tuple[str, ...] = ()) -> JobResult:
        base = [f"videos={videos}", "backbone=pooled", f"output={tmp_path / 'table'}", "cluster.actors=0"]
        return extract(load_extract_spec(None, [*base, *options], code=code), retry_failed=retry_failed)

    return run
