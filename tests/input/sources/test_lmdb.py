"""LMDB with a key per frame as feature tables."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from esv_ray.errors import DataError, SpecError
from esv_ray.input.faults import RecordError
from esv_ray.input.sources import lmdb_frames
from tests.input.sources.imports import assert_holds, imported, put, random_videos, table

VIDEOS = random_videos(["P01_101", "P01_11", "b/c"])


def write(path: Path, content: dict[str, bytes], *, subdir: bool = True) -> Path:
    """An LMDB environment."""
    with (
        lmdb.open(str(path), subdir=subdir, map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in content.items():
            transaction.put(key.encode(), value)
    return path


def frames(videos: dict[str, Any], first: int = 1, name: str = "{}_frame_{:010d}.jpg") -> dict[str, bytes]:
    return {
        name.format(video, number): row.astype("<f4").tobytes()
        for video, rows in videos.items()
        for number, row in enumerate(rows, start=first)
    }


@pytest.mark.parametrize("kind", ["folder", "file", "memory", "s3"])
def test_a_key_per_frame(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = str(write(tmp_path / "x", frames(VIDEOS), subdir=kind != "file"))
    if kind in ("memory", "s3"):
        bucket = "" if kind == "memory" else f"{request.getfixturevalue('s3').bucket}/"
        source = f"{kind}://{bucket}{uuid.uuid4().hex}"
        put(f"{source}/data.mdb", tmp_path / "x" / "data.mdb")
    result = imported("lmdb", source, tmp_path / "out")
    assert (result.rows, result.dim, result.dtype) == (3, 4, "float32")
    assert_holds(tmp_path / "out", VIDEOS)
    for video in table(tmp_path / "out").values():
        assert video.frame_index.tolist() == list(range(1, 1 + len(video.features)))


def test_ids_that_are_not_utf8_stay_apart_and_are_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "x", frames({"ok": np.ones((2, 3))}))
    with lmdb.open(str(source), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for number, byte in enumerate((b"\xe9", b"\xe8"), start=1):
            key = b"caf" + byte + f"_frame_{number:010d}.jpg".encode()
            transaction.put(key, np.full(3, number, "<f4").tobytes())
    result = imported("lmdb", source, tmp_path / "out", max_skipped=0.9)
    assert result.skipped.rows() == [("an id that is not UTF-8", 2, "caf\\udce8, caf\\udce9")]
    assert list(table(tmp_path / "out")) == ["ok"]


def test_untrimmed_videos_are_cut(tmp_path: Path) -> None:
    """The anticipation layout: a frame per key; segments in seconds."""
    source = write(tmp_path / "x", frames({"P01": np.arange(80).reshape(20, 4)}, first=0))
    text = "video,segment,start,stop,label\nP01,0,00:00:00.20,00:00:00.40,open\nP01,1,0.4,1,close\n"
    imported("lmdb", source, tmp_path / "out", segments=text, fps=20.0)
    videos = table(tmp_path / "out")
    assert {name: video.frame_index.tolist() for name, video in videos.items()} == {
        "P01/0": [4, 5, 6, 7],
        "P01/1": list(range(8, 20)),
    }
    assert [video.label for video in videos.values()] == [1, 0]
    assert videos["P01/0"].features[0].tolist() == [16, 17, 18, 19]


def test_numbers_without_zeros_and_gaps(tmp_path: Path) -> None:
    rows = {f"frame{number}_of_{video}": bytes(np.full(4, number, "<f4")) for video in "ab" for number in (10, 9, 100)}
    source = write(tmp_path / "x", {**rows, "length": b"6"})
    result = imported("lmdb", source, tmp_path / "out", match=r"frame(?P<frame>\d+)_of_(?P<video_id>.)")
    videos = table(tmp_path / "out")
    assert list(videos) == ["a", "b"]
    assert videos["b"].frame_index.tolist() == [9, 10, 100]
    assert videos["b"].features[:, 0].tolist() == [9, 10, 100]
    assert result.notes == ("1 name without a match of --match: not asked for",)


def test_faults(tmp_path: Path) -> None:
    content = frames(VIDEOS)
    content["odd_frame_0000000001.jpg"] = bytes(15)
    content["ragged_frame_0000000001.jpg"] = bytes(16)
    content["ragged_frame_0000000002.jpg"] = bytes(20)
    content["wide_frame_0000000001.jpg"] = bytes(20)
    content["void_frame_0000000001.jpg"] = b""
    content["twice_frame_1.jpg"] = content["twice_frame_01.jpg"] = bytes(16)
    content["nan_frame_0000000001.jpg"] = np.full(4, np.nan, "<f4").tobytes()
    result = imported("lmdb", write(tmp_path / "x", content), tmp_path / "out", max_skipped=0.9)
    assert {(reason, number) for reason, number, _ in result.skipped.rows()} == {
        ("values that are not raw float32 of one length", 2),
        ("another D than the first video", 1),
        ("no frames or no features", 1),
        ("several keys of one frame", 1),
        ("NaN or infinity", 1),
    }
    assert_holds(tmp_path / "out", VIDEOS)


@pytest.mark.parametrize("keep", [0, 100, 4096, 20000], ids=str)
def test_a_file_that_is_cut_off(keep: int, tmp_path: Path) -> None:
    """Reading a mapped file beyond its end would kill the process."""
    rng = np.random.default_rng(0)
    source = write(tmp_path / "x", frames({"a": rng.standard_normal((500, 64))}))
    data = (source / "data.mdb").read_bytes()
    (source / "data.mdb").write_bytes(data[:keep])
    with pytest.raises(DataError) as caught:
        imported("lmdb", source, tmp_path / "out")
    assert "data.mdb: expected" in str(caught.value)


def test_what_is_no_environment(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"text" * 5000)
    with pytest.raises(DataError, match="expected an LMDB environment"):
        imported("lmdb", tmp_path / "x", tmp_path / "out")
    with pytest.raises(DataError, match="not found"):
        imported("lmdb", tmp_path / "y", tmp_path / "out")
    with pytest.raises(DataError, match=r"expected keys such as VIDEO_frame_0000000001\.jpg.*none among 1"):
        imported("lmdb", write(tmp_path / "z", {"key": b"value"}), tmp_path / "out")


def test_patterns_need_both_groups(tmp_path: Path) -> None:
    source = write(tmp_path / "x", frames(VIDEOS))
    with pytest.raises(SpecError, match="needs the groups video_id and frame"):
        imported("lmdb", source, tmp_path / "out", match="(?P<video_id>.*)")
    with pytest.raises(SpecError, match="expected a regular expression"):
        imported("lmdb", source, tmp_path / "out", match="(")


def test_a_folder_without_an_environment(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "rgb.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"which is a folder with data\.mdb or that file; got a folder with rgb\.tar"):
        imported("lmdb", tmp_path / "x", tmp_path / "out")


class _Ending:
    """A transaction over a damaged tree: a search finds nothing, or fewer keys than were listed."""

    def __init__(self, found: int) -> None:
        self._left = found

    def cursor(self) -> _Ending:
        return self

    def set_range(self, key: bytes) -> bool:
        return self._left > 0

    def item(self) -> tuple[bytes, bytes]:
        return (b"a_frame_1.jpg", bytes(16)) if self._left > 0 else (b"", b"")

    def next(self) -> bool:
        self._left -= 1
        return self._left > 0


@pytest.mark.parametrize("found", [0, 2])
def test_keys_that_are_listed_and_not_found(found: int) -> None:
    """A damaged environment must not be read for ever."""
    with pytest.raises(RecordError, match=f"damaged: {3 - found} keys are listed but not found"):
        lmdb_frames._read(_Ending(found), re.compile(lmdb_frames._MATCH), [(b"a_frame_1.jpg", 3)])
