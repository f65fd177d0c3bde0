"""Files of a feature table, their partition into units, and the reading of a unit."""

from __future__ import annotations

import io
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.spec import AbstractFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.features import Contract
from esv_ray.input.files import InputFile, list_files
from esv_ray.input.parquet.footers import has_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import feature_dim_of, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import Unit, plan_units
from esv_ray.input.videos import VideoRequest, read_videos
from esv_ray.storage.transport import requests
from tests.conftest import make_table
from tests.support.feature_tables import read_unit
from tests.support.units import one_range, only

LIST = pa.list_(pa.list_(pa.float32()))
BUDGET = 10**9


def file_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=row_group_size)
    return sink.getvalue()


def put(url: str, table: pa.Table, row_group_size: int | None = None) -> str:
    """Write the table; where it is."""
    storage.replace(url, file_bytes(table, row_group_size), "write a test's table")
    return url


def tiny(rows: int, start: int = 0) -> pa.Table:
    """Many rows of one frame of one number, its own."""
    numbers = pa.array(np.arange(start, start + rows, dtype=np.float32))
    frames = pa.FixedSizeListArray.from_arrays(numbers, 1)
    features = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), frames)
    ids = pa.array([f"v{row}" for row in range(start, start + rows)], pa.string())
    return pa.table({"video_id": ids, "features": features})


def without_sizes(table: pa.Table) -> pa.Table:
    """The table with features of the type list<list<float>>."""
    place = table.schema.get_field_index("features")
    return table.set_column(place, "features", table.column("features").cast(LIST))


@pytest.fixture(params=["disk", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty location on each kind of storage."""
    if request.param == "disk":
        return str(tmp_path / "place")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return f"s3://{request.getfixturevalue('s3').bucket}/{uuid.uuid4().hex}"


def names(files: list[InputFile], below: str) -> list[str]:
    """The files' paths below a folder."""
    root = storage.open_location(below)[1].rstrip("/") + "/"
    paths = [storage.open_location(file.url)[1] for file in files]
    assert all(path.startswith(root) for path in paths), (root, paths)
    return [path.removeprefix(root) for path in paths]


# list_files -----------------------------------------------------------------------------------------------------------


def test_one_file(place: str) -> None:
    url = put(f"{place}/any.name", tiny(3))
    (file,) = list_files(url)
    assert names([file], place) == ["any.name"]
    assert file.size == len(file_bytes(tiny(3)))
    assert file.version


def test_a_directory_with_others_inside_it(place: str) -> None:
    for name in ("b.parquet", "a.parquet", "deep/down/c.parquet", "deep/d.pq"):
        put(f"{place}/{name}", tiny(1))
    for name in (
        "_SUCCESS",
        "_hidden.parquet",
        ".part.parquet",
        "_old/e.parquet",
        ".tmp/f.parquet",
        "deep/_g/h.parquet",
    ):
        put(f"{place}/{name}", tiny(1))
    for name in ("notes.txt", "parquet", "i.parquet.crc"):
        storage.replace(f"{place}/{name}", b"something else", "write")
    expected = ["a.parquet", "b.parquet", "deep/d.pq", "deep/down/c.parquet"]
    assert names(list_files(place), place) == expected
    assert names(list_files(f"{place}/"), place) == expected
    assert list_files(place) == list_files(place)


def test_a_hidden_directory_that_is_asked_for(place: str) -> None:
    put(f"{place}/_staging/a.parquet", tiny(1))
    assert names(list_files(f"{place}/_staging"), place) == ["_staging/a.parquet"]


def test_a_glob(place: str) -> None:
    for name in ("x-2.parquet", "x-1.parquet", "y-1.parquet", "deep/x-3.parquet", "_x-4.parquet"):
        put(f"{place}/{name}", tiny(1))
    assert names(list_files(f"{place}/x-*.parquet"), place) == ["x-1.parquet", "x-2.parquet"]
    assert names(list_files(f"{place}/?-1.parquet"), place) == ["x-1.parquet", "y-1.parquet"]
    assert names(list_files(f"{place}/x-[1].parquet"), place) == ["x-1.parquet"]
    assert names(list_files(f"{place}/**/x-*.parquet"), place) == ["deep/x-3.parquet", "x-1.parquet", "x-2.parquet"]


def test_nothing_there(place: str) -> None:
    put(f"{place}/full/a.parquet", tiny(1))
    storage.replace(f"{place}/other/readme.md", b"no table", "write")
    with pytest.raises(DataError, match=r"none was not found; check the location$"):
        list_files(f"{place}/none")
    for name in ("_SUCCESS", "a.csv", "b.csv", "c.csv"):
        storage.replace(f"{place}/many/{name}", b"no table", "write")
    for url, there in (("other", "'readme.md'"), ("many", "'_SUCCESS', 'a.csv', 'b.csv', ..."), ("full/*.pq", "")):
        with pytest.raises(DataError) as caught:
            list_files(f"{place}/{url}")
        named = f" (found there: {there})" if there else ""
        other = "; esv import features makes a feature table of files in other formats" if there else ""
        expected = f"{place}/{url}: expected Parquet files, found none{named}; check the location{other}"
        assert str(caught.value) == expected


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected Parquet files, found none"):
        list_files(str(tmp_path))


def test_what_is_listed_can_be_planned_and_read(place: str) -> None:
    """The version of a listed file and that of a file looked up are the same, or no unit could be read."""
    put(f"{place}/a.parquet", make_table([1, 2, 3]), 2)
    put(f"{place}/b.parquet", make_table([4, 5], prefix="w"))
    for url in (place, f"{place}/*.parquet", f"{place}/a.parquet"):
        units = plan_units(read_footers(list_files(url)), 2)
        assert sum(read_unit(unit)[0].num_rows for unit in units) == (3 if url.endswith("a.parquet") else 5)


# plan_units -----------------------------------------------------------------------------------------------------------


def test_units_cover_every_row_once(features: str) -> None:
    files = list_files(features)
    units = plan_units(read_footers(files), 3)
    assert [unit.index for unit in units] == list(range(len(units)))
    ranges = [(rows.file.url[-9], rows.row_group, rows.start, rows.stop, rows.first_row) for rows in map(only, units)]
    assert ranges == [
        *[("0", 0, 0, 3, 0), ("0", 0, 3, 6, 3), ("0", 0, 6, 8, 6)],
        *[("0", 1, 0, 3, 8), ("0", 1, 3, 6, 11), ("0", 1, 6, 8, 14)],
        *[("0", 2, 0, 3, 16), ("0", 2, 3, 4, 19)],
        *[("1", 0, start, min(start + 3, 20), start) for start in range(0, 20, 3)],
    ]
    ids = [name for unit in units for name in read_unit(unit)[0].column("video_id").to_pylist()]
    assert ids == [f"{prefix}{row}" for prefix in "ab" for row in range(20)]


def test_footers_tell_rows_values_and_bytes(tmp_path: Path) -> None:
    pq.write_table(make_table([3, 1, 4]).append_column("other", [[0.5] * 3]), tmp_path / "a.parquet", row_group_size=2)
    (footer,) = read_footers(list_files(str(tmp_path)))
    assert [(group.rows, group.values) for group in footer.groups] == [(2, 4 * 4), (1, 4 * 4)]
    size = (tmp_path / "a.parquet").stat().st_size
    assert all(0 < group.compressed < size for group in footer.groups)


def test_the_plan_is_the_same_every_time(features: str) -> None:
    once, again = plan_units(read_footers(list_files(features)), 7), plan_units(read_footers(list_files(features)), 7)
    assert once == again
    assert [unit.name for unit in once] == [unit.name for unit in again]
    assert len({unit.name for unit in once}) == len(once)
    assert [unit.name for unit in once] == sorted(unit.name for unit in once)


def test_the_name_of_a_unit_is_fixed() -> None:
    """Another name would let a resumed job do everything again, beside the old results."""
    unit = one_range(7, InputFile("s3://bucket/a.parquet", 1234, "etag"), 2, 10, 20, 110)
    assert unit.rows == 10
    assert unit.name == "part-000007-8945372d85cabb54.parquet"


@pytest.mark.parametrize(
    "other",
    [
        one_range(8, InputFile("a", 1, "v"), 2, 10, 20, 110),
        one_range(7, InputFile("b", 1, "v"), 2, 10, 20, 110),
        one_range(7, InputFile("a", 2, "v"), 2, 10, 20, 110),
        one_range(7, InputFile("a", 1, "w"), 2, 10, 20, 110),
        one_range(7, InputFile("a", 1, "v"), 3, 10, 20, 110),
        one_range(7, InputFile("a", 1, "v"), 2, 9, 20, 110),
        one_range(7, InputFile("a", 1, "v"), 2, 10, 21, 110),
    ],
    ids=["index", "url", "size", "version", "row group", "start", "stop"],
)
def test_another_unit_has_another_name(other: Unit) -> None:
    assert other.name != one_range(7, InputFile("a", 1, "v"), 2, 10, 20, 110).name


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, 16), (1024, 16), (1025, 17), (10_000, 157), (65_536, 1024), (100_000, 1024)],
)
def test_automatic_unit_size(rows: int, expected: int, tmp_path: Path) -> None:
    """Many units of a middling table, no more than 1024 rows in one and no fewer than 16."""
    put(str(tmp_path / "a.parquet"), tiny(rows - rows // 4))
    if rows // 4:
        put(str(tmp_path / "b.parquet"), tiny(rows // 4))
    units = plan_units(read_footers(list_files(str(tmp_path))), "auto")
    assert sum(unit.rows for unit in units) == rows
    assert max(unit.rows for unit in units) == min(rows, expected)
    assert [unit.rows for unit in units[:-1] if only(unit).stop - only(unit).start < expected] == (
        [(rows - rows // 4) % expected] if (rows - rows // 4) % expected and rows // 4 else []
    )


def test_a_table_without_rows_has_no_units(tmp_path: Path) -> None:
    put(str(tmp_path / "a.parquet"), tiny(0))
    assert plan_units(read_footers(list_files(str(tmp_path))), "auto") == []
    put(str(tmp_path / "b.parquet"), tiny(2))
    assert [unit.rows for unit in plan_units(read_footers(list_files(str(tmp_path))), "auto")] == [2]


def test_files_that_disagree_in_size_are_refused(tmp_path: Path) -> None:
    put(str(tmp_path / "a.parquet"), make_table([1], feature_dim=4))
    put(str(tmp_path / "b.parquet"), without_sizes(make_table([1], feature_dim=7)))
    put(str(tmp_path / "c.parquet"), make_table([1], feature_dim=5))
    with pytest.raises(DataError) as caught:
        plan_units(read_footers(list_files(str(tmp_path))), "auto")
    assert str(caught.value) == (
        f"features: expected one feature size D in all files, got 4 in {tmp_path}/a.parquet, 5 in {tmp_path}/c.parquet"
    )


def test_a_file_of_another_schema_is_named(tmp_path: Path) -> None:
    put(str(tmp_path / "a.parquet"), make_table([1]))
    put(str(tmp_path / "b.parquet"), make_table([1]).drop_columns(["features"]))
    with pytest.raises(DataError, match=r"b\.parquet: expected a column 'features'"):
        plan_units(read_footers(list_files(str(tmp_path))), "auto")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=3),
    unit=st.integers(1, 12) | st.just("auto"),
    repeat=st.integers(2, 9),
)
def test_units_tile_random_tables(
    files: list[list[int]], unit: int | Literal["auto"], repeat: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Rows come back once each, in order, with the repeated ids of their file, whatever the row groups."""
    folder = tmp_path_factory.mktemp("tiles")
    expected: list[tuple[str, float, bool]] = []
    for number, sizes in enumerate(files):
        with pq.ParquetWriter(folder / f"{number}.parquet", tiny(1).schema) as writer:
            first = 0
            for size in sizes:
                table = tiny(size, first)
                ids = pa.array([f"v{row % repeat}" for row in range(first, first + size)], pa.string())
                table = table.set_column(0, "video_id", ids)
                writer.write_table(table, row_group_size=max(size, 1))
                expected += [(f"v{row % repeat}", float(row), row >= repeat) for row in range(first, first + size)]
                first += size
    units = plan_units(read_footers(list_files(str(folder))), unit)
    assert [planned.index for planned in units] == list(range(len(units)))
    assert len({planned.name for planned in units}) == len(units)
    results: list[tuple[str, float, bool]] = []
    for planned in units:
        table, repeated = read_unit(planned)
        assert 0 < table.num_rows == planned.rows <= (16 if unit == "auto" else unit)
        assert (repeated >= 0).all()
        assert (repeated < planned.rows).all()
        again = np.isin(np.arange(planned.rows), repeated).tolist()
        values = [video[0][0] for video in table.column("features").to_pylist()]
        results += list(zip(table.column("video_id").to_pylist(), values, again, strict=True))
    assert results == expected


# read_unit ------------------------------------------------------------------------------------------------------------


def test_only_the_columns_of_the_contract_are_read(tmp_path: Path) -> None:
    table = make_table([1, 2]).append_column("frame_index", pa.array([[1], [2, 3]], pa.list_(pa.int32())))
    url = put(str(tmp_path / "a.parquet"), table.append_column("note", pa.array(["x", "y"])))
    (unit,) = plan_units(read_footers(list_files(url)), "auto")
    expected = table.select(["video_id", "features", "label", "frame_index"])
    assert read_unit(unit)[0].column_names == expected.column_names
    assert read_unit(unit)[0].to_pylist() == expected.to_pylist()


def test_an_id_repeated_in_another_row_group(tmp_path: Path) -> None:
    table = pa.concat_tables([make_table([1, 1, 1]), make_table([1, 1, 1, 1])])
    url = put(str(tmp_path / "a.parquet"), table, 2)
    units = plan_units(read_footers(list_files(url)), 1)
    assert [read_unit(unit)[1].tolist() for unit in units] == [[], [], [], [0], [0], [0], []]
    units = plan_units(read_footers(list_files(url)), 2)
    assert [read_unit(unit)[1].tolist() for unit in units] == [[], [1], [0, 1], []]


def test_the_same_id_in_two_files_is_no_matter_of_a_unit(place: str) -> None:
    put(f"{place}/a.parquet", make_table([1, 2]))
    put(f"{place}/b.parquet", make_table([3, 4]))
    units = plan_units(read_footers(list_files(place)), "auto")
    assert [read_unit(unit)[1].tolist() for unit in units] == [[], []]


def test_a_file_of_another_size_is_refused(place: str) -> None:
    url = put(f"{place}/a.parquet", make_table([1, 2]))
    (unit,) = plan_units(read_footers(list_files(url)), "auto")
    read_unit(unit)  # what was read before is not trusted either
    put(url, make_table([1, 2, 3]))
    with pytest.raises(DataError) as caught:
        read_unit(unit)
    message = str(caught.value)
    assert message.startswith(
        f"{only(unit).file.url}: changed since the job was planned (expected {only(unit).file.size} bytes"
    )
    assert "\n" not in message


def test_a_rewritten_file_of_the_same_size_is_refused(place: str) -> None:
    table = make_table([2, 2])
    url = put(f"{place}/a.parquet", table)
    (unit,) = plan_units(read_footers(list_files(url)), "auto")
    read_unit(unit)
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    changed = table.set_column(0, "video_id", pa.array(["v1", "v0"]))
    assert len(file_bytes(changed)) == len(file_bytes(table))
    put(url, changed)
    with pytest.raises(DataError, match="changed since the job was planned"):
        read_unit(unit)


def test_a_file_that_is_gone(place: str) -> None:
    url = put(f"{place}/a.parquet", make_table([1, 2]))
    (unit,) = plan_units(read_footers(list_files(url)), "auto")
    fs, path = storage.open_location(url)
    fs.rm(path)
    with pytest.raises(DataError, match="was not found; check the location"):
        read_unit(unit)


# Requests -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Ranges that are read from stores: path, first byte, end."""
    ranges: list[tuple[str, int, int]] = []
    cat = requests.cat

    def counted(fs: AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
        ranges.append((path, start, stop))
        return cat(fs, path, start, stop)

    monkeypatch.setattr(requests, "cat", counted)
    return ranges


@pytest.mark.parametrize("url", ["memory", "s3"])
def test_planning_reads_each_footer_once(
    url: str, requested: list[tuple[str, int, int]], request: pytest.FixtureRequest
) -> None:
    place = f"{url}://{uuid.uuid4().hex}" if url == "memory" else f"s3://{request.getfixturevalue('s3').bucket}/planned"
    for number in range(5):
        put(f"{place}/{number}.parquet", make_table([2] * 3000, seed=number), 1000)
    footers = read_footers(list_files(place))
    assert plan_units(footers, "auto")
    assert feature_dim_of(footers, BUDGET) == 4
    assert has_labels(footers)
    paths = [path for path, _, _ in requested]
    assert len(paths) == len(set(paths)) == 5
    assert all(stop - start == 2**16 for _, start, stop in requested), "less than the file"


def test_reading_opens_each_file_once(requested: list[tuple[str, int, int]]) -> None:
    """The units of a file are read with one request for its footer, one for its ids, and one for each row group."""
    place = f"memory://{uuid.uuid4().hex}"
    for number in range(2):
        put(f"{place}/{number}.parquet", make_table([2] * 6000, seed=number), 2000)
    units = plan_units(read_footers(list_files(place)), 500)
    requested.clear()
    reader = UnitReader(Contract(4, 3), BUDGET)
    for unit in units:
        assert len(read_rows(unit, reader).valid) == 500
    ends = {only(unit).file.size for unit in units}
    assert len([stop for _, _, stop in requested if stop in ends]) == 2
    assert len(requested) == 2 * (1 + 1 + 3)


def test_a_row_group_that_was_refused_opens_no_file(requested: list[tuple[str, int, int]]) -> None:
    """Its ids take more memory than the budget: known after the first unit, whatever files are read in between."""
    place = f"memory://{uuid.uuid4().hex}"
    for number in range(2):
        put(f"{place}/{number}.parquet", make_table([2] * 1000, seed=number), 1000)
    first, again, other, other_again = plan_units(read_footers(list_files(place)), 500)
    reader = UnitReader(Contract(4, 3), 20_000)
    for unit in (first, other):
        assert "take more memory" in read_rows(unit, reader).faults[0]
    requested.clear()
    for unit in (again, other_again):
        assert "take more memory" in read_rows(unit, reader).faults[0]
    assert requested == []


def test_a_footer_larger_than_the_first_read(requested: list[tuple[str, int, int]]) -> None:
    """It takes a second request, and no byte is read twice."""
    url = f"memory://{uuid.uuid4().hex}/a.parquet"
    put(url, make_table([1] * 1000), 2)
    (footer,) = read_footers(list_files(url))
    assert len(footer.groups) == 500
    (first, second) = requested
    assert first[2] - first[1] == 2**16
    assert second[2] == first[1]


# Broken files ---------------------------------------------------------------------------------------------------------

WHOLE = file_bytes(make_table([1, 2, 3]))
SIZELESS = file_bytes(without_sizes(make_table([1, 2, 3])))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1",
        b"video_id,features\n1,2\n" * 40,
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-1],
        WHOLE[:-8] + b"\xff\xff\xff\x7fPAR1",
        WHOLE[:-60] + b"\xff" * 52 + WHOLE[-8:],
        SIZELESS[: len(SIZELESS) - 300],
    ],
    ids=["empty", "magic alone", "text", "half", "all but a byte", "long footer", "garbage in the footer", "sizeless"],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda url: plan_units(read_footers(list_files(url)), "auto"),
        lambda url: feature_dim_of(read_footers(list_files(url)), BUDGET),
        lambda url: has_labels(read_footers(list_files(url))),
        read_videos,
    ],
    ids=["plan_units", "feature_dim_of", "has_labels", "read_videos"],
)
def test_what_is_no_parquet_is_refused_in_one_line(
    content: bytes, use: Callable[[str], object], tmp_path: Path
) -> None:
    url = tmp_path / "broken.parquet"
    url.write_bytes(content)
    with pytest.raises(DataError) as caught:
        use(str(url))
    message = str(caught.value)
    assert str(url) in message
    assert "\n" not in message
    assert len(message) < 600


def with_a_broken_page(data: bytes, column: str) -> bytes:
    """The file with garbage where the last row group's pages of a column begin; its footer is whole."""
    metadata = pq.read_metadata(io.BytesIO(data))
    group = metadata.row_group(metadata.num_row_groups - 1)
    chunks = [group.column(place) for place in range(group.num_columns)]
    (chunk,) = [candidate for candidate in chunks if candidate.path_in_schema.split(".")[0] == column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return data[:start] + b"\xff" * 16 + data[start + 16 :]


@pytest.mark.parametrize("column", ["video_id", "features", "label"])
def test_a_broken_page_is_refused_in_one_line(column: str, tmp_path: Path) -> None:
    url = tmp_path / "a.parquet"
    url.write_bytes(with_a_broken_page(file_bytes(make_table([1, 2, 3, 4]), 2), column))
    units = plan_units(read_footers(list_files(str(url))), "auto")
    if column != "video_id":
        assert read_unit(units[0])[0].num_rows == 2
    with pytest.raises(DataError) as caught:
        read_unit(units[1])
    assert str(url) in str(caught.value)
    assert "\n" not in str(caught.value)


# feature_dim_of, has_labels, read_videos ------------------------------------------------------------------------------


def rows_of(*features: Sequence[Sequence[float]] | None) -> pa.Table:
    """A table of features of the type list<list<float>>."""
    ids = pa.array([f"v{row}" for row in range(len(features))], pa.string())
    return pa.table({"video_id": ids, "features": pa.array(features, LIST)})


def test_the_feature_size_of_a_type(place: str) -> None:
    put(f"{place}/a.parquet", make_table([1, 2], feature_dim=6))
    assert feature_dim_of(read_footers(list_files(place)), BUDGET) == 6


def test_the_feature_size_of_rows(place: str) -> None:
    put(f"{place}/a.parquet", without_sizes(make_table([1, 2], feature_dim=6)))
    assert feature_dim_of(read_footers(list_files(place)), BUDGET) == 6


def test_the_feature_size_of_the_first_file_that_tells(tmp_path: Path) -> None:
    put(str(tmp_path / "a.parquet"), rows_of())
    put(str(tmp_path / "b.parquet"), rows_of(*[None, [], [[]]] * 20))
    assert feature_dim_of(read_footers(list_files(str(tmp_path))), BUDGET) is None
    put(str(tmp_path / "c.parquet"), rows_of(*[None] * 40, [[1.0, 2.0]]))
    put(str(tmp_path / "d.parquet"), make_table([1], feature_dim=3))
    assert feature_dim_of(read_footers(list_files(str(tmp_path))), BUDGET) == 2


def test_has_labels(tmp_path: Path) -> None:
    put(str(tmp_path / "a.parquet"), make_table([1], n_classes=None))
    assert not has_labels(read_footers(list_files(str(tmp_path))))
    put(str(tmp_path / "b.parquet"), make_table([1], n_classes=None).append_column("label", pa.nulls(1)))
    assert not has_labels(read_footers(list_files(str(tmp_path))))
    put(str(tmp_path / "c.parquet"), make_table([1]))
    assert has_labels(read_footers(list_files(str(tmp_path))))


def test_read_videos(features: str) -> None:
    table = pa.concat_tables([make_table([2], prefix="c"), make_table([1, 3])])
    put(f"{features}/part-2.parquet", pa.concat_tables([table, make_table([1], prefix="c")]))
    videos, faulty = read_videos(features)
    assert [video.video_id for video in videos] == [*(f"{p}{row}" for p in "ab" for row in range(20)), "c0", "v0", "v1"]
    assert faulty.total() == 1  # c0 stands twice in part-2
    expected = make_table([1 + index % 9 for index in range(20)], seed=1, prefix="b")
    for video, frames in zip(videos[20:40], expected.column("features").to_pylist(), strict=True):
        assert video.features.tolist() == frames
    assert [video.label for video in videos[20:40]] == expected.column("label").to_pylist()


def test_read_videos_checks_labels_where_classes_are_known(features: str) -> None:
    videos, faulty = read_videos(features, VideoRequest(n_classes=2))
    assert {video.label for video in videos} == {0, 1}
    assert (len(videos), faulty.total()) == (28, 12)


def test_read_videos_wants_a_feature_size(tmp_path: Path) -> None:
    url = put(str(tmp_path / "a.parquet"), rows_of(None, []))
    with pytest.raises(DataError, match="no row has frames that all have the same size D"):
        read_videos(url)


def test_one_ragged_row_is_not_fatal(tmp_path: Path) -> None:
    url = put(str(tmp_path / "a.parquet"), rows_of([[1.0, 2.0], [1.0]], *[[[1.0, 2.0]]] * 9))
    videos, faulty = read_videos(url)
    assert (len(videos), faulty.total()) == (9, 1)


# Found and mended -----------------------------------------------------------------------------------------------------


def test_a_broken_page_where_the_feature_size_is_looked_for(tmp_path: Path) -> None:
    url = tmp_path / "a.parquet"
    url.write_bytes(with_a_broken_page(SIZELESS, "features"))
    with pytest.raises(DataError, match=r"a\.parquet"):
        feature_dim_of(read_footers(list_files(str(url))), BUDGET)


def test_a_column_name_that_is_not_text(tmp_path: Path) -> None:
    sink = io.BytesIO()
    table = make_table([1]).append_column("NOTE", pa.array([1]))
    pq.write_table(table, sink, store_schema=False)
    url = tmp_path / "a.parquet"
    url.write_bytes(sink.getvalue().replace(b"NOTE", b"\xff\xfe\xfd\xfc"))
    with pytest.raises(DataError, match=r"a\.parquet"):
        plan_units(read_footers(list_files(str(url))), "auto")


def test_an_id_that_is_not_text_leaves_the_other_rows_readable(tmp_path: Path) -> None:
    ids = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 2, 4], np.int32)), pa.py_buffer(b"\xff\xfev1")]
    )
    url = put(str(tmp_path / "a.parquet"), make_table([1, 1]).set_column(0, "video_id", ids))
    videos, faulty = read_videos(url)
    assert [video.video_id for video in videos] == ["v1"]
    assert faulty.total() == 1


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    put(str(tmp_path / "clips [1]" / "a.parquet"), tiny(2))
    assert len(list_files(str(tmp_path / "clips [1]"))) == 1


def test_modification_times_are_part_of_the_version(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    url = put(str(path), tiny(2))
    (before,) = list_files(url)
    os.utime(path, (1, 1))
    (after,) = list_files(url)
    assert before.version != after.version
