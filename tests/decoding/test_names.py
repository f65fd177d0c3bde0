"""Names with any characters, and files that name others: FFmpeg opens nothing by its name."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from esv_ray import storage
from esv_ray.decoding import Decoder, Evenly
from esv_ray.errors import DataError
from tests.decoding.conftest import decoded
from tests.support.s3_server import S3Server
from tests.support.videos import write_video

NAMES = [
    "two words.mp4",
    'it\'s "quoted".mp4',
    "a\nb\tc.mp4",
    "影片 ñ 🎬.mp4",
    "-i.mp4",
    "-",
    "concat:a.mp4|b.mp4",
    "pipe:0",
    "cache:x.mp4",
    "subfile,,start,0,end,9,,:a.mp4",
    "frame-%03d.png",
    "[0-9]*.mp4",
    "50%25.mp4",
    "no suffix",
    "wrong.txt",
    "wrong.m3u8",
    "#hash?query=1&x.mp4",
    "\\back\\slash.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str, decoder: Decoder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, and relative to the working directory."""
    content = write_video(folder / "named.mp4", frames=3).read_bytes()
    (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / name), name):
        assert len(decoded(decoder, path)[0]) == 3


def test_names_that_are_not_utf_8(decoder: Decoder, folder: Path, tmp_path: Path) -> None:
    content = write_video(folder / "named.mp4", frames=3).read_bytes()
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    Path(path).write_bytes(content)
    assert len(decoded(decoder, path)[0]) == 3
    Path(path).write_bytes(b"no video")
    with pytest.raises(DataError, match="expected a video"):
        decoded(decoder, path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile other.ts\n"),
        ("list.txt", "ffconcat version 1.0\nfile {path}\n"),
        ("call.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
    ],
)
def test_a_file_opens_no_other(name: str, content: str, decoder: Decoder, folder: Path, tmp_path: Path) -> None:
    """A playlist that a stranger wrote reads no file of this machine, and calls no address."""
    other = tmp_path / "other.ts"
    other.write_bytes(write_video(folder / "other.ts", frames=3).read_bytes())
    (tmp_path / name).write_text(content.format(path=other))
    with pytest.raises(DataError, match="expected a video"):
        decoded(decoder, tmp_path / name)


def test_locations(decoder: Decoder, folder: Path, s3: S3Server) -> None:
    """A store is read by ranges; a decoding process gets the bytes from this one."""
    path = write_video(folder / "remote.mp4", frames=40)
    url = f"s3://{s3.bucket}/{uuid.uuid4().hex}/a clip.mp4"
    storage.commit_new(url, path.read_bytes(), "put the clip")
    for location in (url, f"file://{path}"):
        frames, summary = decoded(decoder, location, Evenly(4))
        assert [frame.index for frame in frames] == [5, 15, 25, 35]
        assert summary.total == 40
    with pytest.raises(DataError, match="none"):
        decoded(decoder, f"s3://{s3.bucket}/none.mp4")
