"""Videos through PyAV (`av`), whose wheel holds its own FFmpeg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from esv_ray.decoding.container import Container
from esv_ray.decoding.frames import At, Evenly, Fps, Numbered, Request, Sizes, VideoFrame, sizes_of
from esv_ray.decoding.media_file import Source
from esv_ray.decoding.pictures import Decoded, Images, Pictures
from esv_ray.decoding.protocol import VideoSummary
from esv_ray.decoding.run import begun
from esv_ray.decoding.selection import LEAST_TOLERANCE, Shown, Span, evenly, requested, span_of
from esv_ray.decoding.survey import Piece, Survey, SurveyError, cost, decode_pieces, pieces, survey
from esv_ray.decoding.tails import is_truncated
from esv_ray.errors import DataError, SpecError

_NO_PYAV = "decoding videos needs av (PyAV): pip install 'esv-ray[video]'"
_MOST_TOLERANCE = Fraction(1, 1000)  # seconds
_MOST_HELD = 2**28  # bytes of images that wait until the number of frames is certain
_LONG = 250  # frames; in shorter videos nothing is skipped
_SPARSE = 25  # of so many frames in a row, one is wanted
_SHARE = 4  # decode in pieces if they are less than this part of the whole


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
        self._turn = 0  # of the latest iteration
        self._tolerance = min(max(LEAST_TOLERANCE, self._container.base / 2), _MOST_TOLERANCE)
        self._pass = begun(self._container)
        self._survey: Survey | None = None
        self._is_surveyed = False

    @property
    def source(self) -> str:
        """Path or URL."""
        return self._source.name

    def summary(self) -> VideoSummary:
        """Return what came out of the latest iteration, and end it."""
        self._turn += 1
        return self._pass.summary(None if self._survey is None else len(self._survey.shown))

    def close(self) -> None:
        """Close the container; the file is its opener's."""
        self._turn += 1
        if self._container is not None:
            self._container.close()
            self._container = None

    def frames(
        self, request: Request, *, start: float | None = None, end: float | None = None, resize: Sizes = None
    ) -> Iterator[VideoFrame]:
        """Yield the requested frames; see `protocol.Video.frames`."""
        span = span_of(start, end)._replace(tolerance=self._tolerance)
        self._turn += 1
        return self._while_current(self._turn, self._frames(request, span, Images(self.source, sizes_of(resize))))

    def _while_current(self, turn: int, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield frames until another iteration begins, which reads the same container."""
        while turn == self._turn:
            frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _frames(self, request: Request, span: Span, images: Images) -> Iterator[VideoFrame]:
        latest: Fraction | None = None
        try:
            for shown, made in self._sparse(request, span, images):
                latest = shown.time
                yield from (VideoFrame(shown.index, float(shown.time), image) for image in made)
            if latest is not None:
                return
        except SurveyError:  # decode everything in order instead
            self._survey = None
        if isinstance(request, Evenly):
            chosen = self._evenly(request.count, span, images)
        else:
            kept = requested(self._within(span), request, span)
            chosen = ((shown, images.of(shown, decoded)) for shown, decoded in kept)
        given = latest is not None
        for shown, made in chosen:
            if latest is None or shown.time > latest:
                given = True
                yield from (VideoFrame(shown.index, float(shown.time), image) for image in made)
        if not given:
            raise DataError(f"{self.source}: {self._nothing(request, span)}")

    def _sparse(self, request: Request, span: Span, images: Images) -> Iterator[tuple[Shown, Pictures]]:
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

    def _made(self, found: Survey, parts: list[Piece], images: Images) -> Iterator[tuple[Shown, Pictures]]:
        self._pass = run = begun(self._start())
        for rank, decoded in decode_pieces(run.container, found, parts):
            shown = Shown(rank, found.seconds(found.shown[rank]))
            run.count(decoded, shown.time)
            yield shown, images.of(shown, decoded)

    def _may_be_sparse(self, request: Request, span: Span) -> bool:
        """Return whether reading all packets first may pay."""
        container = self._pass.container
        rate = container.rate or 0
        frames = rate * (container.duration or 0)
        late = span.start is not None and span.start * rate >= _LONG
        return (
            late
            or (frames >= _LONG and isinstance(request, Evenly | Numbered | At))
            or (isinstance(request, Fps) and frames >= _LONG and request.rate * _SPARSE <= rate)
        )

    def _surveyed(self) -> Survey | None:
        """Return the packets of the video, read once."""
        if not self._is_surveyed:
            self._survey = survey(self._start())
            self._is_surveyed = True
        return self._survey

    def _evenly(self, count: int, span: Span, images: Images) -> Iterator[tuple[Shown, Pictures]]:
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
                yield shown, images.of(shown, decoded)

    def _at_places(self, places: list[int], span: Span, images: Images) -> tuple[list[tuple[Shown, Pictures]], int]:
        """Return the frames with some numbers within a span, and how many frames the span has."""
        wanted, held, total = set(places), [], 0
        for shown, decoded in self._within(span):
            if total in wanted:
                held.append((shown, images.of(shown, decoded)))
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
        self._pass = run = begun(self._start())
        for decoded in run.container.frames():
            shown = Shown(run.shown, run.clock.time(decoded.frame.pts, decoded.frame.dts))
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

    def _nothing(self, request: Request, span: Span) -> str:
        """Return why no frame was given."""
        run = self._pass
        if run.shown and run.ended is not None:
            start, end = (None if limit is None else round(float(limit), 3) for limit in (span.start, span.end))
            asked = f"from {start or 0} seconds to {'the end' if end is None else end}"
            if isinstance(request, Numbered):
                asked = f"of the numbers {request.numbers[0]} to {request.numbers[-1]}"
            return (
                f"expected frames {asked}, got none; the last frame read is number {run.shown - 1} at "
                f"{float(run.ended):.3f} seconds"
            )
        why = f", {run.container.lost} damaged" if run.container.lost else ""
        cut = "; the end of the file is missing" if run.truncated else ""
        return f"expected a video with frames, got none that can be decoded{why}{cut}"
