"""The files of a unit on storage: once, whole, and matching each other, whoever else is at it."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esv_ray import storage
from esv_ray.errors import DataError, JobError
from esv_ray.input.files import InputFile
from esv_ray.output import publish
from esv_ray.output.commits import commit_unit
from esv_ray.output.committed import committed_units, is_committed, read_mark
from esv_ray.output.computed import InputRows, Missing
from esv_ray.output.layout import FOLDERS, table_url, videos_url
from esv_ray.output.origin import Origin
from esv_ray.output.results import UnitTables, unit_tables
from esv_ray.output.retried import with_retried
from esv_ray.output.unit_files import UnitCounts, UnitFiles, unit_files
from tests.support.results import computed
from tests.support.units import one_range

UNIT = one_range(0, InputFile("s3://bucket/features/a.parquet", 1000, "etag", "footer"), 0, 0, 3, 0)
ORIGIN = Origin("job", "footer", UNIT.covers)
INPUTS = InputRows(["a", "b", "c"], np.zeros(3, np.int32), np.zeros(3, bool), np.array([4, 4, 4], np.int32))


def tables_of(failed: list[int]) -> UnitTables:
    """A unit of three videos, some of which failed."""
    good = [row for row in range(3) if row not in failed]
    done = [computed(2, [row], [[row]], seed=row, stderr=False) for row in good]
    return unit_tables(INPUTS, done, [Missing(row, 2, "failed", "why") for row in failed], FOLDERS)


def files_of(failed: list[int], *, job: str = "job") -> UnitFiles:
    """Its files."""
    return unit_files(tables_of(failed), 3, Origin(job, "footer", UNIT.covers))


def commit(output: str, failed: list[int]) -> UnitCounts:
    """Commit it as a run of the job does."""
    return commit_unit(output, UNIT, "job", tables_of(failed))


@pytest.fixture(params=["disk", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


def committed(output: str) -> dict[str, bytes]:
    return {folder: storage.read_bytes(table_url(output, folder, UNIT), "read") for folder in FOLDERS}


def whole(files: UnitFiles) -> dict[str, bytes]:
    return {"videos": files.videos, **files.tables}


def left(output: str, files: UnitFiles) -> None:
    """Leave what a run leaves that is killed before it writes the mark: all other tables."""
    for folder, data in files.tables.items():
        storage.commit_new(table_url(output, folder, UNIT), data, "write")


def test_a_unit_is_done_when_its_videos_are_there(output: str) -> None:
    files = files_of([1])
    left(output, files)
    assert (committed_units(output, [UNIT], FOLDERS), is_committed(output, UNIT, FOLDERS)) == ([], False)
    assert commit(output, [1]) == files.footer.counts
    assert (committed_units(output, [UNIT], FOLDERS), is_committed(output, UNIT, FOLDERS)) == ([UNIT], True)
    assert committed(output) == whole(files)
    assert videos_url(output, UNIT) == f"{output}/videos/{UNIT.name}"
    assert table_url(output, "attributions", UNIT) == f"{output}/attributions/{UNIT.name}"
    footer = read_mark(output, UNIT, "job")
    assert (footer.counts.failed, footer.failed, footer.origin) == (1, (1,), ORIGIN)
    assert footer.checksums["attributions"] == hashlib.sha256(files.tables["attributions"]).hexdigest()


def test_committing_a_unit_again_changes_nothing(output: str) -> None:
    commit(output, [])
    commit(output, [1])
    assert committed(output) == whole(files_of([]))


def test_attributions_that_another_run_left_without_a_mark_are_replaced(output: str) -> None:
    """It had left a video out, and was killed between the two files."""
    left(output, files_of([1]))
    commit(output, [])
    assert committed(output) == whole(files_of([]))


def test_replacing_a_unit(output: str) -> None:
    commit(output, [1])
    commit_unit(output, UNIT, "job", tables_of([]), again=True)
    assert committed(output) == whole(files_of([]))


def test_what_fails_again_changes_nothing(output: str) -> None:
    commit(output, [1])
    again = unit_tables(INPUTS, [], [Missing(1, 2, "failed", "why")], FOLDERS)
    merged = with_retried(output, UNIT, again, INPUTS.ids, [1])
    assert commit_unit(output, UNIT, "job", merged, again=True) == files_of([1]).footer.counts
    assert committed(output) == whole(files_of([1]))


def test_a_mark_that_is_not_ours_is_refused(output: str) -> None:
    storage.replace(videos_url(output, UNIT), b"torn", "write")
    with pytest.raises(DataError, match="not readable as Parquet"):
        read_mark(output, UNIT, "job")


def test_files_of_another_job_are_refused_and_stay(output: str) -> None:
    """Two jobs on the same features give files of the same names (issue 15)."""
    other = files_of([], job="another")
    left(output, other)
    refused = r"part-\S+: expected a file of this job \(job\), got .* \(another\)"
    with pytest.raises(JobError, match=f"attributions/{refused}"):
        commit(output, [])
    storage.commit_new(videos_url(output, UNIT), other.videos, "write")
    with pytest.raises(JobError, match=f"videos/{refused}"):
        commit(output, [])
    assert committed(output) == whole(other)


def test_a_torn_file_without_a_mark_is_replaced(output: str) -> None:
    storage.replace(table_url(output, "attributions", UNIT), b"torn", "write")
    commit(output, [])
    assert committed(output) == whole(files_of([]))


@pytest.mark.parametrize("failed", [[], [1]], ids=["the same", "another"])
def test_a_mark_whose_attributions_were_removed(output: str, failed: list[int]) -> None:
    """Both files belong together afterwards, also where the mark was of attributions that nobody has any more."""
    commit(output, [1])
    storage.remove(table_url(output, "attributions", UNIT), "remove")
    assert committed_units(output, [UNIT], FOLDERS) == []
    commit(output, failed)
    assert committed(output) == whole(files_of(failed))


def test_what_is_tried_again_takes_its_place_and_the_rest_stays(output: str) -> None:
    """Row 1 failed and is well now: the same bytes as if it had never failed."""
    commit(output, [1])
    again = unit_tables(INPUTS, [computed(2, [1], [[1]], seed=1, stderr=False)], [], FOLDERS)
    merged = with_retried(output, UNIT, again, INPUTS.ids, [1])
    assert commit_unit(output, UNIT, "job", merged, again=True) == files_of([]).footer.counts
    assert committed(output) == whole(files_of([]))


def test_a_row_that_repeats_an_id_fails_again_and_leaves_the_first_alone(output: str) -> None:
    inputs = InputRows(["a", "a", ""], INPUTS.labels, INPUTS.labelled, INPUTS.n_frames)
    missing = [Missing(1, 2, "failed", "repeated"), Missing(2, 2, "failed", "empty")]
    whole = unit_tables(inputs, [computed(2, [0], [[1]], seed=0, stderr=False)], missing, FOLDERS)
    commit_unit(output, UNIT, "job", whole)
    before = committed(output)
    merged = with_retried(output, UNIT, unit_tables(inputs, [], missing, FOLDERS), inputs.ids, [1, 2])
    commit_unit(output, UNIT, "job", merged, again=True)
    assert committed(output) == before


# Two runs at once -----------------------------------------------------------------------------------------------------


class Turns:
    """Lets two threads do one storage operation at a time, in a given order."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self.order = list(order)
        self.there = {"A", "B"}
        self.changed = threading.Condition()

    def take(self, driver: str) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self._next() == driver, timeout=30)

    def give(self) -> None:
        with self.changed:
            if self.order:
                self.order.pop(0)
            self.changed.notify_all()

    def leave(self, driver: str) -> None:
        with self.changed:
            self.there.discard(driver)
            self.changed.notify_all()

    def _next(self) -> str | None:
        self.order = [driver for driver in self.order if driver in self.there] or sorted(self.there)
        return self.order[0] if self.order else None


class Stepped:
    """The storage as one of them sees it; a killed one stops before an operation."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            self.turns.take(threading.current_thread().name)
            try:
                return getattr(storage, name)(*arguments)
            finally:
                self.turns.give()

        return step


def orders(steps: int) -> Iterator[tuple[str, ...]]:
    for places in combinations(range(2 * steps), steps):
        yield tuple("A" if place in places else "B" for place in range(2 * steps))


@pytest.mark.slow
def test_of_two_runs_that_disagree_one_wins_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One leaves a video out that the other could do. In every order of their steps both files are of one of them."""
    failed = {"A": [1], "B": list[int]()}
    contents = {who: files_of(rows) for who, rows in failed.items()}
    winners = set()
    for number, order in enumerate(orders(4)):
        output = str(tmp_path / str(number))
        turns = Turns(order)
        monkeypatch.setattr(publish, "storage", Stepped(turns))

        def work(output: str = output, turns: Turns = turns) -> None:
            driver = threading.current_thread().name
            try:
                commit(output, failed[driver])
            finally:
                turns.leave(driver)

        threads = [threading.Thread(target=work, name=driver) for driver in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        monkeypatch.undo()
        committed_files = committed(output)
        (winner,) = [driver for driver, files in contents.items() if files.videos == committed_files["videos"]]
        assert committed_files == whole(contents[winner]), order
        winners.add(winner)
    assert winners == {"A", "B"}
