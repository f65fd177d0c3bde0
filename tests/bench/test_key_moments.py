"""Key moments of a CSV become columns of a feature table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.bench.key_moments import add_key_moments
from esv_ray.errors import DataError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A feature table of two files, of which one video has no key moment."""
    folder = tmp_path / "table"
    folder.mkdir()
    for name, ids in (("a", ["x", "y"]), ("b", ["z"])):
        features = pa.array([np.ones((2, 3)).tolist() for _ in ids], pa.list_(pa.list_(pa.float32(), 3)))
        columns = pa.table({"video_id": ids, "features": features})
        pq.write_table(columns.replace_schema_metadata({"extraction": "kept"}), folder / f"{name}.parquet")
    return folder


def test_moments_stand_beside_the_features(table: Path, tmp_path: Path) -> None:
    moments, out = tmp_path / "moments.csv", tmp_path / "marked.parquet"
    moments.write_text("video_id,path,key_start,key_end\nz,z.mp4,0,0\nother,o.mp4,1,2\nx,x.mp4,3,12\n")
    assert add_key_moments(str(table), str(moments), str(out)) == 2
    marked = pq.read_table(out)
    assert marked.column("key_start").to_pylist() == [3, None, 0]
    assert marked.column("key_end").to_pylist() == [12, None, 0]
    assert marked.drop_columns(["key_start", "key_end"]).equals(pq.read_table(table))
    assert marked.schema.metadata == {b"extraction": b"kept"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video_id,key_start\nx,1\n", "expected the columns video_id, key_start, key_end, got"),
        ("video_id,key_start,key_end\nx,1,one\n", "line 2: expected numbers of frames from 0, got '1' and 'one'"),
        ("video_id,key_start,key_end\nx,-1,1\n", "line 2: expected numbers of frames from 0"),
        ("video_id,key_start,key_end\nx,5,4\n", "line 2: expected a last frame that is not before the first, got 5"),
        (
            "video_id,key_start,key_end\nx,1,2\nx,1,3\n",
            "line 3: expected one key moment of a video, got a second one of 'x'",
        ),
        ("video_id,key_start,key_end\nother,1,2\n", "expected key moments of the videos in .*, found none of theirs"),
    ],
)
def test_what_is_no_list_of_moments_is_refused(content: str, message: str, table: Path, tmp_path: Path) -> None:
    moments, out = tmp_path / "moments.csv", tmp_path / "marked.parquet"
    moments.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        add_key_moments(str(table), str(moments), str(out))
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_table_that_has_key_moments_is_refused(table: Path, tmp_path: Path) -> None:
    moments, out = tmp_path / "moments.csv", tmp_path / "marked.parquet"
    moments.write_text("video_id,key_start,key_end\nx,1,2\n")
    add_key_moments(str(table), str(moments), str(out))
    with pytest.raises(DataError, match="expected a feature table without key moments, got a column key_start"):
        add_key_moments(str(out), str(moments), str(tmp_path / "again.parquet"))


@pytest.mark.slow
def test_the_command_ends_in_one_line(table: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "esv_ray.bench.key_moments", str(table), str(tmp_path / "moments.csv")]
    out = str(tmp_path / "marked.parquet")
    refused = subprocess.run([*command, out], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    (tmp_path / "moments.csv").write_text("video_id,key_start,key_end\nx,1,2\n")
    done = subprocess.run([*command, out], capture_output=True, text=True, check=True)
    assert done.stdout == f"{out}: 1 video with key moments\n"
