"""Progress without a terminal: a line every ten seconds, with rate, counts and the time left."""

from __future__ import annotations

import pytest

from esv_ray.cli import progress
from esv_ray.job.progress import Progress
from esv_ray.job.run import Silence
from esv_ray.job.work import RowCounts


def test_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr("esv_ray.cli.progress.time.monotonic", lambda: now[0])
    counts = RowCounts(rows=50, ok=48, failed=2)
    with progress.job_progress() as report:
        for second in range(35):
            now[0] = float(second)
            report(
                Progress(
                    total=1000,
                    resumed=100,
                    counts=counts,
                    actors=2,
                    seconds=10.0,
                    read_s=1.0,
                    compute_s=18.0,
                    commit_s=1.0,
                )
            )
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines
        == ["150/1000 videos, 5.0 videos/s, 2 failed, 2 actors 90% busy, read 5% compute 90% write 5%, ETA 0:02:50"] * 3
    )


def test_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_EVERY_S", -1.0)
    with progress.job_progress() as report:
        report(Progress(total=10, resumed=0))
        assert capsys.readouterr().err == "0/10 videos, starting actors\n"
        report(Progress(total=10, resumed=0, waiting_for="a node with 8 cores"))
    assert capsys.readouterr().err == "0/10 videos, waiting for a node with 8 cores\n"
    with progress.job_progress() as report:
        report(Progress(total=0, resumed=0, stage="checking the input"))
        assert capsys.readouterr().err == "checking the input\n"
        report(Progress(total=0, resumed=0, stage="checking the input", stage_done=512, stage_total=50_001))
        assert capsys.readouterr().err == "checking the input: 512/50001 files of features\n"
        report(Progress(total=10, resumed=0, actors=2, stage="2 actors preparing the estimator for 64 elements"))
    assert ", 2 actors 0% busy, 2 actors preparing the estimator for 64 elements, ETA -" in capsys.readouterr().err


def test_files_of_a_plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report = progress.file_progress()
    report(1, 50_001)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_EVERY_S", -1.0)
    report(512, 50_001)
    assert capsys.readouterr().err == "512/50001 files of features read\n"


def test_silent_actors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_EVERY_S", -1.0)
    counts = RowCounts(rows=50, ok=50)
    silence = Silence(1, 60.0, 600.0).describe(100.0)
    for busy, left in ((1, "ETA -"), (2, "ETA 0:00:10")):
        with progress.job_progress() as report:
            report(
                Progress(
                    100, 0, counts=counts, actors=2, busy_actors=busy, seconds=10.0, silence=silence, silent_actors=1
                )
            )
        stdout = capsys.readouterr().err
        assert stdout.endswith(f", 2 actors 0% busy, 1 actor silent for 40 s (ended after 600 s), {left}\n")
