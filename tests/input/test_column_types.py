"""Types that other tools give the columns of a feature table, each through a real Parquet file, and columns that the
names of directories give."""

from __future__ import annotations

import base64
import subprocess
import sys
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError
from esv_ray.input.directories import named_by_directories
from esv_ray.input.features import Contract, FeatureRows
from esv_ray.input.files import list_files
from esv_ray.input.parquet.footers import has_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from tests.conftest import make_table

C, D = 3, 4


def table_with(rows: int = 3, **columns: pa.Array | None) -> pa.Table:
    """A table of videos of two frames with other columns; None leaves one out."""
    table = make_table([2] * rows, feature_dim=D)
    for name, column in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if column is not None:
            table = table.append_column(name, column)
    return table


def read_back(path: Path, table: pa.Table | None = None, budget: int | None = 10**8, **options: Any) -> FeatureRows:
    """Write a table as a file, in row groups of two, and read it as one unit of a job."""
    if table is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    files = list_files(str(path))
    (unit,) = plan_units(read_footers(files), 100_000)
    return read_rows(unit, UnitReader(Contract(D, C, **options), budget))


def labels_of(rows: FeatureRows) -> list[int | None]:
    return [rows.label(row) for row in range(len(rows.ids))]


# video_id -------------------------------------------------------------------------------------------------------------


class Named(pa.ExtensionType):  # type: ignore[misc]
    """An extension type that wraps another type, as applications define them."""

    def __init__(self, storage: pa.DataType) -> None:
        super().__init__(storage, "tests.named")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Named:
        return cls(storage)


def wrapped(array: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(Named(array.type), array)


UUIDS = [uuid.UUID(int=number) for number in (1, 2**100, 2**128 - 1)]

IDS = {
    "int64": (pa.array([74225, -1, 2**62]), ["74225", "-1", str(2**62)]),
    "int8": (pa.array([7, 0, -128], pa.int8()), ["7", "0", "-128"]),
    "uint64": (pa.array([2**64 - 1, 1, 2], pa.uint64()), [str(2**64 - 1), "1", "2"]),
    "decimal": (
        pa.array([Decimal(12), Decimal(10**30), Decimal(-3)], pa.decimal128(38, 0)),
        ["12", "1" + 30 * "0", "-3"],
    ),
    "string view": (pa.array(["a", "b" * 40, "é"], pa.string_view()), ["a", "b" * 40, "é"]),
    "binary": (pa.array([b"a", b"b", "é".encode()]), ["a", "b", "é"]),
    "binary view": (pa.array([b"a", b"b", b"c"], pa.binary_view()), ["a", "b", "c"]),
    "fixed size": (pa.array([b"ab", "é".encode(), b"cd"], pa.binary(2)), ["ab", "é", "cd"]),
    "fixed size, filled up": (pa.array([b"a\0\0\0", b"b\0c\0", b"abcd"], pa.binary(4)), ["a", "b\0c", "abcd"]),
    "categories of fixed size": (pa.array([b"ab", b"cd", b"ef"], pa.binary(2)).dictionary_encode(), ["ab", "cd", "ef"]),
    "extension of fixed size": (wrapped(pa.array([b"ab", b"cd", b"ef"], pa.binary(2))), ["ab", "cd", "ef"]),
    "large binary": (pa.array([b"a", b"b", b"c"], pa.large_binary()), ["a", "b", "c"]),
    "categories": (pa.array(["x", "y", "z"]).dictionary_encode(), ["x", "y", "z"]),
    "categories of integers": (pa.array([3, 4, 5]).dictionary_encode(), ["3", "4", "5"]),
    "uuid": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes for one in UUIDS], pa.binary(16))),
        [str(one) for one in UUIDS],
    ),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["a", "b", "c"])), ["a", "b", "c"]),
    "opaque": (
        pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "name", "maker"), pa.array(["a", "b", "c"])),
        ["a", "b", "c"],
    ),
    "extension of text": (wrapped(pa.array(["a", "b", "c"])), ["a", "b", "c"]),
    "extension of integers": (wrapped(pa.array([1, 2, 3])), ["1", "2", "3"]),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_every_type_become_text(kind: str, tmp_path: Path) -> None:
    column, expected = IDS[kind]
    rows = read_back(tmp_path / "a.parquet", table_with(video_id=column))
    assert rows.ids == expected
    assert rows.faults == {}


def test_ids_of_a_fixed_size_that_are_none_fail_their_row_only(tmp_path: Path) -> None:
    ids = [b"ab\0", b"\xff\xfe\0", None, b"\0\0\0", b"abc", b"ab\0"]
    rows = read_back(tmp_path / "a.parquet", table_with(6, video_id=pa.array(ids, pa.binary(3))))
    assert rows.ids == ["ab", "", "", "", "abc", "ab"]
    assert list(rows.faults) == [1, 2, 3, 5]
    assert rows.faults[1] == "video_id is not UTF-8"
    assert rows.faults[2] == rows.faults[3] == "video_id is null or empty"
    assert "repeated" in rows.faults[5]


@pytest.mark.parametrize("name", ["video_id", "label"])
def test_bytes_of_an_absurd_fixed_size_are_refused(name: str, tmp_path: Path) -> None:
    """Each null takes as many bytes in memory and none in the file."""
    column = pa.nulls(3, pa.binary(4097))
    with pytest.raises(DataError, match=rf"column {name}: expected .*, got fixed_size_binary\[4097\]; cast it to"):
        read_back(tmp_path / "a.parquet", table_with(**{name: column}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video_id", "label"])
def test_nulls_of_a_fixed_size_stay_within_the_budget(name: str, tmp_path: Path) -> None:
    rows = 20_000
    pq.write_table(table_with(rows, **{name: pa.nulls(rows, pa.binary(4096))}), tmp_path / "a.parquet")
    code = (
        "import sys; from pathlib import Path; import pyarrow as pa\n"
        "from tests.input.test_column_types import read_back\n"
        "print(len(read_back(Path(sys.argv[1]), budget=4 * 10**7).ids), pa.default_memory_pool().max_memory())"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=100)  # a peak is a process's own
    count, peak = map(int, done.stdout.split())
    assert count == rows
    assert peak < 6 * 10**7


def test_integer_ids_that_repeat_or_are_null(tmp_path: Path) -> None:
    rows = read_back(tmp_path / "a.parquet", table_with(5, video_id=pa.array([8, 9, None, 8, 0])))
    assert rows.ids == ["8", "9", "", "8", "0"]
    assert list(rows.faults) == [2, 3]
    assert "null or empty" in rows.faults[2]
    assert "repeated" in rows.faults[3]


def test_a_registered_extension_is_read_as_what_it_stores(tmp_path: Path) -> None:
    """With its package imported, Arrow gives the extension type itself."""
    pa.register_extension_type(Named(pa.int64()))
    try:
        column = wrapped(pa.array([1, 2, 3]))
        rows = read_back(tmp_path / "a.parquet", table_with(video_id=column, label=wrapped(pa.array([0, 1, 2]))))
    finally:
        pa.unregister_extension_type("tests.named")
    assert (rows.ids, labels_of(rows), rows.faults) == (["1", "2", "3"], [0, 1, 2], {})


# label ----------------------------------------------------------------------------------------------------------------

NAN = float("nan")
GOOD_LABELS = {
    "floats with NaN": (pa.array([2.0, NAN, 0.0]), [2, None, 0]),
    "floats with null": (pa.array([2.0, None, -0.0], pa.float32()), [2, None, 0]),
    "half floats": (pa.array([np.float16(1), np.float16(2), np.float16(0)], pa.float16()), [1, 2, 0]),
    "decimals": (pa.array([Decimal("1.00"), None, Decimal("2.00")], pa.decimal128(10, 2)), [1, None, 2]),
    "decimals of no places": (pa.array([Decimal(1), None, Decimal(0)], pa.decimal128(38, 0)), [1, None, 0]),
    "digits": (pa.array(["2", None, "01"]), [2, None, 1]),
    "digits in views": (pa.array(["2", None, "1"], pa.string_view()), [2, None, 1]),
    "digits as bytes": (pa.array([b"2", None, b"1"]), [2, None, 1]),
    "digits of a fixed size": (pa.array([b"2\0\0", None, b"001"], pa.binary(3)), [2, None, 1]),
    "categories of digits": (pa.array(["2", None, "1"]).dictionary_encode(), [2, None, 1]),
    "categories of integers": (pa.array([2, None, 1]).dictionary_encode(), [2, None, 1]),
    "uint8": (pa.array([2, None, 1], pa.uint8()), [2, None, 1]),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())), [1, None, 0]),
    "extension": (wrapped(pa.array([2, None, 1])), [2, None, 1]),
    "nulls": (pa.nulls(3), [None, None, None]),
}


@pytest.mark.parametrize("kind", GOOD_LABELS)
def test_labels_of_every_type_become_class_ids(kind: str, tmp_path: Path) -> None:
    column, expected = GOOD_LABELS[kind]
    rows = read_back(tmp_path / "a.parquet", table_with(label=column))
    assert labels_of(rows) == expected
    assert rows.faults == {}


BAD_LABELS = {
    "half": (pa.array([1.5, 1.0, 1.0]), "label 1.5 is not a class id: expected a whole number"),
    "infinity": (pa.array([float("inf"), 1.0, 1.0]), "label inf is not a class id: expected a whole number"),
    "a huge float": (
        pa.array([1e300, 1.0, 1.0]),
        "label 1e+300 is out of range: the model has classes 0..2; if it marks videos without a label, write null",
    ),
    "a float beyond C": (
        pa.array([7.0, 1.0, 1.0]),
        "label 7.0 is out of range: the model has classes 0..2; if it",
    ),
    "decimal": (pa.array([Decimal("1.5"), Decimal(1), Decimal(1)]), "label 1.5 is not a class id"),
    "a name": (pa.array(["archery", "1", "1"]), "label 'archery' is not a class id: expected a whole number"),
    "nothing": (pa.array(["", "1", "1"]), "label '' is not a class id"),
    "text of a float": (pa.array(["1.5", "1", "1"]), "label '1.5' is not a class id"),
    "space": (pa.array([" 1", "1", "1"]), "label ' 1' is not a class id"),
    "other digits": (pa.array(["\u0661", "1", "1"]), "label '\u0661' is not a class id"),
    "a line": (pa.array(["1\n", "1", "1"]), "label '1\\n' is not a class id"),
    "no digits of a fixed size": (
        pa.array([b"x" * 60, b"1" + bytes(59), b"01" + bytes(58)], pa.binary(60)),
        "label 'xxxx",
    ),
    "no UTF-8": (pa.array([b"\xff", b"1", b"1"]), "label '\ufffd' is not a class id"),
    "long": (pa.array(["9" * 40, "1", "1"]), f"label '{40 * '9'}' is out of range"),
    "very long": (pa.array(["9" * 10_000, "1", "1"]), f"label '{40 * '9'}' is not a class id"),
    "a long decimal": (pa.array([Decimal(10) ** 30, Decimal(1), Decimal(1)]), f"label 1{30 * '0'} is out of range"),
    "a long decimal with places": (
        pa.array([Decimal(f"1{30 * '0'}.5"), Decimal(1), Decimal(1)]),
        f"label 1{30 * '0'}.5 is not a class id",
    ),
    "an exponent": (pa.array(["1e300", "1", "1"]), "label '1e300' is not a class id: expected a whole number"),
    "digits beyond C": (pa.array(["12", "1", "1"]), "label '12' is out of range: the model has classes 0..2"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_labels_that_are_no_class_ids_fail_their_row_only(kind: str, tmp_path: Path) -> None:
    column, expected = BAD_LABELS[kind]
    rows = read_back(tmp_path / "a.parquet", table_with(label=column))
    assert list(rows.faults) == [0]
    assert rows.faults[0].startswith(expected)
    assert labels_of(rows)[1:] == [1, 1]


@pytest.mark.parametrize(
    "column", [pa.array([-1, 1, 255]), pa.array([-1.0, 1.0, 255.0]), pa.array(["-1", "1", "255"])], ids=str
)
def test_marks_of_unlabelled_videos(column: pa.Array, tmp_path: Path) -> None:
    rows = read_back(tmp_path / "a.parquet", table_with(label=column))
    assert sorted(rows.faults) == [0, 2]
    for reason in rows.faults.values():
        assert "if it marks videos without a label, add it to `unlabelled` in the spec" in reason
    rows = read_back(tmp_path / "a.parquet", unlabelled=(-1, 255))
    assert (labels_of(rows), rows.faults) == ([None, 1, None], {})


# features and frame_index ---------------------------------------------------------------------------------------------

VALUES = [[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]] * 3
TENSOR = pa.fixed_shape_tensor(pa.float32(), [2, 2])
FLAT = pa.array([frame for video in VALUES for frame in video], pa.list_(pa.float32(), 4))
FEATURES = {
    "list views": (pa.array(VALUES, pa.list_view(pa.list_view(pa.float32()))), None),
    "fixed in both": (pa.array(VALUES, pa.list_(pa.list_(pa.float32(), 4), 2)), D),
    "large lists of large lists": (pa.array(VALUES, pa.large_list(pa.large_list(pa.float64()))), None),
    "lists of tensors": (
        pa.ListArray.from_arrays(pa.array([0, 2, 4, 6], pa.int32()), pa.ExtensionArray.from_storage(TENSOR, FLAT)),
        D,
    ),
    "extension": (wrapped(pa.array(VALUES, pa.list_(pa.list_(pa.float32(), 4)))), D),
}


@pytest.mark.parametrize("kind", FEATURES)
def test_features_of_every_type(kind: str, tmp_path: Path) -> None:
    column, dim = FEATURES[kind]
    rows = read_back(tmp_path / "a.parquet", table_with(features=column))
    assert rows.faults == {}
    got = rows.features(np.arange(3), np.array([[0, 1]] * 3))
    np.testing.assert_array_equal(got, np.array(VALUES, np.float32))
    assert dim is None or rows.features(rows.valid[:1], np.array([[0]])).shape == (1, 1, dim)


NUMBERS = {
    "floats": (pa.array([[3.0, 9.0]] * 3), [3, 9]),
    "decimals": (pa.array([[Decimal(3), Decimal(9)]] * 3, pa.list_(pa.decimal128(20, 0))), [3, 9]),
    "list view": (pa.array([[3, 9]] * 3, pa.list_view(pa.int16())), [3, 9]),
    "nulls": (pa.nulls(3), [0, 1]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_frame_indices_of_every_type(kind: str, tmp_path: Path) -> None:
    column, expected = NUMBERS[kind]
    rows = read_back(tmp_path / "a.parquet", table_with(frame_index=column))
    assert rows.faults == {}
    assert rows.frame_index(np.arange(3), np.array([[0, 1]] * 3)).tolist() == [expected] * 3


def test_seconds_are_no_frame_indices(tmp_path: Path) -> None:
    rows = read_back(tmp_path / "a.parquet", table_with(frame_index=pa.array([[0.0, 0.5], [0.0, 1.0], [0.0, NAN]])))
    assert list(rows.faults) == [0, 2]
    assert rows.faults[0] == "frame_index holds nulls or values that are not 32-bit integers"


# Directories ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["the table", "the file", "a glob"])
def test_labels_in_the_names_of_directories(options: str, tmp_path: Path) -> None:
    path = tmp_path / "table" / "split=train" / "label=2" / "part.parquet"
    read_back(path, table_with(label=None))
    location = {
        "the table": tmp_path / "table",
        "the file": path,
        "a glob": tmp_path / "table" / "*" / "*" / "*.parquet",
    }
    rows = read_back(location[options])
    assert (labels_of(rows), rows.faults) == ([2, 2, 2], {})
    assert has_labels(read_footers(list_files(str(location[options]))))


def test_a_table_that_arrow_partitions_by_label(tmp_path: Path) -> None:
    """Every label comes back, and null as none."""
    table = table_with(6, label=pa.array([0, 1, 2, None, 0, 1]))
    pq.write_to_dataset(table, tmp_path / "table", partition_cols=["label"])
    got: dict[str, int | None] = {}
    files = list_files(str(tmp_path / "table"))
    for unit in plan_units(read_footers(files), 1000):
        rows = read_rows(unit, UnitReader(Contract(D, C)))
        assert rows.faults == {}
        got.update(zip(rows.ids, labels_of(rows), strict=True))
    assert got == dict(zip(table.column("video_id").to_pylist(), [0, 1, 2, None, 0, 1], strict=True))


def test_ids_in_the_names_of_directories(tmp_path: Path) -> None:
    path = tmp_path / "table" / "video_id=a%2Fb%20%C3%A9" / "part.parquet"
    rows = read_back(path, table_with(1, video_id=None))
    assert (rows.ids, rows.faults) == (["a/b é"], {})
    rows = read_back(path, table_with(3, video_id=None))
    assert [rows.faults.get(row, "")[:20] for row in range(3)] == ["", "video_id is repeated", "video_id is repeated"]
    rows = read_back(tmp_path / "video_id=" / "part.parquet", table_with(1, video_id=None))
    assert "null or empty" in rows.faults[0]


def test_a_directory_that_contradicts_its_file(tmp_path: Path) -> None:
    rows = read_back(tmp_path / "label=1" / "a.parquet", table_with(4, label=pa.array([1, 2, None, 1])))
    assert rows.faults == {
        1: "label 2, but its folder is label=1",
        2: "no label, but its folder is label=1",
    }
    rows = read_back(tmp_path / "video_id=v0" / "a.parquet", table_with(2))
    assert rows.faults == {1: "video_id 'v1', but its folder is video_id='v0'"}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["label="], "folder label=: expected the id or name of a class, got ''"),
        (["label=1", "label=2"], "expected one folder label=..., got '1' and '2'"),
        (["video_id=a", "video_id=b"], "expected one folder video_id=..., got 'a' and 'b'"),
    ],
)
def test_directories_that_name_no_column_are_refused(folders: Sequence[str], message: str, tmp_path: Path) -> None:
    path = tmp_path.joinpath(*folders, "a.parquet")
    with pytest.raises(DataError) as caught:
        read_back(path, table_with(label=None))
    assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(DataError):
        read_footers(list_files(str(tmp_path)))


def test_the_same_file_in_other_directories_is_another_input(tmp_path: Path) -> None:
    paths = [tmp_path / name / "a.parquet" for name in ("label=1", "label=2", "plain", "other")]
    for path in paths:
        read_back(path, table_with(label=None))
    checksums = [read_footers(list_files(str(path)))[0].file.footer for path in paths]
    assert len(set(checksums)) == 3
    assert checksums[2] == checksums[3]


def test_the_mark_of_unlabelled_videos_as_a_directory(tmp_path: Path) -> None:
    rows = read_back(tmp_path / "label=-1" / "a.parquet", table_with(label=None), unlabelled=(-1,))
    assert (labels_of(rows), rows.faults) == ([None] * 3, {})
    rows = read_back(tmp_path / "label=-1" / "a.parquet", table_with(label=pa.array([-1] * 3)), unlabelled=(-1,))
    assert (labels_of(rows), rows.faults) == ([None] * 3, {}), "the file says the same"


def test_other_names_mean_nothing() -> None:
    assert named_by_directories("s3://b/label/x=1/labels=4/label=5.parquet", "s3://b") == {}
    assert named_by_directories("s3://b/label=__HIVE_DEFAULT_PARTITION__/x.parquet", "s3://b") == {"label": None}


@pytest.mark.parametrize("above", ["label=9/run", "label=clean", "label=9/video_id=x/run/deeper"])
def test_directories_above_the_table_say_nothing_of_its_videos(above: str, tmp_path: Path) -> None:
    table = tmp_path / above / "table"
    for location in (table, table / "x.parquet", table / "*.parquet"):
        assert labels_of(read_back(table / "x.parquet", table_with(label=None))) == [None] * 3
        assert [file.named for file in list_files(str(location))] == [{}]


@pytest.mark.parametrize(
    "location",
    ["", "label=1", "label=1/split=train", "label=1/split=train/x.parquet", "*", "*/*/*", "label=1/*/x.parquet", "**"],
)
def test_a_file_has_one_label_however_the_table_is_named(location: str, tmp_path: Path) -> None:
    path = tmp_path / "t" / "label=1" / "split=train" / "x.parquet"
    read_back(path, table_with(label=None))
    location = f"{tmp_path}/t/{location}" + ("*/*/*.parquet" if location == "*" else "")
    location += "/*.parquet" if location.endswith("**") else ""
    assert [file.named for file in list_files(location)] == [{"label": "1"}]


def test_directories_of_other_names_may_stand_between(tmp_path: Path) -> None:
    rows = read_back(tmp_path / "label=1" / "clips" / "x.parquet", table_with(label=None))
    assert labels_of(rows) == [None] * 3, "asked for by itself it is a table of its own"
    assert [file.named for file in list_files(str(tmp_path))] == [{"label": "1"}]


@pytest.mark.parametrize("written", ["1.0", "01", "1.000"])
def test_the_number_of_a_directory_may_be_written_as_a_float(written: str, tmp_path: Path) -> None:
    """pandas stores labels with missing values as floats, and partitions by them."""
    rows = read_back(tmp_path / f"label={written}" / "a.parquet", table_with(label=pa.array([1, 1, 2])))
    assert rows.faults == {2: "label 2, but its folder is label=1"}
    rows = read_back(tmp_path / "text" / "a.parquet", table_with(label=pa.array([written, "1.5", None])))
    assert labels_of(rows) == [1, None, None]
    assert "label '1.5' is not a class id" in rows.faults[1]


@pytest.mark.parametrize("name", ["Label", "VIDEO_ID", "LABEL", "label ", " video_id"])
def test_directories_in_other_letters_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=f"folder {name}=1: expected {name.strip().lower()}=..., got {name}=...; rename it"
    ):
        read_back(tmp_path / f"{name}=1" / "a.parquet", table_with(label=None))


def with_wide_integers(table: pa.Table, name: str) -> bytes:
    """Polars' Int128: fixed-size bytes, and a schema of Arrow with integers that Arrow cannot read."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array([1], pa.int64())}), sink)
    content = base64.b64decode(pq.ParquetFile(sink.getvalue()).metadata.metadata[b"ARROW:schema"])
    assert content.count(b"\x40\0\0\0") == 1
    wide = base64.b64encode(content.replace(b"\x40\0\0\0", b"\x80\0\0\0"))
    column = pa.array([(1).to_bytes(16, "little")] * table.num_rows, pa.binary(16))
    table = table.set_column(table.column_names.index(name), name, column)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"arrow-schema": wide})  # under the true name Arrow would drop it
    data = bytes(sink.getvalue()).replace(b"arrow-schema", b"ARROW:schema")
    with pytest.raises(pa.ArrowNotImplementedError):
        pq.ParquetFile(pa.BufferReader(data))
    return data


@pytest.mark.parametrize("name", ["video_id", "label"])
def test_integers_that_arrow_cannot_read_are_no_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(with_wide_integers(table_with(label=pa.array([0, 1, 2])), name))
    with pytest.raises(DataError, match=f"a.parquet: column {name}: .*not implemented; cast it to int64 or string$"):
        read_back(path)


def test_integers_that_arrow_cannot_read_do_not_matter_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(with_wide_integers(table_with(views=pa.array([0, 1, 2])), "views"))
    assert read_back(path).faults == {}


@pytest.mark.parametrize("name", ["video_id=%ff", "video_id=a%e9"])
def test_a_directory_that_is_not_utf8_is_refused(name: str, tmp_path: Path) -> None:
    """Otherwise all such ids would become one."""
    with pytest.raises(DataError, match=f"folder {name}: expected UTF-8 after percent signs; rename it"):
        read_back(tmp_path / name / "a.parquet", table_with(video_id=None))


def test_a_column_in_other_letters_is_refused_beside_a_directory(tmp_path: Path) -> None:
    table = table_with(label=None, Label=pa.array([1, 1, 2]))
    with pytest.raises(DataError, match="expected a column 'label', got 'Label'; rename it"):
        read_back(tmp_path / "label=1" / "a.parquet", table)


def test_numbers_beyond_float32_are_told_from_infinity(tmp_path: Path) -> None:
    features = pa.array(
        [[[1.0] * D, [1e300] * D], [[float("inf")] * D], [[None] * D]], pa.list_(pa.list_(pa.float64(), D))
    )
    rows = read_back(tmp_path / "a.parquet", table_with(features=features))
    beyond = "features are not finite: a number beyond the range of float32, in which they are computed, in frame 1"
    other = "features are not finite: NaN, infinity or null in frame 0"
    assert rows.faults == {0: beyond, 1: other, 2: other}


@pytest.mark.parametrize("name", ["Label", "VIDEO_ID", "Features", "FRAME_INDEX", "label ", " video_id"])
def test_columns_in_other_letters_are_refused(name: str, tmp_path: Path) -> None:
    """Warehouses write names in capitals; a table whose labels were ignored would pass for one without."""
    table = table_with(frame_index=pa.array([[0, 1]] * 3))
    table = table.rename_columns([name if name.strip().lower() == column else column for column in table.column_names])
    with pytest.raises(DataError, match=f"expected a column '{name.strip().lower()}', got '{name}'; rename it"):
        read_back(tmp_path / "a.parquet", table)


def test_a_column_in_other_letters_beside_the_right_one_is_ignored(tmp_path: Path) -> None:
    rows = read_back(
        tmp_path / "a.parquet", table_with(label=pa.array([0, 1, 2])).append_column("Label", pa.array([9] * 3))
    )
    assert labels_of(rows) == [0, 1, 2]
