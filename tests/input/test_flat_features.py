"""Features that are flat lists of T * D numbers: the same as lists of frames, where D is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esv_ray.errors import DataError
from esv_ray.forecast.lengths import lengths_from_footers, lengths_from_rows
from esv_ray.input.features import Contract, FeatureRows
from esv_ray.input.files import list_files
from esv_ray.input.frames import frame_counts
from esv_ray.input.parquet.opening import read_footers
from esv_ray.input.reading import check_flat_sizes, feature_dim_of, read_rows
from esv_ray.input.unit_reader import UnitReader
from esv_ray.input.units import plan_units
from esv_ray.input.videos import VideoRequest, read_videos
from tests.conftest import make_table

C, BUDGET = 3, 10**8


def flattened(table: pa.Table) -> pa.Table:
    """The table with the frames of each row joined to one list."""
    nested = table.column("features").to_pylist()
    flat = [None if frames is None else [value for frame in frames for value in frame] for frames in nested]
    place = table.column_names.index("features")
    return table.set_column(place, "features", pa.array(flat, pa.list_(pa.float32())))


def with_features(features: pa.Array) -> pa.Table:
    return pa.table({"video_id": [f"v{row}" for row in range(len(features))], "features": features})


def read_back(url: Path, dim: int, budget: int = BUDGET, unit: int = 100_000) -> list[FeatureRows]:
    reader = UnitReader(Contract(dim, C), budget)
    return [read_rows(unit_, reader) for unit_ in plan_units(read_footers(list_files(str(url))), unit)]


def frames_of(rows: FeatureRows, row: int) -> npt.NDArray[np.floating]:
    (frames,) = rows.features(np.array([row]), np.arange(rows.n_frames[row], dtype=np.int64)[None])
    return np.asarray(frames)


@pytest.mark.slow
@given(
    lengths=st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=8),
    extra=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    bad=st.lists(st.sampled_from([0.0, 0.0, 0.0, float("nan"), float("inf")]), min_size=8, max_size=8),
    dim=st.integers(1, 4),
    unit=st.integers(1, 9),
    width=st.sampled_from([pa.float16(), pa.float32(), pa.float64()]),
)
def test_flat_lists_by_a_slow_oracle(
    lengths: list[int | None],
    extra: list[int],
    bad: list[float],
    dim: int,
    unit: int,
    width: pa.DataType,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rng, rows = np.random.default_rng(len(lengths)), []
    for length, more, offence in zip(lengths, extra, bad, strict=False):
        values = None if length is None else rng.standard_normal(length * dim + more).astype(np.float16).tolist()
        if values:
            values[-1] += offence
        rows.append(values)
    path = tmp_path_factory.mktemp("flat") / "a.parquet"
    features = pa.array([None if row is None else np.array(row, np.float16) for row in rows], pa.list_(pa.float16()))
    pq.write_table(with_features(features.cast(pa.list_(width))), path, row_group_size=5)
    place = 0
    for read in read_back(path, dim, unit=unit):
        for row in range(len(read.ids)):
            values = rows[place]
            if values is None:
                assert (read.faults[row], read.n_frames[row]) == ("features is null", 0)
            elif not values:
                assert (read.faults[row], read.n_frames[row]) == ("no frames", 0)
            elif len(values) % dim:
                expected = (
                    f"features must be flat lists of T * {dim} numbers, got {len(values)}, which is not a multiple"
                )
                assert (read.faults[row], read.n_frames[row]) == (f"{expected} of {dim}", 0)
            elif not np.isfinite(values).all():
                last = len(values) // dim - 1
                assert read.faults[row] == f"features are not finite: NaN, infinity or null in frame {last}"
                assert read.n_frames[row] == last + 1
            else:
                assert row not in read.faults
                expected_frames = np.array(values, np.float32).reshape(-1, dim)
                assert frames_of(read, row).tobytes() == expected_frames.tobytes()
            place += 1
    assert place == len(rows)


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
def test_flat_lists_of_a_fixed_size(dim: int, tmp_path: Path) -> None:
    values = np.arange(18, dtype=np.float32)
    features = pa.FixedSizeListArray.from_arrays(pa.array(values), 6)
    pq.write_table(with_features(features), tmp_path / "a.parquet")
    (rows,) = read_back(tmp_path, dim)
    assert rows.faults == {}
    assert rows.n_frames.tolist() == [6 // dim] * 3
    assert [frames_of(rows, row).tolist() for row in range(3)] == values.reshape(3, -1, dim).tolist()
    (rows,) = read_back(tmp_path, 4)
    assert list(rows.faults) == [0, 1, 2]


def test_tensors_say_their_size(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    pq.write_table(with_features(tensors), tmp_path / "a.parquet")
    assert feature_dim_of(read_footers(list_files(str(tmp_path))), BUDGET) == 3
    (rows,) = read_back(tmp_path, 3)
    assert frames_of(rows, 1).tolist() == [[6, 7, 8], [9, 10, 11]]
    videos, _ = read_videos(str(tmp_path))
    assert [video.features.shape for video in videos] == [(2, 3), (2, 3)]


def test_nulls_in_flat_lists_fail_their_row(tmp_path: Path) -> None:
    features = pa.array([[1.0, 2.0, 3.0, 4.0], [1.0, None], [5.0, 6.0]], pa.list_(pa.float32()))
    pq.write_table(with_features(features), tmp_path / "a.parquet")
    (rows,) = read_back(tmp_path, 2)
    assert rows.faults == {1: "features are not finite: NaN, infinity or null in frame 0"}


def test_frame_numbers_tell_another_size(tmp_path: Path) -> None:
    """Where a flat list is a multiple of a wrong D, only they can."""
    table = with_features(pa.array([[1.0] * 12], pa.list_(pa.float32())))
    pq.write_table(table.append_column("frame_index", pa.array([[0, 1, 2]])), tmp_path / "a.parquet")
    assert read_back(tmp_path, 4)[0].faults == {}
    assert read_back(tmp_path, 6)[0].faults == {0: "frame_index has 3 entries, features has 2 frames"}


# D --------------------------------------------------------------------------------------------------------------------


def test_a_flat_table_does_not_say_its_size(tmp_path: Path) -> None:
    pq.write_table(flattened(make_table([3, 1, 2])), tmp_path / "a.parquet")
    footers = read_footers(list_files(str(tmp_path)))
    assert feature_dim_of(footers, BUDGET) is None
    with pytest.raises(DataError, match=r"features are flat lists of T \* D numbers, which do not say D; set it, or"):
        read_videos(str(tmp_path), VideoRequest(dim_advice="set it"))
    videos, faults = read_videos(str(tmp_path), VideoRequest(feature_dim=4))
    assert ([video.features.shape for video in videos], faults.total()) == ([(3, 4), (1, 4), (2, 4)], 0)


def test_another_size_than_the_tables_is_refused(tmp_path: Path) -> None:
    pq.write_table(make_table([3, 1, 2]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"features must be \(T, 5\), got \(T, 4\)"):
        read_videos(str(tmp_path), VideoRequest(feature_dim=5))
    assert len(read_videos(str(tmp_path), VideoRequest(feature_dim=4))[0]) == 3


def test_flat_lists_of_which_none_fits_are_refused(tmp_path: Path) -> None:
    pq.write_table(
        with_features(pa.array([None, [], [1.0] * 6, [1.0] * 9], pa.list_(pa.float32()))), tmp_path / "a.parquet"
    )
    footers = read_footers(list_files(str(tmp_path)))
    check_flat_sizes(footers, 3, BUDGET, "table")
    check_flat_sizes(footers, 9, BUDGET, "table")
    with pytest.raises(
        DataError, match=r"^table: features must be flat lists of T \* 5 numbers, got lists of up to 9, none"
    ):
        check_flat_sizes(footers, 5, BUDGET, "table")


# Forecasts ------------------------------------------------------------------------------------------------------------


def test_lengths_of_a_flat_table_are_those_of_its_frames(tmp_path: Path) -> None:
    table = make_table([3, 1, 2, 6, 6, 0])
    (tmp_path / "plain").mkdir()
    (tmp_path / "flat").mkdir()
    pq.write_table(table, tmp_path / "plain" / "a.parquet", row_group_size=3)
    pq.write_table(flattened(table), tmp_path / "flat" / "a.parquet", row_group_size=3)
    seen = []
    for name in ("plain", "flat"):
        files = list_files(str(tmp_path / name))
        footers = read_footers(files)
        units = plan_units(footers, 2)
        seen.append(
            (lengths_from_rows(files, footers, 4, units, BUDGET), lengths_from_footers(files, footers, 4, units))
        )
    assert seen[0] == seen[1]
    assert seen[0][0].videos == {1: 1, 2: 1, 3: 1, 6: 2}
    column = pa.chunked_array([pa.array([[1.0] * 8, [1.0] * 7, None], pa.list_(pa.float32()))])
    assert frame_counts(column, 4).tolist() == [2, 0, 0]


def test_a_flat_row_group_beyond_the_budget_fails(tmp_path: Path) -> None:
    pq.write_table(with_features(pa.array([[1.0] * 4000] * 20, pa.list_(pa.float32()))), tmp_path / "a.parquet")
    (rows,) = read_back(tmp_path, 4, budget=100_000)
    assert set(rows.faults) == set(range(20))
    assert "compute.memory_budget is 100000" in rows.faults[0]
    assert rows.ids == [f"v{row}" for row in range(20)]
