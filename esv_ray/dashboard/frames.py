"""Pictures of the elements of videos and of the frames around them, whatever they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from esv_ray.dashboard.index import Index
from esv_ray.dashboard.kept import Kept
from esv_ray.dashboard.video import stored_video
from esv_ray.errors import DataError, SpecError, StorageError
from esv_ray.media import Media, Picture
from esv_ray.report.thumbnails import SIDE, check_installed, shrunk
from esv_ray.show.read import attributed
from esv_ray.show.video import AttributedVideo

SIDES = {"small": SIDE, "large": 640}
"""Most pixels of the longer side, by the size that is asked for."""
REACH, MOST_STRIDE = 4, 100
"""Frames that are shown before and after one, and the largest step from one to the next."""
_AT_ONCE = 64  # small pictures of one video that are decoded in one pass
_PICTURES, _STRIPS, _VIDEOS = 256, 64, 64  # kept in memory; a large picture has some 50 kB, a small one 3 kB


class Frames:
    """Pictures of the elements of an output's videos.

    Args:
        index: of the output.
        media: where the pictures are.
    """

    def __init__(self, index: Index, media: Media) -> None:
        check_installed()
        self._index, self._media = index, media
        self._video = Kept(self._read, _VIDEOS)
        self._strip = Kept(self._make_strip, _STRIPS)
        self._large = Kept(self._make_large, _PICTURES)
        self._near = Kept(self._make_near, _STRIPS)
        self._large_near = Kept(self._make_large_near, _PICTURES)

    def picture(
        self, video_id: str, n_elements: int | None, element: int, size: str, step: int = 0, stride: int = 1
    ) -> bytes | None:
        """Return the picture of an element, or of a frame near it, as WebP; None if none can be decoded.

        Args:
            video_id: the video, which is looked up in the output.
            n_elements: its length; None: the longest.
            element: position.
            size: one of `SIDES`.
            step, stride: 0 for the element's own frame, else which of the frames that `near` gives.

        Raises:
            DataError: there is no such video or element, or the storage refuses.
            SpecError: the size, the step or the stride is none, or the video was not attributed at that length.
        """
        if size not in SIDES:
            raise SpecError(f"size: expected one of {', '.join(SIDES)}, got {size!r:.80}")
        if not -REACH <= step <= REACH:
            raise SpecError(f"step: expected -{REACH} to {REACH}, got {step}")
        _check_stride(stride)
        frame = self._frame(video_id, n_elements, element)
        if step and size == "large":
            return self._large_near(video_id, frame, step * stride)
        if step:
            near = self._near(video_id, frame, stride).get(step)
            return None if near is None else near.file
        if size == "large":
            return self._large(video_id, frame)
        return self._strip(video_id, n_elements, element // _AT_ONCE)[element % _AT_ONCE]

    def near(self, video_id: str, n_elements: int | None, element: int, stride: int) -> Mapping[int, Picture]:
        """Return the frames before and after that of an element, by offset from -REACH to REACH; 0 is the element's.

        Frames without a picture, and those outside the video, are left out.

        Args:
            video_id, n_elements, element: as for `picture`.
            stride: frames from one to the next, 1 to `MOST_STRIDE`.

        Raises:
            DataError, SpecError: as for `picture`.
        """
        _check_stride(stride)
        return self._near(video_id, self._frame(video_id, n_elements, element), stride)

    def times(self, video_id: str, n_elements: int | None) -> list[float | None]:
        """Return the seconds of the elements' frames in the file of a video; None where they are not known.

        Raises:
            DataError: there is no such video, or its file cannot be read or decoded.
            SpecError: the video was not attributed at that length.
        """
        return self._media.times(video_id, self._video(video_id, n_elements).frame_index.tolist())

    def _frame(self, video_id: str, n_elements: int | None, element: int) -> int:
        video = self._video(video_id, n_elements)
        if element >= video.n:
            raise DataError(f"element: expected one of 0 to {video.n - 1}, got {element}")
        return int(video.frame_index[element])

    def _read(self, video_id: str, n_elements: int | None) -> AttributedVideo:
        return attributed(self._index.analyzed.manifest, stored_video(self._index, video_id, n_elements))

    def _make_strip(self, video_id: str, n_elements: int | None, part: int) -> list[bytes | None]:
        frames = self._video(video_id, n_elements).frame_index.tolist()
        return self._shrunk(video_id, frames[part * _AT_ONCE : (part + 1) * _AT_ONCE], SIDES["small"])

    def _make_large(self, video_id: str, frame: int) -> bytes | None:
        return self._shrunk(video_id, [frame], SIDES["large"])[0]

    def _shrunk(self, video_id: str, frames: Sequence[int], side: int) -> list[bytes | None]:
        try:
            found = self._media.pictures(video_id, frames, side)
        except StorageError:
            raise
        except DataError:  # no pictures of this video
            return [None] * len(frames)
        return [shrunk(data, side) if data else None for data in found]

    def _make_near(self, video_id: str, frame: int, stride: int) -> dict[int, Picture]:
        offsets = [stride * step for step in range(-REACH, REACH + 1)]
        found = self._around(video_id, frame, offsets, SIDES["small"])
        return {offset // stride: each for offset, each in sorted(found.items())}

    def _make_large_near(self, video_id: str, frame: int, offset: int) -> bytes | None:
        found = self._around(video_id, frame, [offset], SIDES["large"]).get(offset)
        return None if found is None else found.file

    def _around(self, video_id: str, frame: int, offsets: Sequence[int], side: int) -> dict[int, Picture]:
        try:
            found = self._media.around(video_id, frame, offsets, side)
        except StorageError:
            raise
        except DataError:  # no pictures of this video
            return {}
        small = {offset: shrunk(each.file, side) for offset, each in found.items()}
        return {offset: each._replace(file=data) for offset, each in found.items() if (data := small[offset])}


def _check_stride(stride: int) -> None:
    if not 1 <= stride <= MOST_STRIDE:
        raise SpecError(f"stride: expected 1 to {MOST_STRIDE}, got {stride}")
