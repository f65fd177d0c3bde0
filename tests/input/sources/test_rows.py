"""Parquet with one row per frame as feature tables."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError, SpecError
from esv_ray.input.features import Video
from esv_ray.input.sources import frame_rows
from tests.input.sources.imports import assert_holds, imported, put, random_videos, table

VIDEOS = random_videos(["0", "1", "2"])
COLUMNS = {"id": "episode_index", "order": "frame_index", "features": "observation.state"}


def frames(videos: dict[str, Any]) -> pa.Table:
    """A table of frames, in the order of the videos."""
    return pa.table(
        {
            "episode_index": pa.array([int(name) for name, rows in videos.items() for _ in rows]),
            "frame_index": pa.array([number for rows in videos.values() for number in range(len(rows))]),
            "timestamp": pa.array([number / 10 for rows in videos.values() for number in range(len(rows))]),
            "observation.state": pa.array(
                [row.tolist() for rows in videos.values() for row in rows], pa.list_(pa.float32(), 4)
            ),
            "action": pa.array([0 for rows in videos.values() for _ in rows]),
        }
    )


def write(path: Path, rows: pa.Table, group: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=group)
    return path


@pytest.mark.parametrize("group", [1, 5, 100])
@pytest.mark.parametrize("kind", ["disk", "memory", "s3"])
def test_a_row_per_frame(kind: str, group: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source, out = str(write(tmp_path / "x.parquet", frames(VIDEOS), group)), str(tmp_path / "out")
    if kind != "disk":
        bucket = "" if kind == "memory" else f"{request.getfixturevalue('s3').bucket}/"
        source = put(f"{kind}://{bucket}{uuid.uuid4().hex}/x.parquet", tmp_path / "x.parquet")
        out = f"{kind}://{bucket}{uuid.uuid4().hex}"
    imported("rows", source, out, **COLUMNS)
    assert_holds(out, VIDEOS)
    assert table(out)["1"].frame_index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_rows_in_any_order_and_file(seed: int, tmp_path: Path) -> None:
    rows = frames(VIDEOS)
    places = np.random.default_rng(seed).permutation(len(rows))
    write(tmp_path / "x" / "a.parquet", rows.take(places[:7]), 3)
    write(tmp_path / "x" / "b.parquet", rows.take(places[7:]), 3)
    imported("rows", tmp_path / "x", tmp_path / "out", **COLUMNS)
    videos = table(tmp_path / "out")
    assert videos.keys() == VIDEOS.keys()
    for name, expected in VIDEOS.items():
        np.testing.assert_array_equal(videos[name].features, expected)


def test_times_cut_segments(tmp_path: Path) -> None:
    source = write(tmp_path / "x.parquet", frames(VIDEOS))
    text = "video,start,stop\n1,0.1,0.3\n2,0.2,9\n"
    result = imported("rows", source, tmp_path / "out", **{**COLUMNS, "order": "timestamp"}, segments=text)
    videos = table(tmp_path / "out")
    np.testing.assert_array_equal(videos["1@0.1-0.3"].features, VIDEOS["1"][1:3])
    np.testing.assert_array_equal(videos["2@0.2-9"].features, VIDEOS["2"][2:])
    assert result.notes[-1] == "1 segment cut to the length of the video: 2@0.2-9"


def test_without_an_order_the_rows_are_in_order(tmp_path: Path) -> None:
    source = write(tmp_path / "x.parquet", frames(VIDEOS).drop_columns(["frame_index"]))
    imported("rows", source, tmp_path / "out", id="episode_index", features="observation.state")
    assert_holds(tmp_path / "out", VIDEOS)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 4), pa.list_(pa.int32(), 4)],
    ids=str,
)
def test_types_of_the_features(kind: pa.DataType, tmp_path: Path) -> None:
    values = [[[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0, 7.0, 8.0]] * 2]
    rows = pa.table({"i": ["a", "b", "b"], "x": pa.array([row for video in values for row in video], kind)})
    imported("rows", write(tmp_path / "x.parquet", rows), tmp_path / "out", id="i", features="x")
    assert [video.features.tolist() for video in table(tmp_path / "out").values()] == values


def test_a_number_per_frame(tmp_path: Path) -> None:
    rows = pa.table({"i": pa.array(["a", "b", "b"]).dictionary_encode(), "x": [1.0, 2.0, 3.0]})
    imported("rows", write(tmp_path / "x.parquet", rows), tmp_path / "out", id="i", features="x")
    assert [video.features.tolist() for video in table(tmp_path / "out").values()] == [[[1.0]], [[2.0], [3.0]]]


def test_faults(tmp_path: Path) -> None:
    ids = ["good", "good", None, "twice", "twice", "hole", "ragged", "ragged", "null", "inner"]
    order = [0, 1, 0, 3, 3, None, 0, 1, 0, 0]
    features = [[1.0, 2.0]] * 6 + [[1.0], [1.0, 2.0], None, [1.0, None]]
    rows = pa.table({"i": ids, "o": order, "x": pa.array(features, pa.list_(pa.float32()))})
    source = write(tmp_path / "x.parquet", rows)
    result = imported("rows", source, tmp_path / "out", id="i", order="o", features="x", max_skipped=0.9)
    assert {(reason, number) for reason, number, _ in result.skipped.rows()} == {
        ("an id of 1 to 4096 bytes is needed", 1),
        ("several rows of one place in the order", 1),
        ("rows without a place in the order", 1),
        ("frames with different numbers of features", 1),
        ("rows without features", 1),
        ("NaN or infinity", 1),
    }
    assert list(table(tmp_path / "out")) == ["good"]


def test_refusals(tmp_path: Path) -> None:
    source = write(tmp_path / "x.parquet", frames(VIDEOS))
    with pytest.raises(SpecError, match="--from rows needs the names of columns: --id and --features"):
        imported("rows", source, tmp_path / "out")
    with pytest.raises(DataError, match="expected the columns x, action, got episode_index, frame_index, timestamp"):
        imported("rows", source, tmp_path / "out", id="x", features="action")
    with pytest.raises(DataError, match=r"column timestamp \(--id\): expected text or integers, got double"):
        imported("rows", source, tmp_path / "out", id="timestamp", features="action")
    (tmp_path / "y.parquet").write_bytes(b"PAR1" + b"x" * 100 + b"PAR1")
    with pytest.raises(DataError, match="expected a Parquet file"):
        imported("rows", tmp_path / "y.parquet", tmp_path / "out", id="x", features="y")


# Files that differ ----------------------------------------------------------------------------------------------------


def halves(folder: Path, change: Callable[[pa.Table], pa.Table], columns: dict[str, str] = COLUMNS) -> dict[str, Video]:
    """Import two files that have half of each video, the second one changed."""
    rows = frames(VIDEOS)
    is_late = np.arange(len(rows)) % 2 == 1
    write(folder / "x" / "a.parquet", rows.filter(pa.array(~is_late)))
    write(folder / "x" / "b.parquet", change(rows.filter(pa.array(is_late))))
    imported("rows", folder / "x", folder / "out", **columns)
    return table(folder / "out")


def cast(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(rows: pa.Table) -> pa.Table:
        return rows.set_column(rows.schema.get_field_index(name), name, rows.column(name).cast(kind))

    return change


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("observation.state", pa.list_(pa.float64(), 4)),
        ("observation.state", pa.list_(pa.float32())),
        ("observation.state", pa.large_list(pa.float32())),
        ("frame_index", pa.int32()),
        ("frame_index", pa.uint64()),
        ("episode_index", pa.int16()),
        ("episode_index", pa.string()),
    ],
    ids=str,
)
def test_files_with_other_types(name: str, kind: pa.DataType, tmp_path: Path) -> None:
    videos = halves(tmp_path, cast(name, kind))
    assert videos.keys() == VIDEOS.keys()
    for video, expected in VIDEOS.items():
        np.testing.assert_array_equal(videos[video].features, expected)
        assert videos[video].frame_index.tolist() == list(range(len(expected)))


def test_frame_numbers_in_one_file_and_times_in_another(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"b\.parquet: expected frame_index \(--order\) to be times in all files or frame "
    ):
        halves(tmp_path, cast("frame_index", pa.float64()))
    assert not (tmp_path / "out").exists()


def test_an_order_beyond_64_bits_with_a_sign(tmp_path: Path) -> None:
    rows = pa.table({"i": ["a", "b"], "o": pa.array([2**63, 1], pa.uint64()), "x": [1.0, 2.0]})
    source = write(tmp_path / "x.parquet", rows)
    result = imported("rows", source, tmp_path / "out", id="i", order="o", features="x", max_skipped=0.5)
    assert result.skipped.rows() == [("an order beyond 64 bits with a sign", 1, f"a ({2**63})")]
    assert list(table(tmp_path / "out")) == ["b"]


@pytest.mark.slow
def test_videos_that_are_spread_over_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each video would decode the whole source; a source that is small is read all the same."""
    ids = np.tile(np.arange(50), 20)
    rows = pa.table({"i": ids, "o": np.arange(1000), "x": np.arange(1000.0)})
    source = write(tmp_path / "x.parquet", rows, 50)
    columns = {"id": "i", "order": "o", "features": "x"}
    imported("rows", source, tmp_path / "out", **columns)
    assert table(tmp_path / "out")["7"].features[:, 0].tolist() == list(range(7, 1000, 50))
    monkeypatch.setattr(frame_rows, "_FEW_BYTES", 1000)
    message = "got videos spread over it: it would be decoded 50 times; sort the rows by i, o and write them again"
    with pytest.raises(DataError, match=message):
        imported("rows", source, tmp_path / "out2", **columns)
    sorted_rows = write(tmp_path / "y.parquet", rows.sort_by([("i", "ascending"), ("o", "ascending")]), 50)
    imported("rows", sorted_rows, tmp_path / "out3", **columns)
    monkeypatch.setattr(frame_rows, "_MOST_RUNS", 900)
    with pytest.raises(DataError, match="got videos in more than 900 pieces; sort the rows by i, o"):
        imported("rows", source, tmp_path / "out2", **columns)


def test_times_and_a_rate_give_frame_numbers(tmp_path: Path) -> None:
    """10 rows a second of a video of 30 frames per second: a viewer shows frame 3 k for row k."""
    rows = pa.table({"v": ["a"] * 50, "t": np.arange(50) / 10, "x": pa.array([[float(row)] for row in range(50)])})
    source = write(tmp_path / "x.parquet", rows)
    columns = {"id": "v", "order": "t", "features": "x", "segments": "video,segment,start,stop\na,s,1,2\n"}
    imported("rows", source, tmp_path / "out", **columns, fps=30.0)
    video = table(tmp_path / "out")["a/s"]
    assert video.features[:, 0].tolist() == list(range(10, 20))
    assert video.frame_index.tolist() == list(range(30, 60, 3))
    with pytest.raises(DataError, match="frame numbers beyond 32 bits"):
        imported("rows", source, tmp_path / "fast", **columns, fps=1e9)
