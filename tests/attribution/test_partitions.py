"""New partitions only: what is finished stays, what is due is a job of its own, and no problem stops the others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest

from esv_ray import storage
from esv_ray.attribution import partitions
from esv_ray.attribution.partitions import Partition, plan_partitions, run_partitions
from esv_ray.attribution.work import run_job
from esv_ray.errors import DataError, EsvError, JobError, ModelError, SpecError
from esv_ray.job.result import JobResult
from esv_ray.models.saving import save_heads
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import JobSpec, load_spec
from esv_ray.submit.status import read_status, status_json, status_lines
from tests.conftest import make_heads, make_prior, make_table
from tests.support import preloaded
from tests.support.jobs import all_of
from tests.support.killed import Killed, Mortal
from tests.support.s3_server import S3Server, client

OPTIONS = ("frames=[2,5]", "estimator.m=6", "compute.unit=4", "compute.memory_budget=100000000")
HERE = "cluster.actors=0"
ODD = ["a b", "dt=2026-11-23", "100%", "%41", "ü-日本", "[x]*?", "a+b&c", "~", "x#y"]


def add(root: Path, name: str, rows: int = 6, *, seed: int = 0, file: str = "part.parquet") -> Path:
    """A file of features; a partition of six videos is two units."""
    path = root / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(make_table([5] * rows, seed=seed, prefix=f"{seed}-"), path)
    return path


@pytest.fixture
def daily(tmp_path: Path) -> Path:
    """Two days of features."""
    root = tmp_path / "daily"
    add(root, "dt=1", seed=1)
    add(root, "dt=2", seed=2)
    return root


class Nightly:
    """The same scheduled run, as often as it is called."""

    def __init__(self, features: Path | str, bundle: str, output: Path | str, *options: str) -> None:
        places = {"features": str(features), "model": bundle, "output": str(output)}
        self.spec = load_spec(places, [HERE, *OPTIONS, *options])
        self.results: dict[str, JobResult] = {}
        self.why: dict[str, str] = {}

    def __call__(self, *, ready: str | None = None, retry_failed: bool = False) -> dict[str, str]:
        """What became of each partition."""
        ended: dict[str, str] = {}
        self.results, self.why = {}, {}

        def tell(partition: Partition, result: JobResult | None) -> None:
            ended[partition.name] = partition.state
            if result is not None:
                self.results[partition.name] = result
            if partition.why:
                self.why[partition.name] = partition.why
                assert partition.why.splitlines() == [partition.why], "one line"

        planned = plan_partitions(self.spec, ready=ready, retry_failed=retry_failed)
        counts = run_partitions(self.spec.output, planned, tell, retry_failed=retry_failed)
        assert dict(counts) == {state: list(ended.values()).count(state) for state in ended.values()}
        assert list(ended) == sorted(ended)
        return ended


@pytest.fixture
def nightly(daily: Path, bundle: str, tmp_path: Path) -> Nightly:
    return Nightly(daily, bundle, tmp_path / "out")


def stamps(output: Path) -> dict[Path, int]:
    """Of all files but the run's own progress."""
    return {
        path: path.stat().st_mtime_ns
        for path in output.rglob("*")
        if path.is_file() and path != output / "progress.json"
    }


def test_each_is_the_job_on_it_alone_and_is_done_once(
    nightly: Nightly, daily: Path, bundle: str, tmp_path: Path
) -> None:
    assert nightly() == {"dt=1": "attributed", "dt=2": "attributed"}
    for name in ("dt=1", "dt=2"):
        places = {"features": str(daily / name), "model": bundle, "output": str(tmp_path / "alone" / name)}
        run_job(load_spec(places, [HERE, *OPTIONS]))
        assert all_of(tmp_path / "out" / name) == all_of(tmp_path / "alone" / name), "bit for bit"
        assert verify_output(str(tmp_path / "out" / name)).problems == ()
    before = stamps(tmp_path / "out")
    assert nightly() == {"dt=1": "finished", "dt=2": "finished"}
    assert stamps(tmp_path / "out") == before, "nothing is even written again"
    add(daily, "dt=3", seed=3)
    assert nightly() == {"dt=1": "finished", "dt=2": "finished", "dt=3": "attributed"}
    after = stamps(tmp_path / "out")
    assert {path: after[path] for path in before} == before
    assert {path.relative_to(tmp_path / "out").parts[0] for path in after.keys() - before.keys()} == {"dt=3"}


def test_where_a_run_stands(nightly: Nightly, daily: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def looked_at(spec: JobSpec, *arguments: Any, **named: Any) -> JobResult:
        result = run_job(spec, *arguments, **named)
        seen.append(list(status_lines(read_status(str(tmp_path / "out")), time.time())))
        return result

    monkeypatch.setattr(partitions, "run_job", looked_at)
    (daily / "dt=3").mkdir()
    (daily / "dt=3" / "part.parquet").write_text("no table")
    nightly()
    assert [lines[0].strip() for lines in seen] == [
        "running: 3 partitions (3 due)",
        "running: 3 partitions (2 due, 1 attributed)",
    ]
    assert [lines[1].strip() for lines in seen] == ["dt=1:", "dt=2:"]
    assert all(lines[2].startswith("    done: 6 of 6 videos") for lines in seen)
    after = read_status(str(tmp_path / "out"))
    lines = list(status_lines(after, time.time()))
    assert lines[0] == "  incomplete: 3 partitions (2 attributed, 1 problem)"
    assert lines[1].startswith("  dt=3: ")
    assert (after.partition, status_json(after)["partition"]) == (None, None)


def test_a_run_that_is_stopped_says_so(nightly: Nightly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: Any, **named: Any) -> JobResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(partitions, "run_job", stopped)
    with pytest.raises(KeyboardInterrupt):
        nightly()
    assert json.loads((tmp_path / "out" / "progress.json").read_text())["state"] == "interrupted"


def test_a_plain_job_is_refused_their_output(nightly: Nightly, daily: Path, bundle: str, tmp_path: Path) -> None:
    nightly()
    places = {"features": str(daily / "dt=1"), "model": bundle, "output": str(tmp_path / "out")}
    with pytest.raises(JobError, match=r"out holds the outputs of partitions \(dt=1, \.\.\.\)"):
        run_job(load_spec(places, [HERE, *OPTIONS]))
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("change", ["rewritten", "added", "removed", "all removed"])
def test_a_finished_partition_whose_files_changed_is_named(
    nightly: Nightly, daily: Path, tmp_path: Path, change: str
) -> None:
    path = add(daily, "dt=1", seed=4, file="second.parquet")
    nightly()
    add(daily, "dt=3", seed=3)
    if change == "rewritten":
        os.utime(add(daily, "dt=1", seed=9, file="second.parquet"), (1, 1))
    elif change == "added":
        path = add(daily, "dt=1", seed=9, file="late/late.parquet")
    else:
        path.unlink()
    if change == "all removed":
        (daily / "dt=1" / "part.parquet").unlink()
    kept = all_of(tmp_path / "out" / "dt=1")
    for others in ("attributed", "finished"):  # and again every night, until somebody looks
        assert nightly() == {"dt=1": "problem", "dt=2": "finished", "dt=3": others}
        assert str(path) in nightly.why["dt=1"]
        assert "the feature table changed" in nightly.why["dt=1"]
    assert all_of(tmp_path / "out" / "dt=1") == kept
    shutil.move(tmp_path / "out" / "dt=1", tmp_path / "old")
    assert nightly()["dt=1"] == ("empty" if change == "all removed" else "attributed"), "as the message says"


def test_finished_ones_are_held_to_spec_and_model(daily: Path, bundle: str, tmp_path: Path) -> None:
    """One output tree is one way of computing: another m or model does not slip in from some night on."""
    Nightly(daily, bundle, tmp_path / "out")()
    other = Nightly(daily, bundle, tmp_path / "out", "estimator.m=7")
    assert set(other().values()) == {"problem"}
    assert "estimator.m: expected 6, got 7" in other.why["dt=2"]
    save_heads(str(tmp_path / "new"), make_heads(seed=1), make_prior(3))
    other = Nightly(daily, str(tmp_path / "new"), tmp_path / "out")
    assert set(other().values()) == {"problem"}
    assert "model: expected" in other.why["dt=1"]


def test_one_problem_does_not_stop_the_others(nightly: Nightly, daily: Path, tmp_path: Path) -> None:
    (daily / "dt=0").mkdir()
    (daily / "dt=0" / "broken.parquet").write_bytes(b"PAR1 no parquet PAR1")
    pq.write_table(make_table([5] * 4, feature_dim=7), add(daily, "dt=1b"))  # of another width
    (daily / "dt=2b").mkdir()
    (tmp_path / "out" / "dt=2").mkdir(parents=True)
    (tmp_path / "out" / "dt=2" / "run.json").write_text("{}")
    add(daily, "dt=3", seed=3)
    problems = dict.fromkeys(("dt=0", "dt=1b", "dt=2"), "problem")
    assert nightly() == {**problems, "dt=1": "attributed", "dt=2b": "empty", "dt=3": "attributed"}
    assert "broken.parquet" in nightly.why["dt=0"]
    assert "features must be (T, 4)" in nightly.why["dt=1b"]
    assert "expected a job's manifest" in nightly.why["dt=2"]
    add(daily, "dt=0", seed=5, file="broken.parquet")
    add(daily, "dt=2b", seed=6)
    mended = {"dt=0": "attributed", "dt=2b": "attributed"}
    assert nightly() == {**problems, "dt=1": "finished", "dt=3": "finished", **mended}


def test_too_many_failed_videos_are_a_problem_until_they_are_dealt_with(
    nightly: Nightly, daily: Path, bundle: str, tmp_path: Path
) -> None:
    table = make_table([5] * 4)
    pq.write_table(table.set_column(0, "video_id", [["a", "b", "a", "c"]]), daily / "dt=1" / "part.parquet")
    for others in ("attributed", "finished"):
        assert nightly() == {"dt=1": "problem", "dt=2": others}
        assert "1 of 4 videos failed, more than max_failed = 0.01" in nightly.why["dt=1"]
    before = stamps(tmp_path / "out" / "dt=2")
    assert nightly(retry_failed=True) == {"dt=1": "problem", "dt=2": "finished"}
    assert list(nightly.results) == ["dt=1"], "tried again, and only where something failed"
    assert stamps(tmp_path / "out" / "dt=2") == before
    assert set(Nightly(daily, bundle, tmp_path / "out", "max_failed=0.5")().values()) == {"finished"}


@pytest.mark.parametrize("writes", [1, 4, 6, 9, 12])
def test_killed_then_run_again(daily: Path, bundle: str, tmp_path: Path, writes: int) -> None:
    """In the first partition, between both, in the second: what is committed stays, tables are the undisturbed ones."""
    assert set(Nightly(daily, bundle, tmp_path / "clean")().values()) == {"attributed"}
    nightly = Nightly(daily, bundle, tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        Mortal(patch, writes, done=True)  # six a partition: run.json, two files of two units, _SUCCESS
        with pytest.raises(Killed):
            nightly()
    before = stamps(tmp_path / "out")
    marks = [path for path in before if path.parent.name == "videos"]
    done = {name: "finished" if writes >= 6 * (at + 1) else "attributed" for at, name in enumerate(("dt=1", "dt=2"))}
    assert nightly() == done
    resumed = sum(result.resumed_units for result in nightly.results.values())
    assert resumed + 2 * list(done.values()).count("finished") == len(marks), "no unit is done twice"
    after = stamps(tmp_path / "out")
    assert {path: after[path] for path in marks} == {path: before[path] for path in marks}
    for name in done:
        assert all_of(tmp_path / "out" / name) == all_of(tmp_path / "clean" / name)


def test_a_begun_partition_whose_files_are_gone_is_not_an_empty_one(
    nightly: Nightly, daily: Path, tmp_path: Path
) -> None:
    nightly()
    (tmp_path / "out" / "dt=1" / "_SUCCESS").unlink()
    (daily / "dt=1" / "part.parquet").unlink()
    assert nightly() == {"dt=1": "problem", "dt=2": "finished"}
    assert "expected Parquet files, found none" in nightly.why["dt=1"]


def test_ready(nightly: Nightly, daily: Path) -> None:
    (daily / "dt=2" / "_SUCCESS").touch()
    assert nightly(ready="_SUCCESS") == {"dt=1": "not ready", "dt=2": "attributed"}
    (daily / "dt=2" / "_SUCCESS").unlink()
    assert nightly(ready="_SUCCESS") == {"dt=1": "not ready", "dt=2": "finished"}, "a mark that is gone undoes nothing"
    (daily / "dt=1" / "_SUCCESS").touch()
    assert nightly(ready="_SUCCESS") == {"dt=1": "attributed", "dt=2": "finished"}
    for name in ("", "a/b", ".."):
        with pytest.raises(SpecError, match="--ready: expected the name of a file"):
            nightly(ready=name)


def test_names(daily: Path, bundle: str, tmp_path: Path) -> None:
    """Any name of a folder; hidden ones and those of temporary files are passed over, deeper folders are a part."""
    shutil.rmtree(daily)
    for seed, name in enumerate(ODD):
        add(daily, name, 2, seed=seed)
    for name in ("_temporary", ".hidden"):
        add(daily, name)
    (daily / "_SUCCESS").touch()
    (daily / "notes.txt").touch()
    add(daily, "hours/h=1", 2)
    add(daily, "hours/h=2", 2, seed=1)
    (daily / "link").symlink_to(daily / "hours")
    (daily / "dangling").symlink_to(tmp_path / "nowhere")
    nightly = Nightly(daily, bundle, tmp_path / "out")
    assert nightly() == dict.fromkeys([*ODD, "hours", "link"], "attributed")
    assert [nightly.results[name].counts.ok for name in ("hours", "link")] == [4, 4]
    for seed, name in enumerate(ODD):
        ids = pq.read_table(tmp_path / "out" / name / "videos", columns=["video_id"], partitioning=None)
        assert {row["video_id"] for row in ids.to_pylist()} == {f"{seed}-0", f"{seed}-1"}, name
    assert set(nightly().values()) == {"finished"}


@pytest.mark.parametrize("name", ["run.json", "progress.json"])
def test_names_of_files_of_the_output(nightly: Nightly, daily: Path, name: str) -> None:
    add(daily, name, seed=3)
    assert nightly() == {"dt=1": "attributed", "dt=2": "attributed", name: "problem"}
    assert "rename the partition" in nightly.why[name]
    assert nightly()["dt=1"] == "finished"


def test_requests_that_are_wrong_for_all(daily: Path, bundle: str, tmp_path: Path) -> None:
    def refusal(kind: type[EsvError], features: Path = daily, *, model: str = bundle, output: str = "out") -> str:
        with pytest.raises(kind) as caught:
            Nightly(features, model, tmp_path / output)()
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "was not found" in refusal(DataError, tmp_path / "none")
    assert "expected a folder, found a file" in refusal(DataError, daily / "dt=1" / "part.parquet")
    assert "expected only partitions (subfolders)" in refusal(DataError, daily / "dt=1"), "a plain table"
    (tmp_path / "empty" / "_x").mkdir(parents=True)
    assert "expected partitions (subfolders), found none" in refusal(DataError, tmp_path / "empty")
    assert "lies inside features" in refusal(SpecError, output="daily/esv")
    assert "lies inside features" in refusal(SpecError, output="daily")
    add(tmp_path / "x" / "same", "same")
    (tmp_path / "away").mkdir()
    (daily / "dt=1" / "outs").symlink_to(tmp_path / "away")
    assert "lies inside features" in refusal(SpecError, output="away/esv")
    (daily / "dt=1" / "outs").unlink()
    (tmp_path / "alias").symlink_to(daily)
    assert "lies inside features" in refusal(SpecError, output="alias/esv")
    assert "is where the output of the partition same would be written" in refusal(
        SpecError, tmp_path / "x" / "same", output="x"
    )
    (tmp_path / "y").symlink_to(tmp_path / "x")
    assert "is where the output of the partition same would be written" in refusal(
        SpecError, tmp_path / "x" / "same", output="y"
    )
    assert "no model.json" in refusal(ModelError, model=str(tmp_path))
    loose = add(daily, "", file="loose.parquet")
    assert "beside them: loose.parquet" in refusal(DataError)
    loose.unlink()
    assert not (tmp_path / "out").exists()
    places = {"features": str(daily / "dt=1"), "model": bundle, "output": str(tmp_path / "out")}
    run_job(load_spec(places, [HERE, *OPTIONS]))
    assert "a job without --partitions" in refusal(JobError)


def test_in_memory(bundle: str, daily: Path) -> None:
    fs = fsspec.filesystem("memory")
    root = "/partitions-test"
    fs.put(f"{daily}/", f"{root}/daily/", recursive=True)
    nightly = Nightly(f"memory:/{root}/daily", bundle, f"memory:/{root}/out", "cluster.actors=auto")
    try:
        assert nightly() == {"dt=1": "attributed", "dt=2": "attributed"}
        assert nightly() == {"dt=1": "finished", "dt=2": "finished"}
    finally:
        fs.rm(root, recursive=True)


@pytest.mark.slow
def test_on_s3(s3: S3Server, bundle: str, daily: Path, tmp_path: Path) -> None:
    """Names with odd characters, a change, and the bits of a local run."""
    for seed, name in enumerate(("a b", "100%25", "ü=日本", "a+b")):
        add(daily, name, 2, seed=seed)
    root = f"s3://{s3.bucket}/partitions"
    fs = client(s3)
    for path in sorted(daily.rglob("*.parquet")):
        fs.pipe_file(f"{root}/daily/{path.relative_to(daily)}", path.read_bytes())
    nightly = Nightly(f"{root}/daily", bundle, f"{root}/out")
    states = nightly()
    assert states == dict.fromkeys(["dt=1", "dt=2", "a b", "100%25", "ü=日本", "a+b"], "attributed")
    Nightly(daily, bundle, tmp_path / "clean")()
    for name in states:
        # Names hold a hash of where the input lies, contents do not.
        folder = f"{root}/out/{name}/attributions"
        contents = [storage.read_bytes(f"{folder}/{unit}", "read") for unit in storage.list_names(folder, "list")]
        clean = [path.read_bytes() for path in (tmp_path / "clean" / name / "attributions").iterdir()]
        assert sorted(contents) == sorted(clean), name
    assert set(nightly().values()) == {"finished"}
    for name in ("dt=1/late", "dt=3/part"):
        fs.pipe_file(f"{root}/daily/{name}.parquet", (daily / "dt=2" / "part.parquet").read_bytes())
    expected = {**dict.fromkeys(states, "finished"), "dt=1": "problem", "dt=3": "not ready"}
    assert nightly(ready="_SUCCESS") == expected
    assert "dt=1/late.parquet" in nightly.why["dt=1"]


@pytest.mark.slow
@pytest.mark.xdist_group("runtime")
def test_the_command_on_ray(daily: Path, bundle: str, tmp_path: Path) -> None:
    """The summary; exit codes; names as a terminal may be given them."""
    (daily / "dt=2").rename(daily / "dt=\x1b[31m")
    (daily / "dt=4").mkdir()
    out = tmp_path / "out"
    options = [part for option in (*OPTIONS, "cluster.actors=1") for part in ("--set", option)]
    places = ["--features", str(daily), "--model", bundle, "--output", str(out), *options]

    def esv(*arguments: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(["attribute", *places, *arguments])

    log = tmp_path / "log"
    done = esv("--partitions", "--log", str(log))
    assert done.returncode == 0, done.stderr
    assert "3 partitions: 0 finished before, 2 attributed now, 1 empty, 0 not ready, 0 with problems" in done.stdout
    assert "dt=4: no Parquet files yet; skipped" in done.stdout
    assert "dt=\\x1b[31m:\n6 videos: 6 ok" in done.stdout
    assert [json.loads(line)["worker"] for line in log.read_text().splitlines()] == ["actor-0"] * 4
    Nightly(daily, bundle, tmp_path / "clean")()
    for name in ("dt=1", "dt=\x1b[31m"):
        assert all_of(out / name) == all_of(tmp_path / "clean" / name)
    add(daily, "dt=1", file="late.parquet")
    done = esv("--partitions")
    assert done.returncode == 1
    assert "3 partitions: 1 finished before, 0 attributed now, 1 empty, 0 not ready, 1 with problems" in done.stdout
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["dt=1"]
    assert esv("--ready", "x").returncode == 2


@pytest.mark.slow
@pytest.mark.xdist_group("runtime")
def test_one_runtime_and_a_new_one_after_a_problem(
    daily: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong may be the runtime's, so the next partition has another; none where nothing is due.

    A runtime that was lost is replaced at once, and its partition is not at fault.
    """
    seen: list[str] = []

    def run(spec: JobSpec, *arguments: Any, **options: Any) -> JobResult:
        import ray  # not before: a runtime of a job's finds its environment set

        seen.append(ray.nodes()[0]["NodeID"])  # type: ignore[no-untyped-call]
        if spec.output.endswith("dt=2") and len(seen) == 2:
            from ray._private import worker

            node: Any = worker._global_node
            node.all_processes["raylet"][0].process.kill()
            node.all_processes["raylet"][0].process.wait()
            return run_job(spec, *arguments, **options)
        if spec.output.endswith("dt=2"):
            raise JobError("made up")
        here = spec.cluster.model_copy(update={"actors": 0})  # to start actors takes seconds, and is not what is asked
        return run_job(spec.model_copy(update={"cluster": here}), *arguments, **options)

    monkeypatch.setattr(partitions, "run_job", run)
    add(daily, "dt=3", seed=3)
    nightly = Nightly(daily, bundle, tmp_path / "out", "cluster.actors=1")
    assert nightly() == {"dt=1": "attributed", "dt=2": "problem", "dt=3": "attributed"}
    assert seen[0] == seen[1], "dt=1, and dt=2 until its runtime is lost"
    assert len(set(seen)) == 3, "a new one for dt=2, and for dt=3"
    shutil.rmtree(daily / "dt=2")
    monkeypatch.setattr(partitions, "ray_runtime", None)
    assert nightly() == {"dt=1": "finished", "dt=3": "finished"}
