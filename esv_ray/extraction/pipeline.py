"""Decoding and backbones at the same time: threads decode videos into a bounded queue, which one thread empties.

Decoded frames never leave the process. The queue holds few batches, so that memory does not depend on the length of
videos, and a thread that is ahead of the backbone waits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import cycle
from queue import Empty, Full, Queue
from threading import Event
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.decoding import Decoder, Evenly, Every, Fps, Request, Resize, Video, VideoSummary
from esv_ray.errors import DataError, JobError, SpecError, StorageError, one_line
from esv_ray.extraction.backbones.backbone import Features
from esv_ray.extraction.elements import Batch, Batches, nearly_repeated
from esv_ray.extraction.tables import Extracted, Failed
from esv_ray.extraction.thumbnails import thumbnails
from esv_ray.extraction.videos.clip import Clip
from esv_ray.extraction.workplace import Target, Workplace
from esv_ray.spec_extract import FRAMES, ExtractSpec

_QUEUED = 2  # batches that wait, for each thread that decodes
_POLL_S = 1.0
MOST_BYTES = 2**32
"""Most bytes of the features of a video, which are a row of a table."""
MOST_IMAGE_BYTES = 2**28
"""Most bytes of the images of a video: 1,783 of 224 x 224. Reading a byte of an image takes about 17."""


class Pieces(NamedTuple):
    """Computed outcomes of videos.

    Attributes:
        outcomes: for each table, one for each video that was asked for.
        decode_s: seconds that the decoding threads worked, divided by their number.
        compute_s: seconds of the backbones.
    """

    outcomes: tuple[list[Extracted | Failed], ...]
    decode_s: float
    compute_s: float


class _Full(NamedTuple):
    """A batch of a video, for one of the tables."""

    target: int
    batch: Batch


class _End(NamedTuple):
    """The end of a video: what the decoder says of it, and why it failed, if it did."""

    summary: VideoSummary
    reason: str | None
    seconds: float


_Piece = _Full | _End | BaseException
"""What a decoding thread hands on."""


@dataclass
class _Collected:
    """What came of a video for a table so far."""

    features: list[npt.NDArray[Any]] = field(default_factory=list)
    batches: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = field(default_factory=list)
    thumbnails: list[bytes] = field(default_factory=list)
    size: int = 0
    failure: str | None = None


def request_of(spec: ExtractSpec) -> Request:
    """Return which frames an extraction asks for."""
    if spec.fps is not None:
        return Fps(spec.fps)
    frames = FRAMES if spec.frames is None else spec.frames
    return Every() if frames == "all" else Evenly(frames)


def extract_rows(
    place: Workplace,
    clips: Sequence[Clip],
    *,
    poisoned: Mapping[int, str],
    only: Sequence[Collection[int]],
    compute: Executor | None = None,
) -> Pieces:
    """Extract videos of a unit; each is decoded once.

    Args:
        place: the backbones and the decoders.
        clips: all videos of the unit.
        poisoned: videos that fail, and why.
        only: the videos to extract, for each table.
        compute: runs the backbones on one thread; None: the calling thread.

    Raises:
        JobError: the actor stops.
        StorageError: the storage does not answer; later it may.
        Exception: whatever a backbone raises.
    """
    outcomes: tuple[list[Extracted | Failed], ...]
    outcomes = tuple([Failed(row, poisoned[row]) for row in rows if row in poisoned] for rows in only)
    to_do = sorted({row for rows in only for row in rows if row not in poisoned})
    targets = {row: [number for number, rows in enumerate(only) if row in rows] for row in to_do}
    given_up = Event()
    queue: Queue[tuple[int, _Piece]] = Queue(_QUEUED * place.decoders.count)

    def decode(row: int) -> None:
        """Queue a video for the decoding threads."""

        def put(piece: _Piece) -> None:
            while not (given_up.is_set() or place.stopped.is_set()):
                try:
                    queue.put((row, piece), timeout=_POLL_S)
                except Full:
                    continue
                return
            raise JobError("stopped")

        def run(decoder: Decoder) -> None:
            if not given_up.is_set():
                _decode(place, decoder, clips[row], put, targets[row])

        place.decoders.submit(run)

    decode_s = compute_s = 0.0
    collected = {(row, number): _Collected() for row in to_do for number in targets[row]}
    try:
        for row in to_do:
            decode(row)
        remaining = len(to_do)
        while remaining:
            row, piece = _next(place, queue)
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(piece, _End):
                for number in targets[row]:
                    outcomes[number].append(_outcome(row, collected.pop((row, number)), piece))
                decode_s += piece.seconds
                remaining -= 1
                continue
            begun = perf_counter()
            _add(place, place.targets[piece.target], collected[row, piece.target], piece.batch, compute)
            compute_s += perf_counter() - begun
    finally:
        given_up.set()
    return Pieces(outcomes, decode_s / place.decoders.count, compute_s)


def _next(place: Workplace, queue: Queue[tuple[int, _Piece]]) -> tuple[int, _Piece]:
    """Wait for the next piece. A decoder that hangs is ended by its own clock, so waiting is progress."""
    while True:
        if place.stopped.is_set():
            raise JobError("stopped")
        try:
            return queue.get(timeout=_POLL_S)
        except Empty:
            continue
        finally:
            place.heartbeat.beat()


def _decode(
    place: Workplace, decoder: Decoder, clip: Clip, put: Callable[[_Piece], None], targets: Sequence[int]
) -> None:
    """Decode a video, and hand on its batches for some tables and its end."""
    begun, waited = perf_counter(), 0.0
    summary, reason = VideoSummary(), None
    try:
        with decoder.open(clip.path) as video:
            try:
                for full in _batches(place, video, clip, targets):
                    waiting = perf_counter()
                    put(full)
                    waited += perf_counter() - waiting
            finally:
                summary = video.summary()
    except StorageError as error:
        if error.transient:
            put(error)
            return
        reason = one_line(error)
    except (DataError, SpecError) as error:
        reason = one_line(error)
    except JobError:
        return  # nobody waits for it
    except BaseException as error:
        put(error)
        return
    put(_End(summary, reason, perf_counter() - begun - waited))


def _batches(place: Workplace, video: Video, clip: Clip, targets: Sequence[int]) -> Iterator[_Full]:
    """Yield the batches of a video for some tables; frames are resized once for tables with images of one size."""
    of_size: dict[Resize, list[int]] = {}
    for number in targets:
        of_size.setdefault(place.targets[number].backbone.info.preprocessing.resize, []).append(number)
    specs = {number: place.targets[number].spec for number in targets}
    batches = {
        number: Batches(clip=spec.clip, stride=spec.stride, size=spec.compute.batch) for number, spec in specs.items()
    }
    frames = video.frames(request_of(place.spec), start=clip.start, end=clip.end, resize=tuple(of_size))
    for frame, takers in zip(frames, cycle(of_size.values()), strict=False):
        for number in takers:
            batch = batches[number].add(frame)
            if batch is not None:
                yield _Full(number, batch)
    for number in targets:
        batch = batches[number].rest()
        if batch is not None:
            yield _Full(number, batch)


def _add(place: Workplace, target: Target, to: _Collected, batch: Batch, compute: Executor | None) -> None:
    """Encode a batch, unless the video has failed already."""
    if to.failure is not None:
        return

    def encode() -> Features:
        return target.backbone.encode(batch.images)

    info = target.backbone.info
    values = encode() if compute is None else compute.submit(encode).result()
    place.heartbeat.beat()
    with np.errstate(over="ignore"):  # reported below
        features = values.astype(info.dtype(target.spec.dtype), copy=False)
    if not np.isfinite(features).all():
        beyond = bool(np.isfinite(values).all())
        to.failure = (
            "features beyond the range of float16; use --dtype float32" if beyond else "features are not finite"
        )
        return
    to.size += features.nbytes
    most = MOST_BYTES if info.shape is None else MOST_IMAGE_BYTES
    if to.size > most:
        to.failure = f"features of more than {most} bytes; ask for fewer frames, or cut it with start and end"
        to.features.clear()
        to.thumbnails.clear()
        return
    to.features.append(features)
    to.batches.append((batch.index, batch.time))
    if place.spec.thumbnails:
        to.thumbnails += thumbnails(batch.shown)


def _outcome(row: int, collected: _Collected, end: _End) -> Extracted | Failed:
    reason = end.reason or collected.failure
    if reason is None and not collected.features:
        reason = "fewer frames than a clip has"
    if reason is not None:
        return Failed(row, reason, end.summary)
    features = np.concatenate(collected.features)
    index, time = (np.concatenate(parts) for parts in zip(*collected.batches, strict=True))
    return Extracted(row, features, index, time, nearly_repeated(features), end.summary, tuple(collected.thumbnails))
