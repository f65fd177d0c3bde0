"""Containers through PyAV: opening, the stream that is shown, what they state, decoding in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from esv_ray.decoding.media_file import MediaFile, Source
from esv_ray.decoding.pictures import Decoded, Turn, turn_of
from esv_ray.decoding.tails import is_truncated
from esv_ray.errors import DataError, EsvError, short_text

if TYPE_CHECKING:
    import av
    import av.container
    import av.packet

_MICROSECOND = Fraction(1, 1_000_000)
# FFmpeg opens no other file or address for a playlist, a list of files to join, ...
_OPTIONS = {"protocol_whitelist": "none"}
_MOST_PIXELS = 2**28  # of a coded frame: 16384 x 16384
_DEFAULT_SCORE = 5_000_000  # of a stream that is marked as the default one, in pixels, as in ffmpeg


class Container:
    """An open container and its video stream, which is read once from the beginning.

    Attributes:
        base: seconds of one unit of its time stamps.
        offset: the time stamp at which the file starts.
        rate: mean frames per second, as stated; None: not stated.
        duration: seconds of the video stream, as stated; None: not stated.
        format: the name of its format in FFmpeg, e.g. ``matroska,webm``.
        codec: the name of its codec in FFmpeg, e.g. ``h264``.
        lost: number of packets so far that are damaged and gave no frame.
        damaged: number of frames so far that are damaged.
        broken: why reading ended before the end of the file; "": it did not.
    """

    def __init__(self, source: Source, threads: int, progress: Callable[[], None]) -> None:
        """Open the container in a file.

        Raises:
            DataError: it is no video, or has no video stream.
        """
        self._name, self._progress = source.name, progress
        self._container = _opened(source)
        try:
            self._stream = stream = _shown_stream(self._container, source.name)
        except DataError:
            self._container.close()
            raise
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO" if threads > 1 else "SLICE"
        stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
        self.format, self.codec = self._container.format.name, stream.codec_context.name
        self.base = _fraction(stream.time_base) or Fraction(1, 90_000)
        self.rate = _sensible_rate(stream.average_rate) or _sensible_rate(stream.guessed_rate)
        self.duration = self._duration()
        start = self._container.start_time
        self.offset = 0 if start is None else round(start * _MICROSECOND / self.base)
        self.lost = self.damaged = 0
        self.broken = ""
        self._turns: dict[tuple[int, int, int], Turn | None] = {}

    def close(self) -> None:
        """Close the container; the file is its opener's."""
        self._container.close()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the coded frames, as stated; 0 if not stated."""
        return self._stream.codec_context.height, self._stream.codec_context.width

    def packets(self) -> Iterator[av.packet.Packet[av.VideoStream]]:
        """Yield the packets of the video stream in the order of the file, and one without data at the end.

        Damage that FFmpeg cannot read past ends the file.

        Raises:
            DataError: the store fails.
        """
        import av

        demuxed = self._container.demux(self._stream)
        while True:
            self._progress()
            try:
                packet = next(demuxed, None)
            except (av.FFmpegError, ValueError) as error:
                self.broken = short_text(error)
                return
            if packet is None:
                return
            yield packet

    def decode(self, packet: av.packet.Packet[av.VideoStream] | None) -> list[Decoded]:
        """Return the frames that a packet completes; None: those that the decoder still holds."""
        import av

        try:
            frames = self._stream.codec_context.decode(packet)
        except EOFError:  # flushed before
            return []
        except av.FFmpegError:
            self.lost += 1
            return []
        self.damaged += sum(frame.is_corrupt for frame in frames)
        stated = _fraction(self._stream.sample_aspect_ratio)
        aspect = stated or _fraction(self._stream.codec_context.sample_aspect_ratio)
        return [Decoded(frame, aspect, self._turn_of(frame)) for frame in frames]

    def frames(self) -> Iterator[Decoded]:
        """Yield all shown frames in the order of presentation."""
        for packet in self.packets():
            yield from self.decode(packet)
        if self.broken:
            yield from self.decode(None)

    def seek(self, stamp: int) -> None:
        """Move to the last key frame whose time stamp is at most this one, as far as the format knows.

        Raises:
            FFmpegError: the format cannot seek there.
        """
        self._container.seek(stamp, stream=self._stream, backward=True)

    def _turn_of(self, frame: av.VideoFrame) -> Turn | None:
        """Return the turn of a frame; it is looked up again only where its angle or size changes."""
        key = (frame.rotation, frame.height, frame.width)
        if key not in self._turns:
            self._turns[key] = turn_of(frame)
        return self._turns[key]

    def _duration(self) -> Fraction | None:
        stream, container = self._stream, self._container
        if stream.duration and stream.duration > 0:
            return stream.duration * self.base
        tagged = _seconds(stream.metadata.get("DURATION", ""))
        if tagged is None and len(container.streams) == 1 and container.duration and container.duration > 0:
            return container.duration * _MICROSECOND
        return tagged


def _opened(source: Source) -> av.container.InputContainer:
    import av

    try:
        opened: av.container.InputContainer = av.open(
            MediaFile(source), "r", options=_OPTIONS, **_tolerant(av.__version__)
        )
        return opened
    except EsvError:
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        cut = "the end of the file is missing" if is_truncated(source.file, source.size) else "it is damaged or none"
        raise DataError(f"{source.name}: expected a video, got a file that cannot be opened: {cut}") from error


def _tolerant(version: str) -> dict[str, Any]:
    """Return the argument with which PyAV accepts texts that are not UTF-8; from version 19 on it always does."""
    return {"metadata_errors": "replace"} if int(version.partition(".")[0]) < 19 else {}


def _fraction(value: Fraction | None) -> Fraction | None:
    """Return a ratio of PyAV as a fraction: from version 19 on it has a type of its own; None if it is not above 0."""
    if value is None or value.denominator == 0 or value.numerator <= 0:
        return None
    return Fraction(value.numerator, value.denominator)


def _shown_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """Return the stream that ffmpeg shows: a default one, then the one with most pixels; never a cover picture."""
    from av.stream import Disposition

    pictures = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
    streams = [stream for stream in container.streams.video if stream not in pictures]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams if stream not in pictures})
        got = [*kinds, *(["a cover picture"] if pictures else [])]
        raise DataError(f"{name}: expected a video stream, got {' and '.join(got) or 'no stream'} only")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise DataError(f"{name}: expected a video stream that can be decoded, got one of an unknown codec")
    return max(
        known,
        key=lambda stream: (
            stream.width * stream.height + _DEFAULT_SCORE * bool(stream.disposition & Disposition.default)
        ),
    )


def _sensible_rate(rate: Fraction | None) -> Fraction | None:
    rate = _fraction(rate)
    return rate if rate is not None and rate <= 1000 else None


def _seconds(text: str) -> Fraction | None:
    """Return the seconds of ``hours:minutes:seconds``, as Matroska has them in its tags."""
    parts = text.strip("\0 ").split(":")
    try:
        hours, minutes, seconds = (Fraction(part) for part in parts)
    except ValueError:
        return None
    total = 3600 * hours + 60 * minutes + seconds
    return total if total > 0 else None
