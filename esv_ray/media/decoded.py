"""Pictures of frames that are decoded from videos."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from esv_ray.decoding import At, Decoder, Numbered, Request, ShortSide, Video, open_decoder
from esv_ray.decoding.threads import DecodingThreads
from esv_ray.errors import DataError
from esv_ray.extraction import thumbnails
from esv_ray.extraction.reading import ExtractedTable
from esv_ray.extraction.videos.finding import find_videos
from esv_ray.machine import cores
from esv_ray.media.pictures import Picture

_DECODER = "pyav"
_MOST_THREADS = 8
_ROUNDED = 0.001  # seconds by which a time may be rounded
_LEAST_SHOWN = 1.0  # seconds: a frame that is shown at most this long before a time is taken for that time
_TINY = 16  # pixels of frames of which only the times are wanted
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Film:
    """The file of a video.

    Attributes:
        url: its location.
        start, end: seconds of the video in the file; None: its begin and its end.
    """

    url: str
    start: float | None = None
    end: float | None = None


class Times:
    """Times of the frames of videos in seconds, as the feature table of an extraction records them."""

    def __init__(self, find: Callable[[], ExtractedTable | None]) -> None:
        """Take a function that finds the table; it is called when the first times are asked for."""
        self._find = find
        self._lock = Lock()
        self._table: ExtractedTable | None = None
        self._is_found = False

    def of(self, video_id: str) -> Mapping[int, float]:
        """Return the seconds of frames by their numbers; none where no table records them."""
        with self._lock:
            if not self._is_found:
                self._table, self._is_found = self._find(), True
        try:
            return {} if self._table is None else self._table.times_of(video_id)
        except DataError:  # the table is unfinished or was removed: numbers are used instead
            return {}


class FrameDecoder:
    """Decodes single frames of videos, each video in one of a few processes."""

    def __init__(self, times: Times) -> None:
        """Start nothing yet.

        Args:
            times: times of the frames, by which a frame is also found in a copy of the video with another frame rate.
        """
        self.at_once = min(_MOST_THREADS, cores())
        self._times = times
        self._threads: DecodingThreads | None = None
        self._lock = Lock()

    def pictures(
        self, path: str, video_id: str, frames: Sequence[int], side: int = thumbnails.SIDE
    ) -> list[bytes | None]:
        """Return a JPEG of each frame; None for a frame that the video does not have.

        Args:
            path: location of the video.
            video_id: its id in the feature table.
            frames: numbers of frames.
            side: most pixels of a side.

        Raises:
            DataError: the video cannot be read or decoded.
            SpecError: the package that decodes videos is not installed.
        """
        if not frames:
            return []
        times = self._times.of(video_id)
        seconds = [times[frame] for frame in frames if frame in times]
        by_time = len(seconds) == len(frames)
        request: Request = At(tuple(seconds)) if by_time else Numbered(tuple(frames))

        def decoded(video: Video) -> tuple[list[Picture], float | None]:
            return list(_pictures(video, request, side)), video.summary().rate

        found, rate = self._with_video(path, decoded)
        if by_time:
            chosen = [_shown_at(found, second, rate) for second in seconds]
        else:
            by_number = {picture.number: picture for picture in found}
            chosen = [by_number.get(number) for number in frames]
        return [None if picture is None else picture.file for picture in chosen]

    def around(self, film: Film, video_id: str, frame: int, offsets: Sequence[int], side: int) -> dict[int, Picture]:
        """Return the frames at some offsets from one, by offset; those outside the video are left out.

        The frame is found by its time where one is recorded: so its neighbors are those in the file that is decoded.

        Args:
            film: the video.
            video_id: its id in the feature table.
            frame: number of the frame at offset 0.
            offsets: in frames of the file; -1: the frame before.
            side: most pixels of a side.

        Raises:
            DataError: the video cannot be read or decoded.
            SpecError: the package that decodes videos is not installed.
        """
        second = self._times.of(video_id).get(frame)

        def decoded(video: Video) -> dict[int, Picture]:
            number = frame if second is None else _number_at(video, second)
            wanted = {number + offset: offset for offset in offsets if number is not None and number + offset >= 0}
            if not wanted:
                return {}
            found = _pictures(video, Numbered(tuple(wanted)), side, film)
            return {wanted[picture.number]: picture for picture in found}

        return self._with_video(film.url, decoded)

    def times(self, path: str, video_id: str, frames: Sequence[int]) -> list[float | None]:
        """Return the seconds of frames from the start of the file: as recorded, else as decoded.

        Args:
            path: location of the video.
            video_id: its id in the feature table.
            frames: numbers of frames.

        Raises:
            DataError: the video cannot be read or decoded.
            SpecError: the package that decodes videos is not installed.
        """
        recorded = self._times.of(video_id)
        if all(frame in recorded for frame in frames):
            return [recorded[frame] for frame in frames]

        def decoded(video: Video) -> dict[int, float]:
            found = video.frames(Numbered(tuple(frames)), resize=ShortSide(_TINY))
            return {frame.index: frame.time for frame in found}

        by_number = self._with_video(path, decoded)
        return [by_number.get(frame) for frame in frames]

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            if self._threads is not None:
                self._threads.close()

    def _with_video(self, path: str, work: Callable[[Video], _Result]) -> _Result:
        def opened(decoder: Decoder) -> _Result:
            with decoder.open(path) as video:
                return work(video)

        return self._started().submit(opened).result()

    def _started(self) -> DecodingThreads:
        with self._lock:
            if self._threads is None:
                open_decoder(_DECODER, isolated=False).close()
                thumbnails.check_installed()
                self._threads = DecodingThreads(_DECODER, self.at_once)
            return self._threads


class ListedVideos:
    """The videos of a CSV or Parquet list, of a glob, or one video; see `media.Media`."""

    def __init__(self, location: str, decoder: FrameDecoder) -> None:
        """Find the videos.

        Raises:
            DataError: there are none, or two have one id.
        """
        self._location, self._decoder = location, decoder
        self._films = {clip.video_id: Film(clip.path, clip.start, clip.end) for clip in find_videos(location).clips}

    @property
    def at_once(self) -> int:
        """See `media.Media`."""
        return self._decoder.at_once

    def pictures(self, video_id: str, frames: Sequence[int], side: int = thumbnails.SIDE) -> list[bytes | None]:
        """Return decoded frames; see `media.Media.pictures`."""
        return self._decoder.pictures(self._found(video_id).url, video_id, frames, side)

    def around(
        self, video_id: str, frame: int, offsets: Sequence[int], side: int = thumbnails.SIDE
    ) -> dict[int, Picture]:
        """Return decoded frames; see `media.Media.around`."""
        return self._decoder.around(self._found(video_id), video_id, frame, offsets, side)

    def film(self, video_id: str) -> Film | None:
        """Return the file; see `media.Media.film`."""
        return self._films.get(video_id)

    def times(self, video_id: str, frames: Sequence[int]) -> list[float | None]:
        """Return the seconds of frames; see `media.Media.times`."""
        return self._decoder.times(self._found(video_id).url, video_id, frames)

    def close(self) -> None:
        """End the processes that decode."""
        self._decoder.close()

    def _found(self, video_id: str) -> Film:
        film = self._films.get(video_id)
        if film is None:
            raise DataError(f"{self._location}: expected a video {video_id!r:.100}, found none of this id")
        return film


def _pictures(video: Video, request: Request, side: int, film: Film | None = None) -> Iterator[Picture]:
    """Yield frames of a video as small JPEGs, one at a time: larger ones than thumbnails are decoded whole."""
    resize = ShortSide(side) if side <= thumbnails.SIDE else None
    start, end = (None, None) if film is None else (film.start, film.end)
    for frame in video.frames(request, start=start, end=end, resize=resize):
        yield Picture(frame.index, frame.time, thumbnails.thumbnails(frame.image[None], side)[0])


def _number_at(video: Video, second: float) -> int | None:
    """Return the number of the frame that is shown at a time."""
    frames = [Picture(each.index, each.time, b"") for each in video.frames(At((second,)), resize=ShortSide(_TINY))]
    found = _shown_at(frames, second, video.summary().rate)
    return None if found is None else found.number


def _shown_at(pictures: Sequence[Picture], second: float, rate: float | None) -> Picture | None:
    """Return the picture that is shown at a time, unless it was shown too long before: the video ended earlier then."""
    longest = max(_LEAST_SHOWN, 2 / rate if rate else 0.0)
    place = bisect_right(pictures, second + _ROUNDED, key=_time_of) - 1
    picture = pictures[max(0, place)] if pictures else None
    return picture if picture is not None and abs(second - _time_of(picture)) <= longest else None


def _time_of(picture: Picture) -> float:
    assert picture.time is not None, "decoded frames have times"
    return picture.time
