"""Thumbnails: small, without metadata, and never a failure because of a picture."""

from __future__ import annotations

import base64
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esv_ray.media import Media, open_media
from esv_ray.report.thumbnails import SIDE, pictured, thumbnail, thumbnails
from tests.support import reports
from tests.support.pictures import png

MOST = 10_000_000


def decoded(url: str) -> Image.Image:
    kind, _, data = url.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(data)))


def noise(width: int, height: int, **options: object) -> bytes:
    out = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims many pixels."""
    header = struct.pack(">II", side, side) + b"\x08\x00\x00\x00\x00"
    return png(1, 0).replace(png(1, 0)[12:33], b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)))


def media_at(folder: Path) -> Media:
    media = open_media(str(folder), "no output")
    assert media is not None
    return media


def folder_of(root: Path, name: str, pictures: dict[int, bytes]) -> None:
    (root / name).mkdir(parents=True)
    for frame, data in pictures.items():
        (root / name / f"frame_{frame:05d}.png").write_bytes(data)


def test_thumbnails_are_small() -> None:
    picture = decoded(thumbnail(noise(640, 360)) or "")
    assert picture.size == (SIDE, SIDE * 360 // 640)
    assert decoded(thumbnail(png(8, 100)) or "").size == (8, 8), "never enlarged"


def test_metadata_is_left_out_and_rotation_applied() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret place"
    url = thumbnail(noise(640, 360, exif=exif, icc_profile=b"profile" * 2000)) or ""
    picture = decoded(url)
    assert picture.height > picture.width
    assert not picture.getexif()
    assert "icc_profile" not in picture.info
    assert len(url) < 10_000


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", png(64, 9)[:60], bomb(100_000), bomb(2**31 - 1),
     noise(640, 360)[:3000], b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"],
)  # fmt: skip
def test_hostile_pictures_give_none(data: bytes) -> None:
    assert thumbnail(data) is None


def test_a_video_with_missing_and_damaged_pictures(tmp_path: Path) -> None:
    video = reports.video("folder/v", 4)
    folder_of(tmp_path, "folder/v", {0: png(20, 1), 3: bomb(100_000), 6: b"", 12: png(20, 2)})
    (urls, none), notes = thumbnails(media_at(tmp_path), [video, reports.video("\x1b[31mabsent", 4)], MOST)
    assert [url is not None for url in urls] == [True, False, False, False]
    assert none == []
    assert "no picture of 1 frame;" in notes[0]
    assert "2 files not shown: " in notes[0]
    assert "expected pictures" in notes[1]
    assert "\x1b" not in notes[1]


@pytest.mark.parametrize("name", ["../secret", "/etc", "..", "a/../../b"])
def test_ids_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, "secret", {0: png(4, 1)})
    (tmp_path / "media" / "a").mkdir(parents=True)
    (urls,), notes = thumbnails(media_at(tmp_path / "media"), [reports.video(name, 2)], MOST)
    assert urls == []
    assert len(notes) == 1


def test_the_total_is_bounded(tmp_path: Path) -> None:
    videos = [reports.video(f"v{number}", 4) for number in range(5)]
    for video in videos:
        folder_of(tmp_path, video.video_id, {frame: png(50, frame) for frame in video.frame_index.tolist()})
    whole, _ = thumbnails(media_at(tmp_path), videos, MOST)
    size = sum(len(url) for urls in whole for url in urls if url)
    some, notes = thumbnails(media_at(tmp_path), videos, size // 2)
    assert some == [*whole[:2], [], [], []]
    assert notes == ["pictures of 3 videos are left out: the report would be too large"]


def test_notes_on_missing_pictures_are_few(tmp_path: Path) -> None:
    """A folder with pictures of half of the videos: the first notes, and how many others there are."""
    videos = [reports.video(f"v{number}", 2) for number in range(12)]
    for video in videos[::2]:
        folder_of(tmp_path, video.video_id, {frame: png(8, 1) for frame in video.frame_index.tolist()})
    urls, notes = thumbnails(media_at(tmp_path), videos, MOST)
    assert [len(each) for each in urls] == [2, 0] * 6
    assert [note.partition(":")[0] for note in notes] == [
        "v1", "v3", "v5", "3 more videos without some or all pictures, as these"]  # fmt: skip


def test_of_long_videos_the_most_influential_elements_have_pictures() -> None:
    video = reports.video("v", 64)
    chosen = pictured(video)
    assert chosen == sorted(chosen)
    assert set(chosen) == set(np.argsort(-np.abs(video.classes[0].esv), kind="stable")[: len(chosen)].tolist())
    assert pictured(reports.video("v", 24)) == list(range(24))
