"""Files that are damaged, truncated, empty, or no videos: what can be shown is shown, and the rest is said."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esv_ray.decoding import Decoder, Evenly, Every, ShortSide, VideoSummary, open_decoder
from esv_ray.decoding.tails import is_truncated
from esv_ray.errors import DataError
from tests.decoding.conftest import decoded
from tests.support.ffmpeg import needs_ffmpeg, shown_by_ffmpeg
from tests.support.videos import with_cover, write_video

GROUPS = {"g": "6", "bf": "2"}
FORMATS: dict[str, dict[str, Any]] = {
    "mp4": {"options": GROUPS, "container": {"movflags": "faststart"}},
    "mkv": {"options": GROUPS},
    "ts": {"options": GROUPS},
    "avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "flv": {"codec": "flv1"},
    "gif": {"codec": "gif", "pixels": "rgb8"},
}
SOAKED = 1000  # mutations


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Path]:
    """Files of 30 frames, one of each format."""
    return {kind: write_video(folder / f"whole.{kind}", frames=30, **FORMATS[kind]) for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_truncated_file_gives_what_came(
    kind: str, share: float, decoder: Decoder, whole: dict[str, Path], tmp_path: Path
) -> None:
    data = whole[kind].read_bytes()
    complete, summary = decoded(decoder, whole[kind])
    assert summary.reasons() == (["no time stamps: times are counted"] if kind == "avi" else [])
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(data[: int(len(data) * share) // 188 * 188 + 50])
    frames, summary = decoded(decoder, path)
    assert 1 <= len(frames) < 30
    assert summary.truncated
    assert "truncated: the end of the file is missing" in summary.reasons()
    same = [np.array_equal(one.image, other.image) for one, other in zip(frames, complete, strict=False)]
    assert all(same[: len(frames) - 3])


def test_an_end_that_is_missing_is_noticed_to_the_byte(whole: dict[str, Path], tmp_path: Path) -> None:
    for kind, path in whole.items():
        data = path.read_bytes()
        for cut, expected in ((0, False), (1, True), (100, True)):
            part = tmp_path / "part"
            part.write_bytes(data[: len(data) - cut])
            with part.open("rb") as file:
                assert is_truncated(file, len(data) - cut) == expected, (kind, cut)


@pytest.mark.parametrize(
    "head",
    [b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe", b"\0\0\0\1ftyp" + b"\xff" * 8, b"RIFF\xfe\xff\xff\xff"],
)
def test_sizes_beyond_any_file(head: bytes, tmp_path: Path) -> None:
    """No position is looked at that the system would refuse."""
    path = tmp_path / "vast"
    path.write_bytes(head + bytes(2000))
    with path.open("rb") as file:
        assert is_truncated(file, path.stat().st_size) in (True, False)


def test_several_threads_give_the_same(whole: dict[str, Path]) -> None:
    one, two = open_decoder(isolated=False), open_decoder(threads=2, isolated=False)
    for path in whole.values():
        assert outcome(one, path, 0) == outcome(two, path, 0)


def test_a_video_without_its_index_says_that_its_end_is_missing(decoder: Decoder, folder: Path, tmp_path: Path) -> None:
    """An MP4 whose index is at its end: a download that was cut off."""
    data = write_video(folder / "index-last.mp4", frames=30).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="expected a video, got a file that cannot be opened: the end of the file is"):
        decoded(decoder, path)


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts", "avi", "flv"])
def test_damage_in_the_middle(kind: str, decoder: Decoder, whole: dict[str, Path], tmp_path: Path) -> None:
    """Decoding goes on after it, as ffmpeg does, and says how many frames were lost or damaged."""
    data = bytearray(whole[kind].read_bytes())
    draw = random.Random(1)
    for _ in range(40):
        data[len(data) // 2 + draw.randrange(len(data) // 6)] = draw.randrange(256)
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(data)
    frames, summary = decoded(decoder, path)
    assert len(frames) == len(shown_by_ffmpeg(path)) == summary.shown
    assert summary.complete
    assert summary.lost + summary.damaged > 0
    assert "damaged" in summary.reasons()[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", r"expected a video, got an empty file \(0 bytes\)"),
        ("text.mp4", b"hello world\n" * 100, "expected a video, got a file that cannot be opened: it is damaged"),
        ("zeros.mkv", bytes(5000), "expected a video, got a file that cannot be opened: it is damaged"),
    ],
)
def test_files_that_are_no_videos(name: str, content: bytes, message: str, decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        decoded(decoder, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_places_without_a_file(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no-such"):
        decoded(decoder, tmp_path / "no-such.mp4")
    with pytest.raises(DataError, match="folder"):
        decoded(decoder, tmp_path)


def test_sound_alone_is_no_video(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a video stream, got audio and a cover picture only"):
        decoded(decoder, with_cover(tmp_path / "song.mp3", video=False))


def test_a_cover_picture_is_not_the_video(decoder: Decoder, tmp_path: Path) -> None:
    """Though it has more pixels."""
    frames, _ = decoded(decoder, with_cover(tmp_path / "film.mp4", video=True))
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 10


def test_a_video_whose_frames_are_all_damaged(decoder: Decoder, whole: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(whole["mp4"].read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path = tmp_path / "zeroed.mp4"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"expected a video with frames, got none that can be decoded, \d+ damaged"):
        decoded(decoder, path)


def fuzzed(whole: dict[str, Path], path: Path, number: int) -> None:
    """Write a file with random bytes changed, removed or repeated."""
    draw = random.Random(number)
    data = bytearray(whole[draw.choice(list(whole))].read_bytes())
    for _ in range(draw.choice([1, 3, 10, 100])):
        at = draw.randrange(min(len(data), draw.choice([64, 2048, len(data)])))
        match draw.randrange(4):
            case 0:
                data[at] = draw.randrange(256)
            case 1:
                data[at : at + 4] = draw.choice(
                    [b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\x00\x01\x00\x00"]
                )
            case 2:
                del data[at : at + draw.randrange(1, 200)]
            case _:
                data[at:at] = data[at : at + draw.randrange(1, 200)]
        if not data:
            data.append(0)
    path.write_bytes(data)


def outcome(decoder: Decoder, path: Path, number: int) -> tuple[list[tuple[int, float, bytes]], VideoSummary | str]:
    """What comes out of a file: frames, and the summary or the error."""
    request = (Every(), Evenly(3))[number % 2]
    frames = []
    try:
        with decoder.open(str(path)) as video:
            for frame in video.frames(request, resize=ShortSide(16, (16, 16))):
                assert frame.image.shape == (16, 16, 3)
                frames.append((frame.index, frame.time, frame.image.tobytes()))
            return frames, video.summary()
    except DataError as error:
        return frames, str(error)


def check_fuzzed(whole: dict[str, Path], folder: Path, numbers: range) -> None:
    """Each file gives the same, or the same error, in this process and isolated, and no decoder ends."""
    here, isolated = open_decoder(isolated=False), open_decoder(isolated=True, patience=20)
    ends: dict[bool, int] = {True: 0, False: 0}
    for number in numbers:
        fuzzed(whole, folder / "fuzzed", number)
        found = outcome(isolated, folder / "fuzzed", number)
        assert "decoder" not in str(found[1]), (number, found[1])
        assert outcome(here, folder / "fuzzed", number) == found, number
        ends[isinstance(found[1], str)] += 1
    isolated.close()
    assert all(ends.values())


def test_fuzzed_files(whole: dict[str, Path], tmp_path: Path) -> None:
    check_fuzzed(whole, tmp_path, range(30))


@pytest.mark.soak
def test_many_fuzzed_files(whole: dict[str, Path], tmp_path: Path) -> None:
    """Run with: python -m pytest -n 0 -m soak tests/decoding/test_damage.py."""
    check_fuzzed(whole, tmp_path, range(30, 30 + SOAKED))
