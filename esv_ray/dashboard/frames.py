"""Pictures of the elements of videos, small, whatever they come from."""

from __future__ import annotations

from functools import lru_cache

from esv_ray.dashboard.index import Index
from esv_ray.dashboard.video import stored_video
from esv_ray.errors import DataError, SpecError, StorageError
from esv_ray.media import Media
from esv_ray.report.thumbnails import SIDE, check_installed, shrunk
from esv_ray.show.read import attributed
from esv_ray.show.video import AttributedVideo

SIDES = {"small": SIDE, "large": 640}
"""Most pixels of the longer side, by the size that is asked for."""
_PICTURES, _VIDEOS = 512, 64  # kept in memory; a large picture has some 50 kB


class Frames:
    """Pictures of the elements of an output's videos.

    Args:
        index: of the output.
        media: where the pictures are.
    """

    def __init__(self, index: Index, media: Media) -> None:
        check_installed()
        self._index, self._media = index, media
        self._video = lru_cache(_VIDEOS)(self._read)
        self._picture = lru_cache(_PICTURES)(self._made)

    def picture(self, video_id: str, n_elements: int | None, element: int, size: str) -> bytes | None:
        """Return the picture of an element as WebP; None if there is none that can be decoded.

        Args:
            video_id: the video, which is looked up in the output.
            n_elements: its length; None: the longest.
            element: position.
            size: one of `SIDES`.

        Raises:
            DataError: there is no such video or element, or the storage refuses.
            SpecError: the size is unknown, or the video was not attributed at that length.
        """
        if size not in SIDES:
            raise SpecError(f"size: expected one of {', '.join(SIDES)}, got {size!r:.80}")
        return self._picture(video_id, n_elements, element, SIDES[size])

    def _read(self, video_id: str, n_elements: int | None) -> AttributedVideo:
        return attributed(self._index.analyzed.manifest, stored_video(self._index, video_id, n_elements))

    def _made(self, video_id: str, n_elements: int | None, element: int, side: int) -> bytes | None:
        video = self._video(video_id, n_elements)
        if element >= video.n:
            raise DataError(f"element: expected one of 0 to {video.n - 1}, got {element}")
        try:
            (data,) = self._media.pictures(video.video_id, [int(video.frame_index[element])])
        except StorageError:
            raise
        except DataError:  # no pictures of this video
            return None
        return shrunk(data, side) if data else None
