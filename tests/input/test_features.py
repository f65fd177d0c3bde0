"""Feature tables: every row that breaks the contract, every type it allows, and an oracle over random tables."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esv_ray.errors import DataError
from esv_ray.input.columns import check_types, own_columns
from esv_ray.input.features import Video
from esv_ray.input.parquet.id_columns import repeated_rows
from tests.conftest import make_table
from tests.support.feature_tables import BadRow, decode, plain

D, C = 3, 5
FIXED = pa.list_(pa.list_(pa.float32(), D))
NESTED = pa.list_(pa.list_(pa.float32()))
NAN, INF = float("nan"), float("inf")

Frames = list[list[float | None] | None] | None
Transform = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Row:
    """One row of a feature table, as Python values."""

    video_id: str | None
    features: Frames
    label: int | None = None
    frame_index: list[int | None] | None = None


FIRST = Row("first", [[1, 2, 3]], 4, [7])
LAST = Row("last", [[-1, 0.5, 2], [4, 5, 6]], 0, [3, 9])


def table_of(
    rows: Sequence[Row],
    features: pa.DataType = FIXED,
    *,
    label: pa.DataType | None = None,
    frame_index: pa.DataType | None = None,
    video_id: pa.DataType | None = None,
) -> pa.Table:
    """Rows as an Arrow table; the columns label and frame_index as int64 unless a type is given."""
    return pa.table(
        {
            "video_id": pa.array([row.video_id for row in rows], video_id or pa.string()),
            "features": pa.array([row.features for row in rows], features),
            "label": pa.array([row.label for row in rows], label or pa.int64()),
            "frame_index": pa.array([row.frame_index for row in rows], frame_index or pa.list_(pa.int64())),
        }
    )


def through_parquet(table: pa.Table) -> pa.Table:
    """The table as a real Parquet file gives it back, in row groups of two."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=2)
    sink.seek(0)
    back = pq.ParquetFile(sink).read()
    assert back.schema == table.schema
    return back


def in_chunks(table: pa.Table) -> pa.Table:
    """The table in chunks of one row, each of which shares the whole table's buffers."""
    parts = [table.slice(row, 1) for row in range(table.num_rows)]
    return pa.concat_tables([table.slice(0, 0), *parts]) if parts else table


def as_slice(table: pa.Table) -> pa.Table:
    """The table as a slice out of a longer one, whose other rows come in another order."""
    longer = pa.concat_tables([table.slice(1), table, table.slice(1)]).combine_chunks()
    return longer.slice(max(table.num_rows - 1, 0), table.num_rows)


def out_of_range(label: int) -> str:
    """The reason of a label that is no class of the model."""
    held = label < 2**63
    return f"label {label} is out of range: the model has classes 0..{C - 1}; if it marks videos without a label, " + (
        "add it to `unlabelled` in the spec" if held else "write null in its place"
    )


TRANSFORMS: dict[str, Transform] = {
    "memory": lambda table: table,
    "parquet": through_parquet,
    "chunks": in_chunks,
    "slice": as_slice,
    "slice of parquet": lambda table: as_slice(through_parquet(table)),
    "parquet of chunks": lambda table: through_parquet(in_chunks(table)),
}


@pytest.fixture(params=TRANSFORMS)
def transform(request: pytest.FixtureRequest) -> Transform:
    """The ways in which the same rows may lie in memory."""
    return TRANSFORMS[request.param]


def check_schema(schema: pa.Schema, location: str) -> int | None:
    """The feature size of a file's columns, all of which are checked."""
    return check_types(own_columns(schema, location), location)


def decoded(table: pa.Table, **options: Any) -> tuple[list[Video], list[BadRow]]:
    """`decode` for the sizes of these tests, the repeated ids found as a unit finds them."""
    check_schema(table.schema, "table")
    repeated = repeated_rows(plain(table).column("video_id")).tolist()
    return decode(table, **{"feature_dim": D, "n_classes": C, "repeated": repeated, **options})


def assert_good(video: Video, row: int, given: Row, dtype: npt.DTypeLike = np.float32) -> None:
    """The video is the row that was given."""
    assert (video.row, video.video_id, video.label) == (row, given.video_id, given.label)
    assert video.features.dtype == dtype
    np.testing.assert_array_equal(video.features, np.array(given.features, dtype))
    index = range(len(video.features)) if given.frame_index is None else given.frame_index
    assert video.frame_index.dtype == np.int32
    np.testing.assert_array_equal(video.frame_index, np.array(index))


def only_bad(table: pa.Table, **options: Any) -> BadRow:
    """The bad row in the middle; the rows beside it are decoded right."""
    videos, faulty = decoded(table, **options)
    assert len(videos) == 2, [row_fault.reason for row_fault in faulty]
    assert_good(videos[0], 0, FIRST)
    assert_good(videos[1], 2, LAST)
    assert [row_fault.row for row_fault in faulty] == [1]
    return faulty[0]


# Rows that break the contract -----------------------------------------------------------------------------------------

FRAMES: Frames = [[1, 1, 1], [2, 2, 2]]
NO_ID = "video_id is null or empty"


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        pytest.param(Row(None, FRAMES, 1), BadRow(1, "", 1, 2, NO_ID), id="null id"),
        pytest.param(Row("", FRAMES, 1), BadRow(1, "", 1, 2, NO_ID), id="empty id"),
        pytest.param(Row("x", None, 1), BadRow(1, "x", 1, 0, "features is null"), id="null features"),
        pytest.param(Row("x", [], 1), BadRow(1, "x", 1, 0, "no frames"), id="no frames"),
        pytest.param(Row("x", [[1, 1, 1], None]), BadRow(1, "x", None, 2, "frame 1 is null"), id="null frame"),
        pytest.param(Row("x", [None], 2), BadRow(1, "x", 2, 1, "frame 0 is null"), id="only a null frame"),
        pytest.param(
            Row("x", [[1, 1, 1], [1, None, 1]]),
            BadRow(1, "x", None, 2, "features are not finite: NaN, infinity or null in frame 1"),
            id="null value",
        ),
        pytest.param(
            Row("x", [[1, 1, 1], [1, 1, 1], [NAN, 1, 1]]),
            BadRow(1, "x", None, 3, "features are not finite: NaN, infinity or null in frame 2"),
            id="NaN",
        ),
        pytest.param(
            Row("x", [[1, 1, INF]]),
            BadRow(1, "x", None, 1, "features are not finite: NaN, infinity or null in frame 0"),
            id="infinity",
        ),
        pytest.param(
            Row("x", [[1, 1, -INF], [NAN, NAN, NAN]]),
            BadRow(1, "x", None, 2, "features are not finite: NaN, infinity or null in frame 0"),
            id="-infinity",
        ),
        pytest.param(
            Row("x", FRAMES, -1),
            BadRow(1, "x", -1, 2, out_of_range(-1)),
            id="negative label",
        ),
        pytest.param(
            Row("x", FRAMES, C),
            BadRow(1, "x", C, 2, out_of_range(5)),
            id="label C",
        ),
        pytest.param(
            Row("x", FRAMES, 2**40),
            BadRow(1, "x", None, 2, out_of_range(2**40)),
            id="label beyond int32",
        ),
        pytest.param(
            Row("x", FRAMES, -(2**63)),
            BadRow(1, "x", None, 2, out_of_range(-(2**63))),
            id="least label",
        ),
        pytest.param(
            Row("first", FRAMES, 1),
            BadRow(1, "first", 1, 2, "video_id is repeated: it stands earlier in the same file"),
            id="repeated id",
        ),
        pytest.param(
            Row("x", FRAMES, 1, [1]),
            BadRow(1, "x", 1, 2, "frame_index has 1 entries, features has 2 frames"),
            id="short frame_index",
        ),
        pytest.param(
            Row("x", FRAMES, 1, [1, 2, 3]),
            BadRow(1, "x", 1, 2, "frame_index has 3 entries, features has 2 frames"),
            id="long frame_index",
        ),
        pytest.param(
            Row("x", FRAMES, 1, []),
            BadRow(1, "x", 1, 2, "frame_index has 0 entries, features has 2 frames"),
            id="empty frame_index",
        ),
        pytest.param(
            Row("x", FRAMES, 1, [1, None]),
            BadRow(1, "x", 1, 2, "frame_index holds nulls or values that are not 32-bit integers"),
            id="null in frame_index",
        ),
        pytest.param(
            Row("x", FRAMES, 1, [1, 2**31]),
            BadRow(1, "x", 1, 2, "frame_index holds nulls or values that are not 32-bit integers"),
            id="frame_index beyond int32",
        ),
        pytest.param(
            Row("x", FRAMES, 1, [-(2**40), 1]),
            BadRow(1, "x", 1, 2, "frame_index holds nulls or values that are not 32-bit integers"),
            id="frame_index below int32",
        ),
    ],
)
@pytest.mark.parametrize("features", [FIXED, NESTED], ids=["fixed", "nested"])
def test_a_bad_row_fails_with_its_reason_and_no_other_does(
    broken: Row, expected: BadRow, features: pa.DataType, transform: Transform
) -> None:
    assert only_bad(transform(table_of([FIRST, broken, LAST], features))) == expected


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([[1, 1, 1], [1, 1]], "features are ragged: frames of 2 to 3 values, expected 3"),
        ([[1], [1, 1, 1, 1]], "features are ragged: frames of 1 to 4 values, expected 3"),
        ([[1, 1, 1], []], "features are ragged: frames of 0 to 3 values, expected 3"),
        ([[1, 1], [1, 1]], "features must be (T, 3), got (2, 2)"),
        ([[1, 1, 1, 1]], "features must be (T, 3), got (1, 4)"),
        ([[], []], "features must be (T, 3), got (2, 0)"),
        ([[1, 1, 1, NAN]], "features must be (T, 3), got (1, 4)"),
    ],
    ids=["one short", "short and long", "one empty", "D - 1", "D + 1", "D = 0", "NaN where D is wrong"],
)
def test_ragged_and_wrong_sizes(frames: Frames, reason: str, transform: Transform) -> None:
    faulty = only_bad(transform(table_of([FIRST, Row("x", frames, 1), LAST], NESTED)))
    assert faulty == BadRow(1, "x", 1, len(frames or []), reason)


def test_another_fixed_size_fails_every_row(transform: Transform) -> None:
    rows = [Row("a", [[1, 2, 3, 4]]), Row("b", [[1, 2, 3, 4]] * 2), Row("c", None)]
    videos, faulty = decoded(transform(table_of(rows, pa.list_(pa.list_(pa.float32(), 4)))))
    assert videos == []
    assert [row_fault.reason for row_fault in faulty] == [
        "features must be (T, 3), got (1, 4)",
        "features must be (T, 3), got (2, 4)",
        "features is null",
    ]


@pytest.mark.parametrize("outer", [FIXED, NESTED], ids=["fixed", "nested"])
def test_a_float64_beyond_float32_fails_where_float32_is_wanted(outer: pa.DataType, transform: Transform) -> None:
    frame = pa.list_(pa.float64(), D) if outer is FIXED else pa.list_(pa.float64())
    large = Row("x", [[1, 1, 1], [1, 1e39, 1]])
    table = transform(table_of([FIRST, large, LAST], pa.list_(frame)))
    beyond = "features are not finite: a number beyond the range of float32, in which they are computed, in frame 1"
    assert only_bad(table).reason == beyond

    videos, faulty = decoded(table, dtype=np.float64)
    assert faulty == []
    assert_good(videos[1], 1, large, np.float64)


def test_a_huge_unsigned_label_is_out_of_range(transform: Transform) -> None:
    table = table_of([FIRST, Row("x", FRAMES, 2**64 - 1), LAST], label=pa.uint64())
    reason = out_of_range(2**64 - 1)
    assert only_bad(transform(table)) == BadRow(1, "x", None, 2, reason)


def test_a_huge_unsigned_frame_index_is_beyond_32_bits(transform: Transform) -> None:
    table = table_of([FIRST, Row("x", FRAMES, 1, [0, 2**64 - 1]), LAST], frame_index=pa.list_(pa.uint64()))
    assert only_bad(transform(table)).reason == "frame_index holds nulls or values that are not 32-bit integers"


def test_of_a_repeated_id_the_first_stays_good(transform: Transform) -> None:
    rows = [
        Row("a", [[1, 0, 0]]),
        Row("b", [[2, 0, 0]]),
        Row("a", [[3, 0, 0]]),
        Row("a", [[4, 0, 0]]),
        Row("c", FRAMES),
    ]
    videos, faulty = decoded(transform(table_of(rows)))
    assert [(video.row, video.video_id, float(video.features[0, 0])) for video in videos] == [
        (0, "a", 1.0),
        (1, "b", 2.0),
        (4, "c", 1.0),
    ]
    assert [(row_fault.row, row_fault.video_id) for row_fault in faulty] == [(2, "a"), (3, "a")]
    assert {row_fault.reason for row_fault in faulty} == {"video_id is repeated: it stands earlier in the same file"}


def test_the_lack_of_an_id_is_no_repetition(transform: Transform) -> None:
    rows = [Row(None, FRAMES), Row("", FRAMES), Row(None, FRAMES), Row("", FRAMES)]
    table = transform(table_of(rows))
    assert repeated_rows(table.column("video_id")).tolist() == []
    assert {row_fault.reason for row_fault in decoded(table)[1]} == {NO_ID}


def test_an_id_that_stands_earlier_in_the_file_but_not_in_the_unit() -> None:
    table = table_of([FIRST, Row("x", FRAMES), LAST])
    _, faulty = decode(table, feature_dim=D, n_classes=C, repeated=[1])
    assert [(row_fault.row, row_fault.reason) for row_fault in faulty] == [
        (1, "video_id is repeated: it stands earlier in the same file")
    ]


def test_a_null_video_over_values_that_are_there() -> None:
    """In memory a null list may span values; they belong to nobody."""
    frames = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, NAN, NAN, NAN, 4, 5, 6], pa.float32()), D)
    features = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), frames, mask=pa.array([False, True, False]))
    table = pa.table({"video_id": ["a", "b", "c"], "features": features})
    videos, faulty = decoded(table)
    assert faulty == [BadRow(1, "b", None, 0, "features is null")]
    assert [video.features.tolist() for video in videos] == [[[1, 2, 3]], [[4, 5, 6]]]


def test_a_null_frame_over_values_that_are_there() -> None:
    frames = pa.ListArray.from_arrays(
        pa.array([0, 3, 6, 9], pa.int32()),
        pa.array([1, 2, 3, 4, 5, 6, 7, 8, 9], pa.float32()),
        mask=pa.array([False, True, False]),
    )
    table = pa.table(
        {"video_id": ["a", "b"], "features": pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), frames)}
    )
    videos, faulty = decoded(table)
    assert faulty == [BadRow(0, "a", None, 2, "frame 1 is null")]
    assert [video.features.tolist() for video in videos] == [[[7, 8, 9]]]


# What the contract allows ---------------------------------------------------------------------------------------------

VALUES = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}
FRAME_OF: dict[str, Callable[[pa.DataType], pa.DataType]] = {
    "fixed": lambda value: pa.list_(value, D),
    "list": pa.list_,
    "large_list": pa.large_list,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outer", [pa.list_, pa.large_list], ids=["list", "large_list"])
@pytest.mark.parametrize("frame", FRAME_OF)
@pytest.mark.parametrize("value", VALUES)
def test_every_type_of_features(
    value: str, frame: str, outer: Callable[[pa.DataType], pa.DataType], dtype: npt.DTypeLike, transform: Transform
) -> None:
    rng = np.random.default_rng(5)
    numbers = [rng.standard_normal((n, D)).astype(value) for n in (2, 1, 4)]
    rows = [Row(f"v{place}", video.tolist(), place) for place, video in enumerate(numbers)]
    rows.insert(1, Row("bad", [[1, 1, 1], [1, NAN, 1]]))
    rows.insert(3, Row("null", None))
    kind = outer(FRAME_OF[frame](VALUES[value]))
    table = transform(table_of(rows, kind))
    assert check_schema(table.schema, "table") == (D if frame == "fixed" else None)
    videos, faulty = decoded(table, dtype=dtype)
    assert [video.video_id for video in videos] == ["v0", "v1", "v2"]
    for video, expected in zip(videos, numbers, strict=True):
        assert video.features.dtype == dtype
        np.testing.assert_array_equal(video.features, expected.astype(dtype))
    assert [(row_fault.row, row_fault.reason) for row_fault in faulty] == [
        (1, "features are not finite: NaN, infinity or null in frame 1"),
        (3, "features is null"),
    ]


INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


@pytest.mark.parametrize("label", INTEGERS, ids=str)
def test_labels_of_every_integer_type(label: pa.DataType, transform: Transform) -> None:
    labels = [0, None, C - 1, C, 2, None, 127]
    rows = [Row(f"v{place}", FRAMES, label_id) for place, label_id in enumerate(labels)]
    videos, faulty = decoded(transform(table_of(rows, label=label)))
    assert {video.row: video.label for video in videos} == {0: 0, 1: None, 2: 4, 4: 2, 5: None}
    assert {type(video.label) for video in videos} == {int, type(None)}
    assert [(label_id.row, label_id.label) for label_id in faulty] == [(3, 5), (6, 127)]


def test_a_label_column_of_nulls_alone(transform: Transform) -> None:
    rows = [Row("a", FRAMES), Row("b", FRAMES)]
    videos, faulty = decoded(transform(table_of(rows, label=pa.null())))
    assert faulty == []
    assert [video.label for video in videos] == [None, None]


def test_without_labels_and_frame_indices(transform: Transform) -> None:
    table = table_of([FIRST, Row("bad", [])]).select(["video_id", "features"])
    videos, faulty = decoded(transform(table))
    assert [(video.label, video.frame_index.tolist()) for video in videos] == [(None, [0])]
    assert [row_fault.label for row_fault in faulty] == [None]


LISTS = {"list": pa.list_, "large_list": pa.large_list, "fixed": lambda kind: pa.list_(kind, 2)}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("value", INTEGERS, ids=str)
def test_frame_indices_of_every_type(value: pa.DataType, kind: str, transform: Transform) -> None:
    rows = [
        Row("given", FRAMES, None, [5, 100]),
        Row("null", [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        Row("one null", FRAMES, None, [None, 1]),
        Row("too long", [[1, 2, 3]], None, [3, 4]),
        Row("given too", FRAMES, None, [0, 127]),
    ]
    videos, faulty = decoded(transform(table_of(rows, frame_index=LISTS[kind](value))))
    assert [(video.video_id, video.frame_index.tolist()) for video in videos] == [
        ("given", [5, 100]),
        ("null", [0, 1, 2]),
        ("given too", [0, 127]),
    ]
    assert {video.frame_index.dtype for video in videos} == {np.dtype(np.int32)}
    assert [(row_fault.video_id, row_fault.reason) for row_fault in faulty] == [
        ("one null", "frame_index holds nulls or values that are not 32-bit integers"),
        ("too long", "frame_index has 2 entries, features has 1 frames"),
    ]


def test_large_strings_as_ids(transform: Transform) -> None:
    rows = [FIRST, Row(None, FRAMES), Row("first", FRAMES), Row("größer", FRAMES)]
    videos, faulty = decoded(transform(table_of(rows, video_id=pa.large_string())))
    assert [video.video_id for video in videos] == ["first", "größer"]
    assert [row_fault.row for row_fault in faulty] == [1, 2]


@pytest.mark.parametrize("features", [FIXED, NESTED, pa.large_list(pa.large_list(pa.float16()))], ids=str)
def test_a_table_without_rows(features: pa.DataType, transform: Transform) -> None:
    assert decoded(transform(table_of([], features))) == ([], [])


def test_a_table_without_chunks() -> None:
    empty = table_of([])
    table = pa.table({name: pa.chunked_array([], empty.schema.field(name).type) for name in empty.column_names})
    assert decoded(table) == ([], [])


def test_every_slice_of_a_file_decodes_as_the_whole(transform: Transform) -> None:
    """A unit is a slice of a row group; its rows must not depend on where it was cut."""
    rows = [
        FIRST,
        Row("null", None, 1),
        Row("ragged", [[1, 2, 3], [1]], 1),
        LAST,
        Row("empty", [], 1),
        Row("index", FRAMES, 1, [1]),
        Row("end", [[9, 9, 9]], 3),
    ]
    table = transform(table_of(rows, NESTED))
    reasons = {row.video_id: row.reason for row in decoded(table)[1]}
    assert set(reasons) == {"null", "ragged", "empty", "index"}
    for start in range(len(rows)):
        for stop in range(start, len(rows) + 1):
            videos, faulty = decoded(table.slice(start, stop - start))
            assert sorted([row.row for row in videos] + [row.row for row in faulty]) == list(range(stop - start))
            for video in videos:
                assert_good(video, video.row, rows[start + video.row])
            assert {row.video_id: row.reason for row in faulty} == {
                row.video_id: reasons[row.video_id] for row in rows[start:stop] if row.video_id in reasons
            }


def test_decoded_features_can_be_written_to() -> None:
    """Torch warns of arrays that are read-only, and Arrow's buffers are."""
    for value in VALUES:
        rows = [Row("a", FRAMES)]
        videos, _ = decoded(through_parquet(table_of(rows, pa.list_(pa.list_(VALUES[value], D)))), dtype=value)
        assert videos[0].features.flags.writeable


# Schemas --------------------------------------------------------------------------------------------------------------

GOOD_FIELDS = {
    "video_id": pa.string(),
    "features": FIXED,
    "label": pa.int64(),
    "frame_index": pa.list_(pa.int32()),
}


def schema_with(**fields: pa.DataType | None) -> pa.Schema:
    """A good schema but for the fields given; None leaves one out."""
    return pa.schema([(name, kind) for name, kind in {**GOOD_FIELDS, **fields}.items() if kind is not None])


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("video_id", pa.float64(), "column video_id: expected string or integer, got double; cast it to string"),
        ("video_id", pa.binary(5000), "column video_id: expected string or integer, got fixed_size_binary[5000]"),
        ("video_id", pa.decimal128(9, 2), "column video_id: expected string or integer, got decimal128(9, 2)"),
        ("video_id", pa.timestamp("us"), "column video_id: expected string or integer, got timestamp[us]"),
        ("video_id", pa.bool_(), "column video_id: expected string or integer, got bool"),
        ("video_id", pa.null(), "column video_id: expected string or integer, got null"),
        ("video_id", pa.list_(pa.string()), "column video_id: expected string or integer, got list<item: string>"),
        ("features", pa.list_(pa.int8()), "column features: expected list<fixed_size_list<float16/32/64, D>>, list<"),
        ("features", pa.float32(), "got float"),
        ("features", pa.list_(pa.list_(pa.int32(), 3)), "got list<item: fixed_size_list<item: int32>[3]>"),
        ("features", pa.list_(pa.list_(pa.list_(pa.float32()))), "got list<item: list<item: list<item: float>>>"),
        (
            "features",
            pa.list_(pa.int32(), 6),
            "got fixed_size_list<item: int32>[6]; store one list of D floats",
        ),
        ("features", pa.list_(pa.decimal128(9, 2)), "got list<item: decimal128(9, 2)>"),
        ("features", pa.map_(pa.int32(), pa.list_(pa.float32())), "got map<int32, list<item: float>"),
        ("features", pa.binary(), "got binary"),
        ("features", pa.fixed_shape_tensor(pa.float32(), [6]), "got extension<arrow.fixed_shape_tensor["),
        ("features", pa.fixed_shape_tensor(pa.float32(), [2, 3, 1]), "got extension<arrow.fixed_shape_tensor["),
        (
            "features",
            pa.fixed_shape_tensor(pa.float32(), [3, 2], permutation=[1, 0]),
            "got extension<arrow.fixed_shape_tensor[",
        ),
        (
            "label",
            pa.bool_(),
            "column label: expected integer class ids or names of classes, got bool; cast it to int64",
        ),
        (
            "label",
            pa.list_(pa.int64()),
            "column label: expected integer class ids or names of classes, got list<item: int64>",
        ),
        (
            "label",
            pa.struct([("id", pa.int64())]),
            "column label: expected integer class ids or names of classes, got struct<id: int64>",
        ),
        ("label", pa.date32(), "column label: expected integer class ids or names of classes, got date32[day]"),
        ("frame_index", pa.int32(), "column frame_index: expected list<int>, got int32"),
        ("frame_index", pa.list_(pa.string()), "column frame_index: expected list<int>, got list<item: string>"),
        (
            "frame_index",
            pa.list_(pa.timestamp("us")),
            "column frame_index: expected list<int>, got list<item: time",
        ),
    ],
)
def test_a_column_of_another_type_is_refused(name: str, kind: pa.DataType, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        check_schema(schema_with(**{name: kind}), "s3://there/file.parquet")
    message = str(caught.value)
    assert message.startswith(f"s3://there/file.parquet: column {name}: expected ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["video_id", "features"])
def test_a_missing_column_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"^here: expected a column '{name}', got columns \\["):
        check_schema(schema_with(**{name: None}), "here")


@pytest.mark.parametrize("left_out", [("label",), ("frame_index",), ("label", "frame_index")])
def test_columns_that_may_be_absent(left_out: tuple[str, ...]) -> None:
    schema = schema_with(**dict.fromkeys(left_out))
    assert check_schema(schema, "here") == D
    assert own_columns(schema, "here").names == [name for name in GOOD_FIELDS if name not in left_out]


def test_other_columns_are_ignored() -> None:
    schema = schema_with(extra=pa.struct([("a", pa.binary())]), features_old=pa.string())
    assert check_schema(schema, "here") == D
    assert own_columns(schema, "here").names == ["video_id", "features", "label", "frame_index"]


def test_the_shared_table_is_a_feature_table(transform: Transform) -> None:
    table = make_table([1, 2, 3], feature_dim=D, n_classes=C)
    videos, faulty = decoded(transform(table))
    assert faulty == []
    assert [video.features.tolist() for video in videos] == table.column("features").to_pylist()


# A slow oracle over random tables -------------------------------------------------------------------------------------


def oracle(given: dict[str, Any], earlier: set[str], dtype: npt.DTypeLike) -> Row | str:
    """What the contract says of one row: the row as it is read, or how its reason begins."""
    name, frames, label, index = (given[key] for key in ("video_id", "features", "label", "frame_index"))
    if not name:
        return NO_ID
    if name in earlier:
        return "video_id is repeated"
    if frames is None:
        return "features is null"
    if not frames:
        return "no frames"
    for place, frame in enumerate(frames):
        if frame is None:
            return f"frame {place} is null"
    if len({len(frame) for frame in frames}) > 1:
        return "features are ragged"
    if len(frames[0]) != D:
        return f"features must be (T, {D}), got ({len(frames)}, {len(frames[0])})"
    for place, frame in enumerate(frames):
        with np.errstate(over="ignore"):
            if any(value is None or not np.isfinite(np.asarray(value, dtype)) for value in frame):
                if all(value is not None and np.isfinite(value) for value in frame):
                    return "features are not finite: a number beyond the range of"
                return f"features are not finite: NaN, infinity or null in frame {place}"
    if label is not None and not 0 <= label < C:
        return f"label {label} is out of range"
    if index is not None and len(index) != len(frames):
        return f"frame_index has {len(index)} entries, features has {len(frames)} frames"
    if index is not None and any(number is None or abs(number) >= 2**31 for number in index):
        return "frame_index holds nulls or"
    return Row(name, frames, label, index)


NUMBERS = st.sampled_from([0.0, -1.0, 0.5, 3.25, -1024.0])
DEFECTS = st.sampled_from([NAN, INF, -INF, None])


@st.composite
def rows_and_types(draw: st.DrawFn) -> tuple[list[Row], pa.DataType, pa.DataType]:
    """Mostly good rows, some with one defect or several; the type of features, and of labels."""
    value = draw(st.sampled_from(sorted(VALUES)))
    shape = draw(st.sampled_from(sorted(FRAME_OF)))
    outer = draw(st.sampled_from([pa.list_, pa.large_list]))
    label = draw(st.sampled_from([pa.int32(), pa.int64()]))
    beyond = st.sampled_from([1e39, -3.5e38]) if value == "float64" else NUMBERS
    number = st.integers(0, 19).flatmap(lambda die: DEFECTS if die == 0 else beyond if die == 1 else NUMBERS)
    full = st.lists(number, min_size=D, max_size=D)
    frame = full if shape == "fixed" else st.integers(0, 9).flatmap(lambda die: st.lists(number) if die == 0 else full)
    frame_or_null = st.integers(0, 14).flatmap(lambda die: st.none() if die == 0 else frame)
    frames = st.integers(0, 9).flatmap(
        lambda die: st.none() if die == 0 else st.lists(frame_or_null, min_size=min(die - 1, 1), max_size=4)
    )
    index = st.none() | st.lists(
        st.integers(0, 9).flatmap(lambda die: st.sampled_from([None, 2**31, -(2**35)]) if die == 0 else st.just(die)),
        max_size=4,
    )
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        table = draw(frames)
        fitting: list[int | None] = list(range(3, 3 + len(table or [])))
        numbered = draw(st.sampled_from([None, fitting]) | index)
        rows.append(
            Row(
                draw(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h", "ü", "", None])),
                table,
                draw(st.none() | st.integers(-1, C + 1) | st.sampled_from([2**31 - 1, -(2**31)])),
                numbered,
            )
        )
    return rows, outer(FRAME_OF[shape](VALUES[value])), label


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    made=rows_and_types(), layout=st.sampled_from(sorted(TRANSFORMS)), dtype=st.sampled_from([np.float32, np.float64])
)
def test_random_tables_against_the_oracle(
    made: tuple[list[Row], pa.DataType, pa.DataType], layout: str, dtype: type[np.floating[Any]]
) -> None:
    rows, features, label = made
    table = TRANSFORMS[layout](table_of(rows, features, label=label))
    videos, faulty = decoded(table, dtype=dtype)
    good_at = {video.row: video for video in videos}
    bad_at = {row_fault.row: row_fault for row_fault in faulty}
    assert [video.row for video in videos] == sorted(good_at)
    assert [row_fault.row for row_fault in faulty] == sorted(bad_at)
    assert sorted([*good_at, *bad_at]) == list(range(len(rows)))
    earlier: set[str] = set()
    for place, given_row in enumerate(table.to_pylist()):
        expected = oracle(given_row, earlier, dtype)
        earlier |= {given_row["video_id"]}
        if isinstance(expected, Row):
            assert place in good_at, bad_at[place].reason
            assert_good(good_at[place], place, expected, dtype)
        else:
            assert place in bad_at, expected
            assert bad_at[place].reason.startswith(expected)
            assert bad_at[place].video_id == (given_row["video_id"] or "")
            assert bad_at[place].n_frames == len(given_row["features"] or [])
            if given_row["label"] is None or abs(given_row["label"]) < 2**31:
                assert bad_at[place].label == given_row["label"]
            else:
                assert bad_at[place].label is None


# Found and mended -----------------------------------------------------------------------------------------------------


def test_two_ignored_columns_of_one_name() -> None:
    schema = pa.schema([*schema_with(), pa.field("note", pa.string()), pa.field("note", pa.string())])
    assert check_schema(schema, "here") == D


@pytest.mark.parametrize("name", list(GOOD_FIELDS))
def test_a_column_that_is_there_twice_is_refused(name: str) -> None:
    schema = pa.schema([*schema_with(), pa.field(name, GOOD_FIELDS[name])])
    with pytest.raises(DataError, match=name):
        check_schema(schema, "here")


def test_an_id_that_is_not_text() -> None:
    """Parquet writers do not all check; the row has no id, and the others are good."""
    ids = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(np.array([0, 5, 7, 11], np.int32)), pa.py_buffer(b"first\xff\xfelast")]
    )
    table = table_of([FIRST, Row("x", FRAMES, 1), LAST]).set_column(0, "video_id", ids)
    faulty = only_bad(through_parquet(table))
    assert "video_id" in faulty.reason
