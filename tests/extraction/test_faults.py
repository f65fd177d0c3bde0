"""Faults: poisonous videos, kills, resumption; on this process, on real Ray and on a real S3 server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError, JobError, StorageError
from esv_ray.extraction import pipeline
from esv_ray.extraction.work import extract
from esv_ray.input.files import list_files
from esv_ray.spec_extract import load_extract_spec
from tests.extraction.conftest import Extract
from tests.support.s3_server import S3Server, client

POISON = "tests.support.backbones:poisonous"


def files_of(table: Path) -> dict[str, bytes]:
    """The content of the committed tables, by their names."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in table.glob("*/*.parquet")}


def red_video(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "bgr0"
        image = np.zeros((32, 32, 3), np.uint8)
        image[..., 0] = 255
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.fixture
def poisoned(clips: Path, tmp_path: Path) -> Path:
    """A folder of 8 videos, one of which is red."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(7):
        (folder / f"v{number}.mp4").write_bytes((clips / "b.mp4").read_bytes())
    red_video(folder / "v4red.mkv")
    return folder


@pytest.mark.parametrize(("poison", "reason"), [("raises", "RuntimeError: poison"), ("nan", "are not finite")])
def test_a_video_on_which_the_backbone_fails_fails_alone(
    poisoned: Path, run: Extract, tmp_path: Path, poison: str, reason: str
) -> None:
    antidote = tmp_path / "antidote"
    options = (f"backbone={POISON}", f"arguments={{poison: {poison}, antidote: {antidote}}}", "frames=3",
               "compute.unit=8")  # fmt: skip
    result = run(poisoned, *options, code=("tests",))
    assert (result.counts.ok, result.counts.failed, result.finished) == (7, 1, True)
    ((video_id, why),) = result.failed
    assert video_id == "v4red"
    assert reason in why
    before = {row["video_id"]: row for row in pq.read_table(tmp_path / "table" / "features").to_pylist()}
    antidote.touch()
    assert run(poisoned, *options, code=("tests",), retry_failed=True).counts.ok == 8
    after = {row["video_id"]: row for row in pq.read_table(tmp_path / "table" / "features").to_pylist()}
    assert {video_id: after[video_id] for video_id in before} == before
    assert after.keys() - before.keys() == {"v4red"}


def test_a_store_that_does_not_answer_costs_no_video(
    clips: Path, run: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlike a file that cannot be decoded: the unit is tried again."""
    encode, tries = pipeline._decode, []

    def unreachable(*arguments: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            put = arguments[3]
            put(StorageError("no answer"))
        else:
            encode(*arguments)

    monkeypatch.setattr(pipeline, "_decode", unreachable)
    result = run(clips)
    assert (result.counts.ok, result.counts.failed, result.finished) == (5, 0, True)
    monkeypatch.undo()
    run(clips, f"output={tmp_path / 'whole'}")
    assert files_of(tmp_path / "table") == files_of(tmp_path / "whole")


def test_features_too_large_for_a_row_fail_their_video(
    clips: Path, run: Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOST_BYTES", 20 * 147 * 4)
    result = run(clips, "frames=all", "compute.batch=4")
    assert (result.counts.ok, result.counts.failed) == (4, 1)
    assert result.failed[0][0] == "c/a"
    assert "ask for fewer frames" in result.failed[0][1]


def test_numbers_beyond_float16_fail_their_video(clips: Path, run: Extract) -> None:
    options = ("backbone=tests.support.backbones:seen", "arguments={std: [1.0e-06, 1.0e-06, 1.0e-06]}", "dtype=float16")
    result = run(clips / "b.mp4", *options, code=("tests",))
    assert result.failed == (("b", "features beyond the range of float16; use --dtype float32"),)


@pytest.mark.slow
def test_a_run_that_is_killed_resumes(clips: Path, tmp_path: Path) -> None:
    """SIGKILL after the first committed unit: the next run leaves it as it is, and makes the table of one run."""
    table, log = tmp_path / "table", tmp_path / "units.jsonl"
    command = [sys.executable, "-m", "esv_ray", "extract", str(clips), "--backbone", "pooled", "--all",
               "--output", str(table), "--actors", "0", "--set", "compute.unit=1", "--log", str(log)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(table.glob("_videos/*.parquet")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in table.glob("_videos/*.parquet")}
    assert kept
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "5 videos: 5 ok" in done.stdout
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept} == kept
    spec = load_extract_spec(None, [f"videos={clips}", "backbone=pooled", "frames=all", "compute.unit=1",
                                    f"output={tmp_path / 'whole'}", "cluster.actors=0"])  # fmt: skip
    extract(spec)
    assert files_of(table) == files_of(tmp_path / "whole")


def test_tables_without_their_plan_are_adopted_or_refused(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, "compute.unit=2")
    whole = files_of(tmp_path / "table")
    (tmp_path / "table" / "run.json").unlink()
    with pytest.raises(JobError, match=r"without a run\.json that does not belong to this extraction"):
        run(clips, "compute.unit=2", "frames=3")
    assert run(clips, "compute.unit=2").resumed_units == 3
    assert files_of(tmp_path / "table") == whole


def test_a_damaged_plan_is_refused_in_one_line(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips / "b.mp4")
    plan = tmp_path / "table" / "run.json"
    text = plan.read_text()
    plan.write_text(text.replace('"unit": 4', '"unit": 2'))
    with pytest.raises(DataError, match="its checksum does not match its content"):
        run(clips / "b.mp4")
    plan.write_text("{")
    with pytest.raises(DataError, match="expected the plan of an extraction"):
        run(clips / "b.mp4")
    plan.write_text('{"format": 4}')
    with pytest.raises(JobError, match="expected an extraction, found the output of other work"):
        run(clips / "b.mp4")
    plan.write_text(text)
    (listed,) = (tmp_path / "table" / "_clips").iterdir()
    listed.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="expected the videos of an extraction"):
        run(clips / "b.mp4")


def test_a_table_that_was_removed_is_reported(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, "compute.unit=2")
    removed = sorted((tmp_path / "table" / "features").iterdir())[1]
    content = removed.read_bytes()
    removed.unlink()
    result = run(clips, "compute.unit=2")
    assert (result.finished, result.resumed_units) == (True, 2)
    assert removed.read_bytes() == content


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_two_actors_write_the_bits_of_this_process(clips: Path, run: Extract, tmp_path: Path) -> None:
    options = ("backbone=tests.support.backbones:convolution", "frames=5", "compute.unit=2", "thumbnails=true")
    result = run(clips, *options, "cluster.actors=2", "compute.decoders=2", code=("tests",))
    assert (result.counts.ok, result.units, result.finished) == (5, 3, True)
    run(clips, *options, f"output={tmp_path / 'whole'}", code=("tests",))
    assert files_of(tmp_path / "table") == files_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_a_video_on_which_the_backbone_dies_fails_alone(poisoned: Path, run: Extract, tmp_path: Path) -> None:
    backbone = (f"backbone={POISON}", f"arguments={{poison: dies, antidote: {tmp_path / 'antidote'}}}")
    options = (*backbone, "frames=5", "compute.unit=3")
    result = run(poisoned, *options, "cluster.actors=2", code=("tests",))
    assert (result.counts.ok, result.counts.failed, result.finished) == (7, 1, True)
    assert result.failed[0][0] == "v4red"
    (tmp_path / "antidote").touch()
    assert run(poisoned, *options, code=("tests",), retry_failed=True).counts.ok == 8
    run(poisoned, *options, f"output={tmp_path / 'whole'}", code=("tests",))
    assert files_of(tmp_path / "table") == files_of(tmp_path / "whole")


def test_from_s3_to_s3(s3: S3Server, clips: Path, run: Extract, tmp_path: Path) -> None:
    fs, root = client(s3), f"{s3.bucket}/extraction"
    for name in ("a", "b"):
        fs.pipe(f"{root}/clips/{name}.mp4", (clips / f"{name}.mp4").read_bytes())
    fs.pipe(f"{root}/clips/empty.mp4", b"")
    fs.pipe(f"{root}/list.csv", b"path,label\nclips/a.mp4,run\nclips/absent.mp4,sit\nclips/b.mp4,sit\n")
    result = run(f"s3://{root}/clips", f"output=s3://{root}/table")
    assert (result.counts.ok, result.counts.failed, result.finished) == (2, 1, True)
    (read,) = list_files(f"s3://{root}/table")
    assert read.url.startswith(f"s3://{root}/table/features/")
    result = run(f"s3://{root}/list.csv", f"output=s3://{root}/listed")
    assert (result.counts.ok, result.failed[0][0], result.finished) == (2, "absent", True)
    assert fs.cat(f"{root}/listed/classes.csv") == b"name,id\nrun,0\nsit,1\n"
    run(f"s3://{root}/list.csv", f"output=s3://{root}/listed", retry_failed=True)
    table = pq.read_table(fs.open(fs.glob(f"{root}/listed/features/*.parquet")[0]))
    assert table.column("label").to_pylist() == [0, 1]
    run(clips / "a.mp4", f"output={tmp_path / 'local'}")
    (local,) = (tmp_path / "local" / "features").iterdir()
    assert table.column("features")[0].as_py() == pq.read_table(local).column("features")[0].as_py()


def test_no_process_is_left(clips: Path, run: Extract) -> None:
    """Decoding processes end with the extraction."""

    def children() -> set[str]:
        return {path.parent.name for path in Path("/proc").glob("[0-9]*/stat")
                if f") S {os.getpid()} " in path.read_text(errors="replace") or f") R {os.getpid()} " in path.read_text(
                    errors="replace")}  # fmt: skip

    before = children()
    run(clips)
    deadline = time.monotonic() + 5
    while children() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children() <= before
