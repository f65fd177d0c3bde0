"""Pictures of frames that are decoded from videos."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from esv_ray.decoding import At, Decoder, Numbered, Request, ShortSide, VideoFrame, open_decoder
from esv_ray.decoding.threads import DecodingThreads
from esv_ray.errors import DataError
from esv_ray.extraction import thumbnails
from esv_ray.extraction.reading import ExtractedTable
from esv_ray.extraction.videos.finding import find_videos
from esv_ray.machine import cores

_DECODER = "pyav"
_MOST_THREADS = 8
_ROUNDED = 0.001  # seconds by which a time may be rounded
_LEAST_SHOWN = 1.0  # seconds: a frame that is shown at most this long before a time is taken for that time


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

    def pictures(self, path: str, video_id: str, frames: Sequence[int]) -> list[bytes | None]:
        """Return a small JPEG of each frame; None for a frame that the video does not have.

        Args:
            path: location of the video.
            video_id: its id in the feature table.
            frames: numbers of frames.

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
        found, rate = self._started().submit(lambda decoder: _decoded(decoder, path, request)).result()
        chosen: Sequence[VideoFrame | None]
        if by_time:
            longest = max(_LEAST_SHOWN, 2 / rate if rate else 0.0)
            chosen = [_shown_at(found, second, longest) for second in seconds]
        else:
            by_number = {frame.index: frame for frame in found}
            chosen = [by_number.get(number) for number in frames]
        return [None if frame is None else thumbnails.thumbnails(frame.image[None])[0] for frame in chosen]

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            if self._threads is not None:
                self._threads.close()

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
        self._paths = {clip.video_id: clip.path for clip in find_videos(location).clips}

    @property
    def at_once(self) -> int:
        """See `media.Media`."""
        return self._decoder.at_once

    def pictures(self, video_id: str, frames: Sequence[int]) -> list[bytes | None]:
        """Return decoded frames; see `media.Media.pictures`."""
        path = self._paths.get(video_id)
        if path is None:
            raise DataError(f"{self._location}: expected a video {video_id!r:.100}, found none of this id")
        return self._decoder.pictures(path, video_id, frames)

    def close(self) -> None:
        """End the processes that decode."""
        self._decoder.close()


def _decoded(decoder: Decoder, path: str, request: Request) -> tuple[list[VideoFrame], float | None]:
    """Return the requested frames, small, and the rate that the file states."""
    with decoder.open(path) as video:
        frames = list(video.frames(request, resize=ShortSide(thumbnails.SIDE)))
        return frames, video.summary().rate


def _shown_at(frames: Sequence[VideoFrame], second: float, longest: float) -> VideoFrame | None:
    """Return the frame that is shown at a time, unless it was shown too long before: the video ended earlier then."""
    place = bisect_right(frames, second + _ROUNDED, key=lambda frame: frame.time) - 1
    frame = frames[max(0, place)] if frames else None
    return frame if frame is not None and abs(second - frame.time) <= longest else None
