"""Tables under other column names: a table reads the same whatever it calls its columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.errors import DataError
from esv_ray.input.directories import named_by_directories
from esv_ray.input.features import Contract, FeatureRows
from esv_ray.input.files import InputFile, list_files
from esv_ray.input.parquet.footers import has_labels
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import feature_dim_of, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.input.videos import VideoRequest, read_videos
from esv_ray.spec_columns import COLUMNS, OWN_NAMES, ColumnNames
from tests.conftest import make_table

C, D, BUDGET = 3, 4, 10**8
OTHERS = {"video_id": "id", "features": "observation.state", "label": "y", "frame_index": "frames"}


def whole_table(lengths: list[int]) -> pa.Table:
    """A table with all four columns."""
    index = pa.array([list(range(7, 7 + length)) for length in lengths], pa.list_(pa.int64()))
    return make_table(lengths, feature_dim=D, n_classes=C).append_column("frame_index", index)


def renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def read_back(location: Path | str, columns: ColumnNames = OWN_NAMES) -> FeatureRows:
    """Read a table of one file and one row group."""
    (unit,) = plan_units(read_footers(list_files(str(location), columns)), 100_000)
    return read_rows(unit, UnitReader(Contract(D, C), BUDGET))


def assert_same(rows: FeatureRows, others: FeatureRows) -> None:
    assert rows.ids == others.ids
    assert rows.faults == others.faults
    assert rows.n_frames.tolist() == others.n_frames.tolist()
    assert [rows.label(row) for row in range(len(rows.ids))] == [others.label(row) for row in range(len(others.ids))]
    for row in rows.valid.tolist():
        index, places = np.array([row]), np.arange(rows.n_frames[row], dtype=np.int64)[None]
        assert rows.features(index, places).tobytes() == others.features(index, places).tobytes()
        assert rows.frame_index(index, places).tolist() == others.frame_index(index, places).tolist()


@pytest.mark.slow
@given(
    names=st.permutations([*COLUMNS, "a", "a.b", "a.b.list.element", "label.x", "Label", "features.list", "ü ", "x=1"]),
    order=st.permutations(range(4)),
    extra=st.booleans(),
)
def test_names_mean_nothing(
    names: list[str], order: list[int], extra: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also names with dots, those of other columns, and those of columns that are not read."""
    folder = tmp_path_factory.mktemp("tables")
    table = whole_table([3, 1, 2])
    pq.write_table(table, folder / "plain.parquet")
    mapping = dict(zip(COLUMNS, names, strict=False))
    other = renamed(table.select(order), mapping)
    if extra:
        values = [pa.array([{"b": [9.0], "list": {"element": 1}}] * 3), pa.array(["no label"] * 3)]
        for name, column in zip([name for name in names if name not in other.column_names][:2], values, strict=False):
            other = other.add_column(0, name, column)
    pq.write_table(other, folder / "other.parquet")
    columns = ColumnNames.model_validate(mapping)
    files = list_files(str(folder / "other.parquet"), columns)
    (footer,) = read_footers(files)
    assert sorted(footer.schema.names) == sorted(COLUMNS)
    assert feature_dim_of([footer], BUDGET) == D
    assert has_labels([footer])
    assert_same(read_back(folder / "other.parquet", columns), read_back(folder / "plain.parquet"))


def test_a_field_of_another_column_is_not_the_column(tmp_path: Path) -> None:
    """Both have the path features.list in Parquet."""
    table = whole_table([2, 2])
    wrong = pa.array([{"list": [[9.0] * D] * 5}] * 2)
    other = table.drop_columns(["features"]).add_column(0, "features", wrong)
    other = other.append_column("features.list", table.column("features"))
    pq.write_table(table, tmp_path / "plain.parquet")
    pq.write_table(other, tmp_path / "other.parquet")
    assert_same(
        read_back(tmp_path / "other.parquet", ColumnNames(features="features.list")),
        read_back(tmp_path / "plain.parquet"),
    )


@pytest.mark.parametrize("name", ["features.version", "label.x", "video_id.list.element"])
def test_a_column_whose_name_begins_like_another_is_ignored(name: str, tmp_path: Path) -> None:
    table = whole_table([2, 2])
    pq.write_table(table, tmp_path / "plain.parquet")
    pq.write_table(table.append_column(name, pa.array([1, 2])), tmp_path / "other.parquet")
    assert_same(read_back(tmp_path / "other.parquet"), read_back(tmp_path / "plain.parquet"))


def test_columns_of_the_old_names_are_ignored(tmp_path: Path) -> None:
    table = renamed(whole_table([2, 3]), OTHERS)
    noise = {"video_id": [["no"], ["id"]], "features": ["x", "y"], "label": [[1], [2]], "frame_index": [0.5, 0.5]}
    for name, values in noise.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_back(tmp_path / "a.parquet", ColumnNames(**OTHERS)).faults == {}
    with pytest.raises(DataError):
        read_back(tmp_path / "a.parquet")


@pytest.mark.parametrize("key", COLUMNS)
def test_a_missing_column_is_named_with_its_key(key: str, tmp_path: Path) -> None:
    pq.write_table(whole_table([2]), tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        read_back(tmp_path / "a.parquet", ColumnNames.model_validate({key: "embedding"}))
    assert str(caught.value) == (
        f"{tmp_path}/a.parquet: expected a column 'embedding' (columns.{key}), got columns ['video_id', 'features', "
        f"'label', 'frame_index']; correct columns.{key}"
    )
    pq.write_table(renamed(whole_table([2]), {key: "embedding"}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"\(columns.{key}\), got columns .*; did you mean 'embedding'\?$"):
        read_back(tmp_path / "a.parquet", ColumnNames.model_validate({key: "embeding"}))
    with pytest.raises(DataError, match=rf"expected a column 'Embedding' \(columns.{key}\), got 'embedding'; rename"):
        read_back(tmp_path / "a.parquet", ColumnNames.model_validate({key: "Embedding"}))


@pytest.mark.parametrize("key", ["video_id", "features"])
def test_the_key_is_advised_where_a_column_has_another_name(key: str, tmp_path: Path) -> None:
    pq.write_table(renamed(whole_table([2]), {key: "other"}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"expected a column '{key}', got .*the one that holds it as columns.{key}"):
        read_back(tmp_path / "a.parquet")
    pq.write_table(renamed(whole_table([2]), {key: key.upper()}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"got '{key.upper()}'; rename it, or give this name as columns.{key}"):
        read_back(tmp_path / "a.parquet")


def test_of_many_columns_some_are_shown(tmp_path: Path) -> None:
    pq.write_table(pa.table({f"c{number}": [1] for number in range(2000)}), tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        read_back(tmp_path / "a.parquet")
    assert "'c19', ...]" in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_type_is_named_with_the_column_and_the_key(tmp_path: Path) -> None:
    table = renamed(whole_table([2]), {"label": "y"})
    table = table.set_column(table.column_names.index("y"), "y", pa.array([True]))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column 'y' \(columns.label\): expected integer class ids .*, got bool"):
        read_back(tmp_path / "a.parquet", ColumnNames(label="y"))
    table = renamed(whole_table([2]), {"label": "y"})
    table = pa.Table.from_arrays([*table.columns, table.column("y")], names=[*table.column_names, "y"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="expected one column 'y', got 2"):
        read_back(tmp_path / "a.parquet", ColumnNames(label="y"))


# Directories ----------------------------------------------------------------------------------------------------------


def test_directories_have_the_names_of_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "y=2" / "label=9"
    folder.mkdir(parents=True)
    pq.write_table(renamed(whole_table([2, 1]), OTHERS).drop_columns(["y"]), folder / "a.parquet")
    rows = read_back(tmp_path, ColumnNames(**OTHERS))
    assert ([rows.label(row) for row in range(2)], rows.faults) == ([2, 2], {})
    assert has_labels(read_footers(list_files(str(tmp_path), ColumnNames(**OTHERS))))


def test_names_of_directories_are_mapped() -> None:
    columns = ColumnNames(video_id="label", label="video_id")
    url = "s3://b/video_id=3/label=a/x.parquet"
    assert named_by_directories(url, "s3://b", columns) == {"label": "3", "video_id": "a"}
    with pytest.raises(DataError, match=r"folder Y=3: expected y=..., got Y=...; rename it"):
        named_by_directories("s3://b/Y=3/x.parquet", "s3://b", ColumnNames(label="y"))
    assert named_by_directories("s3://b/Label=3/x.parquet", "s3://b", ColumnNames(label="y")) == {}
    with pytest.raises(DataError, match=r"expected one folder y=..., got '1' and '2'"):
        named_by_directories("s3://b/y=1/y=2/x.parquet", "s3://b", ColumnNames(label="y"))


# Files and videos -----------------------------------------------------------------------------------------------------


def test_a_file_by_other_names_is_another_file() -> None:
    """A reader that kept it open would otherwise read the old columns."""
    file = InputFile("a", 1, "v")
    other = InputFile("a", 1, "v", columns=ColumnNames(label="y"))
    assert len({file, other, InputFile("a", 1, "v", columns=ColumnNames(label="y"))}) == 2


def test_all_videos_of_a_table_by_other_names(tmp_path: Path) -> None:
    for part in range(2):
        table = make_table([2, 3], prefix=f"{part}-", seed=part, feature_dim=D, n_classes=C)
        (tmp_path / "plain").mkdir(exist_ok=True)
        (tmp_path / "other").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "plain" / f"{part}.parquet")
        names = {key: OTHERS[key] for key in ("video_id", "features", "label")}
        pq.write_table(renamed(table, names), tmp_path / "other" / f"{part}.parquet")
    videos, faults = read_videos(str(tmp_path / "plain"))
    others, other_faults = read_videos(str(tmp_path / "other"), VideoRequest(columns=ColumnNames(**names)))
    assert (len(videos), faults) == (4, other_faults)
    for video, other in zip(videos, others, strict=True):
        assert (video.video_id, video.label) == (other.video_id, other.label)
        assert video.features.tobytes() == other.features.tobytes()
