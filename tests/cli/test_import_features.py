"""esv import features, from files as people have them to a table that the other commands read."""

from __future__ import annotations

import json
import shlex
import shutil
import tarfile
from pathlib import Path
from typing import get_args

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.input.sources.importing import import_features
from esv_ray.input.sources.outcome import ImportProgress
from esv_ray.input.sources.request import Format, ImportRequest
from esv_ray.input.videos import read_videos
from tests.conftest import FILES
from tests.input.sources.imports import assert_holds, imported, random_videos, save_arrays
from tests.support.command import HERE, run
from tests.support.pages import DOCS, shell_lines

ACTIONS = ["walk", "run", "jump"]


@pytest.fixture
def sixty(tmp_path: Path) -> Path:
    """Sixty .npy files whose class shows in their features, and labels.csv."""
    videos = random_videos([f"clips/v{index:02d}" for index in range(60)], dim=6)
    for index, features in enumerate(videos.values()):
        features[:, index % 3] += 3
    rows = "".join(f"{name},{ACTIONS[index % 3]}\n" for index, name in enumerate(videos))
    (tmp_path / "labels.csv").write_text(f"video_id,label\n{rows}")
    return save_arrays(tmp_path / "arrays", videos)


def test_from_sixty_arrays_to_esvs(
    sixty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["import", "features", "--from", "numpy", "arrays", "--labels", "labels.csv", "--out", "table"]
    code, out, _ = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert out == (
        f"60 videos, {sum(3 + index % 7 for index in range(60))} frames in all, D = 6, float32, 3 classes; "
        "feature table: table (1 file)\n"
    )
    assert (tmp_path / "table" / "classes.csv").read_text() == "name,id\njump,0\nrun,1\nwalk,2\n"
    settings = ["n_max=2", "hidden=8", "epochs=30", "classes=table/classes.csv", "threads=1"]
    words = ["train", "--features", "table", "--output", "model", *(f"--set={each}" for each in settings)]
    code, out, _ = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, "trained on 54 videos" in out) == (0, True), out
    words = ["attribute", "--features", "table", "--model", "model", "--output", "esv", *HERE]
    code, out, _ = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, out
    code, out, _ = run("analyze", "esv", "--json", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    found = json.loads(out)["tables"]["summary"]
    assert sum(row["videos"] for row in found) == 60, out


def test_faults_are_shown(
    sixty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(sixty / "nan.npy", np.full((3, 6), np.nan))
    words = ["import", "features", "--from", "numpy", str(sixty), "--out", str(tmp_path / "table")]
    code, out, err = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert err == (
        f"esv: {sixty}: 1 of 61 videos, segments or labels cannot be written, more than --max-skipped 0.01 allows: "
        "1: NaN or infinity: nan; correct them, or set --max-skipped 0.02\n"
    )
    code, out, err = run(*words, "--max-skipped", "0.02", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines() if "NaN" in line] == [
        ["│", "1", "│", "NaN", "or", "infinity", "│", "nan", "│"]
    ]
    code, out, err = run(*words, "--max-skipped", "0.02", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert "the table was complete before; nothing was changed" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "lmdb", "--layout", "DT"], "--layout has no effect on --from lmdb, only on numpy, hdf5, tar"),
        (["--from", "numpy", "--frames-key", "picks"], "--frames-key has no effect on --from numpy, only on hdf5"),
        (["--from", "numpy", "--order", "x"], "--order has no effect on --from numpy, only on rows"),
        (["--from", "rows"], "--from rows needs the names of columns: --id and --features"),
        (["--from", "numpy", "--split", "val"], "--split selects rows of --labels or --segments, and neither is given"),
        (["--from", "numpy", "--fps", "0"], "0.0 is not in the range x>0"),
        (["--from", "numpy", "--max-skipped", "2"], "2.0 is not in the range 0<=x<=1"),
        (["--from", "numpy", "--match", "("], "--match: expected a regular expression, got '('"),
        (["--from", "numpy", "--labels", "none.csv"], "cannot read the labels"),
        (["--from", "numpy", "--classes", "none.csv"], "cannot read the classes: none.csv was not found"),
        (["--from", "numpy", "--classes", __file__], "--classes names the classes of labels, and there are none"),
        (["--from", "hdf5", "--frames-key", "picks", "--stride", "2"], "--frames-key gives the frame numbers, and so"),
        (["--from", "lmdb", "--stride", "2"], "--stride has no effect on --from lmdb, whose keys number the frames"),
    ],
)
def test_requests_that_make_no_sense(
    words: list[str],
    message: str,
    sixty: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["import", "features", str(sixty), *words, "--out", str(tmp_path / "table")]
    code, out, err = run(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert not (tmp_path / "table").exists()


def write_sources(folder: Path) -> None:
    """What the page on own data imports, by the names that it uses."""
    videos = random_videos(["kitchen/v0001", "kitchen/v0002"])
    save_arrays(folder / "arrays", videos)
    (folder / "labels.csv").write_text("video_id,label\nkitchen/v0001,open\nkitchen/v0002,close\n")
    (folder / "classes.csv").write_text("name,id\nclose,1\nopen,0\n")
    (folder / "segments.csv").write_text("video,segment,start,stop,label\nkitchen/v0001,0,0,0.1,open\n")
    save_arrays(folder / "i3d", {f"{name}{suffix}": array for name, array in videos.items() for suffix in ("", "_rgb")})
    with h5py.File(folder / "features.h5", "w") as hdf, h5py.File(folder / "tvsum.h5", "w") as summaries:
        for name, array in videos.items():
            hdf[name] = array
            summaries[f"{name}/features"], summaries[f"{name}/picks"] = array, np.arange(len(array)) * 15
    with lmdb.open(str(folder / "rgb")) as opened, opened.begin(write=True) as transaction:
        for number, row in enumerate(videos["kitchen/v0001"]):
            transaction.put(f"kitchen/v0001_frame_{number:010d}.jpg".encode(), row.tobytes())
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "0.tar", "w") as shard:
        shard.add(folder / "arrays" / "kitchen" / "v0001.npy", "v0001.npy")
    states = {"episode_index": [0, 0], "frame_index": [0, 1], "observation.state": [[1.0], [2.0]]}
    (folder / "data").mkdir()
    pq.write_table(pa.table(states), folder / "data" / "0.parquet")
    shutil.copy(FILES / "features.hdf", folder)


COMMANDS = [
    line for line in shell_lines((DOCS / "howto" / "own-data.md").read_text()) if line.startswith("esv import features")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_page_on_own_data(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    labels = ["video_id,label"] + [f"{name},open" for name in ("v0001", "v0002")] * ("--match" in line)
    if len(labels) > 1:
        Path("labels.csv").write_text("\n".join(labels) + "\n")
    code, out, err = run(*shlex.split(line)[1:], monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert "feature table: features/" in out
    assert read_videos("features/")[1].total() == 0


def test_the_page_on_own_data_has_every_format() -> None:
    formats = {words[words.index("--from") + 1] for words in map(str.split, COMMANDS)}
    assert formats == set(get_args(Format))


def test_the_authors_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", "features", "--from", "play-fair", str(FILES / "features.hdf"), "--out", str(tmp_path / "table")]
    code, out, _ = run(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert out.startswith("6 videos, ")


def test_progress_is_shown(sixty: Path, tmp_path: Path) -> None:
    """One call per video, with the total."""
    seen: list[ImportProgress] = []
    import_features(ImportRequest("numpy", str(sixty), str(tmp_path / "table")), seen.append)
    assert [now.done for now in seen] == list(range(1, 61))
    assert {now.total for now in seen} == {60}
    assert seen[-1].rows == 60


def test_classes_beside_a_table_are_ignored_by_its_readers(sixty: Path, tmp_path: Path) -> None:
    imported("numpy", sixty, tmp_path / "table", labels=str(tmp_path / "labels.csv"))
    names = {path.name for path in (tmp_path / "table").iterdir()}
    assert names == {"_import.json", "classes.csv", "part-00000.parquet"}
    videos = {str(path.relative_to(sixty))[:-4]: np.load(path) for path in sorted(sixty.rglob("*.npy"))}
    assert_holds(tmp_path / "table", videos)
