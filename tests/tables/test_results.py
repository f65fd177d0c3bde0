"""The two tables of a unit: the contract's schemas, the same bytes for the same outcomes, counts in the footer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esv_ray.errors import DataError
from esv_ray.tables.results import (
    NO_COUNTS,
    Computed,
    Outcome,
    UnitCounts,
    choose_classes,
    counts_of,
    unit_tables,
)

C = 4


def computed(n: int, classes: Sequence[int], *, seed: int = 0, exact: bool = True) -> Computed:
    """Random numbers in the shape of a result."""
    rng = np.random.default_rng(seed)
    return Computed(
        scores=rng.random(C).astype(np.float32),
        classes=np.array(classes, np.int32),
        esv=rng.standard_normal((n, len(classes))).astype(np.float32),
        stderr=None if exact else rng.random((n, len(classes))).astype(np.float32),
        frame_index=np.arange(n, dtype=np.int32) * 3 + 1,
        exact=exact,
        evaluations=2**n - 1,
        efficiency_gap=float(np.float32(1e-7)),
    )


def some_outcomes() -> list[list[Outcome]]:
    """A good video at two lengths, a failed one, one skipped at a length, one without kept classes."""
    return [
        [
            Outcome("a", 2, 9, 2, "ok", computed=computed(2, [0, 2], seed=1)),
            Outcome("a", 2, 9, 5, "ok", computed=computed(5, [0, 2], seed=2, exact=False)),
        ],
        [Outcome("", None, 0, n, "failed", "no frames") for n in (2, 5)],
        [
            Outcome("b", None, 2, 2, "ok", computed=computed(2, [3], seed=3)),
            Outcome("b", None, 2, 5, "skipped", "2 frames, 5 asked for"),
        ],
        [Outcome("ü", None, 3, 3, "ok", computed=computed(3, [], seed=4))],
    ]


def read(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def fields(data: bytes) -> list[tuple[str, str, bool]]:
    """Name, type and nullability of each column of a file."""
    return [(field.name, str(field.type), field.nullable) for field in pq.read_schema(io.BytesIO(data))]


VIDEO_FIELDS = [
    ("video_id", "string", False),
    ("label", "int32", True),
    ("n_frames", "int32", False),
    ("n_elements", "int32", False),
    ("predicted", "int32", True),
    ("scores", "list<element: float>", True),
    ("exact", "bool", False),
    ("evaluations", "int64", False),
    ("efficiency_gap", "float", True),
    ("status", "string", False),
    ("reason", "string", True),
]
ATTRIBUTION_FIELDS = [
    ("video_id", "string", False),
    ("n_elements", "int32", False),
    ("class", "int32", False),
    ("element", "int32", False),
    ("frame_index", "int32", False),
    ("esv", "float", False),
    ("stderr", "float", True),
]

FAILED = [[Outcome("x", None, 0, 1, "failed", "no frames")]]


@pytest.mark.parametrize("outcomes", [some_outcomes(), [], FAILED], ids=["some", "none", "all failed"])
def test_the_schemas_of_the_contract(outcomes: list[list[Outcome]]) -> None:
    attributions, videos, _ = unit_tables(outcomes)
    assert [(n, t.replace("item", "element"), null) for n, t, null in fields(videos)] == VIDEO_FIELDS
    assert fields(attributions) == ATTRIBUTION_FIELDS


def test_the_videos_table() -> None:
    rows = read(unit_tables(some_outcomes())[1]).to_pylist()
    assert [(row["video_id"], row["n_elements"], row["status"], row["reason"]) for row in rows] == [
        ("a", 2, "ok", None),
        ("a", 5, "ok", None),
        ("", 2, "failed", "no frames"),
        ("", 5, "failed", "no frames"),
        ("b", 2, "ok", None),
        ("b", 5, "skipped", "2 frames, 5 asked for"),
        ("ü", 3, "ok", None),
    ]
    assert [row["label"] for row in rows] == [2, 2, None, None, None, None, None]
    assert [row["n_frames"] for row in rows] == [9, 9, 0, 0, 2, 2, 3]
    assert [row["exact"] for row in rows] == [True, False, False, False, True, False, True]
    assert [row["evaluations"] for row in rows] == [3, 31, 0, 0, 3, 0, 7]
    done = [outcome.computed for row in some_outcomes() for outcome in row]
    for row, one in zip(rows, done, strict=True):
        if one is None:
            assert (row["scores"], row["predicted"], row["efficiency_gap"]) == (None, None, None)
        else:
            assert row["scores"] == one.scores.tolist()
            assert row["predicted"] == row["scores"].index(max(row["scores"]))
            assert row["efficiency_gap"] == one.efficiency_gap


def test_the_attributions_table() -> None:
    """One row for each (video, n_elements, class, element), in that order."""
    rows = read(unit_tables(some_outcomes())[0]).to_pylist()
    expected: list[dict[str, Any]] = []
    for outcome in (outcome for row in some_outcomes() for outcome in row):
        one = outcome.computed
        if one is None:
            continue
        for column, kept in enumerate(one.classes.tolist()):
            expected += [
                {
                    "video_id": outcome.video_id,
                    "n_elements": outcome.n_elements,
                    "class": kept,
                    "element": element,
                    "frame_index": int(one.frame_index[element]),
                    "esv": float(one.esv[element, column]),
                    "stderr": None if one.stderr is None else float(one.stderr[element, column]),
                }
                for element in range(outcome.n_elements)
            ]
    assert rows == expected
    assert len(rows) == 2 * 2 + 2 * 5 + 2


def test_stderr_is_null_exactly_where_there_is_none() -> None:
    rows = read(unit_tables(some_outcomes())[0]).to_pylist()
    assert {(row["video_id"], row["n_elements"]) for row in rows if row["stderr"] is None} == {("a", 2), ("b", 2)}
    assert {(row["video_id"], row["n_elements"]) for row in rows if row["stderr"] is not None} == {("a", 5)}


def test_an_estimate_without_stderr_has_none() -> None:
    one = replace(computed(3, [1]), exact=False)
    rows = read(unit_tables([[Outcome("a", None, 3, 3, "ok", computed=one)]])[0])
    assert rows.column("stderr").to_pylist() == [None] * 3


def test_the_same_outcomes_give_the_same_bytes() -> None:
    assert unit_tables(some_outcomes()) == unit_tables(some_outcomes())


def test_other_outcomes_give_other_bytes() -> None:
    changed = some_outcomes()
    changed[2][0] = Outcome("b", None, 2, 2, "ok", computed=computed(2, [3], seed=9))
    attributions, videos, counts = unit_tables(changed)
    assert attributions != unit_tables(some_outcomes())[0]
    assert videos != unit_tables(some_outcomes())[1]
    assert counts == unit_tables(some_outcomes())[2]


@pytest.mark.parametrize("outcomes", [[], [[]]], ids=["no rows", "a row without lengths"])
def test_without_outcomes(outcomes: list[list[Outcome]]) -> None:
    attributions, videos, counts = unit_tables(outcomes)
    assert (read(attributions).num_rows, read(videos).num_rows) == (0, 0)
    assert counts == UnitCounts(len(outcomes), len(outcomes), 0, 0, 0, 0)


def test_where_every_row_failed() -> None:
    attributions, videos, counts = unit_tables(FAILED * 3)
    assert read(attributions).num_rows == 0
    assert read(videos).column("scores").null_count == 3
    assert counts == UnitCounts(3, 0, 0, 3, 3, 0)


# Counts ---------------------------------------------------------------------------------------------------------------


def test_the_counts_of_a_unit() -> None:
    """A row counts once: failed if it failed at any length, else skipped if it was skipped at any, else ok."""
    outcomes = some_outcomes()
    outcomes.append([Outcome("c", None, 9, n, s, "why") for n, s in ((2, "skipped"), (5, "failed"))])  # type: ignore[arg-type]
    assert unit_tables(outcomes)[2] == UnitCounts(
        rows=5, ok=2, skipped=1, failed=2, video_rows=9, attribution_rows=2 * 2 + 2 * 5 + 2
    )


@pytest.mark.parametrize("outcomes", [some_outcomes(), [], FAILED], ids=["some", "none", "all failed"])
def test_counts_come_back_from_the_footer(outcomes: list[list[Outcome]]) -> None:
    _, videos, counts = unit_tables(outcomes, covers=(3, 1, 0, 5))
    assert counts_of(pq.read_metadata(io.BytesIO(videos)), "here") == (counts, (3, 1, 0, 5))


def test_counts_add_up() -> None:
    one, two = UnitCounts(1, 2, 3, 4, 5, 6), UnitCounts(10, 20, 30, 40, 50, 60)
    assert one + two == UnitCounts(11, 22, 33, 44, 55, 66)
    assert NO_COUNTS + one == one
    assert one.asdict() == {"rows": 1, "ok": 2, "skipped": 3, "failed": 4, "video_rows": 5, "attribution_rows": 6}


@pytest.mark.parametrize(
    "footer",
    [None, {}, {"other": "x"}, {"esv_ray": "no json"}, {"esv_ray": "[]"}, {"esv_ray": '{"rows": 1}'}, {"esv_ray": "7"}],
)
def test_a_file_without_counts_is_not_ours(footer: dict[str, str] | None) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(footer), sink)
    sink.seek(0)
    with pytest.raises(DataError, match=r"^here: expected a videos file of esv_ray, its footer has no counts$"):
        counts_of(pq.read_metadata(sink), "here")


# Classes --------------------------------------------------------------------------------------------------------------

SCORES = np.array([0.1, 0.4, 0.1, 0.3, 0.1], np.float32)


@pytest.mark.parametrize(
    ("choices", "label", "expected"),
    [
        (["label"], 2, [2]),
        (["label"], None, []),
        (["label"], 0, [0]),
        (["predicted"], 2, [1]),
        (["label", "predicted"], 3, [1, 3]),
        (["label", "predicted"], 1, [1]),
        (["predicted", "label"], 0, [0, 1]),
        (["label", "predicted"], None, [1]),
        (["top:1"], None, [1]),
        (["top:2"], None, [1, 3]),
        (["top:3"], None, [0, 1, 3]),
        (["top:4"], None, [0, 1, 2, 3]),
        (["top:5"], None, [0, 1, 2, 3, 4]),
        (["top:99"], None, [0, 1, 2, 3, 4]),
        (["all"], None, [0, 1, 2, 3, 4]),
        (["all", 3, "label"], 2, [0, 1, 2, 3, 4]),
        ([3, "all"], 2, [0, 1, 2, 3, 4]),
        ([4, 0], 2, [0, 4]),
        ([4, 0, 4], None, [0, 4]),
        ([2, "label", "predicted", "top:2"], 2, [1, 2, 3]),
    ],
)
def test_choose_classes(choices: list[int | str], label: int | None, expected: list[int]) -> None:
    chosen = choose_classes(choices, SCORES, label)
    assert chosen.dtype == np.int32
    assert chosen.tolist() == expected


@pytest.mark.parametrize("scores", [[0.5, 0.5], [0.2, 0.4, 0.4], [0.25] * 4])
def test_of_equal_scores_the_first_is_predicted(scores: list[float]) -> None:
    found = [choose_classes([choice], np.array(scores, np.float32), None).tolist() for choice in ("predicted", "top:1")]
    assert found == [[scores.index(max(scores))]] * 2


@settings(max_examples=100, deadline=None)
@given(
    scores=st.lists(st.integers(0, 4), min_size=1, max_size=7),
    k=st.integers(1, 9),
    choices=st.lists(st.sampled_from(["label", "predicted"]), max_size=3),
    label=st.none() | st.just(0),
)
def test_the_best_classes(scores: list[int], k: int, choices: list[str], label: int | None) -> None:
    array: npt.NDArray[np.float32] = np.array(scores, np.float32)
    best = sorted(range(len(scores)), key=lambda one: (-scores[one], one))[:k]
    given_label = {label} if label is not None and "label" in choices else set()
    expected = sorted({*best, *given_label, *([best[0]] if "predicted" in choices else [])})
    assert choose_classes([*choices, f"top:{k}"], array, label).tolist() == expected
