"""The interface of media, and what a location holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from esv_ray import storage
from esv_ray.errors import DataError, JobError, StorageError
from esv_ray.extraction.reading import ExtractedTable, extracted_table
from esv_ray.extraction.thumbnails import SIDE
from esv_ray.extraction.videos.finding import SUFFIXES
from esv_ray.extraction.videos.lists import SUFFIXES as LISTS
from esv_ray.media.decoded import Film, FrameDecoder, ListedVideos, Times
from esv_ray.media.folder import FolderMedia
from esv_ray.media.pictures import Picture, around
from esv_ray.output.layout import FEATURES
from esv_ray.output.manifest import existing_manifest
from esv_ray.output.verify.input import features_location


class Media(Protocol):
    """The interface of a source of pictures. Several threads may use it at a time; `close` ends its processes."""

    @property
    def at_once(self) -> int:
        """Number of videos that are best asked for at a time."""

    def pictures(self, video_id: str, frames: Sequence[int], side: int = SIDE) -> list[bytes | None]:
        """Return a JPEG, PNG or WebP file of each frame, unchecked: None for a frame without one, empty if unreadable.

        An id is only compared with the names or ids at the location; it never becomes part of a path unchecked.

        Args:
            video_id: the video.
            frames: numbers of frames (`frame_index`).
            side: most pixels of a side of a frame that is decoded; files are returned as they are.

        Raises:
            DataError: there is nothing of this video, or it cannot be read or decoded.
            SpecError: the pictures are in videos, and the package that decodes them is not installed.
        """

    def around(self, video_id: str, frame: int, offsets: Sequence[int], side: int = SIDE) -> dict[int, Picture]:
        """Return pictures of the frames at some offsets from one, by offset; those that do not exist are left out.

        Args:
            video_id: the video; looked up as for `pictures`.
            frame: number of the frame at offset 0.
            offsets: in frames of which there is a picture; -1: the frame before.
            side: as for `pictures`.

        Raises:
            DataError, SpecError: as for `pictures`.
        """

    def film(self, video_id: str) -> Film | None:
        """Return the file of a video, which is looked up as for `pictures`; None if there is none.

        Raises:
            DataError: there are several, or the location cannot be listed.
        """

    def times(self, video_id: str, frames: Sequence[int]) -> list[float | None]:
        """Return the seconds of frames from the start of the file; None for a frame that the video does not have.

        Args:
            video_id: a video that has a file (`film`).
            frames: numbers of frames.

        Raises:
            DataError: there is no file, or it cannot be read or decoded.
            SpecError: the package that decodes videos is not installed.
        """

    def close(self) -> None:
        """End the processes that decode."""


class TableThumbnails:
    """The thumbnails of a feature table that `esv extract --thumbnails` wrote; see `Media`."""

    at_once = 2

    def __init__(self, table: ExtractedTable) -> None:
        """Take the table."""
        self._table = table

    def pictures(self, video_id: str, frames: Sequence[int], side: int = SIDE) -> list[bytes | None]:
        """Return the thumbnails; see `Media.pictures`."""
        found = self._found(video_id)
        return [found.get(frame) for frame in frames]

    def around(self, video_id: str, frame: int, offsets: Sequence[int], side: int = SIDE) -> dict[int, Picture]:
        """Return the thumbnails; see `Media.around`."""
        found = self._found(video_id)
        times = self._table.times_of(video_id)
        chosen = around(found, frame, offsets)
        return {offset: Picture(number, times.get(number), found[number]) for offset, number in chosen.items()}

    def film(self, video_id: str) -> Film | None:
        """Return None: a table has no files of videos."""
        return None

    def times(self, video_id: str, frames: Sequence[int]) -> list[float | None]:
        """Return the seconds of frames; see `Media.times`."""
        recorded = self._table.times_of(video_id)
        return [recorded.get(frame) for frame in frames]

    def _found(self, video_id: str) -> dict[int, bytes]:
        found = self._table.thumbnails_of(video_id)
        if not found:
            raise DataError(f"{self._table.output}: no thumbnails of video {video_id!r:.100}")
        return found

    def close(self) -> None:
        """Do nothing."""


def open_media(media: str | None, output: str, features: str | None = None) -> Media | None:
    """Find out what a location holds.

    Args:
        media: a folder of pictures (VIDEO_ID/NUMBER.jpg, .png or .webp) or of videos (VIDEO_ID.mp4, ...), a CSV or
            Parquet list of videos, a video or a glob, or a feature table of `esv extract --thumbnails`. None: the
            thumbnails of the feature table of the output, if it has some.
        output: location of the output whose videos are shown.
        features: location of its feature table, if the user gives it; None: that of run.json, if it is trusted.

    Returns:
        None if `media` is None and there are no thumbnails.

    Raises:
        DataError: there is nothing at the location, or no thumbnails in the table there.
    """
    if media is None:
        own = _own_table(output, features)
        return TableThumbnails(own) if own is not None and own.has_thumbnails else None
    location = storage.absolute(media)
    decoder = FrameDecoder(Times(lambda: _own_table(output, features)))
    if _names_files(location):
        return ListedVideos(location, decoder)
    table = _table_at(location)
    if table is None:
        return FolderMedia(location, decoder)
    if not table.has_thumbnails:
        raise DataError(
            f"--media: {location}: expected a table with thumbnails, got one that esv extract wrote without "
            "--thumbnails; give the folder of the videos as --media"
        )
    return TableThumbnails(table)


def _names_files(location: str) -> bool:
    """Return whether a location is a list of videos, a video, or a glob."""
    suffix = location.rpartition("/")[2].rpartition(".")[2].lower()
    return location.lower().endswith(LISTS) or suffix in SUFFIXES or storage.is_pattern(location)


def _table_at(location: str) -> ExtractedTable | None:
    """Return the table of an extraction; None if there is none, or something else with a run.json."""
    try:
        return extracted_table(location)
    except StorageError:
        raise
    except (DataError, JobError):
        return None


def _own_table(output: str, features: str | None) -> ExtractedTable | None:
    """Return the feature table of an output, if an extraction wrote it and it can be read."""
    try:
        location = features_location(output, existing_manifest(output), features)
        folder, _, name = location.rstrip("/").rpartition("/")
        return _table_at(location) or (_table_at(folder) if name == FEATURES else None)
    except DataError:  # the table was removed, or run.json is not trusted to name it: there are no thumbnails then
        return None
