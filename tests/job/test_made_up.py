"""A job knows nothing of what it runs: a made-up work survives the faults that attributions survive."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from esv_ray import storage
from esv_ray.errors import StorageError
from esv_ray.job.driver import run_work
from esv_ray.job.on_ray.runtime import ray_runtime
from esv_ray.job.progress import Progress
from esv_ray.job.progress_record import ProgressRecord, read_progress
from esv_ray.job.result import JobResult
from esv_ray.output.publish import checksum
from esv_ray.spec import ClusterSpec
from tests.job.made_up import DIES, HANGS, RAISES, Squares
from tests.support.killed import Killed, Mortal
from tests.support.processes import actor_pids

pytestmark = pytest.mark.xdist_group("jobs")

POISON = {3: DIES, 5: RAISES, 8: HANGS, 9: RAISES}


@pytest.fixture(scope="module")
def runtime() -> Iterator[None]:
    with ray_runtime(ClusterSpec(actors=3), 1):
        yield


def squares(folder: Path, actors: int = 0, **changes: object) -> Squares:
    cluster = ClusterSpec(actors=actors, stall_timeout=5.0)
    return Squares(str(folder / "out"), cluster, folder / "antidote", **changes)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    out = folder / "out"
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.json"))}


@pytest.fixture
def clean(tmp_path: Path) -> dict[str, bytes]:
    """The files of an undisturbed run."""
    (tmp_path / "clean").mkdir()
    assert run_work(squares(tmp_path / "clean")).exit_code == 0
    found = files(tmp_path / "clean")
    assert len(found) == 3 * 5
    return found


def test_same_bits_for_any_number_of_actors(runtime: None, tmp_path: Path, clean: dict[str, bytes]) -> None:
    seen: list[Progress] = []
    result = run_work(squares(tmp_path, actors=3), seen.append)
    assert (result.exit_code, result.finished, result.counts.ok) == (0, True, 40)
    assert (seen[0].units_done, seen[-1].units_done, seen[-1].total) == (0, 5, 40)
    assert files(tmp_path) == clean
    found = read_progress(str(tmp_path / "out"))
    assert found is not None
    assert isinstance(found[1], ProgressRecord)
    assert (found[1].state, found[1].videos.done) == ("done", 40)
    assert run_work(squares(tmp_path, actors=3)).resumed_units == 5


@pytest.mark.slow
def test_poison_costs_its_rows_and_they_can_be_computed_again(runtime: None, tmp_path: Path) -> None:
    """One kills its process, one raises, one hangs, and one beside that one raises: they fail, nothing else does."""
    small: dict[str, Any] = {"numbers": 12, "rows": 2, "max_failed": 0.4}
    (tmp_path / "clean").mkdir()
    assert run_work(squares(tmp_path / "clean", **small)).exit_code == 0
    result = run_work(squares(tmp_path, actors=2, poison=POISON, **small))
    assert (result.counts.ok, result.counts.failed, result.exit_code, result.quarantined) == (8, 4, 0, {})
    marks = {int(name.split("/")[1][:3]): json.loads(data) for name, data in files(tmp_path).items() if "marks" in name}
    assert {2 * unit + row for unit, mark in marks.items() for row in mark["failed"]} == set(POISON)
    (tmp_path / "antidote").touch()
    result = run_work(squares(tmp_path, poison=POISON, **small), retry_failed=True)
    assert (result.counts.ok, result.resumed_units, result.exit_code) == (12, 3, 0)
    assert files(tmp_path) == files(tmp_path / "clean")


def test_actors_that_are_killed_are_replaced(runtime: None, tmp_path: Path, clean: dict[str, bytes]) -> None:
    killed: set[int] = set()

    def kill_one(progress: Progress) -> None:
        for pid in sorted(actor_pids() - killed)[: 2 - len(killed)]:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)

    result = run_work(squares(tmp_path, actors=2), kill_one)
    assert (result.exit_code, result.quarantined, len(killed)) == (0, {}, 2)
    assert files(tmp_path) == clean


def test_killed_at_any_write(tmp_path: Path, clean: dict[str, bytes]) -> None:
    """Before and after every write, of two tables and the mark of each unit; then run again."""
    for place in range(1, 1 + 3 * 5):
        for done in (False, True):
            folder = tmp_path / f"{place}-{done}"
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                Mortal(patch, place, done=done)
                with pytest.raises(Killed):
                    run_work(squares(folder))
            assert run_work(squares(folder)).exit_code == 0
            assert files(folder) == clean, (place, done)


def test_two_runs_that_had_to_leave_out_different_rows(tmp_path: Path) -> None:
    """The mark that comes first decides which tables belong to it, all of them."""
    first = squares(tmp_path, poison={3: RAISES})
    overtaken: list[JobResult] = []
    commit_new: Callable[..., bool] = storage.commit_new

    def slow(url: str, *arguments: object) -> bool:
        if "marks" in url:
            storage.commit_new = commit_new
            overtaken.append(run_work(squares(tmp_path)))
        return commit_new(url, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "commit_new", slow)
        run_work(first)
    assert overtaken[0].counts.ok == 40
    assert run_work(squares(tmp_path)).exit_code == 0
    found = files(tmp_path)
    for unit in first.units:
        sums = first.mark(unit)["sums"]
        assert [checksum(found[f"{table}/{unit.name}"]) for table in ("rows", "squares")] == list(map(str, sums))


@pytest.mark.slow
def test_transient_storage_faults_are_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: dict[str, bytes]
) -> None:
    faults = [StorageError("503")] * 3
    commit_new: Callable[..., bool] = storage.commit_new

    def faulty(url: str, *arguments: object) -> bool:
        if faults:
            raise faults.pop()
        return commit_new(url, *arguments)

    monkeypatch.setattr("esv_ray.job.scheduling.scheduler._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(storage, "commit_new", faulty)
    assert run_work(squares(tmp_path)).exit_code == 0
    assert files(tmp_path) == clean
