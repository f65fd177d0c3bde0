"""Small video files, made by PyAV in milliseconds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

Image = npt.NDArray[np.uint8]


def picture(number: int, height: int = 48, width: int = 64) -> Image:
    """An (H, W, 3) picture of soft colors that differs from its neighbors, and from itself turned or mirrored."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    t = number / 7
    red = 0.5 + 0.4 * np.sin(2 * x + t)
    green = 0.5 + 0.4 * np.sin(3 * y - t)
    blue = 0.2 + 0.6 * np.abs(x * 0.7 + y * 0.3 - (t % 1))
    image = (np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)
    image[: height // 4, : width // 4] = (250, 10 + 8 * (number % 25), 30)  # a corner
    return image


@contextmanager
def usual_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does as root: it gives the encoding thread real-time priority, over all others, for good."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_video(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: Fraction | int = 25,
    stamps: Sequence[int] | None = None,
    base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    kind: str | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    colors: dict[str, Any] | None = None,
    audio: bool = False,
    still: bool = False,
) -> Path:
    """Write a video file.

    Args:
        path: of the file; its suffix gives the format.
        frames: number of frames.
        size: height and width.
        codec: an encoder of FFmpeg.
        pixels: a pixel format of FFmpeg.
        rate: frames per second.
        stamps: presentation time of each frame, in units of `base`; None: evenly spaced.
        base: seconds of one unit; None: 1 / rate.
        options: of the encoder.
        container: options of the muxer.
        kind: the format of the container.
        matrix: the 9 numbers of a display matrix.
        aspect: of a pixel.
        colors: attributes of the encoder: colorspace, color_range, ...
        audio: whether there is a silent sound track.
        still: whether all frames show the same picture.
    """
    with usual_priority(), av.open(str(path), "w", format=kind, options=container or {}) as file:
        stream = cast(av.VideoStream, file.add_stream(codec, rate=rate, options=options or {}))
        stream.height, stream.width, stream.pix_fmt = size[0], size[1], pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = base or 1 / Fraction(rate)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in (colors or {}).items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        sound = file.add_stream("aac", rate=8000) if audio else None
        image = picture(0, *size)
        for number in range(frames):
            image = image if still else picture(number, *size)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(
                format=pixels,
                dst_colorspace=(colors or {}).get("colorspace"),
                dst_color_range=(colors or {}).get("color_range"),
            )
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = base or 1 / Fraction(rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if sound is not None:
            for number in range(max(1, frames // 3)):
                tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
                tone.sample_rate, tone.pts = 8000, number * 1024
                file.mux(sound.encode(tone))
            file.mux(sound.encode(None))
    return path


def shift(source: Path, target: Path, units: int) -> Path:
    """Copy a video with its time stamps moved, so that a player leaves out what lies before 0."""
    with av.open(str(source)) as read, av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as write:
        stream = read.streams.video[0]
        copy = write.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + units, packet.dts + units, copy
                write.mux(packet)
    return target


def with_cover(path: Path, *, video: bool) -> Path:
    """Write a file with sound and a cover picture, and a video of 10 frames or none."""
    with av.open(str(path), "w") as file:
        moving = file.add_stream("libx264", rate=25) if video else None
        sound = file.add_stream("aac" if path.suffix == ".mp4" else "libmp3lame", rate=44100)
        cover = file.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt = 100, 200, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(picture(0, 100, 200), format="rgb24").reformat(format="yuvj420p")
        image.pts = 0
        cover_packet = [*cover.encode(image), *cover.encode(None)][0]
        if moving is not None:
            moving.height, moving.width, moving.pix_fmt = 48, 64, "yuv420p"
        file.mux(cover_packet)
        for number in range(10 if moving is not None else 0):
            assert moving is not None
            image = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            image.pts = number
            file.mux(moving.encode(image))
        if moving is not None:
            file.mux(moving.encode(None))
        for number in range(4):
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            tone.sample_rate, tone.pts = 44100, number * 1024
            file.mux(sound.encode(tone))
        file.mux(sound.encode(None))
    return path
