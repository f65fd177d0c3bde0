"""Rendered videos: what decides their class is in the frames that are said to decide it, and in their order alone."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from esv_ray.bench.shapes.drawing import draw
from esv_ray.bench.shapes.files import SEEDS, encode, scene_number, write_videos
from esv_ray.bench.shapes.scenes import CLASSES, FRAMES, SIDE, Scene, scene_of
from esv_ray.decoding import Every, open_decoder
from esv_ray.extraction.videos.finding import find_videos

Frames = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
PAIRS = range(0, len(CLASSES), 2)


def scene(label: int, seed: int = 0) -> Scene:
    return scene_of(label, np.random.default_rng([seed, label // 2]))


def warm(frames: Frames) -> Mask:
    """Where shapes of a deciding event are: much more red than blue."""
    return (frames[..., 0].astype(int) - frames[..., 2]) > 60


def cold(frames: Frames) -> Mask:
    return (frames[..., 2].astype(int) - frames[..., 0]) > 60


def decoded(path: Path) -> Frames:
    with open_decoder(isolated=False).open(str(path)) as video:
        return np.stack([frame.image for frame in video.frames(Every())])


def interval(shown: Mask) -> tuple[int, int]:
    """The first and the last frame that shows something; all frames between show it, too."""
    places = np.flatnonzero(shown.any(axis=(1, 2)))
    assert np.array_equal(places, np.arange(places[0], places[-1] + 1))
    return int(places[0]), int(places[-1])


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_the_deciding_frames_are_where_pixels_say(label: int, tmp_path: Path) -> None:
    """In what a decoder shows of the file; the distraction is elsewhere, and all other frames have no color."""
    drawn = scene(label)
    assert drawn.label == label
    (tmp_path / "video.mp4").write_bytes(encode(draw(drawn)))
    frames = decoded(tmp_path / "video.mp4")
    assert frames.shape == (FRAMES, SIDE, SIDE, 3)
    assert interval(warm(frames)) == drawn.key
    assert interval(cold(frames)) == drawn.distraction
    first, last = drawn.key
    assert not set(range(first, last + 1)) & set(range(drawn.distraction[0], drawn.distraction[1] + 1))


@pytest.mark.parametrize("label", PAIRS, ids=[CLASSES[label] for label in PAIRS])
def test_classes_of_a_pair_differ_by_the_order_of_frames_alone(label: int, tmp_path: Path) -> None:
    """A video of the second class is one of the first with its frames reversed: also to the bit once it is decoded."""
    one, other = scene(label), scene(label + 1)
    assert other == one.reversed()
    assert np.array_equal(draw(other), draw(one)[::-1])
    assert other.key == (FRAMES - 1 - one.key[1], FRAMES - 1 - one.key[0])
    for name, each in (("one", one), ("other", other)):
        (tmp_path / f"{name}.mp4").write_bytes(encode(draw(each)))
    assert np.array_equal(decoded(tmp_path / "other.mp4"), decoded(tmp_path / "one.mp4")[::-1])


def test_events_do_what_their_class_says() -> None:
    def over_time(label: int, measure: str) -> npt.NDArray[np.float64]:
        drawn = scene(label, seed=3)
        frames = draw(drawn)[drawn.key[0] : drawn.key[1] + 1]
        shown = warm(frames)
        red = shown & (frames[..., 1] < 130)  # the cover is yellow
        values = {
            "x": [np.nonzero(each)[1].mean() for each in shown],
            "area": [each.sum() for each in shown],
            "spread": [np.stack(np.nonzero(each)).std(axis=1).max() for each in shown],
            "red": [each.sum() for each in red],
        }
        return np.diff(values[measure])

    assert (over_time(0, "x") > 0).all()
    assert (over_time(1, "x") < 0).all()
    assert (over_time(2, "area") > 0).all()
    assert (over_time(3, "area") < 0).all()
    assert (over_time(4, "spread") < 0).all()
    assert (over_time(5, "spread") > 0).all()
    assert over_time(6, "red").max() <= 0 > over_time(6, "red").min()
    assert over_time(7, "red").min() >= 0 < over_time(7, "red").max()


def test_events_are_anywhere_and_distractions_say_nothing() -> None:
    """Of each class: deciding frames early and late, before and after the distraction, which does all eight things."""
    for label in range(len(CLASSES)):
        scenes = [scene_of(label, np.random.default_rng(seed)) for seed in range(200)]
        assert all(0 <= each.key[0] < each.key[1] < FRAMES for each in scenes)
        assert min(each.key[0] for each in scenes) < 4
        assert max(each.key[1] for each in scenes) > FRAMES - 5
        before = sum(each.key[0] < each.distraction[0] for each in scenes)
        assert 70 <= before <= 130  # 100 expected, standard deviation 7
        other = Counter((each.distracting.action, each.distracting.backwards != each.backwards) for each in scenes)
        assert len(other) == len(CLASSES)
        assert all(10 <= count <= 45 for count in other.values())  # 25 expected, standard deviation 5


def test_the_files_are_the_same_whoever_writes_them(tmp_path: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    done: list[tuple[int, int]] = []
    count = write_videos(str(tmp_path / "a"), {"test": 1}, lambda now: done.append((now.done, now.total)))
    assert (count, done[0], done[-1]) == (8, (0, 8), (8, 8))
    written = files(tmp_path / "a")
    assert len(written) == 8 + 2
    write_videos(str(tmp_path / "b"), {"test": 1})
    assert files(tmp_path / "b") == written
    kept, lost = (tmp_path / "a" / "test" / f"test-000{number}.mp4" for number in (3, 1))
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    write_videos(str(tmp_path / "a"), {"test": 1})
    assert files(tmp_path / "a") == written, "an interrupted run resumes"
    assert kept.stat().st_mtime_ns == stamp, "what is there stays"
    found = find_videos(str(tmp_path / "a" / "test.csv"), None, str(tmp_path / "a" / "classes.csv"))
    assert found.names == CLASSES
    assert Counter(clip.label for clip in found.clips) == dict.fromkeys(range(len(CLASSES)), 1), "balanced"
    rows = [line.split(",") for line in written["test.csv"].decode().splitlines()[1:]]
    assert [(int(row[3]), int(row[4])) for row in rows] == [scene_number("test", number).key for number in range(8)]


def test_training_and_test_videos_have_seeds_of_their_own() -> None:
    assert len(set(SEEDS.values())) == 2
    assert scene_number("train", 0) != scene_number("test", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--train", "0"], "expected numbers of 1 or more"), (["--test", "x"], "invalid int value")],
)
def test_wrong_numbers_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "esv_ray.bench.shapes", str(tmp_path / "videos"), *arguments]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, message in refused.stderr) == (2, True)
    assert not (tmp_path / "videos").exists()


@pytest.mark.slow
def test_the_command_writes_videos(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "esv_ray.bench.shapes"]
    counts = ["--train", "1", "--test", "1"]
    subprocess.run([*command, str(tmp_path / "videos"), *counts], check=True)
    assert len([*(tmp_path / "videos").rglob("*.mp4")]) == 16
    (tmp_path / "file").touch()
    blocked = subprocess.run([*command, str(tmp_path / "file"), *counts], capture_output=True, text=True, check=False)
    assert (blocked.returncode, "Traceback" in blocked.stderr) == (2, False)
    assert "cannot write" in blocked.stderr
