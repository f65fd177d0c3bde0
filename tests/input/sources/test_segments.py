"""Segments of untrimmed videos: their rows, their frame numbers, and those that are not written."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from esv_ray.errors import DataError, SpecError
from esv_ray.input.faults import RecordError
from esv_ray.input.sources.records import Frames
from esv_ray.input.sources.segments import Segment, Timing, read_segments, rows_of
from tests.input.sources.imports import imported, save_arrays, table

POSITIVE = st.floats(0.1, 100)


def untrimmed(rows: int) -> np.ndarray[Any, Any]:
    """A video whose row r has the features (r, 1)."""
    return np.stack([np.arange(rows), np.ones(rows)], axis=1).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_arrays(tmp_path / "x", {"a": untrimmed(20), "b": untrimmed(5)})


def rows_in(out: Path) -> dict[str, list[int]]:
    return {name: [int(row[0]) for row in video.features] for name, video in table(out).items()}


# Laws -----------------------------------------------------------------------------------------------------------------


@given(fps=POSITIVE, stride=POSITIVE, window=POSITIVE, count=st.integers(1, 50), start=st.floats(0, 50), size=POSITIVE)
def test_a_segment_has_the_rows_of_the_formula(
    fps: float, stride: float, window: float, count: int, start: float, size: float
) -> None:
    """The row of a time t is t F / S - W / (2 S): a segment has those between its start and stop."""
    timing, stop = Timing(fps, stride, window, True), start + size
    first, last = (time * fps / stride - window / (2 * stride) for time in (start, stop))
    expected = [row for row in range(count) if first - 1e-6 <= row < last - 1e-6]
    frames = Frames(np.zeros((count, 1)))
    try:
        piece = rows_of(Segment("x", start, stop, ""), frames, count, timing)
    except RecordError:
        assert not expected
        return
    rows = list(range(piece.first, piece.stop))
    if expected:
        assert rows == expected
    else:
        middle = (first + last) / 2
        assert len(rows) == 1
        assert abs(rows[0] - middle) <= max(0.5, window / stride / 2) + 1e-6


@given(fps=POSITIVE, stride=st.integers(1, 64), window=st.integers(1, 64), row=st.integers(0, 1000))
def test_frame_numbers_are_the_middle_of_each_window(fps: float, stride: int, window: int, row: int) -> None:
    """Row r covers the frames r S ... r S + W - 1; a player shows its middle frame at the time of the row."""
    timing = Timing(fps, stride, window, True)
    number = int(timing.numbers(row + 1)[row])
    assert number == row * stride + window // 2
    assert row * stride <= number <= row * stride + window - 1
    assert number == math.floor(timing.times(row + 1)[row] * fps + 1e-6)


@given(count=st.integers(1, 40), cuts=st.lists(st.integers(0, 40), min_size=2, max_size=8))
@example(count=1, cuts=[1, 2])
def test_adjacent_segments_share_no_row_and_lose_none(count: int, cuts: list[int]) -> None:
    timing = Timing(25.0, 4, 16, True)
    times = sorted({0.0, *(cut / 3 for cut in cuts), 1e4})
    rows: list[int] = []
    for start, stop in itertools.pairwise(times):
        try:
            piece = rows_of(Segment("x", start, stop, ""), Frames(np.zeros((count, 1))), count, timing)
        except RecordError:
            continue
        if stop - start > 4 / 25:
            rows += range(piece.first, piece.stop)
    assert rows == list(range(count))


# Imports --------------------------------------------------------------------------------------------------------------


def test_frame_numbers_without_fps(source: Path, tmp_path: Path) -> None:
    text = "video,start,stop,label\na,0,3,run\na,3,20,jump\nb,1,2,run\n"
    result = imported("numpy", source, tmp_path / "out", segments=text)
    assert rows_in(tmp_path / "out") == {"a@0-3": [0, 1, 2], "a@3-20": list(range(3, 20)), "b@1-2": [1]}
    videos = table(tmp_path / "out")
    assert [video.label for video in videos.values()] == [1, 0, 1]
    assert [video.frame_index.tolist() for video in videos.values()] == [[0, 1, 2], list(range(3, 20)), [1]]
    assert (result.rows, result.frames, result.notes) == (3, 21, ())
    assert (tmp_path / "out" / "classes.csv").read_text() == "name,id\njump,0\nrun,1\n"


def test_seconds(source: Path, tmp_path: Path) -> None:
    """At 10 frames a second with stride 5 and window 10, row r stands for 0.5 r + 0.5 seconds."""
    text = "video_id,segment,start,end,label\na,first,0,1.5,2\na,second,1.5,0:03,0\nb,x,0:00:00.9,00:01.1,1\n"
    imported("numpy", source, tmp_path / "out", segments=text, fps=10.0, stride=5.0, window=10.0)
    assert rows_in(tmp_path / "out") == {"a/first": [0, 1], "a/second": [2, 3, 4], "b/x": [1]}
    videos = table(tmp_path / "out")
    assert [video.label for video in videos.values()] == [2, 0, 1]
    assert videos["a/second"].frame_index.tolist() == [15, 20, 25]


def test_stride_and_window_without_segments_give_frame_numbers(source: Path, tmp_path: Path) -> None:
    imported("numpy", source, tmp_path / "out", stride=8.0, window=16.0)
    assert table(tmp_path / "out")["b"].frame_index.tolist() == [8, 16, 24, 32, 40]
    imported("numpy", source, tmp_path / "plain", stride=16.0)
    assert table(tmp_path / "plain")["b"].frame_index.tolist() == [8, 24, 40, 56, 72]


def test_segments_that_are_cut_and_segments_outside(source: Path, tmp_path: Path) -> None:
    text = (
        "video,start,stop,segment,label\n"
        "a,-5,2,early,0\na,18,30,late,0\na,20,25,outside,0\na,-9,-3,before,0\na,5,5,empty,0\na,6,4,turned,0\n"
        "zebra,0,3,x,0\nzebra,3,5,y,0\na,4,8,fine,0\n"
    )
    with pytest.raises(DataError, match=r"at least 2 of 9 videos, segments or labels cannot be written"):
        imported("numpy", source, tmp_path / "out", segments=text)
    with pytest.raises(DataError, match=r": 6 of 9 videos, segments or labels cannot be written"):
        imported("numpy", source, tmp_path / "out", segments=text, max_skipped=0.3)
    result = imported("numpy", source, tmp_path / "out", segments=text, max_skipped=0.67)
    assert rows_in(tmp_path / "out") == {"a/early": [0, 1], "a/late": [18, 19], "a/fine": [4, 5, 6, 7]}
    assert result.skipped.rows() == [
        (
            "a segment outside its video",
            2,
            "a/outside (20 to 25 frames, the video has 0 to 20), a/before (-9 to -3 frames, the video has 0 to 20)",
        ),
        ("a segment that ends before it starts", 2, "a/empty (5 to 5), a/turned (6 to 4)"),
        ("a segment without a video", 2, "zebra/x, zebra/y"),
    ]
    assert result.notes == (
        "1 video without a segment: not asked for",
        "2 segments cut to the length of the video: a/early, a/late",
    )


def test_a_segment_that_overlaps_an_end_is_not_outside(source: Path, tmp_path: Path) -> None:
    """It has no row, because it meets less than half of the last one; it is named as what it is."""
    text = "video,start,stop\na,19.8,25\na,-5,0.2\na,20,25\na,2,4\n"
    result = imported("numpy", source, tmp_path / "out", segments=text, max_skipped=0.8)
    assert [(reason, number) for reason, number, _ in result.skipped.rows()] == [
        ("a segment at the edge of its video, without a row", 2),
        ("a segment outside its video", 1),
    ]
    assert rows_in(tmp_path / "out") == {"a@2-4": [2, 3]}


def test_minutes_beyond_an_hour_need_no_hours(source: Path, tmp_path: Path) -> None:
    imported("numpy", source, tmp_path / "out", segments="video,start,stop\na,0,75:00\na,0:00:01,0:00:03.\n", fps=1.0)
    assert rows_in(tmp_path / "out") == {"a@0-75:00": list(range(20)), "a@0:00:01-0:00:03.": [1, 2]}


def test_fps_alone_has_no_effect(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match="--fps has no effect alone; give --segments in seconds, or --stride or --window"
    ):
        imported("numpy", source, tmp_path / "out", fps=25.0)


def test_a_segment_between_two_rows_has_the_nearest(source: Path, tmp_path: Path) -> None:
    text = "video,start,stop\nb,1.1,1.2\n"
    imported("numpy", source, tmp_path / "out", segments=text, fps=1.0)
    assert rows_in(tmp_path / "out") == {"b@1.1-1.2": [1]}


@pytest.mark.parametrize(
    ("rows", "reason", "number"),
    [
        ("a,1,3,0,\na,1,3,0,\n", "several segments of one id", 1),  # the same: one is written
        ("a,1,3,0,\na,1,3,1,\n", "several segments of one id with other times or labels", 2),
        ("a,1,3,0,x\na,1,4,0,x\na,1,3,0,x\n", "several segments of one id with other times or labels", 3),
    ],
)
def test_repeated_segments(rows: str, reason: str, number: int, source: Path, tmp_path: Path) -> None:
    text = f"video,start,stop,label,segment\n{rows}b,1,2,0,\n"
    result = imported("numpy", source, tmp_path / "out", segments=text, max_skipped=0.9)
    assert [(each, count) for each, count, _ in result.skipped.rows()] == [(reason, number)]
    assert rows_in(tmp_path / "out") == ({"a@1-3": [1, 2]} if number == 1 else {}) | {"b@1-2": [1]}
    with pytest.raises(DataError, match=f"{number}: {reason}: a"):
        imported("numpy", source, tmp_path / "refused", segments=text)


def test_segments_of_one_split(source: Path, tmp_path: Path) -> None:
    text = "video,start,stop,label,split\na,1,3,run,val\nb,1,3,jump,train\n"
    result = imported("numpy", source, tmp_path / "out", segments=text, split="val")
    assert rows_in(tmp_path / "out") == {"a@1-3": [1, 2]}
    assert result.notes == ("1 video of another split: not asked for",)
    assert table(tmp_path / "out")["a@1-3"].label == 1


def test_labels_of_the_videos_of_segments(source: Path, tmp_path: Path) -> None:
    text, labels = "video,start,stop\na,1,3\nb,1,3\n", "video_id,label\na,4\nb,2\n"
    imported("numpy", source, tmp_path / "out", segments=text, labels=labels)
    assert [video.label for video in table(tmp_path / "out").values()] == [4, 2]
    with pytest.raises(DataError, match="gives labels, and so does --labels"):
        imported("numpy", source, tmp_path / "out2", segments="video,start,stop,label\na,1,3,1\n", labels=labels)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("video,start\na,1\n", {}, "expected the columns video, start and stop; missing: stop"),
        ("video,start,stop\na,1,x\n", {}, "line 2: expected a frame number as stop, got 'x'"),
        ("video,start,stop\na,1,\n", {"fps": 2.0}, "line 2: expected seconds or hours:minutes:seconds as stop, got ''"),
        ("video,start,stop\na,nan,3\n", {}, "line 2: expected a frame number as start, got 'nan'"),
        (
            "video,start,stop\na,0:01,0:02\n",
            {},
            "line 2: start is a time, but without --fps start and stop are frame numbers, got '0:01'",
        ),
        ("video,start,stop\n,1,3\n", {}, "line 2: expected a video, got none"),
        (
            "video,start,stop\na,0,0:01:75\n",
            {"fps": 2.0},
            "expected seconds or hours:minutes:seconds as stop, got '0:01:75'",
        ),
        (
            "video,start,stop\na,0,1:75:00\n",
            {"fps": 2.0},
            "expected seconds or hours:minutes:seconds as stop, got '1:75:00'",
        ),
        ("video,start,stop\na,0,1:60\n", {"fps": 2.0}, "expected seconds or hours:minutes:seconds as stop, got '1:60'"),
    ],
)
def test_malformed_segments(text: str, options: dict[str, Any], message: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        imported("numpy", source, tmp_path / "out", segments=text, **options)
    assert message in str(caught.value)


def test_rows_do_not_keep_their_video_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that waits for its group owns its numbers; the video may be much larger."""
    from esv_ray.input.sources.table_writer import TableWriter

    owners: list[bool] = []
    add = TableWriter.add

    def adding(self: TableWriter, video_id: str, features: Any, label: Any, numbers: Any) -> None:
        owners.append(features.base is None)
        add(self, video_id, features, label, numbers)

    monkeypatch.setattr(TableWriter, "add", adding)
    source = save_arrays(tmp_path / "x", {"a": untrimmed(1000)})
    imported("numpy", source, tmp_path / "out", segments="video,start,stop\na,1,3\na,5,8\n")
    assert owners == [True, True]


@pytest.mark.parametrize("text", ["0:01:75", "0:75:01", "1:60"])
def test_a_clock_has_sixty_seconds_and_minutes(text: str, tmp_path: Path) -> None:
    (tmp_path / "segments.csv").write_text(f"video,start,stop\na,0:00:01,{text}\n")
    with pytest.raises(DataError, match=r"expected seconds or hours:minutes:seconds as stop"):
        read_segments(str(tmp_path / "segments.csv"), None, 25.0)
