"""The tables of a unit: the contract's schemas, the same bytes for the same results, counts in the footer."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.errors import DataError, JobError
from esv_ray.output.computed import ORDERS, Computed, InputRows, MethodValues, Missing
from esv_ray.output.layout import FURTHER
from esv_ray.output.origin import Origin, origin_of
from esv_ray.output.results import unit_tables
from esv_ray.output.unit_files import NO_COUNTS, UnitCounts, UnitFooter, counts_from, footer_of, hash_ids, unit_files
from tests.support.results import REPLACED, computed

Results = tuple[InputRows, list[Computed], list[Missing]]


ORIGIN = Origin("job", "footer", ())


def made(
    inputs: InputRows, computed: list[Computed], missing: list[Missing], origin: Origin = ORIGIN
) -> tuple[bytes, bytes, UnitCounts]:
    """The attributions file, the videos file, and their counts."""
    files = unit_files(unit_tables(inputs, computed, missing), len(inputs.ids), origin)
    return files.tables["attributions"], files.videos, files.footer.counts


def inputs(ids: Sequence[str], labels: Sequence[int | None], n_frames: Sequence[int]) -> InputRows:
    return InputRows(
        ids,
        np.array([label or 0 for label in labels], np.int32),
        np.array([label is not None for label in labels], bool),
        np.array(n_frames, np.int32),
    )


IDS = ("a", "", "b", "ü")


def some_results(seed: int = 0) -> Results:
    """A good video at two lengths, a failed one, one skipped at a length, one without kept classes; out of order."""
    return (
        inputs(IDS, [2, None, None, None], [9, 0, 2, 3]),
        [
            computed(5, [0], [[0, 2]], seed=seed, stderr=True),
            computed(3, [3], [[]], seed=seed + 1, stderr=False),
            computed(2, [2, 0], [[3], [0, 2]], seed=seed + 2, stderr=False),
        ],
        [
            Missing(2, 5, "skipped", "2 frames, 5 asked for"),
            Missing(1, 5, "failed", "no frames"),
            Missing(1, 2, "failed", "no frames"),
        ],
    )


NONE: Results = (inputs([], [], []), [], [])
FAILED: Results = (inputs(["x"], [None], [0]), [], [Missing(0, 1, "failed", "no frames")])


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
    ("iterations", "int32", True),
    ("tolerance_met", "bool", True),
    ("stderr_difference", "list<element: float>", True),
]
ATTRIBUTION_FIELDS = [
    ("video_id", "string", False),
    ("method", "string", False),
    ("n_elements", "int32", False),
    ("class", "int32", False),
    ("element", "int32", False),
    ("frame_index", "int32", False),
    ("esv", "float", False),
    ("stderr", "float", True),
    ("delta", "float", True),
]


@pytest.mark.parametrize("results", [some_results(), NONE, FAILED], ids=["some", "none", "all failed"])
def test_the_schemas_of_the_contract(results: Results) -> None:
    attributions, videos, _ = made(*results)
    assert [(n, t.replace("item", "element"), null) for n, t, null in fields(videos)] == VIDEO_FIELDS
    assert fields(attributions) == ATTRIBUTION_FIELDS


def test_the_videos_table() -> None:
    _, batches, _ = some_results()
    rows = read(made(*some_results())[1]).to_pylist()
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
    assert [row["iterations"] for row in rows] == [0, 4, None, None, 0, None, 0]
    assert [row["tolerance_met"] is None for row in rows] == [True, False, True, True, True, True, True]
    done = {
        (IDS[row], batch.n): (batch.scores[b], batch.gaps[b])
        for batch in batches
        for b, row in enumerate(batch.rows.tolist())
    }
    differences = {
        (IDS[row], batch.n): batch.difference_stderr[b].tolist()
        for batch in batches
        for b, row in enumerate(batch.rows.tolist())
        if batch.difference_stderr is not None and batch.differs[b]
    }
    for row in rows:
        assert row["stderr_difference"] == differences.get((row["video_id"], row["n_elements"]))
        if row["status"] != "ok":
            assert (row["scores"], row["predicted"], row["efficiency_gap"]) == (None, None, None)
        else:
            scores, gap = done[row["video_id"], row["n_elements"]]
            assert row["scores"] == scores.tolist()
            assert row["predicted"] == row["scores"].index(max(row["scores"]))
            assert row["efficiency_gap"] == gap


def test_the_attributions_table() -> None:
    """One row for each (video, n_elements, class, element), in that order."""
    _, batches, _ = some_results()
    rows = read(made(*some_results())[0]).to_pylist()
    expected: list[tuple[int, dict[str, Any]]] = []
    for batch in batches:
        for pair, (b, kept) in enumerate(batch.pairs.tolist()):
            expected += [
                (
                    int(batch.rows[b]),
                    {
                        "video_id": IDS[batch.rows[b]],
                        "method": "esv",
                        "n_elements": batch.n,
                        "class": kept,
                        "element": element,
                        "frame_index": int(batch.frame_index[b, element]),
                        "esv": float(batch.esv[pair, element]),
                        "stderr": None if batch.stderr is None else float(batch.stderr[pair, element]),
                        "delta": None,
                    },
                )
                for element in range(batch.n)
            ]
    expected.sort(key=lambda item: (item[0], item[1]["n_elements"], item[1]["class"], item[1]["element"]))
    assert rows == [row for _, row in expected]
    assert len(rows) == 2 * 2 + 2 * 5 + 2


def further(results: Results, folder: str) -> list[dict[str, Any]]:
    return list(unit_tables(*results, [folder])[folder].table.to_pylist())


def batches_in_order() -> list[tuple[int, Computed, int]]:
    """Input row, batch and video in the batch, in the order of the tables."""
    _, batches, _ = some_results()
    videos = [(row, batch, b) for batch in batches for b, row in enumerate(batch.rows.tolist())]
    return sorted(videos, key=lambda video: (video[0], video[1].n))


def test_the_marginals_table() -> None:
    """One row for each (video, n_elements, class, element, scale), in that order."""
    expected = [
        (IDS[row], batch.n, kept, element, scale, float(batch.marginals[pair, scale - 1, element]))
        for row, batch, b in batches_in_order()
        for pair, (video, kept) in enumerate(batch.pairs.tolist())
        if video == b and batch.marginals is not None
        for element in range(batch.n)
        for scale in range(1, batch.n + 1)
    ]
    assert [tuple(row.values()) for row in further(some_results(), "marginals")] == expected
    assert len(expected) == 2 * 2 * 2 + 2 * 5 * 5 + 2 * 2


def test_a_scale_that_says_nothing_has_no_marginal() -> None:
    batch = computed(2, [0], [[1]], seed=1, stderr=True)
    assert batch.marginals is not None
    batch.marginals[0, 1, 0] = np.nan
    rows = further((inputs(["a"], [1], [2]), [batch], []), "marginals")
    assert [row["marginal"] is None for row in rows] == [False, True, False, False]


def test_the_interactions_table() -> None:
    """One row for each (video, n_elements, class, pair of elements), in that order."""
    expected = [
        (IDS[row], batch.n, kept, i, j, float(batch.interactions[pair, place]))
        for row, batch, b in batches_in_order()
        for pair, (video, kept) in enumerate(batch.pairs.tolist())
        if video == b and batch.interactions is not None
        for place, (i, j) in enumerate(combinations(range(batch.n), 2))
    ]
    assert [tuple(row.values()) for row in further(some_results(), "interactions")] == expected
    assert len(expected) == 2 + 2 * 10 + 1


def test_the_discards_table() -> None:
    """One row for each (video, n_elements, method, order, number of elements taken away), in that order."""
    expected = [
        (
            IDS[row],
            batch.n,
            "esv",
            order,
            discarded,
            int(batch.discarded.classes[b]),
            float(batch.discarded.scores[b, place, discarded]),
            int(batch.discarded.predicted[b, place, discarded]),
            float(batch.discarded.best[b, discarded]),
        )
        for row, batch, b in batches_in_order()
        if batch.discarded is not None
        for place, order in enumerate(ORDERS)
        for discarded in range(batch.n + 1)
    ]
    assert [tuple(row.values()) for row in further(some_results(), "discards")] == expected
    assert len(expected) == 6 * (3 + 6 + 3 + 4)


def test_the_replacements_table() -> None:
    """Rows of 0 to n - 1 elements for neighbors and of 0 to n for the mean, per method and order."""
    expected = []
    for row, batch, b in batches_in_order():
        assert batch.replaced is not None
        scores, predicted = (list(each[b]) for each in (batch.replaced.scores, batch.replaced.predicted))
        expected += [
            (IDS[row], batch.n, *curve, by, discarded, int(batch.replaced.classes[b]), scores.pop(0), predicted.pop(0))
            for curve in REPLACED
            for by in ("neighbor", "mean")
            for discarded in range(batch.n + (by == "mean"))
        ]
    assert [tuple(row.values()) for row in further(some_results(), "replacements")] == expected
    assert len(expected) == 3 * (5 + 11 + 5 + 7)


@pytest.mark.parametrize("results", [NONE, FAILED], ids=["none", "all failed"])
@pytest.mark.parametrize("folder", FURTHER)
def test_further_tables_without_videos(results: Results, folder: str) -> None:
    assert further(results, folder) == []


def test_other_methods_stand_beside_the_esvs() -> None:
    """One row for each (video, n_elements, method, class, element), in the order of the methods."""
    batch = computed(2, [0, 1], [[0, 2], [1]], seed=1, stderr=True)
    rng = np.random.default_rng(0)
    others = {
        "integrated_gradients": MethodValues(rng.random((3, 2)).astype(np.float32), rng.random(3).astype(np.float32)),
        "random": MethodValues(rng.random((3, 2)).astype(np.float32), None),
    }
    made_up = replace(batch, others=others)
    rows = unit_tables(inputs(["a", "b"], [0, 1], [2, 2]), [made_up], [])["attributions"].table.to_pylist()
    places = [(row["video_id"], row["method"], row["class"], row["element"]) for row in rows]
    names = ["esv", *others]
    kept = {"a": (0, 2), "b": (1,)}
    assert places == [(video, name, c, e) for video in kept for name in names for c in kept[video] for e in range(2)]
    for row in rows:
        if row["method"] == "esv":
            continue
        pair = {("a", 0): 0, ("a", 2): 1, ("b", 1): 2}[row["video_id"], row["class"]]
        found = others[row["method"]]
        assert row["esv"] == float(found.values[pair, row["element"]])
        assert row["stderr"] is None
        assert row["delta"] == (None if found.delta is None else float(found.delta[pair]))


def test_stderr_is_null_exactly_where_there_is_none() -> None:
    rows = read(made(*some_results())[0]).to_pylist()
    assert {(row["video_id"], row["n_elements"]) for row in rows if row["stderr"] is None} == {("a", 2), ("b", 2)}
    assert {(row["video_id"], row["n_elements"]) for row in rows if row["stderr"] is not None} == {("a", 5)}


def test_the_same_results_give_the_same_bytes() -> None:
    assert made(*some_results()) == made(*some_results())
    rows, batches, missing = some_results()
    assert made(rows, batches[::-1], missing[::-1]) == made(*some_results()), "in any order"


def test_other_results_give_other_bytes() -> None:
    attributions, videos, counts = made(*some_results(seed=9))
    assert attributions != made(*some_results())[0]
    assert videos != made(*some_results())[1]
    assert counts == made(*some_results())[2]


@pytest.mark.parametrize("results", [NONE, (inputs(["x"], [1], [3]), [], [])], ids=["no rows", "without lengths"])
def test_without_results(results: Results) -> None:
    attributions, videos, counts = made(*results)
    assert (read(attributions).num_rows, read(videos).num_rows) == (0, 0)
    rows = len(results[0].ids)
    assert counts == UnitCounts(rows, rows, 0, 0, {"videos": 0, "attributions": 0})


def test_where_every_row_failed() -> None:
    attributions, videos, counts = made(*FAILED)
    assert read(attributions).num_rows == 0
    assert read(videos).column("scores").null_count == 1
    assert counts == UnitCounts(1, 0, 0, 1, {"videos": 1, "attributions": 0})


# Counts ---------------------------------------------------------------------------------------------------------------


def test_the_counts_of_a_unit() -> None:
    """A row counts once: failed if it failed at any length, else skipped if it was skipped at any, else ok."""
    _, batches, missing = some_results()
    rows = inputs([*IDS, "c"], [2, None, None, None, None], [9, 0, 2, 3, 9])
    missing += [Missing(4, 2, "skipped", "why"), Missing(4, 5, "failed", "why")]
    assert made(rows, batches, missing)[2] == UnitCounts(
        rows=5, ok=2, skipped=1, failed=2, written={"videos": 9, "attributions": 2 * 2 + 2 * 5 + 2}
    )


@pytest.mark.parametrize("results", [some_results(), NONE, FAILED], ids=["some", "none", "all failed"])
def test_counts_come_back_from_the_footer(results: Results) -> None:
    origin = Origin("job", "footer", (3, 1, 0, 5))
    attributions, videos, counts = made(*results, origin=origin)
    status = read(videos).select(["video_id", "status"]).to_pylist()
    failed = {results[0].ids.index(row["video_id"]) for row in status if row["status"] == "failed"}
    checksum = hashlib.sha256(attributions).hexdigest()
    hashes = hash_ids(row["video_id"] for row in status)
    footer = UnitFooter(counts, origin, tuple(sorted(failed)), {"attributions": checksum}, hashes)
    assert footer_of(pq.read_metadata(io.BytesIO(videos)), "here") == footer
    assert origin_of(pq.read_metadata(io.BytesIO(attributions)), "here") == origin


def test_a_file_of_another_job_or_of_other_rows_is_refused() -> None:
    own = Origin("job", "footer", (3, 1, 0, 5))
    own.check(own, "here")
    with pytest.raises(
        JobError, match=r"^here: expected a file of this job \(job\), got one of another job \(b\); .*--repair"
    ):
        own.check(Origin("b", "footer", own.covers), "here")
    with pytest.raises(JobError, match=r"^here: expected the rows \(3, 1, 0, 5\) in run\.json .*got \(3, 1, 5, 9\); "):
        own.check(Origin("job", "footer", (3, 1, 5, 9)), "here")
    with pytest.raises(JobError, match=r"^here: expected the rows \(3, 1, 0, 5\) .* of another file of features; "):
        own.check(Origin("job", "another", own.covers), "here")


def test_counts_add_up() -> None:
    first = UnitCounts(1, 2, 3, 4, {"videos": 5, "attributions": 6})
    second = UnitCounts(10, 20, 30, 40, {"videos": 50, "attributions": 60})
    assert first + second == UnitCounts(11, 22, 33, 44, {"videos": 55, "attributions": 66})
    assert counts_from(second.asdict()) == second
    assert NO_COUNTS + first == first
    assert first.asdict() == {"rows": 1, "ok": 2, "skipped": 3, "failed": 4, "video_rows": 5, "attribution_rows": 6}


@pytest.mark.parametrize(
    "footer",
    [
        None,
        {},
        {"other": "x"},
        {"esv_ray": "no json"},
        {"esv_ray": "[]"},
        {"esv_ray": "7"},
        {"esv_ray": '{"rows": 1}'},
        {"esv_ray": '{"job": "j", "covers": [1, 0, 0, 5]}'},
        {"esv_ray": '{"job": 1, "input": "i", "covers": []}'},
        {"esv_ray": '{"job": "j", "input": "i", "covers": [-1]}'},
        {"esv_ray": '{"job": "j", "input": "i", "covers": [true]}'},
        {"esv_ray": '{"job": "j", "input": "i", "covers": 3}'},
        {"esv_ray": '{"job": "j", "input": "i", "covers": []}'},
        {"esv_ray": '{"job": "j", "input": "i", "covers": [], "counts": {"rows": 1}, "failed": [], "attributions": 1}'},
        {"esv_ray": "[" * 100_000},
    ],
)
def test_a_file_with_another_footer_is_not_ours(footer: dict[str, str] | None) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(footer), sink)
    sink.seek(0)
    with pytest.raises(DataError, match=r"^here: expected a (videos )?file of esv_ray, its footer [\w ]+$"):
        footer_of(pq.read_metadata(sink), "here")
