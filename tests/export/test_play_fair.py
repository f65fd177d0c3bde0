"""esv export --to play-fair: the pickle that the dashboard of the paper's authors reads."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esv_ray.errors import DataError, SpecError
from esv_ray.export.pickles import PickleWriter
from esv_ray.unpickling.files import unpickle
from tests.export.conftest import Out, write
from tests.support.jobs import run


class Dashboard:
    """What visualise_esvs.py of willprice/play-fair (commit 2e9c1b6) does with a pickle, in its own words."""

    def __init__(self, path: Path) -> None:
        self.results: dict[str, Any] = pickle.loads(path.read_bytes())  # as pd.read_pickle
        self.uids = list(self.results["uids"])
        self.max_n_frames = len(self.results["scores"])

    def shown(self, uid: str, n_frames: int, cls: int) -> tuple[list[float], list[int], float]:
        """The ESVs of a class, the frames and the score at a position of the slider."""
        place = self.uids.index(uid)
        esvs = [each[place] for each in self.results["shapley_values"]]
        scores = self.results["scores"][:, place]
        frames = [each[place] for each in self.results["sequence_idxs"]]
        values = [esvs[n_frames - 1][i, cls] for i in range(n_frames)]
        return values, [frames[n_frames - 1][i] for i in range(n_frames)], scores[n_frames - 1][cls]

    @property
    def class_counts(self) -> dict[int, int]:
        values, counts = np.unique(self.results["labels"], return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_the_dashboard_shows_the_values_of_the_tables(sweep: Out, tmp_path: Path) -> None:
    notes = write("play-fair", sweep.folder, tmp_path / "esv.pkl")
    assert notes == [
        "1 video without a label left out",
        "5 videos left out, because ESVs at some length are missing",
        "1 length without values, since the job computed 1, 2, 4 elements; for all of them run it with "
        "frames=[1,2,...,4]",
    ]
    dashboard = Dashboard(tmp_path / "esv.pkl")
    done = [row for row in sweep.rows("videos") if row["status"] == "ok" and row["label"] is not None]
    videos = [row for row in done if row["n_elements"] == 4]
    assert dashboard.uids == [row["video_id"] for row in videos]
    assert dashboard.max_n_frames == 4
    assert dashboard.results["labels"].tolist() == [row["label"] for row in videos]
    assert dashboard.results["sequence_lengths"].tolist() == [row["n_frames"] for row in videos]
    assert sum(dashboard.class_counts.values()) == len(videos)
    rows = {(row["video_id"], row["n_elements"]): row for row in sweep.rows("videos")}
    for video in videos:
        for n in (1, 2, 4):
            expected = sweep.esvs(video["video_id"], n)
            for cls in range(3):
                values, frames, score = dashboard.shown(video["video_id"], n, cls)
                assert values == expected[:, cls].tolist()
                assert score == np.float32(rows[video["video_id"], n]["scores"][cls])
                assert frames == [(2 * i + 1) * video["n_frames"] // (2 * n) for i in range(n)]
        assert np.isnan(dashboard.shown(video["video_id"], 3, 0)[0]).all()


def test_classes_that_are_not_kept_are_nan(plain: Out, tmp_path: Path) -> None:
    notes = write("play-fair", plain.folder, tmp_path / "esv.pkl")
    assert "ESVs of classes that the job did not keep are NaN; for all of them run it with classes=all" in notes
    dashboard = Dashboard(tmp_path / "esv.pkl")
    for place, uid in enumerate(dashboard.uids):
        np.testing.assert_array_equal(dashboard.results["shapley_values"][2][place], plain.esvs(uid, 3))


def test_the_inert_reader_and_numpy_1_know_all_names(sweep: Out, tmp_path: Path) -> None:
    write("play-fair", sweep.folder, tmp_path / "esv.pkl")
    data = (tmp_path / "esv.pkl").read_bytes()
    names = {argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}
    # NumPy 1.19, which their environment.yml pins, has no numpy._core.
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert max(opcode.proto for opcode, _, _ in pickletools.genops(data)) <= 4  # Python 3.7
    read, usual = unpickle(data), pickle.loads(data)
    assert isinstance(read, dict)
    assert list(read) == list(usual)
    np.testing.assert_array_equal(read["scores"], usual["scores"])


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.zeros((0, 3), np.float64),
        np.array([-(2**62), 5], np.int64),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.arange(2_100_000, dtype=np.int16),
    ],
    ids=["float32", "empty", "int64", "big-endian", "several pieces"],
)
def test_arrays(values: np.ndarray[Any, Any]) -> None:
    file = io.BytesIO()
    writer = PickleWriter(file)
    for name in ("once", "more"):
        writer.text(name)
        writer.array(values) if name == "once" else writer.repeated(values, 3)
    writer.text("none")
    writer.repeated(values, 0)
    writer.end()
    read = pickle.loads(file.getvalue())
    assert read["none"] == []
    assert len({id(each) for each in read["more"]}) == 1
    for each in (read["once"], *read["more"]):
        assert each.shape == values.shape
        np.testing.assert_array_equal(each, values)
    read["once"][...] = 0  # can be written


def test_videos_shorter_than_asked_for_are_left_out(made: Path, plain: Out, tmp_path: Path) -> None:
    """As the authors do; a job gives them the number of their frames."""
    write("play-fair", plain.folder, tmp_path / "esv.pkl")
    shorter = {row["video_id"] for row in plain.rows("videos") if row["n_elements"] < 3}
    assert shorter
    assert not shorter & set(Dashboard(tmp_path / "esv.pkl").uids)


@pytest.mark.slow
def test_what_it_cannot_hold(made: Path, tmp_path: Path) -> None:
    features, model = str(made / "f.parquet"), str(made / "model")
    run(features, model, tmp_path / "logits", "estimator.output=logit", "frames=2", "max_failed=1")
    with pytest.raises(SpecError, match="expected ESVs of probabilities"):
        write("play-fair", tmp_path / "logits", tmp_path / "esv.pkl")
    run(features, model, tmp_path / "all", "frames=all", "max_failed=1")
    with pytest.raises(DataError, match="expected labeled videos with ESVs at every length, found none of 11"):
        write("play-fair", tmp_path / "all", tmp_path / "esv.pkl")
    assert not (tmp_path / "esv.pkl").exists()
