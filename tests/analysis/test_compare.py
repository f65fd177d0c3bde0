"""Comparisons of outputs agree with brute force, however their units are cut and whatever they share."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.compare import agreement, compare
from esv_ray.analysis.compare_sums import make_keys, overall_spearman
from esv_ray.analysis.comparison import Comparison
from esv_ray.analysis.figures.registry import draw
from esv_ray.analysis.statistics import mean_of, newcombe, wilson
from esv_ray.core.correlation import order_keys
from esv_ray.errors import DataError, SpecError
from esv_ray.models.saving import save_heads
from esv_ray.show.chart import picture_of
from tests.analysis.test_database import copy_to
from tests.conftest import make_heads, make_prior, make_table
from tests.support import compare_oracle
from tests.support.jobs import run
from tests.support.s3_server import S3Server, client

Job = Callable[..., Path]
NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and feature tables."""
    folder = tmp_path_factory.mktemp("compare")
    for seed in (0, 1):
        save_heads(str(folder / f"model-{seed}"), make_heads(seed=seed), make_prior(3), classes=NAMES)
    save_heads(str(folder / "named"), make_heads(), make_prior(3), classes=("one", "2", "three"))
    save_heads(str(folder / "four"), make_heads(n_classes=4), make_prior(4))
    save_heads(str(folder / "uniform"), make_heads(), make_prior(3) * 0 + 1 / 3, classes=NAMES)
    table = make_table([1 + index % 6 for index in range(40)])
    pq.write_table(table, folder / "all.parquet")
    pq.write_table(table.take(pa.array(np.random.default_rng(0).permutation(40))), folder / "shuffled.parquet")
    pq.write_table(pa.concat_tables([table.slice(10), make_table([3, 4], prefix="other")]), folder / "part.parquet")
    pq.write_table(make_table([5] * 4, prefix="none"), folder / "none.parquet")
    pq.write_table(table.drop_columns(["label"]), folder / "unlabelled.parquet")
    return folder


@pytest.fixture(scope="module")
def job(folder: Path) -> Job:
    """Run a job once: job(features, model, overrides...) -> output."""
    made: dict[tuple[str, ...], Path] = {}

    def output(features: str, model: str, *overrides: str) -> Path:
        key = (features, model, *overrides)
        if key not in made:
            made[key] = folder / f"out-{len(made)}"
            run(str(folder / f"{features}.parquet"), str(folder / model), made[key], *overrides)
        return made[key]

    return output


def check(a: Path, b: Path, explained: str = "label", methods: tuple[str, str] = ("esv", "esv")) -> Comparison:
    """Compare, and check every number against brute force."""
    result = compare(str(a), str(b), method_a=methods[0], method_b=methods[1])
    expected = compare_oracle.compared(a, b, explained, methods)
    rows = result.compare.to_pylist()
    assert [row["n_elements"] for row in rows] == list(expected)
    bins = result.correlations.to_pylist()
    for row in rows:
        by_hand = expected[row["n_elements"]].pop("histogram")
        of_length = [each for each in bins if each["n_elements"] == row["n_elements"]]
        assert [each["videos"] for each in of_length] == (by_hand if any(by_hand) else [])
        for name, value in expected[row["n_elements"]].items():
            tolerance = 5e-3 if name == "spearman_overall" else 1e-9
            wanted = value if value is None else pytest.approx(value, abs=tolerance)
            assert row[name] == wanted, (name, row["n_elements"])
            if f"{name}_low" in row and row[f"{name}_low"] is not None:
                assert row[f"{name}_low"] - 1e-6 <= row[name] <= row[f"{name}_high"] + 1e-6
    for row, of_methods in zip(rows, result.agreement.to_pylist(), strict=True):
        assert of_methods["videos"] == row["compared"]
        assert (of_methods["method_a"], of_methods["method_b"]) == methods
        assert all(of_methods[name] == row[name] for name in ("pearson", "spearman", "pearson_low", "spearman_high"))
    return result


def test_two_models(job: Job) -> None:
    result = check(job("all", "model-0", "frames=4"), job("all", "model-1", "frames=4"))
    assert (result.shared, result.only_a, result.only_b) == (40, 0, 0)
    assert not result.notes
    assert result.compare.column("in_stderrs").null_count == result.compare.num_rows  # all exact


@pytest.mark.slow
def test_units_that_are_cut_otherwise(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other units, another order of the videos, and batches of a few units each give the same tables."""
    monkeypatch.setattr("esv_ray.analysis.batches._MOST_ELEMENTS", 20)
    a = job("all", "model-0", "compute.unit=7")
    tables = [
        check(a, job(features, "model-1", f"compute.unit={unit}")).tables
        for features, unit in (("all", 7), ("all", 3), ("shuffled", 5))
    ]
    for other in tables[1:]:
        for name, table in tables[0].items():
            for one, two in zip(table.to_pylist(), other[name].to_pylist(), strict=True):
                assert one == pytest.approx(two, abs=1e-6)
    again = compare(str(a), str(job("all", "model-1", "compute.unit=7")))
    assert all(again.tables[name].equals(table) for name, table in tables[0].items())  # the same bits


@pytest.mark.slow
def test_sampled_values_are_compared_in_standard_errors(job: Job) -> None:
    sampling = ["estimator.kind=algorithm1", "estimator.m=4", "estimator.iterations=8", "classes=[label, predicted]"]
    result = check(job("all", "model-0", *sampling), job("all", "model-0", *sampling, "estimator.seed=1"))
    units = [row["in_stderrs"] for row in result.compare.to_pylist() if row["in_stderrs"] is not None]
    assert units
    assert all(0.2 < value < 3 for value in units)  # 0.80 is expected
    check(job("all", "model-0", *sampling), job("all", "model-0"))  # one is exact


def test_an_output_with_itself_copied(job: Job, tmp_path: Path) -> None:
    a = job("all", "model-0")
    shutil.copytree(a, tmp_path / "copy")
    for row in check(a, tmp_path / "copy").compare.to_pylist():
        assert row["difference"] == row["score_difference"] == row["accuracy_difference"] == 0
        assert row["difference_low"] is None  # all are equal
        assert row["accuracy_difference_low"] < 0 < row["accuracy_difference_high"]  # of few videos: no proof of 0
        if row["n_elements"] > 1:
            assert row["pearson"] == row["spearman"] == row["cosine"] == pytest.approx(1)
            assert (row["pearson_overall"], row["spearman_overall"]) == pytest.approx((1, 1))
        else:
            assert row["pearson"] is row["spearman"] is None


def test_intervals_are_those_of_videos(job: Job) -> None:
    """Accuracies have Wilson intervals, their difference Newcombe's; means are bootstrapped, paired by video."""
    a, b = job("all", "model-0", "frames=4"), job("all", "model-1", "frames=4")
    [row] = [row for row in compare(str(a), str(b)).compare.to_pylist() if row["n_elements"] == 4]
    videos = [
        {row["video_id"]: row for row in compare_oracle.rows_of(output, "videos") if row["n_elements"] == 4}
        for output in (a, b)
    ]
    ids = sorted(videos[0])
    right = [[side[name]["label"] == side[name]["predicted"] for name in ids] for side in videos]
    assert (row["accuracy_a_low"], row["accuracy_a_high"]) == pytest.approx(wilson(sum(right[0]), len(ids)))
    counts = [sum(pair == kind for pair in zip(*right, strict=True)) for kind in ((1, 1), (1, 0), (0, 1), (0, 0))]
    assert (row["accuracy_difference_low"], row["accuracy_difference_high"]) == pytest.approx(newcombe(*counts))
    scores = [[side[name]["scores"][videos[0][name]["label"]] for name in ids] for side in videos]
    paired = mean_of(ids, [[two - one] for one, two in zip(*scores, strict=True)])
    assert (row["score_difference_low"], row["score_difference_high"]) == (
        pytest.approx(paired.low[0], abs=1e-6),
        pytest.approx(paired.high[0], abs=1e-6),
    )


def test_partly_shared_videos(job: Job) -> None:
    result = check(job("all", "model-0"), job("part", "model-1"))
    assert (result.shared, result.only_a, result.only_b) == (30, 10, 2)


@pytest.mark.slow
def test_partly_shared_lengths(job: Job) -> None:
    result = check(job("all", "model-0", "frames=[2,3]"), job("all", "model-1", "frames=[3,5]"))
    rows = {row["n_elements"]: row for row in result.compare.to_pylist()}
    assert rows[5]["videos_a"] == rows[5]["videos"] == 0 < rows[5]["videos_b"]
    assert rows[5]["pearson"] is rows[5]["accuracy_a"] is None
    with pytest.raises(DataError, match=r"at the same number of elements, got 3 and 4 elements"):
        compare(*(str(job("none", "model-0", f"frames={n}")) for n in (3, 4)))


def test_no_shared_videos(job: Job) -> None:
    with pytest.raises(DataError, match="expected videos with the same video_id, found none among 40 and 4; compare"):
        compare(str(job("all", "model-0")), str(job("none", "model-0")))


@pytest.mark.slow
def test_without_labels(job: Job) -> None:
    unlabelled = job("unlabelled", "model-0", "classes=[predicted]")
    result = check(unlabelled, job("unlabelled", "model-1", "classes=all"), "predicted")
    assert set(result.compare.column("accuracy_a").to_pylist()) == {None}
    # Labels in B alone: the class is still that of A.
    check(unlabelled, job("all", "model-1", "classes=all"), "predicted")


@pytest.mark.slow
def test_classes_that_one_output_does_not_keep(job: Job) -> None:
    result = check(job("all", "model-0", "classes=[label]"), job("all", "model-1", "classes=[predicted]"))
    assert "without values of esv in A or esv in B for the class" in result.notes[0]


def test_other_frames_and_labels(job: Job, tmp_path: Path) -> None:
    a = job("all", "model-0", "frames=3")
    b = tmp_path / "b"
    shutil.copytree(a, b)
    for name, column, change in (("attributions", "frame_index", 1), ("videos", "label", -1)):
        for path in (b / name).iterdir():
            table = pq.read_table(path)
            place = table.schema.get_field_index(column)
            values = [max(0, value + change) for value in table.column(column).to_pylist()]
            array = pa.array(values, table.schema.field(column).type)
            pq.write_table(table.set_column(place, table.schema.field(place), array), path)
    notes = compare(str(a), str(b)).notes
    assert any(note.endswith("whose elements are other frames in B") for note in notes)
    assert any(note.endswith("with another label in B; that of A counts") for note in notes)


@pytest.mark.slow
def test_methods_of_one_output(job: Job) -> None:
    output = job("all", "model-0", "methods=[esv,random]")
    result = check(output, output, methods=("esv", "random"))
    assert result.of_one
    assert result.drawn["compare"].column("accuracy_a").null_count == result.compare.num_rows
    assert "accuracy" not in picture_of(draw("compare", result.drawn["compare"]), "svg").decode().lower()
    for row, of_pair in zip(agreement(str(output)).to_pylist(), result.agreement.to_pylist(), strict=True):
        assert row == pytest.approx(of_pair, abs=1e-6)
    with pytest.raises(
        SpecError, match="expected two outputs, or one with values of several methods, got values of esv"
    ):
        agreement(str(job("all", "model-0")))
    with pytest.raises(SpecError, match=r"the method 'grad_cam', found those of esv, random; choose .*--method-b"):
        compare(str(output), method_b="grad_cam")
    with pytest.raises(SpecError, match=r"expected two outputs, or two methods of one \(--method-b\)"):
        compare(str(output))


@pytest.mark.parametrize(
    ("model", "overrides", "text"),
    [
        ("four", [], "expected models of the same classes, got 3 and 4 classes"),
        ("named", [], "expected models of the same classes, got 'two' and '2' for class 1"),
        ("model-0", ["estimator.output=logit"], "expected ESVs of the same kind, got probabilities and logits"),
    ],
)
def test_what_cannot_be_compared(job: Job, model: str, overrides: list[str], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        compare(str(job("all", "model-0")), str(job("all", model, *overrides)))


@pytest.mark.slow
def test_other_priors_are_said(job: Job) -> None:
    [note] = check(job("all", "model-0"), job("all", "uniform")).notes
    assert note.startswith("the class priors differ, by at most 0.167")


@pytest.mark.slow
def test_logits(job: Job) -> None:
    check(job("all", "model-0", "estimator.output=logit"), job("all", "model-1", "estimator.output=logit"))


@pytest.mark.slow
def test_the_largest_changes(job: Job) -> None:
    a, b = job("all", "model-0"), job("all", "model-1")
    result = compare(str(a), str(b), changes=3)
    of_a, of_b = (
        {
            (row["video_id"], row["class"], row["element"]): row["esv"]
            for row in compare_oracle.rows_of(side, "attributions")
        }
        for side in (a, b)
    )
    for n in range(1, 7):
        rows = [row for row in result.changes.to_pylist() if row["n_elements"] == n]
        videos = [
            row for row in compare_oracle.rows_of(a, "videos") if row["n_elements"] == n and row["status"] == "ok"
        ]
        changes = {
            row["video_id"]: [
                abs(of_a[row["video_id"], row["label"], e] - of_b[row["video_id"], row["label"], e]) for e in range(n)
            ]
            for row in videos
        }
        expected = sorted(changes, key=lambda name: -sum(changes[name]))[:3]
        assert [row["video_id"] for row in rows] == expected
        for row in rows:
            of_video = changes[row["video_id"]]
            assert row["difference"] == pytest.approx(sum(of_video) / n)
            assert of_video[row["element"]] == max(of_video) == pytest.approx(abs(row["esv_b"] - row["esv_a"]))
            assert row["name"] == NAMES[row["class"]]


def test_unfinished_outputs(job: Job, tmp_path: Path) -> None:
    b = tmp_path / "b"
    shutil.copytree(job("all", "model-1", "compute.unit=7"), b)
    sorted((b / "videos").iterdir())[0].unlink()
    result = compare(str(job("all", "model-0", "compute.unit=7")), str(b))
    assert result.notes[0] == "B is unfinished: 5 of 6 units committed, 33 of 40 videos"
    assert (result.shared, result.only_a) == (33, 7)


@pytest.mark.slow
def test_failed_videos_are_left_out(job: Job, folder: Path) -> None:
    table = pq.read_table(folder / "all.parquet").to_pylist()
    table[3]["features"] = None
    pq.write_table(pa.Table.from_pylist(table, pq.read_schema(folder / "all.parquet")), folder / "failed.parquet")
    result = check(job("all", "model-0"), job("failed", "model-1"))
    assert result.shared == 40
    assert sum(result.compare.column("videos").to_pylist()) == 39


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_on_s3(job: Job, s3: S3Server) -> None:
    outputs = job("all", "model-0"), job("all", "model-1")
    urls = []
    for output in outputs:
        urls.append(f"s3://{s3.bucket}/{uuid.uuid4().hex}")
        copy_to(client(s3), output, urls[-1])
    remote, local = compare(*urls), compare(*map(str, outputs))
    assert all(table.equals(local.tables[name]) for name, table in remote.tables.items())


@pytest.mark.slow
def test_damaged_and_repeated_rows(job: Job, tmp_path: Path) -> None:
    a = job("all", "model-0", "compute.unit=7")
    b = tmp_path / "b"
    shutil.copytree(a, b)
    part = sorted((b / "attributions").iterdir())[1]
    table = pq.read_table(part)
    pq.write_table(pa.concat_tables([table, table]), part)
    with pytest.raises(DataError, match="expected one value per element, got more or fewer for video"):
        compare(str(a), str(b))
    part.write_bytes(b"not Parquet")
    with pytest.raises(DataError, match="not readable as Parquet"):
        compare(str(a), str(b))
    with pytest.raises(DataError, match=r"found no run\.json"):
        compare(str(a), str(tmp_path))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_values() -> None:
    """The ranks of all values are computed by DuckDB within its memory, which the disk extends."""
    from esv_ray.analysis.database import FEWEST_BYTES, connect

    rng = np.random.default_rng(0)
    con = connect(memory=FEWEST_BYTES * 2)
    make_keys(con)
    for _ in range(8):
        a = rng.standard_normal(500_000)
        b = 0.8 * a + 0.6 * rng.standard_normal(500_000)
        rows = pa.table({"n_elements": np.full(len(a), 8, np.int32), "a": order_keys(a), "b": order_keys(b)})
        con.register("rows", rows)
        con.execute("INSERT INTO keys SELECT * FROM rows")
        con.unregister("rows")
    [value] = overall_spearman(con).values()
    assert value == pytest.approx(6 / np.pi * np.arcsin(0.4), abs=1e-3)


@pytest.mark.parametrize("constant", ["a", "b", "ab"])
def test_no_overall_rank_correlation_of_constants(constant: str) -> None:
    from esv_ray.analysis.database import connect

    values = {side: order_keys(np.full(12, 0.25) if side in constant else np.arange(12.0)) for side in "ab"}
    con = connect()
    make_keys(con)
    con.register("rows", pa.table({"n_elements": np.repeat(np.array([3, 4], np.int32), 6), **values}))
    con.execute("INSERT INTO keys SELECT * FROM rows")
    assert overall_spearman(con) == {3: None, 4: None}
