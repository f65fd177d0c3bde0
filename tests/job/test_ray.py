"""Jobs on real Ray: same bits for any number of actors, deaths of actors, poison, a killed driver, a real S3 server."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from esv_ray.attribution.work import run_job
from esv_ray.errors import JobError
from esv_ray.job.on_ray.runtime import ray_runtime
from esv_ray.job.progress import Progress
from esv_ray.output.verify.output import verify_output
from esv_ray.spec import load_spec
from tests.support import preloaded
from tests.support.bundles import python_bundle
from tests.support.job_factories import CONSENT
from tests.support.jobs import files_of, poisoned_table, run
from tests.support.preloaded import Process
from tests.support.processes import actor_pids, is_loopback, listening, wait_until
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(scope="module", autouse=True)
def runtime() -> Iterator[None]:
    """One Ray runtime, as a job starts it, for the jobs of this module that run in this process."""
    spec = load_spec({"features": "f", "model": "m", "output": "o"}, ["cluster.actors=4"])
    before, home = listening(), Path.home() / ".ray"
    had_home = home.exists()
    with ray_runtime(spec.cluster, spec.compute.threads):
        assert listening() - before, "Ray listens somewhere"
        assert {address for address in listening() - before if not is_loopback(address)} == set()
        assert home.exists() == had_home, "no token is left in the home folder"
        yield


def test_one_or_many_actors_give_the_same_bits(features: str, bundle: str, tmp_path: Path) -> None:
    options = ("compute.unit=4", "estimator.m=6", "frames=[2,6,9]")
    for actors in (0, 1, 4):
        result = run(features, bundle, tmp_path / str(actors), f"cluster.actors={actors}", *options)
        assert (result.counts.rows, result.exit_code) == (40, 0)
    clean = files_of(tmp_path / "0")
    assert len(clean) == 2 * result.units
    assert files_of(tmp_path / "1") == clean
    assert files_of(tmp_path / "4") == clean
    assert verify_output(str(tmp_path / "4")).problems == ()
    asked = ("estimator.kind=adjusted", "estimator.tolerance=0.1", "estimator.iterations=1", "estimator.output=logit")
    for actors in (0, 2):
        assert (
            run(features, bundle, tmp_path / f"l{actors}", f"cluster.actors={actors}", *options, *asked).exit_code == 0
        )
    assert files_of(tmp_path / "l0") == files_of(tmp_path / "l2")
    spent = pq.read_table(tmp_path / "l0" / "videos", columns=["iterations"]).column(0).to_pylist()
    assert len(set(spent)) > 2, "exact, met soon, met later: in whatever order"


@pytest.mark.slow
def test_poison_costs_its_videos_and_nothing_else_and_they_can_be_tried_again(tmp_path: Path) -> None:
    """A video that ends its process, one whose memory runs out, one that hangs, one that raises: exactly they fail.

    After a fix only they are computed again; the others stay bit for bit. Bisection is for `test_made_up`.
    """
    fixed = tmp_path / "fixed"
    bundle = python_bundle(tmp_path / "model", "poisonous", fixed=str(fixed))
    poison = {1: 661.0, 9: 662.0, 14: 664.0, 15: 665.0}
    features = poisoned_table(tmp_path / "f.parquet", 20, poison)
    options = ("compute.unit=1", "cluster.actors=2", "cluster.stall_timeout=10", "max_failed=0.2")
    result = run(features, bundle, tmp_path / "out", *options)
    assert result.quarantined == {}
    assert (result.counts.ok, result.counts.failed, result.exit_code) == (16, 4, 0)
    died, hung = (f"{what} each time it was computed alone" for what in ("its process died", "no progress in 10 s"))
    reasons = dict(result.failed)
    assert "can't allocate memory" in reasons.pop("v9")
    assert reasons.pop("v15").startswith("RuntimeError: poison (job_factories.py:")
    assert reasons == {"v1": died, "v14": hung}
    assert verify_output(str(tmp_path / "out")).problems == ()
    before = pq.read_table(tmp_path / "out" / "attributions").to_pylist()

    assert run(features, bundle, tmp_path / "out", *options).resumed_units == 20, "nothing is left to do"
    fixed.touch()
    spec = load_spec({"features": features, "model": bundle, "output": str(tmp_path / "out")}, [CONSENT, *options])
    seen: list[Progress] = []
    result = run_job(spec, seen.append, retry_failed=True)
    assert (result.counts.ok, result.counts.failed, result.exit_code) == (20, 0, 0)
    planned = next(progress for progress in seen if progress.units)
    assert (planned.total - planned.resumed, seen[-1].counts.rows) == (4, 4), "nothing else is computed"
    assert verify_output(str(tmp_path / "out")).problems == ()
    after = pq.read_table(tmp_path / "out" / "attributions").to_pylist()
    assert [row for row in after if row["video_id"] not in {f"v{row}" for row in poison}] == before
    run(features, bundle, tmp_path / "clean", "compute.unit=1", "cluster.actors=0")
    clean = pq.read_table(tmp_path / "clean" / "attributions").to_pylist()
    assert [{**row, "esv": None} for row in after] == [{**row, "esv": None} for row in clean]
    assert [row["esv"] for row in after] == pytest.approx([row["esv"] for row in clean], abs=1e-6)


@pytest.mark.slow
def test_an_actor_that_eats_the_nodes_memory_is_told_from_a_crash(tmp_path: Path) -> None:
    """Ray ends it before the kernel would; in a runtime of its own, whose limit other tests beside it do not reach."""
    memory = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    eaten = min(4 * 2**20, memory["MemAvailable"] // 2)  # kB
    share = 1 - (memory["MemAvailable"] - eaten) / memory["MemTotal"]
    bundle = python_bundle(tmp_path / "model", "poisonous")
    features = poisoned_table(tmp_path / "f.parquet", 2, {1: 667.0})
    arguments = ["attribute", "--features", features, "--model", bundle, "--output", str(tmp_path / "out")]
    for option in (CONSENT, "compute.unit=1", "cluster.actors=1", "max_failed=0.5"):
        arguments += ["--set", option]
    limits = {"RAY_memory_usage_threshold": f"{share:.4f}", "RAY_memory_monitor_refresh_ms": "50"}
    done = preloaded.run(arguments, environment={**os.environ, **limits}, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "2 videos: 1 ok, 0 skipped, 1 failed" in done.stdout
    assert "failed: v1: memory ran out each time it was computed alone" in done.stdout


@pytest.mark.slow
def test_actors_that_die_are_replaced(features: str, bundle: str, tmp_path: Path) -> None:
    options = ("compute.unit=2", "frames=[4,9]", "estimator.m=8")
    run(features, bundle, tmp_path / "clean", "cluster.actors=0", *options)
    killed: set[int] = set()

    def kill(progress: Progress) -> None:
        if len(killed) < 3 and progress.counts.rows > 4 * len(killed):
            for pid in actor_pids() - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
                break

    spec = load_spec(
        {"features": features, "model": bundle, "output": str(tmp_path / "out")}, ["cluster.actors=2", *options]
    )
    result = run_job(spec, kill)
    assert killed
    assert result.exit_code == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "clean")


@pytest.mark.slow
def test_an_actor_that_stands_still_is_told_of(
    features: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process: in place of the time left the progress says what is waited for, until it goes on."""
    monkeypatch.setattr("esv_ray.job.run._SILENT_S", 2.0)
    others, seen = actor_pids(), list[Progress]()
    stopped: set[int] = set()

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if not stopped and progress.counts.rows:
            stopped.update(actor_pids() - others)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
        if progress.silence is not None:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    spec = load_spec(
        {"features": features, "model": bundle, "output": str(tmp_path / "out")},
        ["cluster.actors=1", "compute.unit=2", "frames=[4,9]", "estimator.m=8"],
    )
    assert run_job(spec, stop).exit_code == 0
    silent = next(progress for progress in seen if progress.silence is not None)
    assert re.fullmatch(r"1 actor silent for \d+ s \(ended after 600 s\)", str(silent.silence))
    assert silent.left_s is None, "it is not known"
    assert seen[-1].silence is None


@pytest.mark.slow
def test_metrics_reach_prometheus(features: str, bundle: str, tmp_path: Path) -> None:
    """What Ray's exporter on the node says of the jobs of this process."""
    import ray  # not before the runtime was started: it reads its environment when it is imported

    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"

    def metrics() -> dict[str, float]:
        with urllib.request.urlopen(url, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        values = {}
        for line in lines:
            if line.startswith("ray_esv_"):
                name, _, labels = line.partition("{")
                own = re.findall(r'(status|outcome|stage|state)="(\w+)"', labels)
                values[" ".join([name, *(value for _, value in own)])] = float(line.rpartition(" ")[2])
        return values

    before = metrics()

    def exported() -> bool:
        """Whether all counts of this job arrived; some of what earlier jobs counted may come with them."""
        now = metrics()
        grown = {name: value - before.get(name, 0) for name, value in now.items()}
        counted = grown.get("ray_esv_videos_total ok", 0) >= 40 and grown.get("ray_esv_units_total done", 0) >= 10
        return counted and now.get("ray_esv_actors ready") == 1

    run(features, bundle, tmp_path / "out", "compute.unit=4", "cluster.actors=1")
    wait_until(exported, every_s=0.5)  # they are sent every few seconds
    last = metrics()
    for stage in ("read", "compute", "commit"):
        assert last[f"ray_esv_unit_seconds_count {stage}"] >= 10
    assert 0 <= last["ray_esv_device_busy"] <= 1


@pytest.mark.slow
def test_a_model_that_changes_after_planning_is_refused_by_the_actors(
    features: str, bundle: str, tmp_path: Path
) -> None:
    changed = Path(bundle) / "prior.csv"

    def change(progress: Progress) -> None:
        if not progress.units:
            return  # it is being planned
        changed.write_text("class,prior\n0,0.5\n1,0.25\n2,0.25\n")

    spec = load_spec({"features": features, "model": bundle, "output": str(tmp_path / "out")}, ["cluster.actors=1"])
    with pytest.raises(JobError, match="the model changed since the job was planned"):
        run_job(spec, change)


# ---------------------------------------------------------------- the command, in its own process


@pytest.mark.slow
def test_a_killed_driver_loses_nothing(features: str, bundle: str, tmp_path: Path) -> None:
    """SIGKILL in the middle, then SIGTERM, then to the end: same bits as an undisturbed run, committed units kept."""
    options = ["--set", "compute.unit=1", "--set", "frames=9", "--set", "cluster.actors=2"]
    options += ["--features", features, "--model", bundle]
    run(features, bundle, tmp_path / "clean", "compute.unit=1", "frames=9", "cluster.actors=0")
    out = tmp_path / "out"
    kept: dict[str, int] = {}
    others = actor_pids()
    for sign, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        driver = Process(["attribute", "--output", str(out), *options])
        before = len(kept)
        deadline = time.monotonic() + 300  # a loaded machine takes its time
        while len(list(out.glob("videos/part-*"))) < before + 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        driver.send_signal(sign)
        _, told = driver.communicate(timeout=60)
        assert driver.returncode == code, told
        # Actors outlive a killed driver by a moment and may commit still: a count before they end is too low.
        while actor_pids() - others and time.monotonic() < deadline:
            time.sleep(0.05)
        for name, when in kept.items():
            assert (out / "videos" / name).stat().st_mtime_ns == when, "committed units are never redone"
        kept = {path.name: path.stat().st_mtime_ns for path in out.glob("videos/part-*")}
        assert len(kept) >= before + 3
    assert "run the same command again to resume" in told
    done = preloaded.run(["attribute", "--output", str(out), *options])
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} of 40 units resumed" in done.stdout
    assert files_of(out) == files_of(tmp_path / "clean")
    # A kill may leave a hidden temporary file behind; whoever reads the folder as a table passes over it.
    (out / "videos" / ".part-000000.parquet.killed.tmp").write_bytes(b"torn")
    assert pq.read_table(out / "videos").num_rows == 40
    assert verify_output(str(out)).problems == ()


@pytest.mark.slow
def test_a_job_against_a_real_s3_server(s3: S3Server, features: str, bundle: str, tmp_path: Path) -> None:
    """Features, model and output on S3, in a process of its own whose environment has the credentials."""
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    root = f"{s3.bucket}/job"
    fs.put(features + "/", f"{root}/features/", recursive=True)
    fs.put(bundle + "/", f"{root}/model/", recursive=True)
    places = {"features": f"s3://{root}/features/*.parquet", "model": f"s3://{root}/model"}
    options = ["--set", "compute.unit=8", "--set", "cluster.actors=2", "--output", f"s3://{root}/out"]
    options += [part for key, url in places.items() for part in (f"--{key}", url)]
    done = preloaded.run(["attribute", *options])
    assert done.returncode == 0, done.stderr
    assert "40 videos: 40 ok" in done.stdout
    assert s3.secret not in fs.cat_file(f"{root}/out/run.json").decode()
    fs.get(f"{root}/out", str(tmp_path / "out"), recursive=True)
    run(features, bundle, tmp_path / "clean", "compute.unit=8", "cluster.actors=0")
    # Names hold a hash of where the input lies; contents do not.
    from_s3, local = files_of(tmp_path / "out"), files_of(tmp_path / "clean")
    assert [from_s3[name] for name in sorted(from_s3)] == [local[name] for name in sorted(local)]
    again = preloaded.run(["attribute", *options])
    assert (again.returncode, "units resumed" in again.stdout) == (0, True)
    verified = preloaded.run(["verify", f"s3://{root}/out"])
    assert verified.returncode == 0, verified.stderr
    assert "no problems" in verified.stdout
    wrong = {**os.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}
    denied = preloaded.run(["attribute", *options], environment=wrong)
    assert denied.returncode == 2
    assert "check the credentials" in denied.stderr
    assert len(denied.stderr.strip().splitlines()) == 1
