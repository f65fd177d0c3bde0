"""The packets of a video without decoding them: how many frames it shows, and where decoding may start.

Few frames of a long video need few of its groups of pictures. A frame that is decoded from the key frame before it is
the same, bit for bit, as in order: where the stamps and the codec allow that, and where the decoder then gives exactly
the frames that the packets announce. Everything else is decoded in order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.decoding.container import Container
from esv_ray.decoding.frames import At, Evenly, Fps, Numbered, Request
from esv_ray.decoding.pictures import Decoded
from esv_ray.decoding.selection import Span, clock_of, evenly, ranks_at

# Formats with an index of key frames, and codecs whose key frames need nothing before them and whose packets each show
# one frame. In VP8 some packets show none; in MPEG-2 and older formats an index is rare.
_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_CODECS = {"h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "libdav1d", "libvpx-vp9"}
_MOST_PACKETS = 2**26  # 26 days at 30 per second; 2 GB


@dataclass(frozen=True, eq=False)
class Survey:
    """The packets of a video whose stamps can be relied on.

    Attributes:
        shown: (T,) time stamps of the frames that are shown, ascending.
        place: (T,) number of the packet of each, in the order of the file.
        keys: (K,) numbers of the packets that are key frames.
        key_stamps: (K,) their time stamps.
        key_seeks: (K,) stamps that lead a container to them.
        seconds: gives the time of a stamp.
    """

    shown: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    key_stamps: npt.NDArray[np.int64]
    key_seeks: npt.NDArray[np.int64]
    seconds: Callable[[int], Fraction]

    def range_of(self, span: Span) -> tuple[int, int]:
        """Return the number of the first shown frame of a span, and that of the first one after it."""
        low = 0 if span.start is None else self._first_at(span.start - span.tolerance)
        high = len(self.shown) if span.end is None else self._first_at(span.end - span.tolerance)
        return low, max(low, high)

    def ranks(self, request: Request, span: Span) -> list[int]:
        """Return the numbers of the requested frames among all shown frames."""
        low, high = self.range_of(span)
        if isinstance(request, Evenly):
            return [low + place for place in evenly(high - low, request.count)]
        if isinstance(request, Fps | At):
            chosen = ranks_at(self.shown[low:high], self.seconds, clock_of(request, span), span)
            return [low + rank for rank in chosen]
        if isinstance(request, Numbered):
            return [number for number in request.numbers if low <= number < high]
        return list(range(low, high))

    def _first_at(self, time: Fraction) -> int:
        return bisect_left(self.shown, time, key=self.seconds)


class Piece(NamedTuple):
    """Frames that are decoded from one key frame on.

    Attributes:
        key: number of the key frame among the key frames.
        ranks: numbers of the wanted frames among the shown frames, ascending.
    """

    key: int
    ranks: list[int]


def survey(container: Container) -> Survey | None:
    """Read all packets of a container; None if its stamps, its format or its codec do not allow relying on them."""
    if container.format not in _FORMATS or container.codec not in _CODECS:
        return None
    stamps, decoding, is_key, is_hidden = array("q"), array("q"), bytearray(), bytearray()
    for packet in container.packets():
        if not packet.size:
            continue
        if packet.pts is None or packet.is_corrupt or len(stamps) >= _MOST_PACKETS:
            return None
        stamps.append(packet.pts)
        decoding.append(packet.pts if packet.dts is None else min(packet.dts, packet.pts))
        is_key.append(packet.is_keyframe)
        is_hidden.append(packet.is_discard)
    if container.broken or not stamps or not is_key[0]:
        return None
    pts, key, hidden = np.array(stamps), np.frombuffer(is_key, bool), np.frombuffer(is_hidden, bool)
    keys = np.flatnonzero(key)
    place = np.flatnonzero(~hidden)
    place = place[np.argsort(pts[place], kind="stable")]
    shown = pts[place]
    if (np.diff(shown) <= 0).any() or (np.diff(pts[keys]) <= 0).any():
        return None
    base, offset = container.base, container.offset
    return Survey(shown, place, keys, pts[keys], np.array(decoding)[keys], lambda stamp: (int(stamp) - offset) * base)


def pieces(found: Survey, ranks: Sequence[int]) -> list[Piece]:
    """Divide wanted frames into pieces, each with the last key frame whose stamp is at most that of its first frame.

    Frames of several pieces in a row are decoded in one go if nothing can be skipped between them.
    """
    of_key = np.searchsorted(found.key_stamps, found.shown[list(ranks)], side="right") - 1
    made: list[Piece] = []
    for rank, key in zip(ranks, np.maximum(of_key, 0).tolist(), strict=True):
        if made and key == made[-1].key:
            made[-1].ranks.append(rank)
        else:
            made.append(Piece(key, [rank]))
    return made


def cost(found: Survey, made: Sequence[Piece]) -> int:
    """Return how many packets the decoding of pieces takes."""
    ends = (int(found.place[piece.ranks].max()) for piece in made)
    return sum(max(1, end - int(found.keys[piece.key]) + 1) for piece, end in zip(made, ends, strict=True))


class SurveyError(Exception):
    """The decoder does not give the frames that the packets announce."""


def decode_pieces(container: Container, found: Survey, made: Sequence[Piece]) -> Iterator[tuple[int, Decoded]]:
    """Yield wanted frames and their ranks, decoding only what they need.

    Raises:
        SurveyError: damage, or a frame that is not the announced one.
    """
    import av

    key_at = {int(stamp): number for number, stamp in enumerate(found.key_stamps)}
    for piece in made:
        try:
            container.seek(int(found.key_seeks[piece.key]))
        except av.FFmpegError as error:
            raise SurveyError from error
        yield from _decode_piece(container, found, piece, key_at)


def _decode_piece(
    container: Container, found: Survey, piece: Piece, key_at: dict[int, int]
) -> Iterator[tuple[int, Decoded]]:
    wanted = iter(piece.ranks)
    next_rank = next(wanted)
    stamp = int(found.key_stamps[piece.key])
    rank = int(np.searchsorted(found.shown, stamp))  # the first frame that the key frame may give
    reached = False
    lost = container.lost + container.damaged
    for packet in container.packets():
        if not reached:
            here = key_at.get(packet.pts if packet.pts is not None else -1) if packet.is_keyframe else None
            reached = here == piece.key
            if not packet.size or (here is not None and here > piece.key):
                raise SurveyError
            if not reached:
                continue
        for decoded in container.decode(packet):
            frame = decoded.frame
            if frame.pts is not None and frame.pts < stamp:
                continue  # of the pictures before, shown after the key frame was sent
            if container.lost + container.damaged > lost or rank >= len(found.shown) or frame.pts != found.shown[rank]:
                raise SurveyError
            if rank == next_rank:
                yield rank, decoded
                following = next(wanted, None)
                if following is None:
                    return
                next_rank = following
            rank += 1
    raise SurveyError
