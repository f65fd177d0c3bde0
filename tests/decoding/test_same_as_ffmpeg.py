"""Frames and times are those that ffmpeg shows, whatever the file holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esv_ray.decoding import Decoder
from tests.decoding.conftest import decoded
from tests.support.ffmpeg import Reference, needs_ffmpeg, shown_by_ffmpeg
from tests.support.videos import shift, write_video

pytestmark = needs_ffmpeg
Make = Callable[[Path], Path]

ONE = 1 << 16  # of a display matrix
B_FRAMES = {"bf": "3", "g": "12"}
# The colors of 4:2:0 lie at the left, as H.264 says; ffmpeg 5 puts them into the middle where it scales.
LEFT = "scale='if(sar,round(iw*sar),iw)':ih:in_h_chr_pos=0:in_v_chr_pos=128"
FINE = ":flags=bicubic+accurate_rnd+full_chroma_int"


def video(name: str, **arguments: Any) -> Make:
    """How to make a video file."""

    def make(folder: Path) -> Path:
        path = folder / name
        return path if path.exists() else write_video(path, **arguments)

    return make


def turned(name: str, a: int, b: int, c: int, d: int) -> Make:
    """How to make a video with a display matrix."""
    return video(f"{name}.mp4", matrix=[a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30])


def colored(name: str, space: int, full: bool) -> Make:
    """How to make a video of a color space and range."""
    return video(f"{name}.mp4", colors={"colorspace": space, "color_range": 2 if full else 1})


def joined(name: str, *parts: Make) -> Make:
    """How to make a file of several files, one after another."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(b"".join(part(folder).read_bytes() for part in parts))
        return folder / name

    return make


def pre_roll(folder: Path) -> Path:
    """A video whose first packets are needed for later frames and never shown: they lie before its edit list."""
    path = folder / "pre-roll.mp4"
    return path if path.exists() else shift(video("rolled.mp4", frames=24, options=B_FRAMES)(folder), path, -5 * 512)


CASES: dict[str, Make] = {
    "H.264 in MP4": video("plain.mp4"),
    "H.264 in Matroska": video("plain.mkv"),
    "H.264 in MPEG-TS, which starts at 1.4 s": video("plain.ts"),
    "HEVC": video("hevc.mp4", codec="libx265", options={"x265-params": "log-level=0"}),
    "VP8": video("vp8.webm", codec="libvpx"),
    "VP9": video("vp9.webm", codec="libvpx-vp9", size=(64, 64)),
    "AV1": video("av1.mkv", codec="libsvtav1", size=(64, 64)),
    "MPEG-2 in a program stream": video("mpeg2.mpg", codec="mpeg2video", options={"bf": "2"}),
    "B-frames at the end": video("b-frames.mp4", options=B_FRAMES),
    "turned by 90 degrees": turned("90", 0, 1, -1, 0),
    "turned by 180 degrees": turned("180", -1, 0, 0, -1),
    "turned by 270 degrees": turned("270", 0, -1, 1, 0),
    "mirrored left to right": turned("mirrored", -1, 0, 0, 1),
    "mirrored top to bottom": turned("flipped", 1, 0, 0, -1),
    "transposed": turned("transposed", 0, 1, 1, 0),
    "transposed the other way": turned("transversed", 0, -1, -1, 0),
    "variable frame rate": video(
        "vfr.mkv", stamps=[0, 40, 45, 200, 210, 1000, 1100, 1105, 2000, 2500, 2501, 3000], base=Fraction(1, 1000)
    ),
    "first time stamp after 0": video("late.mp4", stamps=range(100, 112)),
    "first time stamp after 0, in Matroska": video("late.mkv", stamps=range(100, 112)),
    "video after the sound": video("after-sound.mp4", stamps=range(50, 62), audio=True),
    "pre-roll and packets never shown": pre_roll,
    "no time stamps: AVI": video("mpeg4.avi", codec="mpeg4"),
    "no time stamps: raw H.264": video("raw.h264", options=B_FRAMES),
    "a joined stream whose times start again": joined("joined.ts", video("plain.ts"), video("plain.ts")),
    "BT.601": colored("601", 5, False),
    "BT.601, full range": colored("601-full", 5, True),
    "BT.709": colored("709", 1, False),
    "BT.709, full range": colored("709-full", 1, True),
    "BT.2020": colored("2020", 9, False),
    "full range by the pixel format": video("mjpeg.avi", codec="mjpeg", pixels="yuvj420p"),
    "4:4:4": video("444.mp4", pixels="yuv444p"),
    "16 bits of gray": video("gray.mkv", codec="ffv1", pixels="gray16le"),
    "sizes that change": joined("sizes.h264", video("small.h264"), video("large.h264", size=(64, 96))),
    "odd size": video("odd.mkv", codec="ffv1", size=(47, 63)),
    "one pixel": video("pixel.mkv", codec="ffv1", size=(1, 1)),
    "8192 pixels wide": video("wide.mkv", codec="mjpeg", pixels="yuvj420p", size=(16, 8192), frames=2),
    "transparent": video("alpha.mov", codec="qtrle", pixels="argb"),
    "transparent, 10 bits": video("prores.mov", codec="prores_ks", pixels="yuva444p10le"),
    "GIF": video("animated.gif", codec="gif", pixels="rgb8"),
    "a still picture": video("still.png", codec="png", pixels="rgb24", frames=1, kind="image2"),
}
"""Files that ffmpeg 5 and the FFmpeg of PyAV must show alike."""

SCALED: dict[str, tuple[Make, str]] = {
    "10 bits": (video("10-bits.mp4", pixels="yuv420p10le"), LEFT),
    "10 bits, HDR: shown without mapping of tones": (
        video(
            "hdr.mp4",
            codec="libx265",
            pixels="yuv420p10le",
            options={"x265-params": "log-level=0"},
            colors={"colorspace": 9, "color_trc": 16, "color_primaries": 9},
        ),
        LEFT,
    ),
    "pixels wider than high": (video("wide-pixels.mp4", aspect=Fraction(4, 3)), f"{LEFT}{FINE}"),
    "pixels higher than wide": (video("tall-pixels.mp4", aspect=Fraction(3, 4)), f"{LEFT}{FINE}"),
}
"""Files whose colors are interpolated, and how ffmpeg is to do it."""


@lru_cache
def reference(path: Path, filters: str) -> Sequence[Reference]:
    """What ffmpeg shows; both decoders are compared with it."""
    return shown_by_ffmpeg(path, filters)


def check(decoder: Decoder, path: Path, filters: str = "") -> None:
    """Compare all frames and times of a file with those of ffmpeg."""
    frames, summary = decoded(decoder, path)
    expected = reference(path, filters)
    assert [frame.index for frame in frames] == list(range(len(expected)))
    assert len(frames) == summary.shown == summary.total
    for frame, wanted in zip(frames, expected, strict=True):
        assert frame.time == pytest.approx(wanted.time, abs=0.001)
        assert frame.image.shape == wanted.image.shape
        assert np.abs(frame.image.astype(int) - wanted.image).max() <= 2


@pytest.mark.parametrize("name", CASES)
def test_frames_and_times(name: str, decoder: Decoder, folder: Path) -> None:
    check(decoder, CASES[name](folder))


@pytest.mark.parametrize("name", SCALED)
def test_frames_whose_colors_are_interpolated(name: str, decoder: Decoder, folder: Path) -> None:
    make, filters = SCALED[name]
    check(decoder, make(folder), filters)


def test_the_cases_differ_where_they_must(decoder: Decoder, folder: Path) -> None:
    """A comparison says nothing if the file does not have its oddity."""
    plain = decoded(decoder, CASES["H.264 in MP4"](folder))[0]
    turned_ones = [
        decoded(decoder, CASES[name](folder))[0] for name in CASES if name.startswith(("turned", "mirr", "tr"))
    ]
    assert all(not np.array_equal(frames[0].image, plain[0].image) for frames in turned_ones)
    colors = [decoded(decoder, CASES[name](folder))[0][3].image for name in CASES if name.startswith("BT.")]
    assert not any(np.array_equal(one, other) for k, one in enumerate(colors) for other in colors[:k])
    assert len(decoded(decoder, pre_roll(folder))[0]) == 19 < len(decoded(decoder, folder / "rolled.mp4")[0]) == 24
    sizes = {frame.image.shape for frame in decoded(decoder, CASES["sizes that change"](folder))[0]}
    assert sizes == {(48, 64, 3), (64, 96, 3)}


def test_what_is_odd_is_said(decoder: Decoder, folder: Path) -> None:
    def said(name: str) -> list[str]:
        return decoded(decoder, CASES[name](folder))[1].reasons()

    assert said("H.264 in MP4") == said("variable frame rate") == said("pre-roll and packets never shown") == []
    assert said("no time stamps: AVI") == ["no time stamps: times are counted"]
    assert said("no time stamps: raw H.264") == ["no time stamps: times are counted"]
    assert "frames of 2 sizes" in said("sizes that change")
    assert said("a joined stream whose times start again") == [
        "time stamps start again in 1 place; times are continued"
    ]


def test_a_slanted_video_is_shown_as_stored(decoder: Decoder, folder: Path) -> None:
    """ffmpeg turns it and fills the corners; most players do not."""
    slanted = turned("slanted", 1, 1, -1, 1)(folder)
    frames, summary = decoded(decoder, slanted)
    assert summary.notes == ("rotated by an angle that is not a multiple of 90 degrees: shown as stored",)
    assert np.array_equal(frames[0].image, decoded(decoder, CASES["H.264 in MP4"](folder))[0][0].image)
