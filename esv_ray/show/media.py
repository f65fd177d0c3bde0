"""Pictures of a video's frames: thumbnails of its elements."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.parallel import READERS, in_parallel
from esv_ray.show.video import AttributedVideo

_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_STARTS = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/webp": b"RIFF"}
_LAST_NUMBER = re.compile(r"([0-9]+)(?=[^0-9]*$)")
_MOST_BYTES = 20_000_000  # of a picture


def thumbnails_of(media: str, video: AttributedVideo) -> tuple[list[str | None], list[str]]:
    """Return the pictures of a video's elements as data URLs, and notes.

    The pictures of a video are in the folder MEDIA/VIDEO_ID; the last number in a file's name is the frame's.

    Args:
        media: location.
        video: the video.

    Raises:
        DataError: there are no pictures of the video, or one cannot be read.
    """
    folder, files = _files_of(media, video)

    def read(frame: int) -> str | None:
        return _data_url(storage.join(folder, files[frame])) if frame in files else None

    pictures = in_parallel(read, [int(frame) for frame in video.frame_index], threads=READERS)
    missing = [int(frame) for frame, url in zip(video.frame_index, pictures, strict=True) if url is None]
    notes = [f"no picture of {len(missing)} frames: {missing[:5]}"] if missing else []
    return pictures, notes


def pictures_of(media: str, video: AttributedVideo, elements: Sequence[int]) -> list[bytes | None]:
    """Return the files of some elements' pictures, unchecked: None for a frame without one, empty if it is unreadable.

    Args:
        media: location, as in `thumbnails_of`.
        video: the video.
        elements: positions.

    Raises:
        DataError: there are no pictures of the video.
    """
    folder, files = _files_of(media, video)

    def read(frame: int) -> bytes | None:
        if frame not in files:
            return None
        try:
            return _bytes(storage.join(folder, files[frame]))
        except DataError:
            return b""

    return in_parallel(read, [int(video.frame_index[element]) for element in elements], threads=READERS)


def _files_of(media: str, video: AttributedVideo) -> tuple[str, dict[int, str]]:
    """Return the folder of a video's pictures, and their names by frame."""
    parts = PurePosixPath(video.video_id).parts
    if not parts or any(part in ("", ".", "..", "/") or "\\" in part for part in parts):
        raise DataError(f"{media}: video id {video.video_id!r:.100} is no name of a folder below it")
    folder = media
    for part in parts:
        folder = storage.join(folder, part)
    files: dict[int, str] = {}
    for name in sorted(storage.list_names(folder, "list the pictures")):
        number = _LAST_NUMBER.search(PurePosixPath(name).stem)
        if number is not None and PurePosixPath(name).suffix.lower() in _TYPES:
            files.setdefault(int(number[1]), name)
    if not files:
        raise DataError(f"{folder}: expected pictures NUMBER.jpg or .png of the frames, found none; check --media")
    return folder, files


def _bytes(url: str) -> bytes:
    return storage.read_bytes(url, "read the picture", most=_MOST_BYTES)


def _data_url(url: str) -> str:
    data = _bytes(url)
    kind = _TYPES[PurePosixPath(url).suffix.lower()]
    if not data.startswith(_STARTS[kind]):
        raise DataError(f"{url}: expected a picture ({kind}), got bytes that begin with {data[:8].hex(' ')}")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
