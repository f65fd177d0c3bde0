"""Videos through PyAV (`av`), whose wheel holds its own FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO

from esv_ray import storage
from esv_ray.decoding.frames import Every, Fps, Request, Resize, VideoFrame
from esv_ray.decoding.pictures import Pictures, shown_size, turn_of
from esv_ray.decoding.protocol import Video, VideoSummary
from esv_ray.decoding.selection import Shown, Span, at_rate, evenly, span_of
from esv_ray.decoding.timestamps import Clock
from esv_ray.errors import DataError, SpecError, short_text

if TYPE_CHECKING:
    import av
    import av.container

DOING = "read the video"
_NO_PYAV = "decoding videos needs av (PyAV): pip install 'esv-ray[video]'"
_MICROSECOND = Fraction(1, 1_000_000)


class PyAvDecoder:
    """Decodes videos in this process."""

    def __init__(self, threads: int) -> None:
        """Create the decoder, given the number of threads that decode one video.

        Raises:
            SpecError: PyAV is not installed.
        """
        try:
            import av
        except ImportError as error:
            raise SpecError(_NO_PYAV) from error
        av.logging.set_level(None)
        self._threads = threads

    @contextmanager
    def open(self, source: str) -> Iterator[Video]:
        """Open a video; see `protocol.Decoder.open`."""
        with storage.reader(source, DOING) as file:
            video = PyAvVideo(source, file, self._threads)
            try:
                yield video
            finally:
                video.close()

    def close(self) -> None:
        """Do nothing: the decoder holds nothing."""


class PyAvVideo:
    """An open video; see `protocol.Video`."""

    def __init__(self, source: str, file: BinaryIO, threads: int) -> None:
        """Open the container in a file.

        Raises:
            DataError: it is no video, or has no video stream.
        """
        self.source = source
        self._file, self._threads = file, threads
        self._container = self._open()
        self._stream = _video_stream(self._container, source)
        self._summary = VideoSummary()

    def frames(
        self, request: Request, *, start: float | None = None, end: float | None = None, resize: Resize | None = None
    ) -> Iterator[VideoFrame]:
        """Yield the requested frames; see `protocol.Video.frames`."""
        span = span_of(start, end)
        pictures = Pictures(resize)
        for shown, frame in self._wanted(request, span):
            yield VideoFrame(shown.index, float(shown.time), pictures.image(frame, self._aspect()))
        if not self._in_span:
            raise DataError(f"{self.source}: expected a video with frames, got none that can be decoded")

    def summary(self) -> VideoSummary:
        """Return what came out of the latest iteration."""
        return self._summary

    def close(self) -> None:
        """Close the container; the file is its opener's."""
        self._container.close()

    def _open(self) -> av.container.InputContainer:
        import av

        self._file.seek(0)
        try:
            return av.open(self._file, "r", options={"protocol_whitelist": "none"}, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise DataError(f"{self.source}: expected a video, got: {short_text(error)}") from error

    def _wanted(self, request: Request, span: Span) -> Iterator[tuple[Shown, av.VideoFrame]]:
        frames = self._within(span)
        if isinstance(request, Every):
            yield from frames
        elif isinstance(request, Fps):
            yield from at_rate(frames, request.rate, span.start or Fraction(0), span.end)
        else:
            total = sum(1 for _ in frames)
            places = set(evenly(total, request.count))
            yield from (frame for place, frame in enumerate(self._within(span)) if place in places)

    def _within(self, span: Span) -> Iterator[tuple[Shown, av.VideoFrame]]:
        self._in_span = 0
        for shown, frame in self._decoded():
            if span.is_after(shown.time):
                return
            if not span.is_before(shown.time):
                self._in_span += 1
                yield shown, frame

    def _decoded(self) -> Iterator[tuple[Shown, av.VideoFrame]]:
        """Yield all shown frames from the beginning."""
        import av

        self._container.close()
        self._container = self._open()
        self._stream = stream = _video_stream(self._container, self.source)
        stream.codec_context.thread_count = self._threads
        rate = stream.average_rate or stream.guessed_rate
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if duration is None and self._container.duration is not None:
            duration = self._container.duration * _MICROSECOND
        self._summary = VideoSummary(duration=float(duration) if duration else None, rate=float(rate) if rate else None)
        offset = 0
        if self._container.start_time is not None and stream.time_base:
            offset = round(self._container.start_time * _MICROSECOND / stream.time_base)
        clock = Clock(stream.time_base, offset, rate)
        index = lost = damaged = 0
        for packet in self._container.demux(stream):
            try:
                frames = stream.codec_context.decode(packet)
            except av.FFmpegError:
                lost += 1
                continue
            for frame in frames:
                shown = Shown(index, clock.time(frame.pts, frame.dts))
                damaged += frame.is_corrupt
                if not index:
                    height, width = shown_size(frame, self._aspect(), turn_of(frame))
                    self._summary = replace(self._summary, height=height, width=width)
                index += 1
                self._summary = replace(
                    self._summary, shown=index, lost=lost, damaged=damaged, counted_times=clock.counted
                )
                yield shown, frame
        self._summary = replace(self._summary, complete=True, lost=lost)

    def _aspect(self) -> Fraction | None:
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        return aspect or None


def _video_stream(container: av.container.InputContainer, source: str) -> av.VideoStream:
    """Return the stream that ffmpeg shows: the one with the most pixels, a default one first; never a cover picture."""
    from av.stream import Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        what = "a cover picture only" if container.streams.video else f"{len(container.streams)} other streams"
        raise DataError(f"{source}: expected a video stream, got {what}")
    return max(
        streams,
        key=lambda stream: stream.width * stream.height + 5_000_000 * bool(stream.disposition & Disposition.default),
    )
