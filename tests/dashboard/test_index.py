"""The index has what the tables say, grows with an output, and ends a query that takes too long."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.analyzed import open_output
from esv_ray.dashboard import index as index_module
from esv_ray.dashboard.index import Index, Progress
from esv_ray.errors import DataError
from tests.support.dashboards import FAILED


def test_rows_say_what_the_tables_say(output: Path) -> None:
    index = Index(open_output(str(output)))
    index.fill()
    rows = index.query("SELECT * FROM listed ORDER BY video_id")
    index.close()
    videos = sorted(pq.read_table(output / "videos").to_pylist(), key=lambda row: row["video_id"].encode())
    esvs = pq.read_table(output / "attributions").to_pandas().set_index(["video_id", "class", "element"])
    esvs = esvs.sort_index()["esv"]
    assert [row["video_id"] for row in rows] == [video["video_id"] for video in videos]
    for row, video in zip(rows, videos, strict=True):
        if row["video_id"] == FAILED:
            assert (row["status"], row["reason"]) == ("failed", "<b>NaN</b> in its features")
            assert row["score"] is row["supporting"] is row["misled"] is None
            continue
        own = esvs.loc[row["video_id"], video["label"]].to_numpy(np.float64)
        assert row["correct"] == (video["label"] == video["predicted"])
        assert row["score"] == pytest.approx(video["scores"][video["label"]])
        assert row["evidential"] == pytest.approx(row["score"] - 1 / 12)
        assert row["supporting"] == (own > 0).sum()
        assert row["distracted"] == pytest.approx(-own[own < 0].sum())
        assert (row["best"], row["worst"]) == (own.argmax(), own.argmin())
        if row["correct"]:
            assert row["misled"] is None
        else:
            difference = own - esvs.loc[row["video_id"], video["predicted"]].to_numpy(np.float64)
            assert row["difference"] == pytest.approx(difference.min())
            assert row["misleading"] == difference.argmin()
        unit = pq.read_table(output / "videos" / index.names[row["unit"]], columns=["video_id"])
        assert row["video_id"] in unit.column(0).to_pylist()


def test_grows_with_an_unfinished_output(output: Path, tmp_path: Path) -> None:
    """A unit that is committed while the index is used is added; what is there before stays as it is."""
    growing = tmp_path / "it's growing=1"
    shutil.copytree(output, growing)
    (growing / "_SUCCESS").unlink()
    late = sorted(path.name for path in (growing / "videos").iterdir())[2:]
    for name in late:
        (growing / "videos" / name).rename(tmp_path / name)
    index = Index(open_output(str(growing)))
    index.start(refresh=0.02)
    _wait(index, 2)
    before = index.query("SELECT * FROM listed ORDER BY video_id")
    assert len(before) == 128
    assert index.progress == Progress(2, 2, 5)
    (tmp_path / late[0]).rename(growing / "videos" / late[0])
    _wait(index, 3)
    assert len(index.query("SELECT * FROM listed")) == 192
    assert [row for row in index.query("SELECT * FROM listed ORDER BY video_id") if row in before] == before
    for name in late[1:]:
        (tmp_path / name).rename(growing / "videos" / name)
    _wait(index, 5)
    assert index.progress.done
    index.close()


def test_the_first_unit_is_indexed_alone(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch has as many units as fit in memory; the first videos do not wait for all of them."""
    added: list[int] = []
    add = Index._add

    def counted(index: Index, con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
        added.append(len(names))
        add(index, con, names)

    monkeypatch.setattr(Index, "_add", counted)
    index = Index(open_output(str(output)))
    index.fill()
    index.fill()
    assert added == [1, 4]
    assert len(index.query("SELECT * FROM listed")) == 300
    index.close()


def test_a_damaged_unit_is_told_and_the_rest_stays(output: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "esv"
    shutil.copytree(output, damaged)
    (damaged / "_SUCCESS").unlink()
    last = sorted((damaged / "videos").iterdir())[-1]
    content = last.read_bytes()
    last.unlink()
    index = Index(open_output(str(damaged)))
    index.start(refresh=0.02)
    _wait(index, 4)
    part = tmp_path / "part"
    part.write_bytes(content[: len(content) // 2])
    part.rename(last)
    until = time.monotonic() + 20
    while not index.progress.fault and time.monotonic() < until:
        time.sleep(0.01)
    assert last.name in index.progress.fault
    assert len(index.query("SELECT * FROM listed")) == 256
    index.close()


def test_a_query_ends_in_time(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(open_output(str(output)))
    monkeypatch.setattr(index_module, "MOST_SECONDS", 0.1)
    with pytest.raises(DataError, match=r"longer than 0\.1 s"):
        index.query("SELECT count(*) FROM range(100_000_000) AS a(x), range(100_000) AS b(y) WHERE (x * y) % 7 = 3")
    assert index.query("SELECT 1 AS one") == [{"one": 1}]
    index.close()


def _wait(index: Index, units: int) -> None:
    until = time.monotonic() + 20
    while index.progress.units < units:
        assert time.monotonic() < until, index.progress
        time.sleep(0.01)


def test_without_esvs_of_the_class_videos_are_listed(output: Path, tmp_path: Path) -> None:
    """An output may keep the ESVs of some videos only; the others are there, without what ESVs say."""
    some = tmp_path / "esv"
    shutil.copytree(output, some)
    for path in (some / "attributions").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.filter(pa.compute.not_equal(table.column("video_id"), "video-00000100")), path)
    index = Index(open_output(str(some)))
    index.fill()
    (row,) = index.query("SELECT * FROM listed WHERE video_id = 'video-00000100'")
    assert row["score"] > 0
    assert row["supporting"] is None
    assert len(index.query("SELECT * FROM listed")) == 300
    index.close()
