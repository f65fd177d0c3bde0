"""Videos through PyAV (`av`), whose wheel holds its own FFmpeg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from esv_ray.decoding.container import Container
from esv_ray.decoding.frames import Evenly, Fps, Request, Resize, VideoFrame
from esv_ray.decoding.media_file import Source
from esv_ray.decoding.pictures import Decoded, Image, Images, Turn, shown_size, turn_of
from esv_ray.decoding.protocol import VideoSummary
from esv_ray.decoding.selection import LEAST_TOLERANCE, Shown, Span, at_rate, evenly, span_of
from esv_ray.decoding.survey import Piece, Survey, SurveyError, cost, decode_pieces, pieces, survey
from esv_ray.decoding.tails import is_truncated
from esv_ray.decoding.timestamps import Clock
from esv_ray.errors import DataError, SpecError

_NO_PYAV = "decoding videos needs av (PyAV): pip install 'esv-ray[video]'"
_MOST_TOLERANCE = Fraction(1, 1000)  # seconds
_MOST_HELD = 2**28  # bytes of images that wait until the number of frames is certain
_LONG = 250  # frames; in shorter videos nothing is skipped
_SPARSE = 25  # of so many frames in a row, one is wanted
_SHARE = 4  # decode in pieces if they are less than this part of the whole
_MOSTLY = Fraction(95, 100)
_JOINED = {"mpegts", "mpeg"}  # formats whose files can be joined end to end
_COUNTING = {"avi"}  # formats that count frames instead of giving them time stamps


def check_installed() -> None:
    """Import PyAV, without its log.

    Raises:
        SpecError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise SpecError(_NO_PYAV) from error
    av.logging.set_level(None)


@dataclass
class _Pass:
    """One decoding of a video.

    Attributes:
        container: what is decoded.
        shown: number of frames so far.
        sizes: heights and widths so far, in the order of their first frame.
        ended: seconds of the latest frame.
        complete: whether the end was reached.
        truncated: whether the end of the file is missing; known at the end.
        slanted: whether a display matrix was ignored.
    """

    container: Container
    clock: Clock
    shown: int = 0
    sizes: dict[tuple[int, int], None] = field(default_factory=dict)
    ended: Fraction = Fraction(0)
    complete: bool = False
    truncated: bool = False
    slanted: bool = False

    def count(self, decoded: Decoded, time: Fraction) -> None:
        """Count a frame."""
        self.shown += 1
        self.ended = time
        turn = turn_of(decoded.frame)
        self.slanted |= turn is None
        self.sizes[shown_size(decoded, turn or Turn())] = None

    def summary(self, total: int | None) -> VideoSummary:
        """Return what came out so far."""
        height, width = next(iter(self.sizes), (0, 0))
        return VideoSummary(
            shown=self.shown,
            total=self.shown if self.complete else total,
            complete=self.complete,
            duration=None if self.container.duration is None else float(self.container.duration),
            rate=None if self.container.rate is None else float(self.container.rate),
            height=height,
            width=width,
            lost=self.container.lost,
            damaged=self.container.damaged,
            truncated=self.truncated,
            counted_times=self.clock.counted or self.container.format in _COUNTING,
            notes=tuple(self._notes()),
        )

    def _stated_end(self) -> Fraction:
        """Return the latest time as the container counts it: some formats state the last time stamp as duration."""
        return self.ended + max(0, self.container.offset) * self.container.base

    def _notes(self) -> Iterator[str]:
        stated = self.container.duration
        if self.container.broken:
            yield f"reading stopped before the end: {self.container.broken}"
        elif self.complete and not self.truncated and stated and self._stated_end() < stated * _MOSTLY - 1:
            yield f"frames end at {float(self.ended):.2f} of the stated {float(stated):.2f} seconds"
        if self.clock.jumped:
            yield f"time stamps start again {self.clock.jumped} times; their times are continued"
        if self.clock.went_back:
            yield f"{self.clock.went_back} time stamps go back"
        if len(self.sizes) > 1:
            yield f"frames of {len(self.sizes)} sizes"
        if self.slanted:
            yield "turned by a part of a quarter: shown as stored"


class PyAvVideo:
    """An open video; see `protocol.Video`."""

    def __init__(self, source: Source, threads: int, progress: Callable[[], None]) -> None:
        """Open the container in a file.

        Args:
            source: the file.
            threads: number of threads that decode it.
            progress: called at each step of the work.

        Raises:
            DataError: it is no video, or has no video stream.
            SpecError: PyAV is not installed.
        """
        check_installed()
        self._source, self._threads, self._progress = source, threads, progress
        self._container: Container | None = Container(source, threads, progress)
        self._is_used = False
        self._tolerance = min(max(LEAST_TOLERANCE, self._container.base / 2), _MOST_TOLERANCE)
        self._pass = self._begun(self._container)
        self._survey: Survey | None = None
        self._is_surveyed = False

    @property
    def source(self) -> str:
        """Path or URL."""
        return self._source.name

    def summary(self) -> VideoSummary:
        """Return what came out of the latest iteration."""
        return self._pass.summary(None if self._survey is None else len(self._survey.shown))

    def close(self) -> None:
        """Close the container; the file is its opener's."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def frames(
        self, request: Request, *, start: float | None = None, end: float | None = None, resize: Resize | None = None
    ) -> Iterator[VideoFrame]:
        """Yield the requested frames; see `protocol.Video.frames`."""
        span = span_of(start, end)._replace(tolerance=self._tolerance)
        return self._frames(request, span, Images(self.source, resize))

    def _frames(self, request: Request, span: Span, images: Images) -> Iterator[VideoFrame]:
        latest: Fraction | None = None
        try:
            for shown, image in self._sparse(request, span, images):
                latest = shown.time
                yield VideoFrame(shown.index, float(shown.time), image)
            if latest is not None:
                return
        except SurveyError:  # decode everything in order instead
            self._survey = None
        if isinstance(request, Evenly):
            chosen = self._evenly(request.count, span, images)
        else:
            frames = self._within(span)
            kept = at_rate(frames, request.rate, span) if isinstance(request, Fps) else frames
            chosen = ((shown, images.image(shown, decoded)) for shown, decoded in kept)
        given = latest is not None
        for shown, image in chosen:
            if latest is None or shown.time > latest:
                given = True
                yield VideoFrame(shown.index, float(shown.time), image)
        if not given:
            raise DataError(f"{self.source}: {self._nothing(span)}")

    def _sparse(self, request: Request, span: Span, images: Images) -> Iterator[tuple[Shown, Image]]:
        """Yield the requested frames from what little must be decoded for them; none if that is not little.

        Raises:
            SurveyError: the packets do not announce the frames.
        """
        if not self._may_be_sparse(request, span):
            return
        found = self._surveyed()
        ranks = [] if found is None else found.ranks(request, span)
        if found is None or not ranks:
            return
        parts = pieces(found, ranks)
        in_order = int(found.place[ranks].max()) + 1
        if in_order < _LONG or cost(found, parts) * _SHARE > in_order:
            return
        made = self._made(found, parts, images)
        yield from list(made) if isinstance(request, Evenly) else made

    def _made(self, found: Survey, parts: list[Piece], images: Images) -> Iterator[tuple[Shown, Image]]:
        self._pass = run = self._begun(self._start())
        for rank, decoded in decode_pieces(run.container, found, parts):
            shown = Shown(rank, found.seconds(found.shown[rank]))
            run.count(decoded, shown.time)
            yield shown, images.image(shown, decoded)

    def _may_be_sparse(self, request: Request, span: Span) -> bool:
        """Return whether reading all packets first may pay."""
        container = self._pass.container
        rate = container.rate or 0
        frames = rate * (container.duration or 0)
        late = span.start is not None and span.start * rate >= _LONG
        return (
            late
            or (frames >= _LONG and isinstance(request, Evenly))
            or (isinstance(request, Fps) and frames >= _LONG and request.rate * _SPARSE <= rate)
        )

    def _surveyed(self) -> Survey | None:
        """Return the packets of the video, read once."""
        if not self._is_surveyed:
            self._survey = survey(self._start())
            self._is_surveyed = True
        return self._survey

    def _evenly(self, count: int, span: Span, images: Images) -> Iterator[tuple[Shown, Image]]:
        """Yield evenly spaced frames of a span.

        Their number is known from the packets, or by decoding everything; if the packets announce another number than
        the decoder gives, the frames are chosen again.
        """
        found = self._surveyed()
        if found is not None and images.bytes_of(self._pass.container.size) * count <= _MOST_HELD:
            low, high = found.range_of(span)
            held, total = self._at_places(evenly(high - low, count), span, images)
            if total == high - low:
                yield from held
                return
            del held
        else:
            total = sum(1 for _ in self._within(span))
        places = set(evenly(total, count))
        for place, (shown, decoded) in enumerate(self._within(span)):
            if place in places:
                yield shown, images.image(shown, decoded)

    def _at_places(self, places: list[int], span: Span, images: Images) -> tuple[list[tuple[Shown, Image]], int]:
        """Return the frames with some numbers within a span, and how many frames the span has."""
        wanted, held, total = set(places), [], 0
        for shown, decoded in self._within(span):
            if total in wanted:
                held.append((shown, images.image(shown, decoded)))
            total += 1
        return held, total

    def _within(self, span: Span) -> Iterator[tuple[Shown, Decoded]]:
        for shown, decoded in self._decoded():
            if span.is_after(shown.time):
                return
            if not span.is_before(shown.time):
                yield shown, decoded

    def _decoded(self) -> Iterator[tuple[Shown, Decoded]]:
        """Yield all shown frames from the beginning."""
        self._pass = run = self._begun(self._start())
        for frame in run.container.frames():
            decoded = Decoded(frame, run.container.aspect)
            shown = Shown(run.shown, run.clock.time(frame.pts, frame.dts))
            run.count(decoded, shown.time)
            yield shown, decoded
        run.complete = True
        run.truncated = is_truncated(self._source.file, self._source.size)

    def _start(self) -> Container:
        """Return a container that is read from its beginning."""
        if self._container is None:
            raise ValueError("the video is closed")
        if self._is_used:
            self._container.close()
            self._container = Container(self._source, self._threads, self._progress)
        self._is_used = True
        return self._container

    def _begun(self, container: Container) -> _Pass:
        joined = container.format in _JOINED
        return _Pass(container, Clock(container.base, container.offset, container.rate, joined))

    def _nothing(self, span: Span) -> str:
        """Return why no frame was given."""
        run = self._pass
        if run.shown and run.ended is not None:
            start, end = (None if limit is None else round(float(limit), 3) for limit in (span.start, span.end))
            return (
                f"expected frames from {start or 0} seconds to {'the end' if end is None else end}, got none; the "
                f"last frame read is at {float(run.ended):.3f} seconds"
            )
        why = f", {run.container.lost} damaged" if run.container.lost else ""
        cut = "; the end of the file is missing" if run.truncated else ""
        return f"expected a video with frames, got none that can be decoded{why}{cut}"
