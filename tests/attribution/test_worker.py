"""One unit as a plain function: what becomes of good, short and bad rows; jobs in this process, without Ray."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import esv_ray
from esv_ray.attribution.planning import plan_job
from esv_ray.attribution.requests import plan_requests
from esv_ray.attribution.unit import run_unit
from esv_ray.attribution.work import run_job
from esv_ray.attribution.workplace import open_workplace
from esv_ray.core.exact import attribution, plan
from esv_ray.core.plan import Plan, build_plan, clear_plans
from esv_ray.core.recipe import Recipe
from esv_ray.errors import DataError, EsvError, IncompleteError, JobError, ModelError, SpecError
from esv_ray.input.features import Contract, decode_rows
from esv_ray.input.frames import sample_frames
from esv_ray.input.videos import read_videos
from esv_ray.job import resources
from esv_ray.job.progress import Progress
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.models.bundle import load_model
from esv_ray.models.saving import save_heads
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior, make_table
from tests.support.bundles import large_bundle, python_bundle
from tests.support.feature_tables import plain
from tests.support.job_factories import CALLS_OF_A_LOAD, CONSENT
from tests.support.jobs import files_of, run


def videos_of(output: Path | str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(f"{output}/videos").to_pylist()
    return rows


@pytest.mark.parametrize(("t", "n"), [(10, 4), (7, 7), (29, 8), (1, 1), (1000, 16)])
def test_frames_are_sampled_at_the_middles_of_segments(t: int, n: int) -> None:
    assert sample_frames(np.array([t, t]), n).tolist() == [[int(np.floor((i + 0.5) * t / n)) for i in range(n)]] * 2


def test_requested_lengths(features: str, bundle: str) -> None:
    base = {"features": features, "model": bundle, "output": "out"}
    rows = decode_rows(plain(make_table([3, 9, 2])), Contract(4, 3), repeated=[2])

    def asked(*overrides: str) -> tuple[list[tuple[int, int]], list[tuple[int, int, str]]]:
        wanted, missing = plan_requests(load_spec(base, overrides), rows)
        pairs = list(zip(wanted.rows.tolist(), wanted.lengths.tolist(), strict=True))
        return pairs, [(item.row, item.n_elements, item.status) for item in missing]

    failed = [(2, n, "failed") for n in (1, 2, 4, 8)]
    sweep = [(1, 1), (1, 2), (1, 4), (1, 8)]
    assert asked("frames=[1,2,4,8]") == ([(0, 1), (0, 2), (0, 3), *sweep], failed), "lengths above T collapse"
    skipped = [(0, 4, "skipped"), (0, 8, "skipped")]
    assert asked("frames=[1,2,4,8]", "short=skip") == ([(0, 1), (0, 2), *sweep], [*failed, *skipped])
    assert asked() == ([(0, 3), (1, 9)], [(2, 2, "failed")])
    failed = [(2, n, "failed") for n in (2, 3, 8)]
    assert asked("frames=[3,8,all]") == ([(0, 3), (1, 3), (1, 8), (1, 9)], failed), "each length once"
    skipped = [(0, 8, "skipped")]
    assert asked("frames=[3,8,all]", "short=skip") == ([(0, 3), (1, 3), (1, 8), (1, 9)], [*failed, *skipped])
    failed, skipped = [(2, n, "failed") for n in (2, 4)], [(0, 4, "skipped")]
    assert asked("frames=[all,4]", "short=skip") == ([(0, 3), (1, 4), (1, 9)], [*failed, *skipped])
    assert asked("frames=[4,2,9,all]")[0] == [(0, 2), (0, 3), (1, 2), (1, 4), (1, 9)]


def test_results_are_those_of_explain(features: str, bundle: str, tmp_path: Path) -> None:
    result = run(features, bundle, tmp_path / "out", "classes=all", "estimator.m=10", "estimator.iterations=2")
    assert (result.counts.ok, result.exit_code) == (40, 0)
    table = pq.read_table(tmp_path / "out" / "attributions").to_pylist()
    model = load_model(bundle)
    by_id, contrasted = {row["video_id"]: row for row in videos_of(tmp_path / "out")}, 0
    for video in read_videos(features)[0]:
        expected = esv_ray.explain(model, video.features, m=10, iterations=2, video_id=video.video_id)
        row = by_id[video.video_id]
        contrast = None
        if video.label not in (None, expected.predicted):
            contrast = expected.contrast(video.label, expected.predicted).stderr
        if contrast is None:
            assert row["stderr_difference"] is None
        else:
            assert row["stderr_difference"] == pytest.approx(contrast.tolist(), abs=1e-6)
            contrasted += 1
        mine = [row for row in table if row["video_id"] == video.video_id]
        assert len(mine) == expected.esv.numel()
        for row in mine:
            assert row["esv"] == pytest.approx(float(expected.esv[row["element"], row["class"]]), abs=1e-6)
            if expected.exact:
                assert row["stderr"] is None
            elif expected.stderr is not None:
                assert row["stderr"] == pytest.approx(float(expected.stderr[row["element"], row["class"]]), abs=1e-6)
    assert contrasted > 5
    assert {row["exact"] for row in videos_of(tmp_path / "out")} == {True, False}


@pytest.mark.slow
def test_logits_are_attributed_and_scores_stay_probabilities(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    overrides = ("estimator.output=logit", "classes=all", "estimator.m=10", "estimator.iterations=1")
    assert run(features, bundle, out, *overrides).exit_code == 0
    assert verify_output(str(out)).problems == ()
    table, model = pq.read_table(out / "attributions").to_pylist(), load_model(bundle)
    by_id = {str(row["video_id"]): row for row in videos_of(out)}
    for video in read_videos(features)[0][:10]:
        expected = esv_ray.explain(model, video.features, m=10, iterations=1, output="logit", video_id=video.video_id)
        mine = [row for row in table if row["video_id"] == video.video_id]
        assert len(mine) == expected.esv.numel()
        for row in mine:
            assert row["esv"] == pytest.approx(float(expected.esv[row["element"], row["class"]]), abs=1e-5)
        assert by_id[video.video_id]["scores"] == pytest.approx(expected.scores.softmax(dim=0).tolist(), abs=1e-6)
        assert by_id[video.video_id]["exact"] == expected.exact


def test_sweep_skip_and_frame_numbers(bundle: str, tmp_path: Path) -> None:
    table = make_table([3, 8]).append_column(
        "frame_index", pa.array([[10, 20, 30], list(range(100, 108))], pa.list_(pa.int64()))
    )
    pq.write_table(table, tmp_path / "f.parquet")
    result = run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out", "frames=[2,4]", "short=skip")
    assert result.counts.skipped == 1
    rows = videos_of(tmp_path / "out")
    assert [(r["video_id"], r["n_elements"], r["status"]) for r in rows] == [
        ("v0", 2, "ok"),
        ("v0", 4, "skipped"),
        ("v1", 2, "ok"),
        ("v1", 4, "ok"),
    ]
    assert rows[1]["reason"] == "3 frames, 4 asked for"
    attributions = pq.read_table(tmp_path / "out" / "attributions").to_pylist()
    frames = {(r["video_id"], r["n_elements"], r["element"]): r["frame_index"] for r in attributions}
    assert [frames["v0", 2, i] for i in range(2)] == [10, 30]
    assert [frames["v1", 4, i] for i in range(4)] == [101, 103, 105, 107]


def test_bad_rows_fail_with_their_reason_and_the_rest_completes(bundle: str, tmp_path: Path) -> None:
    good = make_table([4, 5, 6])
    faulty = make_table([4, 4, 4], seed=3).to_pylist()
    faulty[0]["features"][1][2] = float("nan")
    faulty[1]["label"] = 99
    faulty[2]["features"] = []
    table = pa.concat_tables([good, pa.Table.from_pylist(faulty, schema=good.schema)])
    ids = pa.array(["v0", "v1", "v2", "nan", "label", "v1"])
    pq.write_table(table.set_column(0, "video_id", ids), tmp_path / "f.parquet")
    result = run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out", "frames=3")
    assert (result.counts.ok, result.counts.failed, result.exit_code) == (3, 3, 1)
    reasons = {row["video_id"]: row["reason"] for row in videos_of(tmp_path / "out") if row["status"] == "failed"}
    assert "frame 1" in str(reasons["nan"])
    assert "label 99 is out of range" in str(reasons["label"])
    assert "repeated" in str(reasons["v1"])
    assert dict(result.failed) == reasons
    assert (tmp_path / "out" / "_SUCCESS").exists(), "every unit is committed"
    assert run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out", "frames=3", "max_failed=0.5").exit_code == 0


def test_exact_that_does_not_fit_fails_its_videos_only(bundle: str, tmp_path: Path) -> None:
    pq.write_table(make_table([3, 35, 4]), tmp_path / "f.parquet")
    result = run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out", "estimator.kind=exact", "max_failed=1")
    assert (result.counts.ok, result.counts.failed) == (2, 1)
    assert "exact ESVs of n = 35 elements" in result.failed[0][1]
    with pytest.raises(SpecError, match="n = 35"):
        run(str(tmp_path / "f.parquet"), bundle, tmp_path / "other", "estimator.kind=exact", "frames=35")
    assert not (tmp_path / "other").exists()


def test_the_memory_budget_is_fixed_by_the_plan(
    features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine that goes on decides as the one that planned the job did."""
    out = tmp_path / "out"
    monkeypatch.setattr(resources, "memory_per_actor", lambda actors, per_gpu: 123_456_789)
    run(features, bundle, out, "compute.unit=20")
    manifest = json.loads((out / "run.json").read_text())
    assert (manifest["memory_budget"], manifest["spec"]["compute"]["memory_budget"]) == (123_456_789, "auto")
    monkeypatch.setattr(resources, "memory_per_actor", lambda actors, per_gpu: 1)
    (out / "_SUCCESS").unlink()
    next(iter((out / "videos").iterdir())).unlink()
    assert run(features, bundle, out, "compute.unit=20").counts.ok == 40
    spec = load_spec({"features": features, "model": bundle, "output": str(out)}, ["compute.unit=20"])
    assert plan_job(spec).spec.compute.memory_budget == 123_456_789


@pytest.mark.slow
def test_auto_samples_what_does_not_fit_and_says_so(tmp_path: Path) -> None:
    wide, features = str(tmp_path / "wide"), str(tmp_path / "f.parquet")
    save_heads(wide, make_heads(n_classes=10000), make_prior(10000))
    pq.write_table(make_table([9, 14]), features)
    sampling = ("estimator.m=1500", "estimator.iterations=1")
    assert run(features, wide, tmp_path / "ample", *sampling, "compute.memory_budget=1000000000").counts.ok == 2
    assert [row["exact"] for row in videos_of(tmp_path / "ample")] == [True, True]
    assert run(features, wide, tmp_path / "scarce", *sampling, "compute.memory_budget=250000000").counts.ok == 2
    assert [row["exact"] for row in videos_of(tmp_path / "scarce")] == [True, False]


def test_same_bits_whatever_the_order_and_the_number_of_tries(features: str, bundle: str, tmp_path: Path) -> None:
    options = ("compute.unit=3", "estimator.m=6", "frames=[2,6,9]")
    run(features, bundle, tmp_path / "a", *options)
    run(features, bundle, tmp_path / "b", *options)
    complete = files_of(tmp_path / "a")
    assert complete == files_of(tmp_path / "b")
    assert len(complete) == 2 * 14 + 2
    # Lose some of the work, marks and attributions, and run again.
    (tmp_path / "b" / "_SUCCESS").unlink()
    for path in sorted((tmp_path / "b" / "videos").iterdir())[::2]:
        path.unlink()
    for path in sorted((tmp_path / "b" / "attributions").iterdir())[::4]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "b" / "videos").iterdir())}
    result = run(features, bundle, tmp_path / "b", *options)
    assert result.resumed_units == len(kept)
    assert files_of(tmp_path / "b") == complete
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "what is committed is not redone"


def test_another_batch_size_changes_rounding_only(features: str, bundle: str, tmp_path: Path) -> None:
    run(features, bundle, tmp_path / "a", "classes=all")
    run(features, bundle, tmp_path / "b", "classes=all", "compute.batch=1")
    run(features, bundle, tmp_path / "c", "classes=all", "compute.dtype=float64")
    a, b, c = (pq.read_table(tmp_path / x / "attributions").column("esv").to_numpy() for x in "abc")
    assert np.abs(a - b).max() < 1e-6
    assert np.abs(a - c).max() < 1e-6


@pytest.mark.slow
def test_an_interrupted_run_stops_after_the_batch_and_goes_on_later(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first unit of many is being computed when Ctrl-C comes: hundreds of batches are left of it."""
    pq.write_table(make_table([9] * 600), tmp_path / "f.parquet")
    options = ["cluster.actors=0", "compute.batch=1", "compute.unit=300"]
    places = {"features": str(tmp_path / "f.parquet"), "model": bundle, "output": str(tmp_path / "out")}
    spec = load_spec(places, options)
    batches = []
    real = attribution.attribute

    def attribute(*args: Any, **options: Any) -> Any:
        batches.append(args)
        time.sleep(0.01)
        return real(*args, **options)

    monkeypatch.setattr(plan, "attribute", attribute)

    def interrupt(progress: Progress) -> None:
        if batches:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(spec, interrupt)
    assert len(batches) < 300
    assert not files_of(tmp_path / "out")
    monkeypatch.undo()
    assert run_job(spec).counts.ok == 600


def test_jobs_in_memory(bundle: str, tmp_path: Path) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    pq.write_table(make_table([3, 4]), tmp_path / "f.parquet")
    fs.put(str(tmp_path / "f.parquet"), "/jobs-in-memory/in/f.parquet")
    spec = {"features": "memory://jobs-in-memory/in", "model": bundle, "output": "memory://jobs-in-memory/out"}
    assert run_job(load_spec(spec)).counts.ok == 2
    assert run_job(load_spec(spec)).resumed_units == 1
    with pytest.raises(SpecError, match=r"so actors cannot read it; set cluster\.actors to 0"):
        run_job(load_spec(spec, ["cluster.actors=2"]))
    fs.rm("/jobs-in-memory", recursive=True)


# ---------------------------------------------------------------- requests that are wrong


def refused(kind: type[EsvError], match: str, features: str, bundle: str, output: Path, *overrides: str) -> None:
    with pytest.raises(kind, match=match) as caught:
        run(features, bundle, output, *overrides)
    assert "\n" not in str(caught.value)
    assert not output.exists(), "nothing is half-written"


def test_wrong_requests(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(DataError, "not found", str(tmp_path / "nothing"), bundle, out)
    refused(ModelError, r"no model\.json; check `model`", features, str(tmp_path / "nothing"), out)
    (tmp_path / "empty").mkdir()
    refused(DataError, "found none; check the location", str(tmp_path / "empty"), bundle, out)
    (tmp_path / "bad.parquet").write_bytes(b"no parquet at all")
    refused(DataError, r"bad\.parquet: expected a Parquet file", str(tmp_path / "bad.parquet"), bundle, out)
    refused(SpecError, r"classes: expected ids 0\.\.2", features, bundle, out, "classes=[3]")
    refused(SpecError, "lies inside features", features, bundle, Path(features) / "out")
    (tmp_path / "alias").symlink_to(features)
    refused(SpecError, "lies inside features", features, bundle, tmp_path / "alias" / "out")
    refused(SpecError, "lies inside features", f"{features}/**/*.parquet", bundle, Path(features) / "out")
    wide = str(tmp_path / "wide")
    save_heads(wide, make_heads(feature_dim=7), make_prior(3))
    refused(ModelError, r"features must be \(T, 7\).*got \(T, 4\)", features, wide, out)
    loose = pa.table({"video_id": ["a"], "features": pa.array([[[1.0, 2.0]]], pa.list_(pa.list_(pa.float64())))})
    pq.write_table(loose, tmp_path / "loose.parquet")
    refused(ModelError, r"got \(T, 2\)", str(tmp_path / "loose.parquet"), bundle, out)
    pq.write_table(make_table([3], n_classes=None), tmp_path / "unlabelled.parquet")
    refused(DataError, r"classes is \[label\]", str(tmp_path / "unlabelled.parquet"), bundle, out, "classes=label")


def test_an_unlabelled_table_has_no_label_rows(bundle: str, tmp_path: Path) -> None:
    pq.write_table(make_table([3, 4], n_classes=None), tmp_path / "f.parquet")
    assert run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out").counts.written["attribution_rows"] == 7
    assert {row["label"] for row in videos_of(tmp_path / "out")} == {None}


def test_another_job_over_an_old_output_is_refused(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=3")
    before = files_of(out)
    with pytest.raises(JobError, match=r"estimator\.m: expected 1024, got 5; frames: expected \[3\], got \[4\]"):
        run(features, bundle, out, "frames=4", "estimator.m=5")
    other = str(tmp_path / "other")
    save_heads(other, make_heads(seed=9), make_prior(3))
    with pytest.raises(JobError, match="model: expected"):
        run(features, other, out, "frames=3")
    same = str(tmp_path / "same")
    save_heads(same, make_heads(), make_prior(3), classes=("one", "two", "three"))
    assert run(features, same, out, "frames=3").exit_code == 0, "the same model elsewhere is the same model"
    pq.write_table(make_table([5], prefix="new"), Path(features) / "part-2.parquet")
    with pytest.raises(JobError, match=r"changed since this job was planned: .*part-2\.parquet"):
        run(features, bundle, out, "frames=3")
    assert files_of(out) == before
    stray = tmp_path / "stray"
    (stray / "videos").mkdir(parents=True)
    (stray / "videos" / "part-0.parquet").write_bytes(b"")
    with pytest.raises(JobError, match=r"found results without a run\.json"):
        run(features, bundle, stray)


def test_input_that_changes_while_the_job_runs(features: str, bundle: str, tmp_path: Path) -> None:
    """The unit is not committed, the rest is; the reason says what to do."""
    spec = load_spec(
        {"features": features, "model": bundle, "output": str(tmp_path / "out")},
        ["cluster.actors=0", "compute.unit=20"],
    )
    changed = Path(features) / "part-1.parquet"

    def change(progress: Progress) -> None:
        if progress.units and changed.stat().st_size:
            changed.write_bytes(b"")

    result = run_job(spec, change)
    assert result.exit_code == 1
    assert any("changed since the job was planned" in why for why in result.quarantined.values())
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_a_slow_module_shows_that_it_goes_on(tmp_path: Path) -> None:
    """The heartbeat counts every call of a module, not with every batch alone, which may take hours."""
    pq.write_table(make_table([3]), tmp_path / "f.parquet")
    places = {"features": str(tmp_path / "f.parquet"), "model": python_bundle(tmp_path / "python", "raising")}
    job = plan_job(load_spec({**places, "output": str(tmp_path / "out")}, [CONSENT]))
    place = open_workplace(job.spec, job.manifest.job, job.manifest.model["digest"], "cpu")
    run_unit(place, job.pending[0], Task(0))
    assert place.heartbeat.count >= 3 + 3, "read, one batch, committed; and a call for each length"


def test_a_run_whose_units_all_fail_stops_early(features: str, tmp_path: Path) -> None:
    folder = python_bundle(tmp_path / "python", "raising")
    table = make_table([2] * 40)
    poisoned = pa.array([[[666.0] * 4] * 2] * 40, table.schema.field("features").type)
    pq.write_table(table.set_column(1, "features", poisoned), tmp_path / "f.parquet")
    result = run(str(tmp_path / "f.parquet"), folder, tmp_path / "out", "compute.unit=2")
    assert result.given_up
    assert result.given_up.startswith("nothing succeeds any more: RuntimeError: poison (job_factories.py:")
    assert result.exit_code == 1
    assert 0 < result.counts.failed == result.counts.rows < 10, "what was found at fault on the way stays"


def test_a_model_that_exits_fails_its_video_and_ends_no_process(tmp_path: Path) -> None:
    """With the command's exit code 0 for a job that is not done."""
    table = make_table([3, 3, 3])
    rows = table.column("features").to_pylist()
    rows[1] = [[668.0] * 4] * 3
    column = pa.array(rows, table.schema.field("features").type)
    pq.write_table(table.set_column(1, "features", column), tmp_path / "f.parquet")
    result = run(str(tmp_path / "f.parquet"), python_bundle(tmp_path / "python", "poisonous"), tmp_path / "out")
    assert (result.counts.ok, result.counts.failed, result.exit_code) == (2, 1, 1)
    assert result.failed[0][0] == "v1"
    assert result.failed[0][1].startswith("SystemExit: 0 (job_factories.py:")


@pytest.mark.slow
def test_a_model_that_draws_at_random_fails_the_videos_it_draws_for(tmp_path: Path) -> None:
    """It loads as lawful; what it computes without draws is kept, and nothing is tried for ever."""
    table = make_table([5, 6, 5, 6, 5, 6])
    rows = table.column("features").to_pylist()
    rows[1] = [[40.0] * 4] * 6
    column = pa.array(rows, table.schema.field("features").type)
    pq.write_table(table.set_column(1, "features", column), tmp_path / "f.parquet")
    folder = python_bundle(tmp_path / "python", "fickle", above="20")
    for unit in (1, 6):
        out = tmp_path / f"out-{unit}"
        result = run(str(tmp_path / "f.parquet"), folder, out, f"compute.unit={unit}")
        assert (result.counts.ok, result.counts.failed, result.finished, result.exit_code) == (5, 1, True, 1)
        ((video, reason),) = result.failed
        assert video == "v1"
        assert reason == (
            "model: expected the same logits at every call, but its module draws at random, from torch's global "
            "generator: two runs on 1 sequence(s) of 6 elements gave different ESVs; make it deterministic"
        )
        assert verify_output(str(out)).problems == ()


@pytest.mark.slow
def test_a_job_whose_model_always_draws_stops_early_and_keeps_its_videos(tmp_path: Path) -> None:
    pq.write_table(make_table([5] * 60), tmp_path / "f.parquet")
    folder = python_bundle(tmp_path / "python", "fickle", after=str(CALLS_OF_A_LOAD + 50))
    result = run(str(tmp_path / "f.parquet"), folder, tmp_path / "out", "compute.unit=2")
    assert result.given_up
    assert "draws at random, from torch's global generator" in result.given_up
    assert result.exit_code == 1
    assert 0 < result.counts.ok < result.counts.rows < 60
    assert verify_output(str(tmp_path / "out")).counts.rows == result.counts.rows


def test_a_model_that_cannot_be_moved_to_the_jobs_dtype_is_refused_at_the_start(tmp_path: Path) -> None:
    """Not video by video."""
    pq.write_table(make_table([3] * 4), tmp_path / "f.parquet")
    folder = python_bundle(tmp_path / "python", "single_precision")
    assert run(str(tmp_path / "f.parquet"), folder, tmp_path / "out").counts.ok == 4
    with pytest.raises(IncompleteError, match=r"fails on features \(4, 1, 4\): RuntimeError: expected .* dtype"):
        run(str(tmp_path / "f.parquet"), folder, tmp_path / "double", "compute.dtype=float64")


def test_values_that_are_not_finite_fail_their_video(bundle: str, tmp_path: Path) -> None:
    """Finite features that overflow in the model."""
    table = make_table([3, 3])
    rows = table.column("features").to_pylist()
    rows[1] = [[3e38, -3e38, 3e38, -3e38]] * 3
    column = pa.array(rows, table.schema.field("features").type)
    pq.write_table(table.set_column(1, "features", column), tmp_path / "f.parquet")
    result = run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    assert result.failed == (("v1", "the model's scores are not finite: features or weights are too large"),)
    assert result.counts.ok == 1


@pytest.mark.slow
@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("size", ["1e4", "1e6", "1e30", "bias", "features"])
def test_large_logits_give_values_in_their_ranges_or_fail_their_videos(tmp_path: Path, size: str, output: str) -> None:
    """Standard errors of 1e10, infinity and NaN were committed as ok; sums of 1e4 broke verify's absolute bound."""
    gain = 1.0 if size in ("bias", "features") else float(size)
    model = large_bundle(tmp_path / "large", gain, 1e30 if size == "bias" else 0.0)
    table = make_table([3, 10, 11, 12])
    if size == "features":
        huge = [[[1e20 * x for x in frame] for frame in video] for video in table.column("features").to_pylist()]
        table = table.set_column(1, "features", pa.array(huge, table.schema.field("features").type))
    pq.write_table(table, tmp_path / "f.parquet")
    sampled = ("estimator.m=16", "estimator.iterations=2")
    kinds = {
        "exact": ("estimator.kind=exact",),
        "algorithm1": ("estimator.kind=algorithm1", *sampled),
        "adjusted": ("estimator.kind=adjusted", *sampled),
        "tolerance": ("estimator.tolerance=0.05", "estimator.max_iterations=4", *sampled),
    }
    for kind, options in kinds.items():
        out = tmp_path / kind
        overrides = (f"estimator.output={output}", "classes=all", *options)
        result = run(str(tmp_path / "f.parquet"), model, out, *overrides)
        assert (result.counts.ok, result.counts.failed) == (4, 0), kind
        assert verify_output(str(out)).problems == (), kind
        rows = pq.read_table(out / "attributions")
        errors = rows.column("stderr").drop_null().to_numpy()
        assert (len(errors) > 0) == (kind != "exact")
        assert np.isfinite(errors).all()
        if output == "probability":
            assert (errors <= 1).all()
            assert (np.abs(rows.column("esv").to_numpy()) <= 1).all()
        for video in videos_of(out):
            assert sum(video["scores"]) == pytest.approx(1, abs=1e-6)  # type: ignore[call-overload]


def test_values_that_overflow_fail_their_video_in_the_job(bundle: str, tmp_path: Path) -> None:
    """Finite logits whose differences are not: no standard error can be told of them, nor the ESVs themselves."""
    model = large_bundle(tmp_path / "large", 3e37)
    table = make_table([10, 10])
    small = table.column("features").to_pylist()
    small[0] = [[1e-3 * x for x in frame] for frame in small[0]]
    pq.write_table(
        table.set_column(1, "features", pa.array(small, table.schema.field("features").type)), tmp_path / "f.parquet"
    )
    overrides = ("estimator.output=logit", "estimator.kind=algorithm1", "estimator.m=16", "max_failed=1")
    result = run(str(tmp_path / "f.parquet"), model, tmp_path / "out", *overrides)
    assert result.counts.failed
    assert all("not finite" in why or "efficiency" in why for _, why in result.failed)
    assert verify_output(str(tmp_path / "out")).problems == ()


def test_what_is_met_on_the_way_is_no_wrong_request(features: str, bundle: str, tmp_path: Path) -> None:
    """The model is gone when the work begins: run again when it is back."""

    def remove(progress: Progress) -> None:
        if progress.units:  # it is planned
            (Path(bundle) / "prior.csv").unlink(missing_ok=True)

    spec = load_spec({"features": features, "model": bundle, "output": str(tmp_path / "out")}, ["cluster.actors=0"])
    with pytest.raises(IncompleteError, match="run again to resume"):
        run_job(spec, remove)


def test_no_labels_but_a_column_for_them(bundle: str, tmp_path: Path) -> None:
    table = make_table([3, 4], n_classes=None).append_column("label", pa.array([None, None], pa.int32()))
    pq.write_table(table, tmp_path / "f.parquet")
    refused(
        DataError,
        "the table has no labels",
        str(tmp_path / "f.parquet"),
        bundle,
        tmp_path / "out",
        "classes=[label,label]",
    )


def test_a_factory_that_makes_other_weights_each_time_is_refused(features: str, tmp_path: Path) -> None:
    folder = python_bundle(tmp_path / "python", "unseeded")
    with pytest.raises(IncompleteError, match="the model changed since the job was planned"):
        run(features, folder, tmp_path / "out")


def test_progress_says_that_plans_are_made(
    features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of a long video takes minutes, in which no video is finished."""
    seen: list[str] = []
    shown = threading.Event()

    def report(progress: Progress) -> None:
        seen.append(progress.stage)
        if "preparing" in progress.stage:
            shown.set()

    def slow(recipe: Recipe) -> Plan:
        assert shown.wait(30), "nobody was told"
        return build_plan(recipe)

    monkeypatch.setattr("esv_ray.attribution.workplace.cached_plan", slow)
    clear_plans()
    places = {"features": features, "model": bundle, "output": str(tmp_path / "out")}
    assert run_job(load_spec(places, ["cluster.actors=0", "frames=9"]), report).exit_code == 0
    assert seen[:2] == ["checking the input"] * 2  # the second with the files that were read
    assert any(stage.startswith("1 actor preparing the estimator for ") for stage in seen), set(seen)
    assert seen[-1] == ""
