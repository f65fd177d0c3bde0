"""Made-up videos: a feature table, and the same whoever makes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esv_ray.bench.made_up import World, made_up_videos, write_made_up
from esv_ray.bench.pictures import SIDE, write_pictures
from esv_ray.input.videos import read_videos


@pytest.mark.slow
def test_the_command_writes_tables_to_train_on(tmp_path: Path) -> None:
    folder = tmp_path / "made-up"
    arguments = [str(folder), "--per-class", "20", "--classes", "6", "--feature-dim", "16"]
    subprocess.run([sys.executable, "-m", "esv_ray.bench.made_up", *arguments], check=True)
    videos, _ = read_videos(str(folder / "train.parquet"))
    assert len(videos) == 120
    assert {video.label for video in videos} == set(range(6))
    assert all(video.features.shape[1] == 16 and 16 <= len(video.features) < 40 for video in videos)
    again = list(made_up_videos(World(16, 6), 120, seed=1))
    for video, (video_id, label, features) in zip(videos, again, strict=True):
        assert (video.video_id, video.label) == (video_id, label)
        assert np.array_equal(video.features, features)
    ordered = [str(tmp_path / "ordered"), "--per-class", "1", "--classes", "7", "--feature-dim", "4", "--key-events"]
    command = [sys.executable, "-m", "esv_ray.bench.made_up", *ordered, "order"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "2 to 6 classes" in refused.stderr) == (2, True)
    held = tmp_path / "held"
    held.touch()
    command = [sys.executable, "-m", "esv_ray.bench.made_up", str(held), "--classes", "6", "--per-class", "1"]
    blocked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (blocked.returncode, "cannot be written" in blocked.stderr) == (2, True)
    refused = subprocess.run(
        [sys.executable, "-m", "esv_ray.bench.made_up", str(folder), "--classes", "600"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "2 to 552 classes" in refused.stderr


def test_pictures_show_the_features_of_frames(tmp_path: Path) -> None:
    write_made_up(tmp_path / "test.parquet", World(10, 3), 3, seed=0, key_events="event")
    videos, _ = read_videos(str(tmp_path / "test.parquet"))
    assert write_pictures(tmp_path / "test.parquet", tmp_path / "frames") == sum(len(each.features) for each in videos)
    for video in videos:
        names = {path.name for path in (tmp_path / "frames" / video.video_id).iterdir()}
        assert names == {f"{number}.png" for number in range(len(video.features))}
        with Image.open(tmp_path / "frames" / video.video_id / "1.png") as image:
            cells = np.asarray(image)[SIDE // 8 :: SIDE // 4, SIDE // 8 :: SIDE // 4].ravel()  # four by four
        largest = float(np.max(video.features))
        expected = np.round(255 * np.asarray(video.features[1], np.float32) / largest)
        assert np.abs(cells[:10] - expected).max() <= 1
        assert not cells[10:].any()
