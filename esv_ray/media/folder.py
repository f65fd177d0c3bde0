"""Media that are a folder: of pictures, a folder for each video, or of videos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from threading import Lock
from typing import NamedTuple

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.extraction.videos.finding import SUFFIXES, stem_of
from esv_ray.media.decoded import FrameDecoder
from esv_ray.parallel import READERS, in_parallel

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_LAST_NUMBER = re.compile(r"([0-9]+)(?=[^0-9]*$)")
_MOST_BYTES = 20_000_000  # of a picture


class _Listing(NamedTuple):
    """The names in a folder."""

    folders: frozenset[str]
    files: tuple[str, ...]


class FolderMedia:
    """A folder with VIDEO_ID/NUMBER.jpg, .png or .webp, or with VIDEO_ID.mp4 and the like; see `media.Media`."""

    def __init__(self, location: str, decoder: FrameDecoder) -> None:
        """Look into the folder.

        Raises:
            DataError: there is nothing.
        """
        self._location, self._decoder = location, decoder
        self._listings: dict[str, _Listing] = {}
        self._lock = Lock()
        if not storage.list_names(location, "list the media"):
            raise DataError(
                f"--media: {location}: expected pictures VIDEO_ID/NUMBER.jpg, videos VIDEO_ID.mp4, or a table of esv "
                "extract --thumbnails, found nothing"
            )

    @property
    def at_once(self) -> int:
        """See `media.Media`."""
        return self._decoder.at_once

    def pictures(self, video_id: str, frames: Sequence[int]) -> list[bytes | None]:
        """Return the files of frames, or decoded frames; see `media.Media.pictures`."""
        *parents, name = video_id.split("/")
        folder = self._location
        for parent in parents:
            if parent not in self._listed(folder).folders:
                raise self._nothing(video_id)
            folder = storage.join(folder, parent)
        listing = self._listed(folder)
        pictures = _by_number(storage.join(folder, name)) if name in listing.folders else {}
        if pictures:
            return in_parallel(lambda frame: _read(pictures.get(frame)), frames, threads=READERS)
        videos = [file for file in listing.files if _suffix(file) in SUFFIXES and stem_of(file) == name]
        if len(videos) > 1:
            raise DataError(f"{folder}: expected one video {name!r:.100}, found {', '.join(videos)}; move one away")
        if not videos:
            raise self._nothing(video_id)
        return self._decoder.pictures(storage.join(folder, videos[0]), video_id, frames)

    def close(self) -> None:
        """End the processes that decode."""
        self._decoder.close()

    def _nothing(self, video_id: str) -> DataError:
        return DataError(
            f"{self._location}: expected pictures VIDEO_ID/NUMBER.jpg, .png or .webp, or a video VIDEO_ID.mp4 "
            f"(or another video suffix), for the id {video_id!r:.100}, found none; check --media"
        )

    def _listed(self, folder: str) -> _Listing:
        """Return the names in a folder, which is listed once."""
        with self._lock:
            if folder not in self._listings:
                folders, files = storage.list_folder(folder, "list the media")
                self._listings[folder] = _Listing(frozenset(folders), tuple(files))
            return self._listings[folder]


def _by_number(folder: str) -> dict[int, str]:
    """Return the locations of the pictures in a folder by the last number in their names."""
    files: dict[int, str] = {}
    for name in storage.list_names(folder, "list the pictures"):
        number = _LAST_NUMBER.search(PurePosixPath(name).stem)
        if number is not None and PurePosixPath(name).suffix.lower() in _PICTURES:
            files.setdefault(int(number[1]), storage.join(folder, name))
    return files


def _read(url: str | None) -> bytes | None:
    if url is None:
        return None
    try:
        return storage.read_bytes(url, "read the picture", most=_MOST_BYTES)
    except DataError:
        return b""


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()
