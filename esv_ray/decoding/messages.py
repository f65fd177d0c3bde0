"""Messages between this process and a decoding process: plain bytes and JSON, never pickles.

A message is one byte for its kind, four for the length of its content, and the content. The answers are checked: a
damaged file may have taken over the process that sends them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from esv_ray.decoding.frames import MOST_SIDE, At, Evenly, Every, Fps, Numbered, Request, Resize, ShortSide, Stretch
from esv_ray.decoding.protocol import VideoSummary

HEAD = struct.Struct(">cI")
FRAME = struct.Struct(">QdII")
"""Number, seconds, height and width of a frame; height * width * 3 bytes follow."""
PART = struct.Struct(">QI")
"""First byte and number of bytes of a part of the video's file."""

# From this process. A local file comes with OPEN, as a file descriptor.
OPEN, GET, STOP, CLOSE, DATA, NO_DATA = b"O", b"G", b"S", b"C", b"D", b"N"
# From the decoding process.
HELLO, OPENED, IMAGE, END, ERROR, ALIVE, READ = b"H", b"o", b"I", b"E", b"X", b"A", b"R"

MOST_TEXT = 2**20
"""Most bytes of the content of a message other than an image or a part of a file."""
MOST_IMAGE = FRAME.size + 3 * MOST_SIDE * MOST_SIDE
_KINDS: Mapping[str, type[Any]] = {
    each.__name__: each for each in (Fps, Evenly, Every, Numbered, At, Stretch, ShortSide)
}


class Order(NamedTuple):
    """Which frames of a video are wanted."""

    request: Request
    start: float | None
    end: float | None
    sizes: tuple[Resize | None, ...]


def encode_json(value: object) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()


def encode_order(order: Order) -> bytes:
    """Return an order as JSON."""
    return encode_json([_named(order.request), order.start, order.end, [_named(size) for size in order.sizes]])


def decode_order(data: bytes) -> Order:
    """Return the order that `encode_order` encoded."""
    request, start, end, sizes = json.loads(data)
    return Order(_made(request), start, end, tuple(None if size is None else _made(size) for size in sizes))


def encode_summary(summary: VideoSummary) -> bytes:
    """Return a summary as JSON."""
    return encode_json(asdict(summary))


def decode_summary(data: bytes) -> VideoSummary:
    """Return the summary that `encode_summary` encoded.

    Raises:
        ValueError: the content is another one.
    """
    value = json.loads(data)
    if not isinstance(value, dict) or value.keys() != {field.name for field in fields(VideoSummary)}:
        raise ValueError("expected the summary of a video")
    notes = value.pop("notes")
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("expected notes")
    if not all(each is None or isinstance(each, int | float) for each in value.values()):
        raise ValueError("expected numbers")
    return VideoSummary(**value, notes=tuple(notes))


def decode_frame(data: bytes) -> tuple[int, float, int, int]:
    """Return number, seconds, height and width of a frame.

    Raises:
        ValueError: no image has this height and width.
    """
    index, time, height, width = FRAME.unpack(data)
    if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
        raise ValueError("expected an image")
    return index, time, height, width


def _named(value: Request | Resize | None) -> list[Any] | None:
    return None if value is None else [type(value).__name__, asdict(value)]


def _made(value: list[Any]) -> Any:
    name, arguments = value
    crop = arguments.get("crop")
    return _KINDS[name](**arguments | ({"crop": tuple(crop)} if crop is not None else {}))
