"""Decode videos: frames at times, from any location, whatever the file holds.

`open_decoder` returns a decoder; `protocol` is its interface, and `frames` has the requests for frames.
"""

from esv_ray.decoding.frames import At, Evenly, Every, Fps, Numbered, Request, Resize, ShortSide, Stretch, VideoFrame
from esv_ray.decoding.protocol import Decoder, Video, VideoSummary
from esv_ray.decoding.registry import DECODERS, open_decoder

__all__ = [
    "DECODERS",
    "At",
    "Decoder",
    "Evenly",
    "Every",
    "Fps",
    "Numbered",
    "Request",
    "Resize",
    "ShortSide",
    "Stretch",
    "Video",
    "VideoFrame",
    "VideoSummary",
    "open_decoder",
]
