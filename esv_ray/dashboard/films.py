"""The files of videos, in parts, for browsers that play them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esv_ray import storage
from esv_ray.dashboard.index import Index
from esv_ray.dashboard.video import rows_of
from esv_ray.errors import DataError, SpecError, StorageError
from esv_ray.media import Film, Media

TYPES: Mapping[str, str] = {
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "ogv": "video/ogg",
}
"""Types of the files that are sent, by suffix: those that a browser may be able to play."""
MOST_BYTES = 4 * 2**20
"""Most bytes of an answer: a browser asks for the next ones when it needs them."""
_DOING = "read the video"
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class Part:
    """A part of a file, as an answer.

    Attributes:
        status: 200, 206 or 416.
        headers: of the answer.
        data: bytes of the file.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes


class Films:
    """The files of an output's videos; an id is looked up in the output, and then among the media."""

    def __init__(self, index: Index, media: Media) -> None:
        """Take an output and where its media are."""
        self._index, self._media = index, media

    def facts(self, video_id: str) -> dict[str, Any]:
        """Return what a page needs to play a video: `type`, `start` and `end` in seconds; or the `reason` if it cannot.

        Raises:
            DataError: there is no such video, or the storage refuses.
        """
        rows_of(self._index, video_id)
        try:
            film = self._media.film(video_id)
        except StorageError:
            raise
        except DataError as error:  # there are several
            return {"reason": str(error)}
        kind = None if film is None else TYPES.get(_suffix(film))
        if film is None:
            return {"reason": "There is no video file of this video below --media."}
        if kind is None:
            return {
                "reason": f"Browsers cannot play .{_suffix(film)} files. The pictures of the frames are decoded here."
            }
        return {"type": kind, "start": film.start, "end": film.end}

    def part(self, video_id: str, wanted: str | None, condition: str | None) -> Part:
        """Return a part of the file of a video.

        Args:
            video_id: the video.
            wanted: the header Range; None: the whole file.
            condition: the header If-Range: the part is of this version of the file, else the whole is returned.

        Raises:
            DataError: there is no such video, it has no file that a browser may play, or the file cannot be read.
            SpecError: the whole file is wanted, and is larger than `MOST_BYTES`.
        """
        rows_of(self._index, video_id)
        film = self._media.film(video_id)
        if film is None or _suffix(film) not in TYPES:
            raise DataError(f"video {video_id!r:.100}: expected a file of a type in {', '.join(TYPES)}, found none")
        state = storage.state(film.url, _DOING)
        tag = f'"{hashlib.sha256(f"{state.size} {state.version}".encode()).hexdigest()[:32]}"'
        headers = {
            "Content-Type": TYPES[_suffix(film)],
            "Accept-Ranges": "bytes",
            "ETag": tag,
            "Cache-Control": "private, max-age=3600",
        }
        span = _span(wanted, state.size) if condition in (None, tag) else None
        if span is None:
            if state.size > MOST_BYTES:
                raise SpecError(
                    f"Range: expected bytes=FIRST-LAST, since the file has {state.size} bytes, got {wanted!r:.80}"
                )
            return Part(200, headers, storage.read_bytes(film.url, _DOING, most=MOST_BYTES) if state.size else b"")
        first, stop = span
        if first >= stop:
            return Part(416, headers | {"Content-Range": f"bytes */{state.size}"}, b"")
        stop = min(stop, first + MOST_BYTES)
        with storage.reader(film.url, _DOING, state.size) as file:
            file.seek(first)
            data = file.read(stop - first)
        if len(data) != stop - first:
            raise DataError(f"{film.url}: expected {state.size} bytes, got fewer; the file changed while it was read")
        return Part(206, headers | {"Content-Range": f"bytes {first}-{stop - 1}/{state.size}"}, data)


def _span(wanted: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the end that a header Range asks for; None for the whole file.

    An empty span cannot be satisfied. Several ranges, and malformed ones, are ignored (RFC 9110, section 14.2).
    """
    found = _RANGE.fullmatch(wanted or "")
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    first = int(found[1])
    last = int(found[2]) if found[2] else size
    return None if last < first else (first, min(size, last + 1))


def _suffix(film: Film) -> str:
    return film.url.rpartition("/")[2].rpartition(".")[2].lower()
