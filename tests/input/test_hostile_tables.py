"""Feature tables that want to do harm: none crashes, hangs, or takes memory without bound; good rows stay good."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError
from esv_ray.input.features import Contract
from esv_ray.input.files import list_files
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.plain import LONGEST_ID
from esv_ray.input.reading import feature_dim_of, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.input.videos import read_videos
from tests.conftest import make_table
from tests.support.feature_tables import read_unit
from tests.support.hostile_tables import ADDRESS_SPACE, BUDGET
from tests.support.parquet_surgery import I32, I64, long_row, put_together, take_apart

LIMIT = 2 * 2**30  # address space; half of it is taken before anything is read


def read_apart(url: Path, budget: int = BUDGET, limit: int = LIMIT) -> list[list[object]]:
    """Read a table's units in a process with little memory: [row, id, label, frames, fault] of every row."""
    program = f"""
import json, resource
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
import pyarrow
pyarrow.set_cpu_count(2)
from esv_ray.input.files import list_files
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.features import Contract
from esv_ray.input.reading import read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
found, reader = [], UnitReader(Contract(3, 4), {budget})
for unit in plan_units(read_footers(list_files({str(url)!r})), "auto"):
    rows = read_rows(unit, reader)
    for row, name in enumerate(rows.ids):
        found.append([row, name, rows.label(row), int(rows.n_frames[row]), rows.faults.get(row)])
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    content: list[list[object]] = json.loads(done.stdout)
    return content


def read_some(path: Path) -> None:
    """The first units of a table."""
    for unit in plan_units(read_footers(list_files(str(path))), "auto")[:3]:
        read_rows(unit, UnitReader(Contract(3, 4), BUDGET))


def one_row_each(rows: int) -> bytes:
    """A table of row groups of a row, each of one frame (1, 1, 1)."""
    features = pa.array([[[1.0, 1.0, 1.0]]] * rows, pa.list_(pa.list_(pa.float32())))
    table = pa.table({"video_id": [f"v{row}" for row in range(rows)], "features": features, "label": [1] * rows})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", row_group_size=1)
    return sink.getvalue()


def run_seeds(first: int, count: int, folder: Path, seconds: float) -> None:
    """Read the tables of some seeds apart from this process."""
    program = [sys.executable, "-m", "tests.support.hostile_tables", str(first), str(count), str(folder)]
    root = Path(__file__).parents[2]
    done = subprocess.run(program, capture_output=True, text=True, errors="replace", timeout=seconds, cwd=root)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}, exit code {done.returncode}: {done.stderr[-3000:]}"
    assert lines[-1].startswith("done")


@pytest.mark.slow
def test_tables_of_some_seeds_do_no_harm(tmp_path: Path) -> None:
    run_seeds(0, 100, tmp_path, 60)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(1_000, 41_000, 1_000))
def test_tables_of_many_seeds_do_no_harm(first: int, tmp_path: Path) -> None:
    """``pytest -m soak tests/input/test_hostile_tables.py``; a failure names its seed."""
    run_seeds(first, 1_000, tmp_path, 600)


@pytest.mark.slow
@pytest.mark.parametrize("message", ["the truth", "a lie"])
def test_an_absurdly_long_video_fails_its_row_group_alone(message: str, tmp_path: Path) -> None:
    """Six thousand million values, 24 GB, in 1.5 kB."""
    parts = take_apart(long_row(one_row_each(3), 2 * 10**9, pages=3))
    if message == "a lie":
        parts.chunk("features").meta[5] = (I64, 3)
    path = tmp_path / "table.parquet"
    path.write_bytes(put_together(parts))
    assert path.stat().st_size < 4000
    first, *others = read_apart(path)
    assert first[:4] == [0, "v0", 1, 0]
    assert "compute.memory_budget is 50000000: write smaller row groups" in str(first[4])
    assert others == [[0, "v1", 1, 1, None], [0, "v2", 1, 1, None]]


@pytest.mark.slow
def test_a_label_of_text_that_one_page_repeats_takes_no_memory(tmp_path: Path) -> None:
    """A dictionary page holds a label of a megabyte, and every row refers to it: 2.2 GB as text."""
    count = 2200
    features = pa.array([[[1.0, 1.0, 1.0]]] * count, pa.list_(pa.list_(pa.float32())))
    labels = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array(["7" * 2**20]))
    table = pa.table({"video_id": [str(row) for row in range(count)], "features": features, "label": labels})
    pq.write_table(table, tmp_path / "table.parquet")
    assert (tmp_path / "table.parquet").stat().st_size < 2**20
    rows = read_apart(tmp_path / "table.parquet")
    assert len(rows) == count
    assert {row[4] for row in rows} == {f"label '{40 * '7'}' is not a class id: expected a whole number"}


def test_null_frames_of_a_large_fixed_size_take_nothing(tmp_path: Path) -> None:
    """Arrow makes 100000 values of each null: 200 MB of 1 kB."""
    size, count = 100_000, 500
    nulls = np.ones(count, bool)
    frames = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(size * count, np.float32)), size, mask=pa.array(nulls))
    table = pa.table({"video_id": ["a"], "features": pa.ListArray.from_arrays([0, count], frames)})
    pq.write_table(table, tmp_path / "table.parquet")
    del table, frames
    before = pa.default_memory_pool().bytes_allocated()
    (unit,) = plan_units(read_footers(list_files(str(tmp_path))), "auto")
    rows = read_rows(unit, UnitReader(Contract(size, 4), 1_000_000))
    assert rows.faults == {0: "frame 0 is null"}
    assert pa.default_memory_pool().bytes_allocated() - before < 1_000_000


@pytest.mark.slow
def test_a_dictionary_of_one_number_in_a_large_video(tmp_path: Path) -> None:
    """As pyarrow writes it: 80 MB of zeros in 240 kB."""
    values = pa.array(np.zeros(20_000_000, np.float32))
    features = pa.ListArray.from_arrays([0, 20_000_000 // 3], pa.FixedSizeListArray.from_arrays(values[:-2], 3))
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"video_id": ["long"], "features": features}), path)
    assert path.stat().st_size < 300_000
    (row,) = read_apart(path, 300_000_000)
    assert "memory" in str(row[4])
    (row,) = read_apart(path, 500_000_000)
    assert row[3:] == [6_666_666, None]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["dictionary", "DELTA_BYTE_ARRAY", "PLAIN"])
def test_absurdly_long_ids(encoding: str, tmp_path: Path) -> None:
    """An id of 1 MB in each of 2500 rows: 2.6 GB, in 2 GB."""
    rows = 2_500 if encoding != "PLAIN" else 200
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 2**20]))
    features = pa.array([[[1.0, 1.0, 1.0]]] * rows, pa.list_(pa.list_(pa.float32())))
    path = tmp_path / "table.parquet"
    options = {"use_dictionary": ["video_id"], "dictionary_pagesize_limit": 2**22}
    if encoding != "dictionary":
        ids = ids[:rows].cast(pa.string()) if encoding == "PLAIN" else pa.array(["x" * 2**20] * 100)
        features = features[: len(ids)]
        options = {"use_dictionary": False, "column_encoding": {"video_id": encoding}}
    pq.write_table(pa.table({"video_id": ids, "features": features}), path, compression="zstd", **options)
    assert path.stat().st_size < 3_000_000
    for _, video_id, _, _, fault in read_apart(path, 20_000_000 if encoding == "PLAIN" else BUDGET):
        assert video_id == ""
        assert "longer than 4096 bytes" in str(fault) or "the ids of its row group" in str(fault)


def test_ids_up_to_the_limit_are_kept(tmp_path: Path) -> None:
    ids = ["x" * LONGEST_ID, "y" * (LONGEST_ID + 1), "é" * (LONGEST_ID // 2), "z"]
    table = make_table([1] * 4, feature_dim=3).set_column(0, "video_id", pa.array(ids))
    pq.write_table(table, tmp_path / "table.parquet")
    (unit,) = plan_units(read_footers(list_files(str(tmp_path))), "auto")
    rows = read_rows(unit, UnitReader(Contract(3, 4)))
    assert rows.ids == [ids[0], "", ids[2], "z"]
    assert rows.faults == {1: "video_id is longer than 4096 bytes"}


@pytest.mark.parametrize("name", ["video_id", "features", "label"])
@pytest.mark.parametrize("rows", [0, 2, 10**6, 10**12, 2**62])
def test_a_footer_that_lies_about_rows_is_refused(rows: int, name: str, tmp_path: Path) -> None:
    parts = take_apart(one_row_each(1))
    parts.row_group()[3] = (I64, rows)
    parts.footer[3] = (I64, rows)
    parts.chunk(name).meta[5] = (I64, rows)
    path = tmp_path / "table.parquet"
    path.write_bytes(put_together(parts))
    if not rows:
        assert not plan_units(read_footers(list_files(str(path))), "auto")
        return
    with pytest.raises(DataError):
        read_some(path)


@pytest.mark.slow
def test_meta_data_of_which_pyarrow_dies(tmp_path: Path) -> None:
    """Histograms of the wrong length: pyarrow 26 ends the process when such a chunk is asked for."""
    parts = take_apart(one_row_each(1))
    for chunk in parts.groups[0]:
        sizes = chunk.meta[16][1]
        for field, (kind, value) in list(sizes.items()):
            if kind == 9:
                sizes[field] = (kind, (value[0], [*value[1], 1]))
    path = tmp_path / "table.parquet"
    path.write_bytes(put_together(parts))
    program = f"from tests.support.hostile_tables import meet; print(meet({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("field", [2, 3])
def test_a_page_that_lies_about_its_size_is_refused(field: int, tmp_path: Path) -> None:
    parts = take_apart(one_row_each(1))
    for page in parts.chunk("features").pages:
        page.header[field] = (I32, 2**31 - 1)
    path = tmp_path / "table.parquet"
    path.write_bytes(put_together(parts, fix_sizes=False))
    ((_, video_id, _, _, fault),) = read_apart(path)
    assert video_id == "v0"
    assert "memory_budget" in str(fault)


def test_a_budget_changes_no_row_that_it_allows(features: str) -> None:
    for unit in plan_units(read_footers(list_files(features)), 7):
        free, held = (read_rows(unit, UnitReader(Contract(4, 3), budget)) for budget in (None, 100_000))
        assert free.ids == held.ids
        assert not held.faults
        for row in free.valid.tolist():
            places = np.arange(free.n_frames[row])[None]
            np.testing.assert_array_equal(
                free.features(np.array([row]), places), held.features(np.array([row]), places)
            )


def test_a_budget_too_small_for_a_row_group_fails_its_rows(features: str) -> None:
    for unit in plan_units(read_footers(list_files(features)), 7):
        rows = read_rows(unit, UnitReader(Contract(4, 3), 5_000))
        free = read_rows(unit, UnitReader(Contract(4, 3)))
        assert rows.ids == free.ids
        assert rows.labels.tolist() == free.labels.tolist()
        assert list(rows.faults) == list(range(unit.rows)) or not rows.faults


def test_units_read_in_any_order_are_the_same(features: str) -> None:
    units = plan_units(read_footers(list_files(features)), 3)
    forwards = {unit.index: read_unit(unit)[0] for unit in units}
    for unit in [*reversed(units), *units[::2], *units[::-3]]:
        assert read_unit(unit)[0].equals(forwards[unit.index])


def test_videos_are_read_within_the_budget(tmp_path: Path) -> None:
    pq.write_table(make_table([1000] * 20), tmp_path / "table.parquet", row_group_size=1)  # 320 kB
    assert len(read_videos(str(tmp_path), budget=400_000)[0]) == 20
    with pytest.raises(DataError, match="the memory available; use fewer videos"):
        read_videos(str(tmp_path), budget=200_000)


def test_the_feature_size_is_not_looked_for_in_an_absurd_row_group(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(long_row(one_row_each(2), 2 * 10**9))
    assert feature_dim_of(read_footers(list_files(str(path))), BUDGET) == 3


def test_more_units_than_a_plan_may_have(tmp_path: Path) -> None:
    parts = take_apart(one_row_each(1))
    parts.row_group()[3] = (I64, 10**15)
    (tmp_path / "table.parquet").write_bytes(put_together(parts))
    with pytest.raises(DataError, match="expected at most 1000000 units"):
        plan_units(read_footers(list_files(str(tmp_path))), "auto")
    assert read_footers(list_files(str(tmp_path)))[0].groups[0].rows == 10**15


def test_the_limit_of_the_program_is_above_what_is_taken_before() -> None:
    assert ADDRESS_SPACE > LIMIT
