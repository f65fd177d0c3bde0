"""HDF5 files as feature tables."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from esv_ray.errors import DataError
from tests.input.sources.imports import assert_holds, imported, put, random_videos, table

VIDEOS = random_videos(["a", "b/c", "d"])


def write(path: Path, content: dict[str, Any]) -> Path:
    """An HDF5 file of data sets by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as hdf:
        for name, array in content.items():
            hdf[name] = array
    return path


def summaries() -> dict[str, Any]:
    """The layout of video summarization: features of every 15th frame, and their numbers."""
    content: dict[str, Any] = {}
    for index in range(3):
        rows = 4 + index
        content[f"video_{index}/features"] = np.full((rows, 4), index, np.float32)
        content[f"video_{index}/picks"] = np.arange(rows) * 15
        content[f"video_{index}/gtscore"] = np.zeros(rows)
    return content


@pytest.mark.parametrize("kind", ["disk", "memory", "s3"])
def test_a_data_set_per_video(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source, out = str(write(tmp_path / "x.h5", VIDEOS)), str(tmp_path / "out")
    if kind != "disk":
        bucket = "" if kind == "memory" else f"{request.getfixturevalue('s3').bucket}/"
        source = put(f"{kind}://{bucket}{uuid.uuid4().hex}/x.h5", tmp_path / "x.h5")
        out = f"{kind}://{bucket}{uuid.uuid4().hex}"
    result = imported("hdf5", source, out)
    assert (result.rows, result.dim) == (3, 4)
    assert_holds(out, VIDEOS)


def test_a_group_per_video(tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", summaries())
    imported("hdf5", source, tmp_path / "out", key="features", frames_key="picks")
    videos = table(tmp_path / "out")
    assert list(videos) == ["video_0", "video_1", "video_2"]
    assert videos["video_1"].frame_index.tolist() == [0, 15, 30, 45, 60]
    assert videos["video_1"].features.tolist() == [[1.0] * 4] * 5


def test_segments_by_picked_frames(tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", summaries())
    text = "video,start,stop\nvideo_1,15,46\nvideo_2,0,15\n"
    imported("hdf5", source, tmp_path / "out", key="features", frames_key="picks", segments=text)
    assert [video.frame_index.tolist() for video in table(tmp_path / "out").values()] == [[15, 30, 45], [0]]
    text = "video,start,stop\nvideo_1,1,2\n"  # 15 frames a second: frames 15 to 29
    imported("hdf5", source, tmp_path / "s", key="features", frames_key="picks", segments=text, fps=15.0)
    assert table(tmp_path / "s")["video_1@1-2"].frame_index.tolist() == [15]


@pytest.mark.parametrize("pattern", ["folder", "glob"])
def test_several_files(pattern: str, tmp_path: Path) -> None:
    write(tmp_path / "x" / "one.h5", {"a": VIDEOS["a"]})
    write(tmp_path / "x" / "sub" / "two.hdf5", {"features": VIDEOS["d"], "other": np.zeros(1)})
    source = tmp_path / "x" if pattern == "folder" else tmp_path / "x" / "**"
    imported("hdf5", source, tmp_path / "out", match="a$|features")
    assert_holds(tmp_path / "out", {"one/a": VIDEOS["a"], "sub/two/features": VIDEOS["d"]})
    imported("hdf5", source, tmp_path / "keyed", key="features")
    assert_holds(tmp_path / "keyed", {"sub/two": VIDEOS["d"]})


def test_a_pattern(tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", {"a_rgb": VIDEOS["a"], "a_flow": VIDEOS["d"]})
    result = imported("hdf5", source, tmp_path / "out", match="(?P<video_id>.*)_rgb")
    assert_holds(tmp_path / "out", {"a": VIDEOS["a"]})
    assert result.notes == ("1 name without a match of --match: not asked for",)


def test_columns_of_frames_and_other_types(tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", {name: array.T.astype(np.float64) for name, array in VIDEOS.items()})
    assert imported("hdf5", source, tmp_path / "out", layout="DT").dtype == "float64"
    assert_holds(tmp_path / "out", VIDEOS)


def test_faults(tmp_path: Path) -> None:
    content = {
        **VIDEOS,
        "empty": h5py.Empty("f4"),
        "names": np.array([b"x", b"y"]),
        "nan": np.full((2, 4), np.nan),
        "other": np.zeros((2, 5)),
        "vector": np.zeros(4),
    }
    source = write(tmp_path / "x.h5", content)
    with h5py.File(source, "a") as hdf:
        hdf.create_dataset("ragged", (2,), h5py.vlen_dtype(np.float32))
        hdf.create_dataset("text", data=["x"])
    result = imported("hdf5", source, tmp_path / "out", max_skipped=0.9)
    assert {(reason, number) for reason, number, _ in result.skipped.rows()} == {
        ("not a (T, D) array", 1),
        ("no frames or no features", 1),
        ("not numbers", 3),
        ("NaN or infinity", 1),
        ("another D than the first video", 1),
    }
    assert_holds(tmp_path / "out", VIDEOS)


def test_missing_and_odd_frame_numbers(tmp_path: Path) -> None:
    content = summaries()
    del content["video_0/picks"]
    content["video_1/picks"] = np.arange(9)
    source = write(tmp_path / "x.h5", content)
    result = imported("hdf5", source, tmp_path / "out", key="features", frames_key="picks", max_skipped=0.7)
    assert result.skipped.rows() == [
        ("as many frame numbers as frames are needed", 1, "video_1 ((9,) for 5 frames)"),
        ("no frame numbers 'picks' (--frames-key)", 1, "video_0"),
    ]


def test_no_other_file_is_opened(tmp_path: Path) -> None:
    """Links, virtual data sets and external storage lead to other files of this machine."""
    secret = write(tmp_path / "secret.h5", {"x": VIDEOS["a"]})
    np.full((2, 4), 7, np.float32).tofile(tmp_path / "raw")
    source = write(tmp_path / "x.h5", {"good": VIDEOS["d"], "group/features": VIDEOS["d"]})
    with h5py.File(source, "a") as hdf:
        hdf["linked"] = h5py.ExternalLink(str(secret), "x")
        hdf["soft"] = h5py.SoftLink("/good")
        hdf["evil/features"] = h5py.ExternalLink(str(secret), "x")
        layout = h5py.VirtualLayout((3, 4), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "x", (3, 4))
        hdf.create_virtual_dataset("virtual", layout)
        hdf.create_dataset("external", (2, 4), "f4", external=[(str(tmp_path / "raw"), 0, 32)])
    result = imported("hdf5", source, tmp_path / "out", max_skipped=0.8)
    assert list(table(tmp_path / "out")) == ["good", "group/features"]
    assert [(reason, count) for reason, count, _ in result.skipped.rows()] == [
        ("a link, which is not followed", 3),
        ("numbers in another file, which is not opened", 2),
    ]
    assert "evil/features" in result.skipped.text()
    imported("hdf5", source, tmp_path / "keyed", key="features", max_skipped=0.8)
    assert list(table(tmp_path / "keyed")) == ["group"]


def test_a_data_set_that_is_larger_than_memory(tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", VIDEOS)
    with h5py.File(source, "a") as hdf:
        hdf.create_dataset("huge", (2**40, 1024), "f4", chunks=(1024, 1024))
    result = imported("hdf5", source, tmp_path / "out", max_skipped=0.5)
    assert [(reason, number) for reason, number, _ in result.skipped.rows()] == [("larger than 4 GiB", 1)]


@pytest.mark.parametrize("content", [b"", b"not HDF5" * 500], ids=["empty", "text"])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    broken = tmp_path / "x" / "broken.h5"
    broken.write_bytes(content)
    with pytest.raises(DataError, match="expected an HDF5 file"):
        imported("hdf5", broken, tmp_path / "out")
    write(tmp_path / "x" / "good.h5", {"a": VIDEOS["a"]})
    result = imported("hdf5", tmp_path / "x", tmp_path / "out", max_skipped=0.5)
    assert [(reason, number) for reason, number, _ in result.skipped.rows()] == [("damaged", 1)]
    assert_holds(tmp_path / "out", {"good/a": VIDEOS["a"]})


def test_nothing_to_import(tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", VIDEOS)
    with pytest.raises(DataError, match=r"expected groups with a data set 'features' \(--key\), got none"):
        imported("hdf5", source, tmp_path / "out", key="features")
    with pytest.raises(DataError, match="expected data sets, got none that match --match"):
        imported("hdf5", source, tmp_path / "out", match="zebra")
    with pytest.raises(DataError, match="expected data sets, got none"):
        imported("hdf5", write(tmp_path / "y.h5", {}), tmp_path / "out")


def test_types_without_a_type_of_numpy_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as hdf:
        hdf["a"] = np.ones((3, 4), np.float32)
        h5py.h5d.create(hdf.id, b"b", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((3, 4)))
    result = imported("hdf5", tmp_path / "x.h5", tmp_path / "out", max_skipped=0.5)
    assert [reason for reason, _, _ in result.skipped.rows()] == ["not numbers"]
    assert list(table(tmp_path / "out")) == ["a"]


def test_every_name_of_a_data_set_is_a_video(tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", {"a": VIDEOS["a"], "g/d": VIDEOS["d"]})
    with h5py.File(source, "a") as hdf:
        hdf["b"] = hdf["a"]
        hdf["g/again"] = hdf["g/d"]
    assert imported("hdf5", source, tmp_path / "out").skipped.total == 0
    assert_holds(tmp_path / "out", {"a": VIDEOS["a"], "b": VIDEOS["a"], "g/again": VIDEOS["d"], "g/d": VIDEOS["d"]})


def test_second_names_of_groups_are_counted_and_end(tmp_path: Path) -> None:
    """Groups in themselves, and names that double from group to group."""
    source = write(tmp_path / "x.h5", {"g/features": VIDEOS["a"]})
    with h5py.File(source, "a") as hdf:
        hdf["g/self"] = hdf["g"]
        hdf["other"] = hdf["g"]
        group = hdf["g"]
        for _ in range(40):
            below = group.create_group("x")
            group["y"] = below
            group = below
    result = imported("hdf5", source, tmp_path / "out", max_skipped=1)
    assert [(reason, count) for reason, count, _ in result.skipped.rows()] == [
        ("a second name of a group, whose content is read once", 42)
    ]
    assert result.rows == 1
    imported("hdf5", source, tmp_path / "keyed", key="features", max_skipped=1)
    assert {"g", "other"} <= set(table(tmp_path / "keyed"))


@pytest.mark.parametrize("pattern", [None, "."])
def test_names_that_are_not_utf8_are_counted(pattern: str | None, tmp_path: Path) -> None:
    source = write(tmp_path / "x.h5", {"a": VIDEOS["a"]})
    with h5py.File(source, "a") as hdf:
        hdf[b"\xff\xfe"] = VIDEOS["d"]
        hdf[b"g\xff/features"] = VIDEOS["d"]
    result = imported("hdf5", source, tmp_path / "out", max_skipped=0.7, match=pattern)
    assert [(reason, count) for reason, count, _ in result.skipped.rows()] == [("an id that is not UTF-8", 2)]
    assert result.skipped.text().isprintable()
    assert_holds(tmp_path / "out", {"a": VIDEOS["a"]})


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_a_fault_or_refused(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    write(tmp_path / "x" / "good.h5", {"a": VIDEOS["a"]})
    data = bytearray(write(tmp_path / "x" / "z.h5", summaries()).read_bytes())
    for place in rng.integers(0, len(data), 200):
        data[place] = rng.integers(256)
    (tmp_path / "x" / "z.h5").write_bytes(data)
    result = imported("hdf5", tmp_path / "x", tmp_path / "out", max_skipped=1)
    assert result.rows >= 1


def test_frame_numbers_that_are_none(tmp_path: Path) -> None:
    """Numbers that a cast to 64 bits or an absolute value would change, and frames out of order."""
    numbers: dict[str, tuple[Any, str]] = {
        "uint64": (np.array([0, 1, 2**64 - 3], np.uint64), "frame numbers beyond 32 bits"),
        "float": (np.array([1e19, 2e19, 3e19]), "frame numbers beyond 32 bits"),
        "least float": (np.array([-3e19, 1.0, 2.0]), "frame numbers beyond 32 bits"),
        "least": (np.array([-(2**63), 0, 1]), "frame numbers beyond 32 bits"),
        "infinite": (np.array([0, 1, np.inf]), "frame numbers beyond 32 bits"),
        "fraction": (np.array([0, 1, 2.5]), "frame numbers that are not whole numbers"),
        "descends": (np.array([0, 30, 15]), "frames that are not in the order of their numbers"),
    }
    content: dict[str, Any] = {}
    for name, (picks, _) in {**numbers, "good": (np.array([0, 0, 15]), "")}.items():
        content[f"{name}/features"], content[f"{name}/picks"] = np.ones((3, 4), np.float32), picks
    source = write(tmp_path / "x.h5", content)
    result = imported("hdf5", source, tmp_path / "out", key="features", frames_key="picks", max_skipped=0.9)
    left_out = {reason: names.replace(" (float64)", "") for reason, _, names in result.skipped.rows()}
    assert left_out == {
        reason: ", ".join(sorted(name for name, (_, own) in numbers.items() if own == reason))
        for reason in {reason for _, reason in numbers.values()}
    }
    assert table(tmp_path / "out")["good"].frame_index.tolist() == [0, 0, 15]


def test_labels_by_path_in_a_folder_of_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "x" / f"{name}.h5", {"v": np.ones((2, 4), np.float32)})
    imported("hdf5", tmp_path / "x", tmp_path / "out", labels="path,label\na/v,3\nb/v,1\n")
    assert {name: video.label for name, video in table(tmp_path / "out").items()} == {"a/v": 3, "b/v": 1}
