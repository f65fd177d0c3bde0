"""esv export --to npz: arrays with the values of the tables, to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError
from tests.export.conftest import IDS, NAMES, Out, write


def test_the_arrays_hold_the_tables(plain: Out, tmp_path: Path) -> None:
    assert write("npz", plain.folder, tmp_path / "esv.npz") == ["1 sequence without ESVs left out"]
    rows = [row for row in plain.rows("videos") if row["status"] == "ok"]
    with np.load(tmp_path / "esv.npz") as arrays:  # without pickles
        assert arrays["video_id"].tolist() == [row["video_id"] for row in rows]
        for name in ("predicted", "n_frames", "n_elements", "exact", "evaluations"):
            assert arrays[name].tolist() == [row[name] for row in rows]
        assert arrays["label"].tolist() == [-1 if row["label"] is None else row["label"] for row in rows]
        np.testing.assert_array_equal(arrays["scores"], np.array([row["scores"] for row in rows], np.float32))
        assert arrays["class_name"].tolist() == list(NAMES)
        assert arrays["prior"].sum() == pytest.approx(1)
        expected = plain.rows("attributions")
        for name in ("class", "element", "frame_index"):
            assert arrays[name].tolist() == [row[name] for row in expected]
        np.testing.assert_array_equal(arrays["esv"], np.array([row["esv"] for row in expected], np.float32))
        stderr = np.array([np.nan if row["stderr"] is None else row["stderr"] for row in expected], np.float32)
        np.testing.assert_array_equal(arrays["stderr"], stderr)
        assert arrays["methods"][arrays["method"]].tolist() == [row["method"] for row in expected]
        first = arrays["first"]
        assert (len(first), first[0], first[-1]) == (len(rows) + 1, 0, len(expected))
        for place, video in enumerate(rows):
            ids = {row["video_id"] for row in expected[first[place] : first[place + 1]]}
            assert ids <= {video["video_id"]}


def test_a_video_as_a_matrix(sweep: Out, tmp_path: Path) -> None:
    """What the guide says: with all classes, the rows of a sequence are a (C, n) matrix."""
    write("npz", sweep.folder, tmp_path / "esv.npz")
    with np.load(tmp_path / "esv.npz") as arrays:
        for place, (video_id, n) in enumerate(zip(arrays["video_id"], arrays["n_elements"], strict=True)):
            rows = slice(arrays["first"][place], arrays["first"][place + 1])
            values = arrays["esv"][rows].reshape(-1, n)
            np.testing.assert_array_equal(values.T, sweep.esvs(str(video_id), int(n)))
            gap = values.sum(axis=1) - (arrays["scores"][place] - arrays["prior"])
            np.testing.assert_allclose(gap, 0, atol=1e-5)


def test_the_same_output_gives_the_same_bytes(plain: Out, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write("npz", plain.folder, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(DataError, match=r"a\.npz: expected no file there, found one"):
        write("npz", plain.folder, tmp_path / "a.npz")


def test_rows_of_another_order_are_refused(plain: Out, tmp_path: Path) -> None:
    shutil.copytree(plain.folder, tmp_path / "out")
    part = next((tmp_path / "out" / "attributions").glob("part-*"))
    table = pq.read_table(part)
    pq.write_table(table.take(pa.array(range(len(table) - 1, -1, -1))), part)
    with pytest.raises(DataError, match="expected the ESVs of each video together, in the order of the videos"):
        write("npz", tmp_path / "out", tmp_path / "esv.npz")
    assert not (tmp_path / "esv.npz").exists()


def test_an_id_that_numpy_cannot_hold(made: Path, tmp_path: Path) -> None:
    from tests.support.jobs import run

    table = pq.read_table(made / "f.parquet").slice(0, 2)
    ids = pa.array([f"{IDS[0]}\0", IDS[1]])
    pq.write_table(table.set_column(0, "video_id", ids), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), str(made / "model"), tmp_path / "out")
    with pytest.raises(DataError, match=r"ends in NUL, which NumPy drops; export with --to csv"):
        write("npz", tmp_path / "out", tmp_path / "esv.npz")
