"""Exports of an output whose features `esv extract` made: the videos are known without saying so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esv_ray.extraction.work import extract
from esv_ray.models.saving import save_heads
from esv_ray.spec_extract import load_extract_spec
from tests.conftest import make_heads, make_prior
from tests.export.conftest import write
from tests.support.jobs import run
from tests.support.videos import write_video


@pytest.mark.slow
def test_the_table_names_the_videos(tmp_path: Path) -> None:
    clips, table = tmp_path / "clips", tmp_path / "table"
    (clips / "c").mkdir(parents=True)
    for name, frames in (("a.mp4", 20), ("c/a.mkv", 12)):
        write_video(clips / name, frames=frames)
    base = [f"videos={clips}", "backbone=pooled", f"output={table}", "cluster.actors=0", "frames=4"]
    extract(load_extract_spec(None, base))
    save_heads(str(tmp_path / "model"), make_heads(feature_dim=147), make_prior(3))
    run(str(table), str(tmp_path / "model"), tmp_path / "out", "classes=[predicted]")
    assert write("fiftyone", tmp_path / "out", tmp_path / "fo") == []
    samples = json.loads((tmp_path / "fo" / "samples.json").read_text())["samples"]
    files = {sample["video_id"]: sample["filepath"] for sample in samples}
    assert files == {"a": str(clips / "a.mp4"), "c/a": str(clips / "c" / "a.mkv")}
    frames = json.loads((tmp_path / "fo" / "frames.json").read_text())["frames"]
    own = [frame["frame_number"] for frame in frames if frame["_sample_id"] == samples[0]["_id"]]
    assert own == [3, 8, 13, 18]  # the numbers in the file, from 1
    assert samples[0]["supporting"]["detections"][0]["label"].startswith("class ")
    reading = pytest.importorskip("rerun.chunk")
    assert write("rerun", tmp_path / "out", tmp_path / "v.rrd", video_id="a") == []
    entities = {chunk.entity_path for chunk in reading.RrdReader(str(tmp_path / "v.rrd")).stream()}
    assert "/video" in entities
