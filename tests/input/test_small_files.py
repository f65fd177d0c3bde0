"""Units of several small files: the same rows as file by file, and a broken file costs no others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError
from esv_ray.input import units as units_module
from esv_ray.input.features import Contract, FeatureRows
from esv_ray.input.files import list_files
from esv_ray.input.merging import MERGE, merge_advice
from esv_ray.input.parquet import footers as footers_module
from esv_ray.input.parquet import opening
from esv_ray.input.parquet.footers import Footer
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import Unit, plan_units

DIM = 3
CONTRACT = Contract(DIM, 5)
FILES = 40


@pytest.fixture(autouse=True)
def few_units_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_module, "_MANY_UNITS", 8)


def write(path: Path, number: int) -> None:
    """One or two videos, in one of the types that a table may mix; every fifth file is broken in one row."""
    rng = np.random.default_rng(number)
    counts = [1 + number % 3, 2][: 1 + number % 2]
    frames = [rng.standard_normal((count, DIM)).round(3).tolist() for count in counts]
    if number % 5 == 0:
        frames[0][0] = [0.0]
    kind = (pa.float32(), pa.float16(), pa.float64())[number % 3]
    columns = {
        "video_id": pa.array([f"v{number}-{row}" for row in range(len(counts))]),
        "features": pa.array(
            [[np.array(f, kind.to_pandas_dtype()) for f in video] for video in frames], pa.list_(pa.list_(kind))
        ),
    }
    if number % 4:
        columns["frame_index"] = pa.array([[7 * place for place in range(count)] for count in counts])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(FILES):
        write(tmp_path / "t" / f"label={number % 3}" / f"{number:03}.parquet", number)
    return tmp_path / "t"


def footers_of(table: Path) -> list[Footer]:
    return read_footers(list_files(str(table)))


def described(rows: FeatureRows) -> list[object]:
    """All that a job takes from rows, row by row."""
    told: list[object] = []
    for row, video_id in enumerate(rows.ids):
        values = None
        if row not in rows.faults:
            places = np.arange(rows.n_frames[row], dtype=np.int64)[None]
            index = np.array([row])
            values = rows.features(index, places).tolist(), rows.frame_index(index, places).tolist()
        told.append((video_id, rows.label(row), int(rows.n_frames[row]), rows.faults.get(row), values))
    return told


def test_units_of_several_files_hold_the_rows_of_the_table_once_and_in_order(table: Path) -> None:
    footers = footers_of(table)
    joined, apart = plan_units(footers, 24, across_files=True), plan_units(footers, 24)
    assert [rows for unit in joined for rows in unit.ranges] == [rows for unit in apart for rows in unit.ranges]
    assert [unit.index for unit in joined] == list(range(len(joined)))
    assert len(joined) == len({unit.name for unit in joined}) == 3
    assert max(unit.rows for unit in joined) <= 24
    assert len({(unit.input, unit.covers) for unit in joined}) == 3


def test_few_units_or_larger_files_are_left_as_they_are(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the plans of most tables, and the names of their units, are those of older versions."""
    footers = footers_of(table)
    assert plan_units(footers, 8, across_files=True) == plan_units(footers, 8)
    monkeypatch.setattr(units_module, "_MANY_UNITS", 512)
    assert plan_units(footers, "auto", across_files=True) == plan_units(footers, "auto")


def test_a_unit_has_no_more_values_than_memory_takes(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_module, "_MOST_VALUES", 30)
    joined = plan_units(footers_of(table), 24, across_files=True)
    assert len(joined) > 3
    for unit in joined:
        rows = read_rows(unit, UnitReader(CONTRACT))
        assert len(unit.ranges) == 1 or int(rows.n_frames.sum()) * DIM <= 30


def test_rows_are_the_same_together_and_file_by_file(table: Path) -> None:
    """Over mixed types, labels that folders name, frame numbers that some files lack, and broken rows."""
    footers = footers_of(table)
    joined, apart = plan_units(footers, 24, across_files=True), plan_units(footers, 24)
    reader = UnitReader(CONTRACT)
    together = [row for unit in joined for row in described(read_rows(unit, reader))]
    assert together == [row for unit in apart for row in described(read_rows(unit, reader))]
    assert sum(row[3] is not None for row in together) == FILES // 5  # type: ignore[index]


def test_footers_do_not_depend_on_those_that_were_read_before(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a schema says is kept for files that have the same, and its bytes are passed over."""
    files = list_files(str(table))
    together = read_footers(files)
    alone = []
    for file in files:
        monkeypatch.setattr(footers_module, "_known", {})
        alone += read_footers([file])
    assert together == alone
    assert [footer.file.footer for footer in together] == [footer.file.footer for footer in alone]
    monkeypatch.setattr(footers_module, "_MOST_KNOWN", 1)
    assert read_footers(files[::-1]) == alone[::-1]


def test_files_are_counted_while_their_footers_are_read(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_TOGETHER", 2)
    monkeypatch.setattr(opening, "READERS", 3)
    told: list[tuple[int, int]] = []
    read_footers(list_files(str(table)), lambda done, total: told.append((done, total)))
    assert told == [(min(done, FILES), FILES) for done in range(6, FILES + 6, 6)]


def small(folder: Path, frames: int = 1) -> list[Unit]:
    """Units of a table of twelve files of one video."""
    for number in range(12):
        features = pa.array([[[float(number)] * DIM] * frames], pa.list_(pa.list_(pa.float32())))
        pq.write_table(pa.table({"video_id": [f"v{number}"], "features": features}), folder / f"{number:02}.parquet")
    return plan_units(read_footers(list_files(str(folder))), 16, across_files=True)


def test_a_file_that_is_broken_fails_its_videos_alone(tmp_path: Path) -> None:
    path = tmp_path / "05.parquet"
    small(tmp_path)
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56  # the first pages; the footer is whole
    path.write_bytes(data)
    (unit,) = plan_units(read_footers(list_files(str(tmp_path))), 16, across_files=True)
    rows = read_rows(unit, UnitReader(CONTRACT))
    assert list(rows.faults) == [5]
    assert rows.faults[5].startswith(f"its file cannot be read: {path}, row group 0")
    assert rows.features(np.array([4, 6]), np.zeros((2, 1), int))[:, 0, 0].tolist() == [4, 6]


def test_a_file_that_changed_refuses_the_unit(tmp_path: Path) -> None:
    """It may be put back: no result must say that its video failed."""
    (unit,) = small(tmp_path)
    shutil.copyfile(tmp_path / "04.parquet", tmp_path / "05.parquet")
    with pytest.raises(DataError, match=r"05\.parquet: changed since the job was planned"):
        read_rows(unit, UnitReader(CONTRACT))


def test_an_id_of_two_files_of_a_unit_counts_once(tmp_path: Path) -> None:
    small(tmp_path)
    shutil.copyfile(tmp_path / "02.parquet", tmp_path / "07.parquet")
    (unit,) = plan_units(read_footers(list_files(str(tmp_path))), 16, across_files=True)
    assert read_rows(unit, UnitReader(CONTRACT)).faults == {
        7: "video_id is repeated: it stands in an earlier file of the same unit"
    }


def test_the_files_of_a_unit_take_no_more_than_the_budget_together(tmp_path: Path) -> None:
    """Footers may promise fewer values than pages hold, so the plan alone bounds nothing."""
    (unit,) = small(tmp_path, frames=200)
    assert not read_rows(unit, UnitReader(CONTRACT, 100_000)).faults
    refused = read_rows(unit, UnitReader(CONTRACT, 20_000)).faults
    assert 4 < min(refused) < 11
    assert list(refused) == list(range(min(refused), 12))
    assert all("the files before it in its unit" in why for why in refused.values())


def test_the_advice_merges_the_files(tmp_path: Path) -> None:
    """Its command is run as a user would, and makes the same rows."""
    (tmp_path / "in").mkdir()
    units = small(tmp_path / "in")
    footers = footers_of(tmp_path / "in")
    assert merge_advice(footers, "in", most=100) is None
    advice = merge_advice(footers, str(tmp_path / "in"), most=8)
    assert advice is not None
    assert advice.startswith("12 files of 1 video on average")
    command = MERGE.format(features=tmp_path / "in", merged=tmp_path / "out")
    assert MERGE.format(features=tmp_path / "in", merged=f"{tmp_path / 'in'}-merged") in advice
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
    merged = plan_units(footers_of(tmp_path / "out"), "auto")
    reader = UnitReader(CONTRACT)
    made, given = ([row for unit in of for row in described(read_rows(unit, reader))] for of in (merged, units))
    assert sorted(made, key=repr) == sorted(given, key=repr)
