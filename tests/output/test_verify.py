"""esv verify: real outputs are found clean, and whatever is tampered with is reported."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from esv_ray.attribution.work import run_job
from esv_ray.errors import DataError
from esv_ray.job.result import JobResult
from esv_ray.job.work import RowCounts
from esv_ray.models.saving import save_heads
from esv_ray.output.computed import InputRows
from esv_ray.output.manifest import existing_manifest
from esv_ray.output.origin import Origin
from esv_ray.output.results import unit_tables
from esv_ray.output.unit_files import unit_files
from esv_ray.output.verify.expected import expected_of
from esv_ray.output.verify.input import input_problems
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.support.outputs import Output, setting, with_defects
from tests.support.parquet_surgery import I32, I64, STRUCT, levels, put_together, take_apart
from tests.support.units import only

Tables = tuple[pa.Table, pa.Table]


def run(folder: Path, tables: dict[str, pa.Table], **spec: Any) -> JobResult:
    """Attribute tables, in this process; the output lies in folder/out."""
    save_heads(str(folder / "model"), make_heads(), make_prior(3))
    (folder / "features").mkdir()
    for name, table in tables.items():
        pq.write_table(table, folder / "features" / f"{name}.parquet")
    places = {"features": str(folder / "features"), "model": str(folder / "model"), "output": str(folder / "out")}
    result = run_job(load_spec({**places, "cluster": {"actors": 0}, "max_failed": 1.0, **spec}))
    assert result.quarantined == {}
    return result


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobResult]:
    """An exact job over two files, five units; some videos failed, some skipped."""
    folder = tmp_path_factory.mktemp("exact")
    tables = {
        "a": with_defects(make_table([3, 4, 5, 6, 1, 2, 9, 8, 4, 5], prefix="a")),
        "b": make_table([2, 3, 4, 5, 6, 7, 1], seed=1, prefix="b"),
    }
    return folder / "out", run(folder, tables, frames=[2, 4], short="skip", compute={"unit": 4})


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobResult]:
    """A job of which no result is exact."""
    folder = tmp_path_factory.mktemp("sampled")
    estimator = {"kind": "algorithm1", "m": 4, "iterations": 2}
    return folder / "out", run(folder, {"a": make_table([7, 8, 9])}, estimator=estimator, classes="all")


@pytest.fixture
def output(done: tuple[Path, JobResult], tmp_path: Path) -> Output:
    """The exact job's output."""
    return Output(Path(shutil.copytree(done[0], tmp_path / "out")))


@pytest.fixture
def sampled_output(sampled: tuple[Path, JobResult], tmp_path: Path) -> Output:
    """The sampled job's output."""
    return Output(Path(shutil.copytree(sampled[0], tmp_path / "out")))


def at_first(value: object) -> Callable[[list[Any]], list[Any]]:
    """Another value in the first row."""
    return lambda values: [value, *values[1:]]


# Good outputs ---------------------------------------------------------------------------------------------------------


def test_a_real_output_is_clean(done: tuple[Path, JobResult]) -> None:
    folder, result = done
    verification = verify_output(str(folder))
    assert verification.problems == ()
    assert RowCounts(**verification.counts.outcomes) == result.counts
    assert (verification.units, verification.committed) == (5, 5)
    assert (verification.counts.ok, verification.counts.skipped, verification.counts.failed) == (9, 6, 2)
    assert 0 < verification.worst_gap < 1e-6


def test_a_real_sampled_output_is_clean(sampled: tuple[Path, JobResult]) -> None:
    folder, result = sampled
    assert not any(pq.read_table(folder / "videos").column("exact").to_pylist())
    verification = verify_output(str(folder))
    assert verification.problems == ()
    assert RowCounts(**verification.counts.outcomes) == result.counts
    assert verification.worst_gap == 0.0


def test_videos_without_labels_have_no_attributions_where_labels_are_asked_for(tmp_path: Path) -> None:
    table = make_table([2, 3, 4, 5])
    rows = table.to_pylist()
    rows[1]["label"] = None
    run(tmp_path, {"a": pa.Table.from_pylist(rows, schema=table.schema)}, classes="label")
    assert verify_output(str(tmp_path / "out")).problems == ()


def test_an_output_of_failures_alone_is_clean(tmp_path: Path) -> None:
    table = make_table([2, 3])
    rows = [{**row, "features": None} for row in table.to_pylist()]
    run(tmp_path, {"a": pa.Table.from_pylist(rows, schema=table.schema)})
    verification = verify_output(str(tmp_path / "out"))
    assert verification.problems == ()
    assert verification.counts.failed == 2


def test_an_output_in_memory(done: tuple[Path, JobResult]) -> None:
    fs = fsspec.filesystem("memory")
    fs.put(str(done[0]), "/verify-copy", recursive=True)
    assert verify_output("memory://verify-copy").problems == ()
    fs.rm("/verify-copy/_SUCCESS")
    assert len(verify_output("memory://verify-copy").problems) == 1


def test_rewriting_changes_nothing_by_itself(output: Output) -> None:
    """Or what follows would prove nothing."""
    for number in range(5):
        output.rewrite("videos", lambda table: table, number)
        output.rewrite("attributions", lambda table: table, number)
        output.write_counts(number)
    output.write_success()
    assert output.problems() == ()


# Missing and broken files ---------------------------------------------------------------------------------------------


def test_where_there_is_no_output(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError) as caught:
            verify_output(str(folder))
        message = f"{folder}: expected a job's output, found no run.json; check the location, and if the job ran with "
        assert str(caught.value) == f"{message}--partitions, give the output of one partition, OUTPUT/PARTITION"


@pytest.mark.parametrize("number", range(5))
def test_a_unit_that_is_not_committed(output: Output, number: int) -> None:
    output.part("videos", number).unlink()
    assert output.problems() == (
        "1 of 5 units are not committed; run the job again to resume",
        "_SUCCESS exists although units are missing",
    )
    (output.folder / "_SUCCESS").unlink()
    assert output.problems() == ("1 of 5 units are not committed; run the job again to resume",)
    assert verify_output(str(output.folder)).committed == 4


def test_no_unit_committed(output: Output) -> None:
    shutil.rmtree(output.folder / "videos")
    (output.folder / "_SUCCESS").unlink()
    assert output.problems() == ("5 of 5 units are not committed; run the job again to resume",)


def test_without_its_mark(output: Output) -> None:
    (output.folder / "_SUCCESS").unlink()
    assert output.problems() == ("_SUCCESS is missing although every unit is committed; run the job again",)


def test_attributions_that_are_gone(output: Output) -> None:
    path = output.part("attributions", 2)
    path.unlink()
    first, second = output.problems()
    assert f"attributions/{path.name} was not found" in first
    assert second.startswith("_SUCCESS says {")


@pytest.mark.parametrize("kind", ["videos", "attributions"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:4] + b"\xff" * 40 + data[44:],
        lambda data: b"not Parquet",
    ],
    ids=["empty", "half", "all but a byte", "garbage in the first page", "text"],
)
def test_a_damaged_file(output: Output, kind: str, damage: Callable[[bytes], bytes]) -> None:
    path = output.part(kind, 1)
    path.write_bytes(damage(path.read_bytes()))
    first, second = output.problems()
    assert first.startswith(f"{kind}/{path.name}: not readable as Parquet: ")
    assert second.startswith("_SUCCESS says {")


def test_a_file_of_the_right_schema_that_holds_2_000_000_000_nulls(output: Output) -> None:
    """A few bytes of run lengths: told before anything is decoded."""
    path = output.part("attributions")
    footer = pq.read_metadata(path).metadata
    table = pq.read_table(path).replace_schema_metadata({k: v for k, v in footer.items() if k == b"esv_ray"})
    pq.write_table(table, path, compression="none", use_dictionary=False, data_page_version="1.0")
    parts, count = take_apart(path.read_bytes()), 2_000_000_000 * 100
    chunk = parts.chunk("stderr")
    (page,) = chunk.pages
    each = 2_000_000_000
    page.body = levels((0, each), width=1)
    page.header[5] = (STRUCT, {**page.header[5][1], 1: (I32, each)})
    page.header[2] = (I32, len(page.body))
    chunk.pages = [page] * 100
    chunk.meta[5] = (I64, count)
    parts.row_group()[3] = (I64, count)
    path.write_bytes(put_together(parts))
    assert path.stat().st_size < 20_000
    first, *_ = output.problems()
    assert first.startswith(f"attributions/{path.name}: expected a table that ")
    assert "bytes of memory, got one of up to " in first


@pytest.mark.slow
def test_a_long_text_in_every_row(output: Output) -> None:
    """64 KB once in a dictionary, and two million places of it: 131 GB as text."""
    path, rows = output.part("videos"), 2_000_000
    row = pq.read_table(path).slice(0, 1)
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 65_536]))
    columns = {
        name: ids if name == "video_id" else pa.concat_arrays([pa.repeat(row.column(name)[0], rows)])
        for name in row.column_names
    }
    fields = [field.with_type(columns[field.name].type) for field in row.schema]
    table = pa.table([columns[field.name] for field in fields], schema=pa.schema(fields))
    pq.write_table(table, path, store_schema=False, row_group_size=rows)
    assert path.stat().st_size < 2_000_000
    first, *_ = output.problems()
    assert first.startswith(f"videos/{path.name}: expected a table that ")


def test_text_that_is_not_utf_8(output: Output) -> None:
    def changed(table: pa.Table) -> pa.Table:
        ids = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary()).view(pa.string())
        return table.set_column(0, table.schema.field(0), ids)

    output.rewrite("videos", changed)
    assert output.problems()[0].startswith(f"videos/{output.part('videos').name}: not readable as Parquet: ")


def test_a_part_that_is_not_in_the_plan(output: Output) -> None:
    stray = "part-000009-0123456789abcdef.parquet"
    shutil.copy(output.part("videos"), output.folder / "videos" / stray)
    assert output.problems() == (f"videos/{stray}: not in run.json",)


def test_a_unit_of_another_plan(output: Output) -> None:
    """Renamed, it is one too many and one too few."""
    path = output.part("videos", 4)
    path.rename(path.with_name(path.name.replace("part-000004", "part-000003")))
    assert len(output.problems()) == 3


# The tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("attributions", lambda table: table.set_column(5, "esv", table.column("esv").cast(pa.float64()))),
        ("attributions", lambda table: table.set_column(2, "class", table.column("class").cast(pa.int64()))),
        ("attributions", lambda table: table.drop_columns(["stderr"])),
        ("attributions", lambda table: table.append_column("more", pa.nulls(table.num_rows, pa.int8()))),
        ("attributions", lambda table: table.rename_columns({"esv": "value"})),
        ("attributions", lambda table: table.select(table.column_names[::-1])),
        ("attributions", lambda table: pa.table(dict(zip(table.column_names, table.columns, strict=True)))),
        ("videos", lambda table: table.set_column(1, "label", table.column("label").cast(pa.int64()))),
        ("videos", lambda table: table.drop_columns(["reason"])),
        ("videos", lambda table: table.append_column("more", pa.nulls(table.num_rows, pa.int8()))),
        ("videos", lambda table: table.rename_columns({"status": "state"})),
    ],
    ids=[
        "type of esv",
        "type of class",
        "no stderr",
        "one more",
        "esv renamed",
        "order",
        "nullable",
        "type of label",
        "no reason",
        "one more video column",
        "status renamed",
    ],
)
def test_another_schema(output: Output, kind: str, change: Callable[[pa.Table], pa.Table]) -> None:
    output.rewrite(kind, change)
    first, *others = output.problems()
    assert first.startswith(f"{kind}/{output.part(kind).name}: expected the columns ['video_id', ")
    due, got = first.partition("expected the columns ")[2].split(" of the contract's types, got ")
    assert got != due, "it says what differs"
    assert all(other.startswith("_SUCCESS says") for other in others)


@pytest.mark.parametrize("change", [2e-4, -2e-4, 0.5])
def test_an_altered_esv(output: Output, change: float) -> None:
    output.rewrite("attributions", setting("esv", lambda esvs: [esvs[0] + change, *esvs[1:]]))
    row = pq.read_table(output.part("attributions")).to_pylist()[0]
    name = f"video {row['video_id']!r} at {row['n_elements']} elements, class {row['class']}"
    (problem,) = output.problems()
    assert problem == (
        f"attributions/{output.part('attributions').name}: {name}: "
        f"efficiency gap {abs(change):.2g}, expected at most 0.0001"
    )
    assert verify_output(str(output.folder)).worst_gap == pytest.approx(abs(change), abs=1e-5)


def test_a_deviation_within_the_tolerance(output: Output) -> None:
    output.rewrite("attributions", setting("esv", lambda esvs: [esvs[0] + 5e-5, *esvs[1:]]))
    assert output.problems() == ()


def test_logits(tmp_path: Path) -> None:
    """Probabilities tell logits up to a number a video: an ESV of one class that is altered stands out."""
    run(tmp_path, {"a": make_table([3, 4, 5])}, estimator={"output": "logit"}, classes="all")
    output = Output(tmp_path / "out")
    verification = verify_output(str(output.folder))
    assert verification.problems == ()
    assert 0 < verification.worst_gap < 1e-5
    output.rewrite("attributions", setting("esv", lambda esvs: [esvs[0] + 0.01, *esvs[1:]]))
    (problem,) = output.problems()
    assert "efficiency gap 0.01 between classes, expected at most 0.002" in problem


@pytest.mark.parametrize("output_of", ["probability", "logit"])
def test_an_altered_sampled_esv(tmp_path: Path, output_of: str) -> None:
    estimator = {"kind": "adjusted", "m": 4, "iterations": 1, "output": output_of}
    run(tmp_path, {"a": make_table([7, 8, 9])}, estimator=estimator, classes="all")
    output = Output(tmp_path / "out")
    assert verify_output(str(output.folder)).problems == ()
    output.rewrite("attributions", setting("esv", lambda esvs: [esvs[0] + 0.01, *esvs[1:]]))
    (problem,) = output.problems()
    assert "efficiency gap 0.01" in problem


def test_altered_scores(output: Output) -> None:
    output.rewrite("videos", setting("scores", at_first([0.9, 0.05, 0.05])))
    assert any("efficiency gap" in problem for problem in output.problems())


@pytest.mark.parametrize("column", ["class", "n_elements", "video_id"])
def test_an_attribution_of_another_group(output: Output, column: str) -> None:
    other = "nobody" if column == "video_id" else 3 if column == "n_elements" else 2
    before = pq.read_table(output.part("attributions")).column(column)[0].as_py()
    assert before != other
    output.rewrite("attributions", setting(column, at_first(other)))
    assert len(output.problems()) >= 2


def test_dropped_attributions(output: Output) -> None:
    output.rewrite("attributions", lambda table: table.slice(1))
    first, *others = output.problems()
    assert first.startswith(f"videos/{output.part('videos').name}: expected ")
    assert first.endswith(" by its footer, got " + first.rpartition("got ")[2])
    assert any("expected one row for each element 0..1, got 1 rows" in other for other in others)


def test_dropped_attributions_that_the_footer_does_not_know_of(output: Output) -> None:
    output.rewrite("attributions", lambda table: table.slice(1))
    rows = pq.read_table(output.part("attributions")).num_rows
    output.write_counts(attribution_rows=rows)
    output.write_success(attribution_rows=json.loads((output.folder / "_SUCCESS").read_text())["attribution_rows"] - 1)
    (problem,) = output.problems()
    assert "expected one row for each element 0..1, got 1 rows" in problem


def test_a_doubled_attribution(output: Output) -> None:
    output.rewrite("attributions", lambda table: pa.concat_tables([table.slice(0, 1), table]))
    assert any("expected one row for each element 0..1, got 3 rows" in problem for problem in output.problems())


@pytest.mark.parametrize("elements", [[1, 1], [0, 0], [2, 1], [0, 2], [-1, 1], [0, -1]])
def test_an_element_of_another_number(output: Output, elements: list[int]) -> None:
    output.rewrite("attributions", setting("element", lambda values: [*elements, *values[2:]]))
    (problem,) = output.problems()
    least, most, count = min(elements), max(elements), len({*elements})
    assert f"expected one row for each element 0..1, got 2 rows of {count} elements from {least} to {most}" in problem


def test_a_video_without_attributions(output: Output) -> None:
    def without_first(table: pa.Table) -> pa.Table:
        return table.filter(pc.not_equal(table.column("video_id"), table.column("video_id")[0]))

    name = pq.read_table(output.part("attributions")).column("video_id")[0].as_py()
    before = pq.read_table(output.part("attributions")).num_rows
    output.rewrite("attributions", without_first)
    lost = before - pq.read_table(output.part("attributions")).num_rows
    output.write_counts(attribution_rows=before - lost)
    total = json.loads((output.folder / "_SUCCESS").read_text())["attribution_rows"]
    output.write_success(attribution_rows=total - lost)
    assert output.problems() == (
        f"attributions/{output.part('attributions').name}: video {name!r} at 2 elements: no attributions",
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_esvs_that_are_not_finite(sampled_output: Output, value: float) -> None:
    sampled_output.rewrite("attributions", setting("esv", at_first(value)))
    name = sampled_output.part("attributions").name
    assert sampled_output.problems() == (f"attributions/{name}: ESVs are not finite",)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-3])
def test_impossible_standard_errors(sampled_output: Output, value: float) -> None:
    sampled_output.rewrite("attributions", setting("stderr", at_first(value)))
    name = sampled_output.part("attributions").name
    assert sampled_output.problems() == (f"attributions/{name}: standard errors are not finite and >= 0",)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("efficiency_gap", 2e-4, "efficiency_gap 0.0002, expected at most 0.0001"),
        ("efficiency_gap", float("nan"), "expected an efficiency_gap from 0, got nan"),
        ("efficiency_gap", float("inf"), "expected an efficiency_gap from 0, got inf"),
        ("efficiency_gap", -1e-3, "expected an efficiency_gap from 0, got -0.001"),
        ("efficiency_gap", None, "expected an efficiency_gap from 0, got nan"),
        ("scores", None, "expected 3 scores from 0 to 1 that sum to 1"),
        ("scores", [], "expected 3 scores from 0 to 1 that sum to 1"),
        ("scores", [0.5, 0.5], "expected 3 scores from 0 to 1 that sum to 1"),
        ("scores", [0.5, None, 0.5], "expected 3 scores from 0 to 1 that sum to 1"),
        ("scores", [float("nan"), 0.5, 0.5], "expected 3 scores from 0 to 1 that sum to 1"),
        ("scores", [1.2, -0.1, -0.1], "expected 3 scores from 0 to 1 that sum to 1"),
        ("scores", [0.1, 0.1, 0.1], "expected 3 scores from 0 to 1 that sum to 1"),
        ("predicted", None, "expected the class of the largest score as predicted, got None"),
        ("predicted", 7, "expected the class of the largest score as predicted, got 7"),
        ("label", -2, "expected a label from 0 to 2, got -2"),
        ("label", 3, "expected a label from 0 to 2, got 3"),
        ("n_frames", 1, "expected 1 to 1 elements, its frames"),
        ("evaluations", 0, "expected evaluations, got 0"),
        ("iterations", None, "expected iterations 0, since it is exact, got None"),
        ("iterations", 2, "expected iterations 0, since it is exact, got 2"),
        ("tolerance_met", True, "expected tolerance_met where there is a tolerance only"),
        (
            "stderr_difference",
            [0.1],
            "expected stderr_difference of each element where a sampled video is misclassified, else none",
        ),
    ],
)
def test_values_of_a_video_that_it_cannot_have(output: Output, column: str, value: object, message: str) -> None:
    output.rewrite("videos", setting(column, at_first(value)))
    row = pq.read_table(output.part("videos")).to_pylist()[0]
    (problem,) = output.problems()
    assert problem.endswith(f": video {row['video_id']!r} at {row['n_elements']} elements: {message}")


@pytest.mark.parametrize(("value", "message"), [(100.0, "got 100"), (-3.0, "got 3")])
def test_an_esv_of_a_probability_beyond_1(output: Output, value: float, message: str) -> None:
    output.rewrite("attributions", setting("esv", at_first(value)))
    (problem,) = output.problems()
    assert problem.endswith(f"expected ESVs of at most 1.0001, {message}")


def test_standard_errors_beyond_1_of_probabilities(sampled_output: Output) -> None:
    sampled_output.rewrite("attributions", setting("stderr", at_first(1e10)))
    (problem,) = sampled_output.problems()
    assert problem.endswith("standard errors: expected at most 1.00002, got 1e+10")


@pytest.mark.parametrize("value", [-1, 3, 2**31 - 1])
def test_a_class_out_of_range(output: Output, value: int) -> None:
    output.rewrite("attributions", setting("class", at_first(value)))
    assert any(f"class {value}: expected classes 0..2" in problem for problem in output.problems())


def test_a_frame_that_differs_between_classes(sampled_output: Output) -> None:
    sampled_output.rewrite("attributions", setting("frame_index", at_first(99)))
    (problem,) = sampled_output.problems()
    assert problem.endswith("frame_index differs between the classes of a video")


def test_only_some_standard_errors(sampled_output: Output) -> None:
    sampled_output.rewrite("attributions", setting("stderr", at_first(None)))
    (problem,) = sampled_output.problems()
    assert problem.endswith("expected a standard error of each ESV, or of none")


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([float("nan"), 0.5, 0.5], "probabilities that sum to 1, got numbers from nan to nan that sum to nan"),
        ([float("inf"), 0.5, 0.5], "probabilities that sum to 1, got numbers from 0.5 to inf that sum to inf"),
        ([-0.5, 1.0, 0.5], "probabilities that sum to 1, got numbers from -0.5 to 1 that sum to 1"),
        ([0.5, 0.5, 0.5], "probabilities that sum to 1, got numbers from 0.5 to 0.5 that sum to 1.5"),
        ([0.5, 0.5], "a prior of 3 classes, got (2,)"),
        ([], "a prior of 3 classes, got (0,)"),
        ([[0.5], [0.5]], "a prior of 3 classes, got (2, 1)"),
        (["a", "b", "c"], "got something else"),
        (None, "a prior of 3 classes, got ()"),
    ],
)
def test_a_prior_that_is_none(done: tuple[Path, JobResult], prior: object, message: str) -> None:
    """With NaN all efficiency checks passed."""
    manifest = existing_manifest(str(done[0]))
    with pytest.raises(DataError) as caught:
        expected_of(manifest.spec, {**manifest.model, "prior": prior})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_status(output: Output) -> None:
    output.rewrite("videos", setting("status", at_first("done")))
    assert (
        f"videos/{output.part('videos').name}: expected status ok, skipped or failed, got ['done']" in output.problems()
    )


def test_a_failure_without_a_reason(output: Output) -> None:
    output.rewrite("videos", setting("reason", lambda reasons: [None] * len(reasons)))
    (problem,) = output.problems()
    assert problem == f"videos/{output.part('videos').name}: 5 videos that are not ok have no reason"


def test_attributions_of_a_video_that_failed(output: Output) -> None:
    output.rewrite("videos", setting("status", at_first("failed")))
    output.rewrite("videos", setting("reason", at_first("a reason")))
    problems = output.problems()
    assert problems
    assert all("attributions without an `ok` row in videos" in problem for problem in problems)


# Counts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["units", "rows", "ok", "skipped", "failed", "video_rows", "attribution_rows"])
def test_counts_of_the_mark(output: Output, key: str) -> None:
    output.write_success(**{key: json.loads((output.folder / "_SUCCESS").read_text())[key] + 1})
    (problem,) = output.problems()
    assert problem.startswith("_SUCCESS says {")
    assert "the tables say {" in problem


@pytest.mark.parametrize("key", ["rows", "ok", "skipped", "failed", "video_rows", "attribution_rows"])
def test_counts_of_a_footer(output: Output, key: str) -> None:
    path = output.part("videos")
    count = json.loads(pq.read_metadata(path).metadata[b"esv_ray"])["counts"][key]
    output.write_counts(**{key: count + 1})
    first, *others = output.problems()
    assert first.startswith(f"videos/{path.name}: expected ")
    assert others[-1].startswith("_SUCCESS says {")


def test_a_footer_that_agrees_with_itself_and_not_with_the_plan(output: Output) -> None:
    content = json.loads(pq.read_metadata(output.part("videos")).metadata[b"esv_ray"])["counts"]
    output.write_counts(rows=content["rows"] + 1, ok=content["ok"] + 1)
    first, second = output.problems()
    assert "expected 4 input rows by run.json, got {'rows': 5" in first
    assert second.startswith("_SUCCESS says {")


def test_a_footer_without_counts(output: Output) -> None:
    path = output.part("videos")
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert output.problems()[0] == f"videos/{path.name}: expected a file of esv_ray, its footer names no job and rows"


def test_a_dropped_video(output: Output) -> None:
    output.rewrite("videos", lambda table: table.slice(1))
    assert any("by its footer, got 7 videos and " in problem for problem in output.problems())


# Videos that stand twice ----------------------------------------------------------------------------------------------


def test_a_unit_in_the_place_of_another(output: Output) -> None:
    """Both have four input rows; the footer tells which rows of the plan they are."""
    for kind in ("videos", "attributions"):
        shutil.copy(output.part(kind, 3), output.part(kind, 1))
    problems = output.problems()
    name = output.part("videos", 1).name
    assert any(problem.startswith(f"videos/{name}: expected the rows (1, ") for problem in problems)


def test_an_id_in_two_files(tmp_path: Path) -> None:
    tables = {"a": make_table([2, 3, 4]), "b": make_table([5, 6], prefix="w"), "c": make_table([7], seed=5)}
    run(tmp_path, tables, frames=2)
    output = Output(tmp_path / "out")
    assert output.problems() == (
        f"videos/{output.part('videos', 2).name}: video 'v0' at 2 elements is in "
        f"videos/{output.part('videos', 0).name} too: it is in two files of the feature table",
    )


def test_an_id_repeated_in_one_file_is_a_failure_and_no_more(tmp_path: Path) -> None:
    run(tmp_path, {"a": pa.concat_tables([make_table([2, 3]), make_table([2])])}, frames=2)
    verification = verify_output(str(tmp_path / "out"))
    assert verification.problems == ()
    assert verification.counts.failed == 1


# Found and mended -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", ["all", 16])
def test_an_id_in_two_files_whose_videos_differ_in_length(tmp_path: Path, frames: str | int) -> None:
    run(tmp_path, {"a": make_table([2, 3, 4]), "b": make_table([7], seed=5)}, frames=frames)
    (problem,) = Output(tmp_path / "out").problems()
    assert "'v0'" in problem


def test_an_id_in_two_files_of_which_one_failed(tmp_path: Path) -> None:
    table = make_table([2, 3])
    broken = pa.Table.from_pylist([{**row, "features": None} for row in table.to_pylist()[:1]], schema=table.schema)
    run(tmp_path, {"a": table, "b": broken}, frames=2)
    (problem,) = Output(tmp_path / "out").problems()
    assert "'v0'" in problem


def test_attributions_that_are_not_in_the_plan(output: Output) -> None:
    stray = "part-000009-0123456789abcdef.parquet"
    shutil.copy(output.part("attributions"), output.folder / "attributions" / stray)
    assert output.problems() == (f"attributions/{stray}: not in run.json",)


@pytest.mark.parametrize(
    ("kind", "column", "change"),
    [
        ("attributions", "class", lambda values: [99] * len(values)),
        ("attributions", "class", lambda values: [value - 3 for value in values]),
        ("videos", "scores", at_first(None)),
        ("videos", "scores", lambda values: [value and [*value, 0.5] for value in values]),
        ("videos", "scores", at_first([float("nan")] * 3)),
        ("videos", "efficiency_gap", at_first(None)),
        ("videos", "predicted", lambda values: [None if value is None else (value + 1) % 3 for value in values]),
        ("attributions", "stderr", lambda values: [0.1] * len(values)),
    ],
    ids=[
        "class 99",
        "class below 0",
        "no scores",
        "a score too many",
        "NaN scores",
        "no efficiency_gap",
        "another class predicted",
        "stderr of an exact row",
    ],
)
def test_values_that_cannot_be(
    output: Output, kind: str, column: str, change: Callable[[list[Any]], list[Any]]
) -> None:
    output.rewrite(kind, setting(column, change))
    assert output.problems()


@pytest.mark.parametrize(("kind", "name"), [("videos", b"n_frames"), ("attributions", b"element")])
def test_a_flipped_byte_in_a_column_name(output: Output, kind: str, name: bytes) -> None:
    path = output.part(kind)
    path.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:]))
    assert output.problems()[0].startswith(f"{kind}/{path.name}: ")


@pytest.mark.parametrize("value", ["4", None, [4]])
def test_counts_that_are_no_numbers(output: Output, value: object) -> None:
    output.write_counts(rows=value)
    assert f"videos/{output.part('videos').name}: expected a videos file of esv_ray" in output.problems()[0]


def test_a_mark_that_is_broken(output: Output) -> None:
    (output.folder / "_SUCCESS").write_text("")
    output.rewrite("attributions", setting("esv", lambda esvs: [esvs[0] + 1, *esvs[1:]]))
    assert len(output.problems()) == 2


def test_tables_of_the_test_are_tables_of_the_program(output: Output) -> None:
    """The schemas here come from files; they are those that the program writes."""
    none = np.zeros(0, np.int32)
    files = unit_files(
        unit_tables(InputRows([], none, none.astype(bool), none), [], []), 0, Origin("job", "footer", ())
    )
    for kind, data in (("attributions", files.tables["attributions"]), ("videos", files.videos)):
        assert pq.read_schema(output.part(kind)).equals(pq.read_schema(pa.BufferReader(data)), check_metadata=False)


def test_a_type_that_differs_is_named(output: Output) -> None:
    output.rewrite("videos", lambda table: table.set_column(1, "label", table.column("label").cast(pa.int64())))
    assert "of the contract's types, got label int64 in place of label int32" in output.problems()[0]


def test_as_many_rows_in_other_row_groups(done: tuple[Path, JobResult]) -> None:
    """The plan against the input: it says which row group differs where the sums are the same."""
    manifest = existing_manifest(str(done[0]))
    first, *rest = manifest.units
    moved = replace(first, ranges=(replace(only(first), row_group=7),))
    (problem,), _ = input_problems(str(done[0]), replace(manifest, units=(moved, *rest)))
    rows: Counter[int] = Counter()
    for unit in (unit for unit in manifest.units if only(unit).file == only(first).file):
        rows[only(unit).row_group] += unit.rows
    there = rows[only(first).row_group]
    assert problem == (
        f"{only(first).file.url}: expected the rows of its row groups in run.json, {rows.total()} in all, got "
        f"{rows.total()}; 2 row groups differ, first {only(first).row_group}: expected {there} rows, got "
        f"{there - first.rows}; plan the job again"
    )
