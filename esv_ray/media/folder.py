"""Media that are a folder: of pictures, a folder for each video, or of videos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from threading import Lock
from typing import NamedTuple

from esv_ray import storage
from esv_ray.errors import DataError, StorageError
from esv_ray.extraction.thumbnails import SIDE
from esv_ray.extraction.videos.finding import SUFFIXES, stem_of
from esv_ray.media.decoded import Film, FrameDecoder
from esv_ray.media.pictures import Picture, around
from esv_ray.parallel import READERS, in_parallel

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_LAST_NUMBER = re.compile(r"([0-9]+)(?=[^0-9]*$)")
_MOST_BYTES = 20_000_000  # of a picture


class _Listing(NamedTuple):
    """The names in a folder."""

    folders: frozenset[str]
    files: tuple[str, ...]


class _Place(NamedTuple):
    """What there is of a video.

    Attributes:
        video_id: its id.
        folder: where its file or the folder of its pictures is.
        videos: names of files.
        pictures: location of a folder that may have pictures; None: there is none.
    """

    video_id: str
    folder: str
    videos: tuple[str, ...]
    pictures: str | None


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

    def pictures(self, video_id: str, frames: Sequence[int], side: int = SIDE) -> list[bytes | None]:
        """Return the files of frames, or decoded frames; see `media.Media.pictures`."""
        place = self._place(video_id)
        pictures = self._pictures(place)
        if pictures:
            return in_parallel(lambda frame: _read(pictures.get(frame)), frames, threads=READERS)
        return self._decoder.pictures(self._film(place).url, video_id, frames, side)

    def around(self, video_id: str, frame: int, offsets: Sequence[int], side: int = SIDE) -> dict[int, Picture]:
        """Return the files of frames, or decoded frames; see `media.Media.around`."""
        place = self._place(video_id)
        pictures = self._pictures(place)
        if not pictures:
            return self._decoder.around(self._film(place), video_id, frame, offsets, side)
        chosen = around(pictures, frame, offsets)
        files = in_parallel(lambda number: _read(pictures.get(number)), list(chosen.values()), threads=READERS)
        return {
            offset: Picture(number, None, file or b"")
            for (offset, number), file in zip(chosen.items(), files, strict=True)
        }

    def film(self, video_id: str) -> Film | None:
        """Return the file of a video, also where there are pictures of it; see `media.Media.film`."""
        try:
            place = self._place(video_id)
        except StorageError:
            raise
        except DataError:  # there is nothing of this video
            return None
        return self._film(place) if place.videos else None

    def times(self, video_id: str, frames: Sequence[int]) -> list[float | None]:
        """Return the seconds of frames; see `media.Media.times`."""
        return self._decoder.times(self._film(self._place(video_id)).url, video_id, frames)

    def close(self) -> None:
        """End the processes that decode."""
        self._decoder.close()

    def _place(self, video_id: str) -> _Place:
        """Return what there is of a video: its id is only compared with names in the folder.

        Raises:
            DataError: there is nothing, or the folder cannot be listed.
        """
        *parents, name = video_id.split("/")
        folder = self._location
        for parent in parents:
            if parent not in self._listed(folder).folders:
                raise self._nothing(video_id)
            folder = storage.join(folder, parent)
        listing = self._listed(folder)
        videos = tuple(file for file in listing.files if _suffix(file) in SUFFIXES and stem_of(file) == name)
        pictures = storage.join(folder, name) if name in listing.folders else None
        if not videos and pictures is None:
            raise self._nothing(video_id)
        return _Place(video_id, folder, videos, pictures)

    def _pictures(self, place: _Place) -> dict[int, str]:
        """Return the locations of the pictures of a video by their numbers.

        Raises:
            DataError: there are none, and no video either.
        """
        pictures = {} if place.pictures is None else _by_number(place.pictures)
        if not pictures and not place.videos:
            raise self._nothing(place.video_id)
        return pictures

    def _film(self, place: _Place) -> Film:
        """Return the file of a video.

        Raises:
            DataError: there is none, or there are several.
        """
        if not place.videos:
            raise self._nothing(place.video_id)
        if len(place.videos) > 1:
            raise DataError(
                f"{place.folder}: expected one video {place.video_id.rpartition('/')[2]!r:.100}, found "
                f"{', '.join(place.videos)}; move one away"
            )
        return Film(storage.join(place.folder, place.videos[0]))

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
