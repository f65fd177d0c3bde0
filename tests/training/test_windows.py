"""Windows of videos: each video once, within the buffer, the same from memory and from the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.errors import DataError
from esv_ray.input.videos import VideoRequest
from esv_ray.training import index
from esv_ray.training.index import read_index
from esv_ray.training.windows import Videos, Windows
from tests.support.training import separable

ROWS = 90
LENGTHS = [1 + number % 7 for number in range(ROWS)]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three files of row groups of ten videos, which are read in pieces of four."""
    whole = separable(LENGTHS)
    for number in range(3):
        pq.write_table(whole.slice(30 * number, 30), tmp_path / f"{number}.parquet", row_group_size=10)
    monkeypatch.setattr(index, "_MOST_ROWS", 4)
    return str(tmp_path)


def content(videos: Videos) -> list[tuple[int, bytes]]:
    """Label and frames of each video."""
    return [
        (int(label), videos.frames[first : first + length].numpy().tobytes())
        for first, length, label in zip(videos.first, videos.lengths, videos.labels, strict=True)
    ]


def expected(longer: int) -> list[tuple[int, bytes]]:
    rows = [row for row in separable(LENGTHS).to_pylist() if len(row["features"]) >= longer]
    return [(row["label"], np.array(row["features"], np.float32).tobytes()) for row in rows]


@pytest.mark.parametrize("buffer", [1, 300, 1000, 10**6])
@pytest.mark.parametrize("s", [1, 5])
def test_every_video_is_in_one_window(table: str, buffer: int, s: int) -> None:
    rows = read_index(table, VideoRequest()).rows
    windows = Windows(rows, buffer)
    in_order = [(places, content(window)) for places, window in windows.in_order(s)]
    assert [video for _, window in in_order for video in window] == expected(s)
    assert np.concatenate([places for places, _ in in_order]).tolist() == np.flatnonzero(rows.lengths >= s).tolist()
    shuffled = [content(window) for window in windows.shuffled(s, torch.Generator().manual_seed(0))]
    assert sorted(video for window in shuffled for video in window) == sorted(expected(s))
    largest = max(
        int(rows.sizes[rows.piece == piece].sum()) for piece in range(len(rows.pieces))
    )  # a piece is not divided
    sizes = [sum(len(frames) for _, frames in window) for window in shuffled]
    assert max(sizes) <= max(buffer, largest)
    assert (len(sizes) == 1) == (buffer == 10**6)


def test_from_memory_and_from_the_table_windows_are_the_same(table: str) -> None:
    rows = read_index(table, VideoRequest()).rows
    streamed, kept = (Windows(rows, 1000) for _ in range(2))
    kept.fits = True
    for s in (1, 4):
        passes = [
            [content(window) for window in windows.shuffled(s, torch.Generator().manual_seed(3))]
            for windows in (streamed, kept)
        ]
        assert passes[0] == passes[1]
        assert len(passes[0]) > 2
    other = [content(window) for window in streamed.shuffled(1, torch.Generator().manual_seed(4))]
    assert other != [content(window) for window in streamed.shuffled(1, torch.Generator().manual_seed(3))]


def test_a_table_that_changed_is_refused(table: str, tmp_path: Path) -> None:
    windows = Windows(read_index(table, VideoRequest()).rows, 300)
    pq.write_table(separable([3] * 30), tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"1\.parquet.*changed since"):
        list(windows.in_order(1))


def test_rows_that_break_the_contract_keep_the_others_in_place(tmp_path: Path) -> None:
    rows = separable(LENGTHS).to_pylist()
    for number in (0, 5, 6, 40):
        rows[number]["features"] = []
    rows[7]["label"] = None
    path = tmp_path / "broken.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=separable(LENGTHS).schema), path)
    found = read_index(str(path), VideoRequest())
    assert found.left_out.total() == 5
    usable = [row for number, row in enumerate(rows) if number not in (0, 5, 6, 7, 40)]
    videos = [video for _, window in Windows(found.rows, 10**6).in_order(1) for video in content(window)]
    assert videos == [(row["label"], np.array(row["features"], np.float32).tobytes()) for row in usable]
