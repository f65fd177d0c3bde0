"""Segments of untrimmed videos, and the times of the rows of their features.

Row r of the features covers the frames r S ... r S + W - 1 of the video (stride S, window W), and stands for the middle
of its window, the time (r S + W / 2) / F seconds at F frames per second. So the row of the time t is t F / S - W / (2
S). A segment has the rows whose middle lies in [start, stop).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esv_ray.errors import DataError
from esv_ray.input.faults import Lines, RecordError
from esv_ray.input.numbers import INT32_MAX
from esv_ray.input.sources.csv_rows import read_csv
from esv_ray.input.sources.labels import check_split, label_text
from esv_ray.input.sources.records import Frames
from esv_ray.input.sources.request import ImportRequest

_COLUMNS = {
    "video": "video",
    "video_id": "video",
    "start": "start",
    "stop": "stop",
    "end": "stop",
    "label": "label",
    "segment": "segment",
    "segment_id": "segment",
    "split": "split",
}
_CLOCK = re.compile(r"(?:(\d+):(?=[0-5]?\d:))?(\d{1,2}):([0-5]?\d(?:\.\d*)?)")  # hours:minutes:seconds
_NEAR = 1e-6  # of a row: times are rounded in the CSV


@dataclass(frozen=True)
class Timing:
    """Where the rows of the features lie in their videos.

    Attributes:
        fps: F, frames per second; None: times are in frames.
        stride: S, frames from a row to the next.
        window: W, frames that a row covers.
        given: whether the user gave stride or window.
    """

    fps: float | None
    stride: float
    window: float
    given: bool

    def numbers(self, rows: int) -> npt.NDArray[np.int64]:
        """Return (rows,) the middle frame of each row's window."""
        middles = np.arange(rows) * self.stride + self.window / 2
        numbers: npt.NDArray[np.int64] = np.floor(middles + _NEAR).astype(np.int64)
        return numbers

    def times(self, rows: int) -> npt.NDArray[np.float64]:
        """Return (rows,) the time of the middle of each row's window."""
        middles = np.arange(rows, dtype=np.float64) * self.stride + self.window / 2
        return np.asarray(middles / (self.fps or 1.0), dtype=np.float64)


def timing_of(request: ImportRequest) -> Timing:
    """Return where the rows lie: by default one row per frame, and windows without gaps."""
    stride = 1.0 if request.stride is None else request.stride
    window = stride if request.window is None else request.window
    return Timing(request.fps, stride, window, request.stride is not None or request.window is not None)


def with_numbers(frames: Frames, fps: float | None) -> Frames:
    """Return the frames of a video with the numbers that their times give, where the source has times alone.

    Args:
        frames: of the video.
        fps: frames per second; None: the numbers stay unknown.

    Raises:
        RecordError: a number is beyond 32 bits.
    """
    if frames.numbers is not None or frames.times is None or fps is None:
        return frames
    positions = np.floor(frames.times * fps + _NEAR)
    if not (np.abs(positions) <= INT32_MAX).all():
        raise RecordError("frame numbers beyond 32 bits", f"{fps:g} frames per second, up to {frames.times.max():g} s")
    return replace(frames, numbers=positions.astype(np.int64))


class Segment(NamedTuple):
    """A part of a video to be explained.

    Attributes:
        sequence_id: unique: video/segment, or video@start-stop.
        start, stop: times; frames where no frames per second are known.
        label: text of the label, "" if there is none.
    """

    sequence_id: str
    start: float
    stop: float
    label: str


@dataclass(frozen=True)
class SegmentTable:
    """The segments of a CSV.

    Attributes:
        by_video: segments of each video, in the order of the CSV.
        texts: all label texts of the CSV, of every split; None if it has no labels.
        others: videos with segments in other splits only.
        ambiguous: ids of several segments whose times or labels differ.
        checksum: of the CSV.
    """

    by_video: Mapping[str, Sequence[Segment]]
    texts: frozenset[str] | None
    others: frozenset[str]
    ambiguous: frozenset[str]
    checksum: str


def read_segments(url: str, split: str | None, fps: float | None) -> SegmentTable:
    """Read a CSV with the columns video, start, stop, and optionally label, segment and split.

    Args:
        url: its location.
        split: keep rows of this split only; None: all.
        fps: frames per second; None: start and stop are frame numbers.

    Raises:
        DataError: it is malformed, or has no row of the split.
    """
    rows = read_csv(url, _COLUMNS, "read the segments")
    missing = [name for name in ("video", "start", "stop") if name not in rows.columns]
    if missing:
        raise DataError(f"{url}: expected the columns video, start and stop; missing: {', '.join(missing)}")
    check_split(rows, split)
    by_video: dict[str, list[Segment]] = defaultdict(list)
    others: set[str] = set()
    first: dict[str, Segment] = {}
    ambiguous: set[str] = set()
    faults = Lines()
    for line, row in rows.rows:
        with faults.at(line):
            if not row["video"]:
                raise RecordError("expected a video, got none")
            if split is not None and row["split"] != split:
                others.add(row["video"])
                continue
            part = f"/{row['segment']}" if row.get("segment") else f"@{row['start']}-{row['stop']}"
            start, stop = (_time(name, row[name], fps) for name in ("start", "stop"))
            segment = Segment(row["video"] + part, start, stop, label_text(row))
            by_video[row["video"]].append(segment)
            if first.setdefault(segment.sequence_id, segment) != segment:
                ambiguous.add(segment.sequence_id)
    rows.check(faults)
    texts = frozenset(label_text(row) for _, row in rows.rows) - {""} if "label" in rows.columns else None
    unselected = frozenset(others - by_video.keys())
    return SegmentTable(dict(by_video), texts, unselected, frozenset(ambiguous), rows.checksum)


def _time(name: str, text: str, fps: float | None) -> float:
    clock = _CLOCK.fullmatch(text)
    if clock and fps is None:
        raise RecordError(f"{name} is a time, but without --fps start and stop are frame numbers", f"got {text!r:.40}")
    if clock and float(clock[3]) < 60 and (clock[1] is None or int(clock[2]) < 60):
        return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        expected = "a frame number" if fps is None else "seconds or hours:minutes:seconds"
        raise RecordError(f"expected {expected} as {name}", f"got {text!r:.40}")
    return value


class Piece(NamedTuple):
    """Rows of a video.

    Attributes:
        first, stop: the rows first ... stop - 1.
        clipped: whether the segment reaches beyond the video.
    """

    first: int
    stop: int
    clipped: bool


def rows_of(segment: Segment, frames: Frames, count: int, timing: Timing) -> Piece:
    """Return the rows of a segment: those whose middle lies in [start, stop); of a shorter one, the nearest row.

    Args:
        segment: the segment.
        frames: of its video; their times or numbers, where known, take precedence over the timing.
        count: T, the number of rows of the video.
        timing: of the rows.

    Raises:
        RecordError: it has no rows: it ends before it starts, is outside the video, or meets half of an end row.
    """
    if segment.stop <= segment.start:
        raise RecordError("a segment that ends before it starts", f"{segment.start:g} to {segment.stop:g}")
    times, half, step = _row_times(frames, count, timing)
    begin, end = float(times[0]) - half, float(times[-1]) + half
    first, stop = (int(np.searchsorted(times, time - _NEAR * step)) for time in (segment.start, segment.stop))
    clipped = segment.start < begin - step or segment.stop > end + step
    if first < stop:
        return Piece(first, stop, clipped)
    middle = (segment.start + segment.stop) / 2
    is_longer = segment.stop - segment.start > step * (1 + _NEAR)  # than the distance of two rows: beyond an end row
    if is_longer or not begin <= middle < end:
        unit = "frames" if timing.fps is None and frames.times is None else "s"
        is_outside = segment.stop <= begin or segment.start >= end
        raise RecordError(
            "a segment outside its video" if is_outside else "a segment at the edge of its video, without a row",
            f"{segment.start:g} to {segment.stop:g} {unit}, the video has {max(0.0, begin):g} to {end:g}",
        )
    nearest = int(np.argmin(np.abs(times - middle)))
    return Piece(nearest, nearest + 1, clipped)


def _row_times(frames: Frames, count: int, timing: Timing) -> tuple[npt.NDArray[np.float64], float, float]:
    """Return (T,) ascending times of the rows, half the time that one covers, and the time from a row to the next."""
    rate = timing.fps or 1.0
    if frames.times is not None:
        times = frames.times
    elif frames.numbers is not None:
        times = np.asarray((frames.numbers + 0.5) / rate, dtype=np.float64)
    else:
        return timing.times(count), timing.window / rate / 2, timing.stride / rate
    if len(times) > 1 and (np.diff(times) <= 0).any():
        raise RecordError("frames that are not in the order of their times")
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / rate
    return times, step / 2, step
