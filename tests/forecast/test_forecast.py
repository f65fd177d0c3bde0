"""Forecasts, compared with the jobs that follow."""

from __future__ import annotations

import json
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.spec import AbstractFileSystem

from esv_ray import storage
from esv_ray.attribution.work import run_job
from esv_ray.bench.report import read_timings
from esv_ray.core.cost import PlanCost
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import DataError, EsvError, JobError, SpecError
from esv_ray.forecast import io as forecast_io
from esv_ray.forecast import warnings as forecast_warnings
from esv_ray.forecast.forecast import forecast
from esv_ray.forecast.lengths import RepeatedIds, repeated_ids
from esv_ray.forecast.report import as_json
from esv_ray.forecast.throughput import ModelSize, Timing, Timings, time_per_video
from esv_ray.forecast.warnings import warnings
from esv_ray.input.files import list_files
from esv_ray.job.resources import capacity, shape_of, this_machine
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec
from esv_ray.storage.transport import requests
from tests.conftest import make_heads, make_model, make_prior, make_table
from tests.support.bundles import python_bundle
from tests.support.forecasts import job, same_lengths
from tests.support.slow import slow_unless

DEMO = Path(__file__).parents[2] / "jobs" / "demo"


def evaluations_of(output: Path | str) -> int:
    """Return the head evaluations of a finished job."""
    return sum(pq.read_table(f"{output}/videos").column("evaluations").to_pylist())


def bytes_of(output: Path) -> int:
    return sum(path.stat().st_size for path in output.glob("*/part-*"))


@pytest.mark.parametrize(
    "overrides",
    slow_unless(
        lambda overrides: overrides[0] != "frames=all",
        [
            ["frames=all"],
            ["frames=[2,5,9]"],
            ["frames=[2,5,9]", "short=skip"],
            ["frames=[2,5,all]"],
            ["frames=[all,5,9]", "short=skip"],
            ["frames=all", "estimator.kind=exact"],
            ["frames=all", "estimator.kind=algorithm1", "estimator.m=6", "estimator.iterations=2"],
            ["frames=7", "estimator.kind=adjusted", "estimator.m=6", "estimator.iterations=3"],
            ["frames=all", "estimator.output=logit", "estimator.m=5", "estimator.iterations=1"],
        ],
    ),
    ids=" ".join,
)
def test_evaluations_match_the_job(overrides: list[str], features: str, bundle: str, tmp_path: Path) -> None:
    spec = job(features, bundle, tmp_path / "out", *overrides)
    result = forecast(spec, read_lengths=True)
    assert not (tmp_path / "out" / "run.json").exists()
    done = run_job(spec)
    assert result.evaluations() == result.evaluations(pending=True) == evaluations_of(tmp_path / "out")
    assert result.skipped == done.counts.skipped
    assert result.output_size.video_rows + sum(row["status"] == "skipped" for row in rows(tmp_path / "out")) == len(
        rows(tmp_path / "out")
    )


def rows(output: Path) -> list[dict[str, object]]:
    table: list[dict[str, object]] = pq.read_table(output / "videos").to_pylist()
    return table


@pytest.mark.slow
def test_evaluations_of_a_model_of_any_length(features: str, tmp_path: Path) -> None:
    for kind in ("algorithm1", "adjusted", "exact"):
        overrides = [f"estimator.kind={kind}", "estimator.m=5", "estimator.iterations=2"]
        spec = job(features, python_bundle(tmp_path / kind / "python", "raising"), tmp_path / kind / "out", *overrides)
        result = forecast(spec, read_lengths=True)
        run_job(spec)
        assert result.evaluations() == pytest.approx(evaluations_of(tmp_path / kind / "out"), rel=0.01)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for kind in ("algorithm1", "adjusted", "exact"):
        (tmp_path / kind).mkdir()


@pytest.mark.slow
def test_a_tolerance_gives_a_range(features: str, bundle: str, tmp_path: Path) -> None:
    overrides = ["estimator.kind=adjusted", "estimator.m=16", "estimator.iterations=1", "estimator.tolerance=0.001"]
    spec = job(features, bundle, tmp_path / "out", "estimator.max_iterations=4", *overrides)
    result = forecast(spec, read_lengths=True)
    run_job(spec)
    assert result.evaluations() < evaluations_of(tmp_path / "out") <= result.evaluations(most=True)
    assert result.time.seconds <= result.time.seconds_most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "kind"), [("all", "exact"), ("[label,predicted]", "algorithm1"), ("top:2", "adjusted"), ("[1]", "auto")]
)
def test_bytes_written_are_within_the_range(classes: str, kind: str, bundle: str, tmp_path: Path) -> None:
    table = same_lengths(tmp_path / "f.parquet", lengths=(6, 11), rows=64)
    overrides = [f"classes={classes}", f"estimator.kind={kind}", "estimator.m=9", "estimator.iterations=2"]
    for unit in (16, 64):
        out = tmp_path / f"out-{unit}"
        spec = job(table, bundle, out, f"compute.unit={unit}", *overrides)
        result = forecast(spec).output_size
        written = run_job(spec).counts.written
        assert result.attribution_rows_least <= written["attribution_rows"] <= result.attribution_rows_most
        assert result.video_rows == written["video_rows"]
        assert result.bytes_least <= bytes_of(out) <= result.bytes_most
        assert result.files == len(list(out.glob("*/part-*")))


def test_the_demo(tmp_path: Path) -> None:
    heads = make_heads(feature_dim=12, n_classes=9, n_max=4)
    save_heads(str(tmp_path / "model"), heads, make_prior(9))
    out = tmp_path / "out"
    spec = job(str(DEMO / "test.parquet"), str(tmp_path / "model"), out, "frames=8")
    by_footers, by_rows = forecast(spec), forecast(spec, read_lengths=True)
    begun = time.perf_counter()
    run_job(spec)
    took = time.perf_counter() - begun
    assert by_rows.evaluations() == evaluations_of(out)
    assert by_footers.evaluations() == pytest.approx(evaluations_of(out), rel=0.02), "few are shorter than 8"
    assert sum(by_rows.lengths.videos.values()) == sum(by_footers.lengths.videos.values()) == 370
    assert by_rows.output_size.bytes_least <= bytes_of(out) <= by_rows.output_size.bytes_most
    assert took / 20 < by_rows.time.seconds < took * 20, "the machine may be busy"


def test_mean_lengths_are_those_of_row_groups(bundle: str, tmp_path: Path) -> None:
    table = same_lengths(tmp_path / "f.parquet", lengths=(3, 8, 5), rows=7)
    result = forecast(job(table, bundle, tmp_path / "out"))
    assert result.lengths.source == "row groups"
    assert dict(result.lengths.videos) == {3: 7, 8: 7, 5: 7}
    assert [length.work.n for length in result.by_length] == [3, 5, 8]


def test_float16_features_and_rows_without_frames(bundle: str, tmp_path: Path) -> None:
    values = pa.array([[[1.0] * 4] * 3, [], None, [[2.0] * 4] * 5], pa.list_(pa.list_(pa.float16(), 4)))
    pq.write_table(pa.table({"video_id": ["a", "b", "c", "d"], "features": values}), tmp_path / "f.parquet")
    result = forecast(job(str(tmp_path / "f.parquet"), bundle, tmp_path / "out"), read_lengths=True)
    assert dict(result.lengths.videos) == {3: 1, 5: 1}
    assert result.lengths.frameless == 2
    assert result.row_groups[0].decoded == pytest.approx(2 * 4 * 8, abs=2 * 2), "nulls count as a value"
    assert any("2 rows have no frames" in line for line in warnings(result))
    assert not result.labelled


@pytest.mark.slow
def test_resumed(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    spec = job(features, bundle, out, "frames=4", "compute.unit=5")
    first = forecast(spec, read_lengths=True)
    assert (first.resumed, len(first.pending)) == (False, len(first.units))
    run_job(spec)
    result = as_json(forecast(spec))
    assert result["done"] == {
        "planned": True,
        "units": len(first.units),
        "videos": 40,
        "units_left": 0,
        "videos_left": 0,
    }
    assert (result["time"]["seconds"], result["write"]["create_only"], result["read"]["bytes"]) == (0, None, 0)
    for path in sorted((out / "videos").iterdir())[2:]:
        path.unlink()
    resumed = forecast(spec, read_lengths=True)
    assert sum(unit.rows for unit in resumed.pending) == 40 - sum(unit.rows for unit in resumed.units[:2])
    assert resumed.evaluations() == first.evaluations()
    spent = evaluations_of(out)
    run_job(spec)
    assert resumed.evaluations(pending=True) == evaluations_of(out) - spent
    with pytest.raises(JobError, match="holds another job's results; frames: expected"):
        forecast(job(features, bundle, out, "frames=3", "compute.unit=5"))
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_only_a_probe_is_written(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert forecast(job(features, bundle, out, "frames=2")).create_only is True
    assert [path for path in tmp_path.rglob("out/*") if path.is_file()] == []


def test_memory_locations(bundle: str, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    with fs.open("/plan/features/part.parquet", "wb") as file:
        pq.write_table(make_table([3, 5, 7]), file)
    for path in Path(bundle).iterdir():
        fs.pipe_file(f"/plan/model/{path.name}", path.read_bytes())
    spec = load_spec(
        {"features": "memory://plan/features", "model": "memory://plan/model", "output": "memory://plan/o"}
    )
    result = forecast(spec, read_lengths=True, check_ids=True)
    assert (result.actors.requested, result.time.start_s) == (1, 0)
    assert result.create_only == storage.creates_only("memory://plan/o")
    assert ("does not refuse to create an object that exists" in " ".join(warnings(result))) == (
        result.create_only is False
    )
    run_job(spec)
    assert forecast(spec).pending == ()
    fs.rm("/plan", recursive=True)


def test_each_footer_is_read_once(bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the plan, whose footers the forecast takes over; a plan on storage has none, so they are read for it."""
    place, paths = f"memory://{tmp_path.name}-footers", list[str]()
    for number in range(3):
        with fsspec.open(f"{place}/{number}.parquet", "wb") as file:
            pq.write_table(make_table([2, 3], seed=number, prefix=str(number)), file)
    cat = requests.cat

    def counted(fs: AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
        paths.append(path)
        return cat(fs, path, start, stop)

    monkeypatch.setattr(requests, "cat", counted)
    spec = job(place, bundle, tmp_path / "out", "frames=2")
    assert not as_json(forecast(spec))["done"]["planned"]
    assert len(paths) == len(set(paths)) == 3
    run_job(spec)
    paths.clear()
    assert as_json(forecast(spec))["done"]["planned"]
    assert len(paths) == len(set(paths)) == 3


def test_on_s3(s3: object, features: str, bundle: str) -> None:
    result = forecast(job(features, bundle, "s3://esv/plan-output", "frames=2"))
    assert result.create_only is True
    assert storage.list_names("s3://esv/plan-output", "look") == []


def test_repeated_ids(bundle: str, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    for name, ids in (("a", ["x", "y", "x", None]), ("b", ["y", "z", None, "q"]), ("c", ["w", "w", "y", "e"])):
        table = make_table([2] * 4)
        pq.write_table(table.set_column(0, "video_id", pa.array(ids, pa.string())), folder / f"{name}.parquet")
    repeats = repeated_ids(list_files(str(folder)), 10**9)
    assert (repeats.across_files, repeats.within_files) == (1, 2)
    assert set(repeats.examples) == {"w", "x", "y"}
    assert repeats.examples["y"] == tuple(str(folder / f"{name}.parquet") for name in "abc")
    result = forecast(job(str(folder), bundle, tmp_path / "out"), check_ids=True)
    assert result.repeated_ids == repeats
    assert any("1 ids occur in several files" in line for line in warnings(result))


def test_rows_without_an_id_are_not_repeated(tmp_path: Path) -> None:
    """They fail in a job, which finishes."""
    for name, ids in (("a", ["", "", "a"]), ("b", ["", None, "c"])):
        table = make_table([2] * 3)
        pq.write_table(table.set_column(0, "video_id", pa.array(ids, pa.string())), tmp_path / f"{name}.parquet")
    assert repeated_ids(list_files(str(tmp_path)), 10**9) == RepeatedIds(0, 0, {})


def test_unique_ids(features: str) -> None:
    assert repeated_ids(list_files(features), 10**9) == RepeatedIds(0, 0, {})


@pytest.mark.parametrize(
    ("overrides", "error", "expected"),
    [
        (["features=/nowhere/at/all"], DataError, "was not found"),
        (["model=/nowhere"], EsvError, "no model.json"),
        (["classes=[7]"], SpecError, "classes: expected ids 0..2"),
        (["frames=64", "estimator.kind=exact"], SpecError, "exact ESVs of n = 64"),
        (["output=/proc/nothing/here"], DataError, "/proc/"),
    ],
)
def test_invalid_requests(
    overrides: list[str], error: type[Exception], expected: str, features: str, bundle: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=expected):
        forecast(job(features, bundle, tmp_path / "out", *overrides))
    assert not (tmp_path / "out").exists()


def test_features_of_another_size(bundle: str, tmp_path: Path) -> None:
    pq.write_table(make_table([3], feature_dim=5), tmp_path / "f.parquet")
    with pytest.raises(EsvError, match=r"features must be \(T, 4\)"):
        forecast(job(str(tmp_path / "f.parquet"), bundle, tmp_path / "out"))


def test_lengths_that_do_not_fit_are_reported(bundle: str, tmp_path: Path) -> None:
    table = same_lengths(tmp_path / "f.parquet", lengths=(3, 18), rows=20)
    spec = job(table, bundle, tmp_path / "out", "estimator.kind=exact", "compute.memory_budget=2000000")
    result = forecast(spec)
    assert [length.work.fits for length in result.by_length] == [True, False]
    content = as_json(result)
    assert content["unfit_videos"] == 20
    assert [entry["fits"] for entry in content["by_length"]] == [True, False]
    assert any("20 videos of n = 18 would fail: exact ESVs" in line for line in content["warnings"])
    assert any("exit code would be 1" in line for line in content["warnings"])
    assert result.output_size.video_rows == 40
    assert run_job(spec).counts.failed == 20


def test_row_groups_that_are_too_large(bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = same_lengths(tmp_path / "f.parquet", lengths=(30,), rows=400)
    monkeypatch.setattr(forecast_warnings, "ADVISED_BYTES", 1000)
    result = forecast(job(table, bundle, tmp_path / "out", "frames=2", "compute.memory_budget=600000"))
    shown = " ".join(warnings(result))
    assert "1 row groups are larger than the recommended" in shown
    assert "1 row groups of 400 videos take up to" in shown


def test_actors(features: str, bundle: str, tmp_path: Path) -> None:
    spec = load_spec({"features": features, "model": bundle, "output": str(tmp_path / "out"), "frames": 2})
    result = forecast(spec, actors=1000)
    assert result.actors.requested == 1000
    assert result.actors.working == len(result.units)
    assert any("of 1000 actors would be idle" in line for line in warnings(result))
    elsewhere = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"address": "10.0.0.1:6379"})})
    result = forecast(elsewhere)
    assert any("give --actors N" in line for line in warnings(result))
    assert forecast(elsewhere, actors=2).actors.concurrent == 2


def figures(*timings: Timing, size: ModelSize | None = None) -> Timings:
    return Timings(timings, "figures", "cpu", 1, "highest", size)


def plan_cost(n: int, evaluations: int) -> PlanCost:
    return PlanCost("exact", n, evaluations, True, 1, 1, 0.0)


def test_timings_are_interpolated() -> None:
    model = make_model()
    estimate = time_per_video(figures(Timing("exact", 8, 100, 1.0), Timing("exact", 12, 400, 2.0)), model)
    assert estimate(plan_cost(8, 100), 1) == (1.0, "n = 8")
    assert estimate(plan_cost(4, 50), 1) == (0.5, "n = 8, scaled")
    assert estimate(plan_cost(13, 800), 1) == (4.0, "n = 12, scaled")
    between, how = estimate(plan_cost(10, 200), 1)
    assert between == pytest.approx(200 * (0.01 * 0.005) ** 0.5)
    assert how == "between n = 8 and 12"
    slow = time_per_video(figures(Timing("exact", 8, 100, 1.0, 6.0)), model)
    assert (slow(plan_cost(8, 100), 1)[0], slow(plan_cost(8, 100), 3)[0]) == (7.0, 3.0)
    with pytest.raises(
        SpecError, match=r"expected measurements of the estimator adjusted, .* got exact; run esv bench"
    ):
        estimate(PlanCost("adjusted", 9, 10, True, 1, 1, 0.0), 1)


def test_timings_of_other_sizes_are_scaled_by_operations(tmp_path: Path, features: str) -> None:
    model = make_model()  # D = 4, H = 8, C = 3, n_max = 3
    size = ModelSize(4, 16, 3, 3)
    estimate = time_per_video(figures(Timing("exact", 8, 100, 1.0), size=size), model)
    assert estimate(plan_cost(8, 100), 1)[0] == pytest.approx(0.5), "half the hidden layer"
    spec = job(features, python_bundle(tmp_path / "exact" / "python", "raising"), tmp_path / "out", "frames=3")
    with pytest.raises(SpecError, match="expected a model of heads with one hidden layer"):
        forecast(spec, timings=figures(Timing("exact", 8, 100, 1.0), size=size))


def test_timings_from_a_file(features: str, bundle: str, tmp_path: Path) -> None:
    ones = dict.fromkeys(("plan_s", "second_ms", "first_ms", "gflops", "gbytes_s", "video_ms_min", "video_ms_max"), 1.0)
    measured = {**ones, "n": 3, "estimator": "exact", "batch": 4, "evaluations": 7, "video_ms": 2.0}
    measured |= {"peak_mb": 1, "host": None, "error": None}
    setting = {"dimensions": {"feature_dim": 4, "hidden": 8, "n_classes": 3, "n_max": 3}, "device": "cpu", "threads": 2}
    content = {"format": 2, "setting": {**setting, "matmul": "highest"}, "measurements": [measured]}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(content))
    spec = job(features, bundle, tmp_path / "out", "frames=3", "estimator.kind=exact")
    result = forecast(spec, timings=read_timings(path), read_lengths=True)
    by_n = {entry["n"]: entry for entry in as_json(result)["by_length"]}
    assert (by_n[3]["video_s"], by_n[3]["figure"]) == (pytest.approx(0.002), "n = 3")
    assert by_n[2]["video_s"] == pytest.approx(0.002 * 3 / 7)
    assert not result.scaled
    assert any("measured with threads 2, not 1" in line for line in warnings(result))
    for broken in ("{", '{"format": 1}', '{"format": 2}', "[]"):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"bench\.json: expected"):
            read_timings(path)


def test_timings_of_other_machines_are_for_the_requested_actors(features: str, bundle: str, tmp_path: Path) -> None:
    spec = load_spec(
        {"features": features, "model": bundle, "output": str(tmp_path / "out")}, ["frames=3", "compute.unit=1"]
    )
    result = forecast(spec, actors=64)
    here = [this_machine()]
    assert result.actors.concurrent == min(
        result.actors.working, capacity(here, shape_of(spec.cluster, spec.compute.threads, here))
    )
    elsewhere = forecast(spec, actors=64, timings=figures(Timing("exact", 3, 7, 1.0)))
    assert elsewhere.actors.concurrent == elsewhere.actors.working == len(elsewhere.pending)
    assert elsewhere.time.seconds < 2 * elsewhere.time.compute_s / len(elsewhere.pending) + 20
    assert elsewhere.spec.compute.memory_budget == forecast(spec).spec.compute.memory_budget, "a node's, not a 64th"
    assert not any("cores: the time" in line for line in warnings(elsewhere))


def test_labels_add_attribution_rows(bundle: str, tmp_path: Path) -> None:
    model: VideoModel = make_model()
    table = same_lengths(tmp_path / "f.parquet", lengths=(4,), rows=3, n_classes=None)
    result = forecast(job(table, bundle, tmp_path / "out", "classes=[label,predicted]"))
    assert (result.output_size.attribution_rows_least, result.output_size.attribution_rows_most) == (12, 12)
    spec = job(table, bundle, tmp_path / "out", "classes=[label,top:2,0]")
    assert forecast_io.class_counts(spec, model.n_classes, True) == (2, 3)
