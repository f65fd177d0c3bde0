"""InterruptedImportError imports continue; changed ones are refused; complete ones are recognized."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError
from esv_ray.input.files import list_files
from esv_ray.input.sources import table_writer
from esv_ray.input.sources.importing import import_features
from esv_ray.input.sources.outcome import ImportProgress
from esv_ray.input.sources.request import ImportRequest
from esv_ray.input.sources.table_writer import TableWriter
from esv_ray.storage import read_bytes
from tests.input.sources.imports import assert_holds, imported, random_videos, save_arrays, table

NAMES = [f"v{index:02d}" for index in range(20)]


class InterruptedImportError(Exception):
    """What Ctrl-C or a crash does to an import."""


@pytest.fixture
def videos(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray[Any, Any]]:
    """Twenty videos, of which a few fill a file."""
    monkeypatch.setattr(table_writer, "FILE_BYTES", 400)
    monkeypatch.setattr(table_writer, "GROUP_BYTES", 200)
    return random_videos(NAMES)


def interrupt(source: Path, out: Path, after: int, **options: Any) -> None:
    """Start an import and end it after a number of videos."""

    def stop(now: ImportProgress) -> None:
        if now.done == after:
            raise InterruptedImportError

    with pytest.raises(InterruptedImportError):
        import_features(ImportRequest("numpy", str(source), str(out), **options), stop)


def contents(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


@pytest.mark.parametrize("after", [1, 4, 9, 19])
def test_an_interrupted_import_continues(
    after: int, videos: dict[str, np.ndarray[Any, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are written are kept, their videos are not read again, and the table has the bytes of one run."""
    source = save_arrays(tmp_path / "x", videos)
    (source / "v03.npy").write_bytes(b"broken")
    (source / "v15.npy").write_bytes(b"broken")
    labels = "video_id,label\n" + "".join(f"{name},{'xyz'[index % 3]}\n" for index, name in enumerate(NAMES[:-1]))
    options: dict[str, Any] = {"labels": labels, "max_skipped": 0.15}
    whole = imported("numpy", source, tmp_path / "whole", **options)
    assert whole.skipped.total == 3
    assert whole.files > 3
    (tmp_path / "out").mkdir()
    options["labels"] = str(next(tmp_path.glob("labels-*.csv")))
    interrupt(source, tmp_path / "out", after, **options)
    before = contents(tmp_path / "out")
    read: list[str] = []

    def counting(url: str, doing: str, most: int = 2**30) -> bytes:
        read.append(url)
        return read_bytes(url, doing, most)

    monkeypatch.setattr("esv_ray.input.sources.numpy_files.storage.read_bytes", counting)
    result = imported("numpy", source, tmp_path / "out", **options)
    assert result.stored() == whole.stored()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert all(contents(tmp_path / "out")[name] == data for name, data in before.items() if name.endswith(".parquet"))
    kept = sum(pq.read_metadata(tmp_path / "out" / name).num_rows for name in before if name.endswith(".parquet"))
    arrays = [url for url in read if url.endswith(".npy")]
    assert (kept > 0) == (after > 4)
    assert len(arrays) <= 20 - kept
    assert_holds(tmp_path / "out", {n: v for n, v in videos.items() if n not in ("v03", "v15", "v19")})


def test_an_incomplete_table_is_not_read(videos: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    interrupt(save_arrays(tmp_path / "x", videos), tmp_path / "t" / "out", 12)
    for place in (tmp_path / "t" / "out", tmp_path / "t"):
        with pytest.raises(DataError, match="expected a complete feature table, got one whose import was interrupted"):
            list_files(str(place))


def test_a_changed_request_is_refused(videos: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    source, out = save_arrays(tmp_path / "x", videos), tmp_path / "out"
    interrupt(source, out, 12)
    before = contents(out)
    with pytest.raises(DataError, match=r"is incomplete, and differs .* in: --match \(not given before\)"):
        imported("numpy", source, out, match="v")
    with pytest.raises(DataError, match="differs from this request in: content of --labels"):
        imported("numpy", source, out, labels="video_id,label\nv00,1\n")
    np.save(source / "new.npy", np.zeros((1, 4), np.float32))
    with pytest.raises(DataError, match="differs from this request in: content of SOURCE; choose another --out"):
        imported("numpy", source, out)
    assert contents(out) == before
    (source / "new.npy").unlink()
    assert imported("numpy", source, out, max_skipped=0.5).rows == 20


def test_a_complete_table_is_recognized(videos: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    source, out = save_arrays(tmp_path / "x", videos), tmp_path / "out"
    first = imported("numpy", source, out)
    before = contents(out)
    again = imported("numpy", source, out)
    assert (first.was_complete, again.was_complete) == (False, True)
    assert again.stored() == first.stored()
    assert contents(out) == before
    with pytest.raises(DataError, match=r"is complete, and differs .* in: --layout \(not given before\)"):
        imported("numpy", source, out, layout="DT")


def test_a_run_that_ended_before_the_mark_was_removed(videos: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    source, out = save_arrays(tmp_path / "x", videos), tmp_path / "out"
    imported("numpy", source, out)
    (out / "import-incomplete.json").write_bytes((out / "_import.json").read_bytes())
    with pytest.raises(DataError, match="interrupted"):
        list_files(str(out))
    assert imported("numpy", source, out).was_complete
    assert len(table(out)) == 20


def test_too_many_faults_keep_what_is_written(videos: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    source, out = save_arrays(tmp_path / "x", videos), tmp_path / "out"
    (source / "v18.npy").write_bytes(b"broken")
    with pytest.raises(DataError, match="holds a part of the table, which the same command continues"):
        imported("numpy", source, out)
    parts = {name for name in contents(out) if name.endswith(".parquet")}
    assert parts
    assert imported("numpy", source, out, max_skipped=0.05).rows == 19
    assert parts <= contents(out).keys()


@pytest.mark.parametrize("wrong", ["gap", "content", "mark", "other"])
def test_a_folder_that_is_not_of_an_import(wrong: str, videos: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    source, out = save_arrays(tmp_path / "x", videos), tmp_path / "out"
    interrupt(source, out, 18)
    parts = sorted(out.glob("*.parquet"))
    if wrong == "gap":
        parts[0].unlink()
    elif wrong == "content":
        parts[-1].write_bytes(b"PAR1 broken PAR1")
    elif wrong == "mark":
        (out / "import-incomplete.json").write_text(json.dumps([1]))
    else:
        (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError) as caught:
        imported("numpy", source, out)
    assert str(out) in str(caught.value)


def test_most_videos_with_faults_are_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_arrays(tmp_path / "x", {f"v{index}": [0.0] for index in range(150)})
    read: list[int] = []
    with pytest.raises(DataError, match=r"100 of the first 100 videos have faults.* 100: not a \(T, D\) array"):
        import_features(ImportRequest("numpy", str(folder), str(tmp_path / "out")), lambda now: read.append(now.done))
    assert len(read) == 99


@pytest.mark.parametrize("kind", ["file", "below a file", "other files"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(kind: str, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    if kind == "other files":
        taken.mkdir()
        (taken / "notes.txt").write_text("mine")
    else:
        taken.write_text("mine")
    out = taken / "out" if kind == "below a file" else taken
    before = sorted(tmp_path.rglob("*"))
    found = {"file": "got a file; choose", "below a file": "got a file", "other files": "found notes.txt"}
    with pytest.raises(DataError, match=f"taken.*{found[kind]}"):
        imported("numpy", tmp_path / "no such source", out, labels=str(tmp_path / "no such labels"))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_files_end_between_the_segments_of_a_video(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overlapping segments may be many times their video; the import continues within it, and gives the same bytes."""
    monkeypatch.setattr(table_writer, "FILE_BYTES", 400)
    monkeypatch.setattr(table_writer, "GROUP_BYTES", 200)
    source = save_arrays(tmp_path / "x", {name: np.random.default_rng(0).standard_normal((20, 4)) for name in "ab"})
    text = "video,start,stop\n" + "".join(
        f"{name},{start},{stop}\n"
        for name in "ab"
        for start, stop in [(0, 9), (9, 30), (40, 50), (1, 10), (2, 11), (3, 12)]
    )
    imported("numpy", source, tmp_path / "whole", segments=text, max_skipped=0.5)
    whole = contents(tmp_path / "whole")
    assert sum(name.startswith("part") for name in whole) > 4
    commit, count = TableWriter.commit, 0

    def failing(self: TableWriter, state: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if count > fails_at:
            raise InterruptedImportError
        commit(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(TableWriter, "commit", failing)
        with pytest.raises(InterruptedImportError):
            imported("numpy", source, tmp_path / "out", segments=text, max_skipped=0.5)
    assert sum(name.startswith("part") for name in contents(tmp_path / "out")) == fails_at
    imported("numpy", source, tmp_path / "out", segments=text, max_skipped=0.5)
    assert contents(tmp_path / "out") == whole


def test_a_file_is_not_copied_before_it_is_committed(tmp_path: Path) -> None:
    """A copy of 256 MB would double what an import needs."""
    tracemalloc.start()
    writer = TableWriter(str(tmp_path / "out"), labelled=False)
    writer.add("a", np.random.default_rng(0).standard_normal((1024, 1024)), None, None)
    writer._end_group()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    writer.commit({})
    more = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    size = (tmp_path / "out" / "part-00000.parquet").stat().st_size
    assert size > 7e6
    assert more < size / 4
