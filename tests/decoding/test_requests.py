"""Which frames are given: by rate, evenly, all; within a part of a file; from a few groups of pictures or from all."""

from __future__ import annotations

import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from esv_ray.decoding import At, Decoder, Evenly, Every, Fps, Numbered, Request, ShortSide, Stretch, VideoFrame, pyav
from esv_ray.decoding.frames import Interpolation, sizes_of
from esv_ray.decoding.selection import Grid, Shown, Span, evenly, ranks_at, shown_at, span_of
from esv_ray.errors import DataError, SpecError
from esv_ray.input.frames import sample_frames
from tests.decoding.conftest import decoded
from tests.support.videos import write_video

LONG = {
    "long.mp4": {"options": {"g": "12", "bf": "3"}},
    "long-open.mp4": {"options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3"}},
    "long.mkv": {"options": {"g": "12", "bf": "2"}},
    "long-hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=12:bframes=3:log-level=0"}},
    "long-av1.mkv": {"codec": "libsvtav1", "options": {"g": "12", "preset": "12"}},
    "long-mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
}
ASKED: list[tuple[Request, dict[str, Any]]] = [
    (Evenly(4), {}),
    (Evenly(3), {"start": 9.0, "end": 11.0}),
    (Fps(0.09), {}),
    (Fps(40), {"start": 11.0, "end": 11.5}),
    (Every(), {"start": 10.4, "end": 10.9}),
    (Numbered((290, 3, 291, 400)), {}),
    (At((11.61, 1.0, 1.01, 400.0)), {}),
]


@pytest.fixture(scope="module")
def long_videos(folder: Path) -> dict[str, Path]:
    """Videos of 300 frames in groups of 12."""
    return {name: write_video(folder / name, frames=300, size=(64, 64), **LONG[name]) for name in LONG}  # type: ignore[arg-type]


@pytest.mark.usefixtures("long_videos")
def test_no_encoder_leaves_this_process_with_another_priority() -> None:
    """In real time, a test and all that it starts would stop everything else on the machine."""
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 100, 12345])
@pytest.mark.parametrize("count", [1, 3, 8, 16])
def test_frames_are_sampled_as_a_job_samples_them(total: int, count: int) -> None:
    n = min(count, total)
    assert evenly(total, count) == sample_frames(np.array([total]), n)[0].tolist()


def test_requests_are_checked() -> None:
    for make in (
        lambda: Fps(0),
        lambda: Fps(float("nan")),
        lambda: Evenly(0),
        lambda: Numbered(()),
        lambda: Numbered((3, -1)),
        lambda: At(()),
        lambda: At((float("inf"),)),
        lambda: Stretch(0, 5),
        lambda: ShortSide(8, (9, 8)),
        lambda: sizes_of(()),
        lambda: span_of(2, 1),
        lambda: span_of(-3, 0),
        lambda: span_of(float("nan"), 1),
    ):
        with pytest.raises(SpecError, match="expected"):
            make()


@settings(max_examples=40)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12), st.floats(0.2, 20), st.none() | st.floats(0.1, 9))
def test_frames_at_a_rate(gaps: list[int], rate: float, end: float | None) -> None:
    """Each is shown at one of the times start + k / rate, no such time is left out, and none is given twice."""
    stamps = np.cumsum([0, *gaps])
    span = Span(None, None if end is None else Fraction(end), Fraction(1, 2000))
    times = [Fraction(int(stamp), 1000) for stamp in stamps]
    inside = [time for time in times if not span.is_after(time)]
    frames = [(Shown(rank, time), None) for rank, time in enumerate(inside)]
    given_ones = [shown.index for shown, _ in shown_at(frames, Grid(rate, span), span)]
    last = 2 * inside[-1] - inside[-2] - 3 * span.tolerance if len(inside) > 1 else None
    limit = min(each for each in (last, span.end, Fraction(200)) if each is not None) - span.tolerance
    expected, k = set(), 0
    while k == 0 or (k / Fraction(rate) < limit and len(inside) > 1):
        expected.add(max(rank for rank, time in enumerate(inside) if time - span.tolerance <= k / Fraction(rate)))
        k += 1
    assert given_ones == sorted(expected)
    assert given_ones == list(
        ranks_at(stamps[: len(inside)], lambda stamp: Fraction(int(stamp), 1000), Grid(rate, span), span)
    )


def test_a_rate_of_the_video_gives_each_frame(decoder: Decoder, folder: Path) -> None:
    """Matroska rounds to milliseconds, and 30000 / 1001 is no binary number."""
    path = write_video(folder / "ntsc.mkv", frames=60, rate=Fraction(30000, 1001))
    frames, _ = decoded(decoder, path, Fps(30000 / 1001))
    assert [frame.index for frame in frames] == list(range(60))
    frames, _ = decoded(decoder, path, Fps(30000 / 3003))
    assert [frame.index for frame in frames] == list(range(0, 60, 3))
    frames, _ = decoded(decoder, path, Fps(1000))
    assert [frame.index for frame in frames] == list(range(60))


def test_frames_by_number_and_by_time(decoder: Decoder, folder: Path) -> None:
    """The frames that another request gave are found again, by what it said of them; nothing after them is decoded."""
    stamps = [0, 3, 4, 9, 15, 16, 30, 41, 50, 80]
    path = write_video(folder / "again.mkv", frames=10, stamps=stamps, base=Fraction(1, 50))
    every, _ = decoded(decoder, path)
    for chosen in ([0], [9], [2, 5, 7], list(range(10))):
        some = [every[number] for number in chosen]
        for request in (Numbered(tuple(chosen[::-1])), At(tuple(frame.time for frame in some))):
            frames, _ = decoded(decoder, path, request)
            assert_same(frames, some)
    between, summary = decoded(decoder, path, At((0.07, 0.079, 0.25, 0.299)))
    assert [frame.index for frame in between] == [1, 3]
    assert summary.shown < 10
    assert [frame.index for frame in decoded(decoder, path, Numbered((8, 100)))[0]] == [8]
    with pytest.raises(DataError, match="expected frames"):
        decoded(decoder, path, Numbered((100,)))


@pytest.mark.parametrize("request_", [Every(), Evenly(3), Fps(1.5), Numbered((0, 290))])
def test_several_sizes_of_one_decoding(decoder: Decoder, long_videos: dict[str, Path], request_: Request) -> None:
    """Each frame comes once in each size, with the bits of a decoding for that size alone."""
    path = long_videos["long.mp4"]
    sizes = (Stretch(32, 48), None, ShortSide(40, (24, 24)))
    alone = [decoded(decoder, path, request_, resize=size) for size in sizes]
    together, summary = decoded(decoder, path, request_, resize=sizes)
    assert len(together) == 3 * len(alone[0][0])
    for place, (frames, of_one) in enumerate(alone):
        assert_same(together[place::3], frames)
        assert summary == of_one


@pytest.mark.parametrize("size", [(96, 130), (500, 500)])
def test_pixels_are_interpolated_as_image_libraries_do(decoder: Decoder, folder: Path, size: tuple[int, int]) -> None:
    """Closest to what Pillow makes of the whole frame in the same way; smaller images are made of all pixels."""
    path = write_video(folder / "sharp.mp4", frames=1, size=(360, 480), pixels="yuv444p", options={"qp": "1"})
    (whole,), _ = decoded(decoder, path)
    height, width = size
    theirs = {
        "bicubic": Image.fromarray(whole.image).resize((width, height), Image.Resampling.BICUBIC),
        "bilinear": Image.fromarray(whole.image).resize((width, height), Image.Resampling.BILINEAR),
    }
    ways: tuple[Interpolation, ...] = ("bicubic", "bilinear")
    for way in ways:
        (frame,), _ = decoded(decoder, path, resize=Stretch(*size, way))
        off = {name: np.abs(np.asarray(image).astype(float) - frame.image).mean() for name, image in theirs.items()}
        assert min(off, key=off.__getitem__) == way, off
        assert off[way] < 1


def test_parts_of_a_file_share_no_frame_and_miss_none(decoder: Decoder, folder: Path) -> None:
    path = write_video(folder / "parts.mp4", frames=60, rate=30)
    limits = [0, np.float32(10 / 30).item(), 0.7, 29 / 30, 1.5, None]
    parts = [decoded(decoder, path, start=start, end=end)[0] for start, end in pairwise(limits)]
    assert [[frame.index for frame in part] for part in parts] == [
        list(range(10)),
        list(range(10, 21)),
        list(range(21, 29)),
        list(range(29, 45)),
        list(range(45, 60)),
    ]
    frames, summary = decoded(decoder, path, Evenly(2), start=1.0, end=4 / 3)
    assert [frame.index for frame in frames] == [30 + 2, 30 + 7]
    assert not summary.complete


def test_a_part_without_frames_is_an_error(decoder: Decoder, folder: Path) -> None:
    path = write_video(folder / "short.mp4")
    with pytest.raises(
        DataError, match=r"frames from 5\.0 seconds to 6\.0, got none; the last frame read is number 11 at 0\.440"
    ):
        decoded(decoder, path, start=5, end=6)


@pytest.mark.parametrize("name", LONG)
def test_few_frames_of_a_long_video_are_the_same_as_in_order(
    name: str, decoders: dict[str, Decoder], long_videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, with the same numbers and times, from far fewer decoded frames."""
    path = long_videos[name]
    few = [decoded(decoders["in process"], path, request, **part) for request, part in ASKED]
    monkeypatch.setattr(pyav.PyAvVideo, "_may_be_sparse", lambda *_: False)
    for (frames, summary), (request, part) in zip(few, ASKED, strict=True):
        in_order, whole = decoded(decoders["in process"], path, request, **part)
        assert_same(frames, in_order)
        assert summary.shown <= 16 < 250 < whole.shown
        assert summary.total == 300


def test_damage_where_few_frames_are_wanted_is_noticed(
    decoder: Decoder, long_videos: dict[str, Path], folder: Path
) -> None:
    """Then all frames are decoded."""
    data = bytearray(long_videos["long.mp4"].read_bytes())
    whole, _ = decoded(decoder, long_videos["long.mp4"], Evenly(4))
    start = data.index(b"mdat") + 4
    data[start + 2000 : start + 6000] = bytes(4000)
    damaged = folder / "long-damaged.mp4"
    damaged.write_bytes(data)
    frames, summary = decoded(decoder, damaged, Evenly(4))
    assert summary.complete
    assert summary.lost > 0
    assert [frame.index for frame in frames] == evenly(summary.shown, 4) != [frame.index for frame in whole]


def test_an_iteration_ends_where_the_next_one_begins(decoder: Decoder, folder: Path) -> None:
    path = write_video(folder / "two.mp4", frames=20)
    with decoder.open(str(path)) as video:
        first = video.frames(Every())
        assert [next(first).index for _ in range(3)] == [0, 1, 2]
        assert [frame.index for frame in video.frames(Evenly(2))] == [5, 15]
        assert list(first) == []
        assert video.summary().shown == 20
        third = video.frames(Every())
        next(third)
    assert list(third) == []


def test_a_stopped_iteration_has_a_summary(decoder: Decoder, folder: Path) -> None:
    path = write_video(folder / "stopped.mp4", frames=60)
    with decoder.open(str(path)) as video:
        for frame in video.frames(Every()):
            if frame.index == 3:
                break
        summary = video.summary()
        assert 4 <= summary.shown <= 60
        assert summary.rate == 25
        assert (summary.height, summary.width) == (48, 64)
        assert len(list(video.frames(Every()))) == 60


@pytest.mark.parametrize(
    ("resize", "shape"),
    [
        (Stretch(20, 30), (20, 30)),
        (ShortSide(24), (24, 32)),
        (ShortSide(24, (24, 24)), (24, 24)),
        (ShortSide(100, (10, 20)), (10, 20)),
    ],
)
def test_sizes(resize: Any, shape: tuple[int, int], decoder: Decoder, folder: Path) -> None:
    path = write_video(folder / "size.mp4", frames=2)
    frames, summary = decoded(decoder, path, resize=resize)
    assert {frame.image.shape for frame in frames} == {(*shape, 3)}
    assert (summary.height, summary.width) == (48, 64)


def test_turned_videos_are_resized_as_they_are_shown(decoder: Decoder, folder: Path) -> None:
    """The crop is the center of what a player shows; the picture is that of the turned video."""
    one = 1 << 16
    turned = write_video(folder / "turned-size.mp4", frames=1, matrix=[0, one, 0, -one, 0, 0, 0, 0, 1 << 30])
    plain = write_video(folder / "plain-size.mp4", frames=1)
    for resize, back in ((Stretch(30, 20), Stretch(20, 30)), (ShortSide(24, (20, 10)), ShortSide(24, (10, 20)))):
        shown = decoded(decoder, turned, resize=resize)[0][0].image
        stored = decoded(decoder, plain, resize=back)[0][0].image
        assert np.array_equal(shown, np.rot90(stored, -1))


def assert_same(frames: list[VideoFrame], others: list[VideoFrame]) -> None:
    assert [(frame.index, frame.time) for frame in frames] == [(frame.index, frame.time) for frame in others]
    assert all(np.array_equal(one.image, other.image) for one, other in zip(frames, others, strict=True))
