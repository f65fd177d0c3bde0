"""Jobs on Kubernetes through kubectl. No cluster can run here: a fake kubectl stores the objects."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from esv_ray.errors import IncompleteError, JobError, SpecError
from esv_ray.spec_kinds import load_work
from esv_ray.submit import polling
from esv_ray.submit.kubernetes import jobs as kubernetes
from esv_ray.submit.kubernetes.manifests import entrypoint
from esv_ray.submit.submission import Submission
from tests.support import preloaded
from tests.support.preloaded import Process
from tests.support.processes import wait_until

KUBECTL = """#!{python}
import json, subprocess, sys, time
from pathlib import Path
import yaml
state, real = Path({state!r}), {real!r}
arguments = sys.argv[1:]
with (state / "calls").open("a") as calls:
    calls.write(" ".join(arguments) + "\\n")
refusal = state / "refuse"
if refusal.exists():
    sys.exit(refusal.read_text())
verb = arguments[0]
items = json.loads((state / "items").read_text())
if verb == "kustomize":
    sys.exit(subprocess.run([real, *arguments]).returncode)
if verb == "get":
    print(json.dumps({{"items": items}}))
elif verb == "apply":
    told = list(yaml.safe_load_all(sys.stdin))
    for one in told:
        one["metadata"]["uid"] = "uid of " + one["metadata"]["name"]
    items += [one for one in told if one["kind"] == "RayJob"]
    (state / "applied").write_text(json.dumps(told))
    print(json.dumps({{"items": told}} if len(told) > 1 else told[0]))
elif verb == "delete":
    gone = {{name.partition("/")[2] for name in arguments if "/" in name}}
    items = [one for one in items if one["metadata"]["name"] not in gone]
elif verb == "logs":
    print("40 videos: 40 ok", flush=True)
    while (state / "log").exists():
        time.sleep(0.05)
(state / "items").write_text(json.dumps(items))
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = Path(sys.executable).parent
    real = shutil.which("kubectl", path=f"{here}:{os.environ['PATH']}")
    assert real is not None, "the test extra brings it"
    folder = tmp_path / "kubernetes"
    folder.mkdir()
    (folder / "items").write_text("[]")
    program = folder / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable, state=str(folder), real=real))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """An overlay of the user's own, with a volume at /nowhere in head and workers, and a namespace."""
    folder, base = tmp_path / "disk", Path(__file__).parents[2] / "k8s" / "base"
    folder.mkdir()
    places = ["headGroupSpec", "workerGroupSpecs/0"]
    volume = {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}
    patch = [
        change
        for place in places
        for change in (
            {"op": "add", "path": f"/spec/rayClusterSpec/{place}/template/spec/volumes/-", "value": volume},
            {
                "op": "add",
                "path": f"/spec/rayClusterSpec/{place}/template/spec/containers/0/volumeMounts/-",
                "value": {"name": "disk", "mountPath": "/nowhere"},
            },
        )
    ]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "films",
        "resources": [os.path.relpath(base, folder)],
        "images": [{"name": "esv-ray", "newName": "registry.example:5000/team/ours", "newTag": "1"}],
        "patches": [{"target": {"kind": "RayJob"}, "patch": yaml.safe_dump(patch)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return str(folder)


def esv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(arguments, timeout=60)


def ask(*arguments: str) -> str:
    done = esv(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def now(state: Path, **status: str) -> None:
    """Set the status of the last job, as KubeRay does."""
    items = json.loads((state / "items").read_text())
    items[-1]["status"] = status
    (state / "items").write_text(json.dumps(items))


JOB = ["--features", "s3://b/f", "--model", "s3://b/m", "--output", "/nowhere/esv/trn"]
THERE = ["--kubernetes", "--namespace", "video"]


def test_the_script_of_each_kind_of_work() -> None:
    job = load_work({"features": "s3://b/f", "model": "s3://b/m", "output": "s3://b/o"})
    extraction = load_work({"videos": "s3://b/v", "backbone": "pooled", "output": "s3://b/o"})
    for given in ("python /opt/esv/jobs/attribute.py /etc/esv/job.yaml", "python mine.py"):
        assert entrypoint(given, job) == given.split()
    assert entrypoint("python /x/attribute.py J", extraction) == ["python", "/x/extract.py", "J"]
    training = load_work({"features": "s3://b/f", "output": "s3://b/o", "epochs": 3})
    assert entrypoint("python /x/attribute.py J", training) == ["python", "/x/train.py", "J"]
    with pytest.raises(SpecError, match=r"expected the script jobs/attribute\.py, in whose place"):
        entrypoint("python mine.py", extraction)


@pytest.mark.slow
def test_an_extraction(state: Path, disk: str, tmp_path: Path) -> None:
    """Its own script runs in the place of attribution's; places that pods cannot reach are refused."""
    spec = tmp_path / "extract.yaml"
    spec.write_text(
        "videos: s3://b/clips.csv\nbackbone: a.b:c\ncode: [a]\nweights: s3://b/w.pt\noutput: s3://b/table\n"
    )
    objects = list(yaml.safe_load_all(ask("render", str(spec), "--retry-failed")))
    rayjob = next(it for it in objects if it["kind"] == "RayJob")
    assert rayjob["spec"]["entrypoint"] == "python /opt/esv/jobs/extract.py /etc/esv/job.yaml --retry-failed"
    assert rayjob["metadata"]["name"] == "esv-table-1"
    (stored,) = (it["data"]["job.yaml"] for it in objects if it["kind"] == "ConfigMap")
    assert load_work(yaml.safe_load(stored)) == load_work(
        str(spec), ["cluster.address=auto", "cluster.actors=32", "cluster.gpus_per_actor=0"]
    )
    for given, expected in (
        (["--set", "labels=/here/labels.csv"], "labels /here/labels.csv: a path, but the overlay's pods mount no"),
        (["--set", "videos=memory://v"], "videos memory://v: exists in the memory of one process only"),
        (["--partitions"], "--partitions is for jobs of esv attribute, not of esv extract"),
    ):
        refused = esv("submit", str(spec), *THERE, "--dry-run", *given)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert expected in refused.stderr
    kustomization = yaml.safe_load((Path(disk) / "kustomization.yaml").read_text())
    patch = [{"op": "replace", "path": "/spec/entrypoint", "value": "python mine.py"}]
    kustomization["patches"] = [{"target": {"kind": "RayJob"}, "patch": yaml.safe_dump(patch)}]
    (Path(disk) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    own = esv("render", str(spec), "--overlay", disk)
    assert own.stderr.endswith("in whose place jobs/extract.py runs, got 'python mine.py'\n")


def test_submit_status_logs_stop_submit_again(state: Path, disk: str) -> None:
    mounted = [*THERE, "--overlay", disk]
    dry = ask("submit", *JOB, *mounted, "--dry-run")
    assert {"RayJob", "ConfigMap", "NetworkPolicy", "ServiceAccount"} == {it["kind"] for it in yaml.safe_load_all(dry)}
    assert not any(line.startswith(("apply", "get")) for line in (state / "calls").read_text().splitlines())

    assert "submitted esv-trn-1: esv status trn --kubernetes -n video" in ask("submit", *JOB, *mounted)
    assert "apply --filename - --output json --namespace video" in (state / "calls").read_text()
    (spec,) = json.loads((state / "applied").read_text())
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "esv-trn-1", "uid": "uid of esv-trn-1"}
    assert (spec["kind"], spec["metadata"]["ownerReferences"]) == ("ConfigMap", [owner])
    assert ask("status", "trn", *THERE).startswith("esv-trn-1  PENDING")
    now(state, jobStatus="RUNNING", jobDeploymentStatus="Running", startTime="2026-11-23T10:00:00Z")
    told = json.loads(ask("status", "esv-trn-1", *THERE, "--json"))
    assert (told["state"], told["output"]) == ("RUNNING", "/nowhere/esv/trn")
    again = esv("submit", *JOB, *mounted)
    assert again.returncode == 2
    assert "esv-trn-1 is in use" in again.stderr
    assert ask("logs", "-f", "trn", *THERE) == "40 videos: 40 ok\n"
    assert "logs job/esv-trn-1 --follow --namespace video" in (state / "calls").read_text()

    now(state, jobDeploymentStatus="Failed", message="too many videos failed")
    assert "too many videos failed" in ask("status", "trn", *THERE)
    assert "submitted esv-trn-2" in ask("submit", *JOB, *mounted, "--retry-failed")
    assert "deleted esv-trn-2 and its cluster" in ask("stop", "trn", *THERE)
    deletions = [line for line in (state / "calls").read_text().splitlines() if line.startswith("delete")]
    assert len(deletions) == 1
    assert "configmap" not in deletions[0], "a schedule's runs share theirs; a submitted one belongs to its RayJob"
    assert [line.split()[:2] for line in ask("jobs", *THERE).splitlines()] == [["esv-trn-1", "FAILED"]]
    assert "nobody: no such job in namespace video (known jobs: trn)" in esv("status", "nobody", *THERE).stderr


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('error: resource mapping not found: no matches for kind "RayJob" in version "ray.io/v1"', "KubeRay operator"),
        ("The connection to the server localhost:8080 was refused - did you", "cannot reach the cluster"),
        ('E1123 memcache.go:265] "Unhandled"\nError from server (Forbidden): rayjobs is forbidden', "is forbidden"),
    ],
)
def test_refusals_are_one_line(state: Path, said: str, expected: str) -> None:
    (state / "refuse").write_text(said)
    refused = esv("jobs", *THERE)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert expected in refused.stderr
    assert "memcache" not in refused.stderr


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(JobError, match="kubectl is required but not installed"):
        kubernetes.submissions(None)


def test_options_that_exclude_each_other(state: Path) -> None:
    for more in (["--kubernetes", "--address", "http://h:8265"], ["--dry-run"], ["--ready", "_SUCCESS"]):
        assert esv("submit", *JOB, *more).returncode == 2


@pytest.mark.parametrize(
    ("deployed", "job", "expected"),
    [
        ("", "", "PENDING"),
        ("Initializing", "", "PENDING"),
        ("Suspended", "", "PENDING"),  # in Kueue's queue
        ("Suspending", "RUNNING", "PENDING"),
        ("Retrying", "FAILED", "PENDING"),
        ("Running", "PENDING", "PENDING"),
        ("Running", "RUNNING", "RUNNING"),
        ("Running", "SUCCEEDED", "RUNNING"),  # until the submitter has ended, too
        ("Complete", "SUCCEEDED", "SUCCEEDED"),
        ("Complete", "STOPPED", "STOPPED"),
        ("Failed", "FAILED", "FAILED"),
        ("Failed", "RUNNING", "FAILED"),  # a deadline
        ("ValidationFailed", "", "FAILED"),
    ],
)
def test_states(state: Path, deployed: str, job: str, expected: str) -> None:
    metadata = {"name": "esv-trn-1", "labels": {"esv-ray.dev/job": "trn"}}
    item = {"metadata": metadata, "status": {"jobDeploymentStatus": deployed, "jobStatus": job}}
    (state / "items").write_text(json.dumps([item]))
    (found,) = kubernetes.submissions("video")
    assert (found.state, found.over) == (expected, expected in ("SUCCEEDED", "FAILED", "STOPPED"))


def test_the_namespace_of_an_overlay(state: Path, disk: str) -> None:
    told = ask("submit", *JOB, "--kubernetes", "--overlay", disk)
    assert "esv status trn --kubernetes -n films" in told
    calls = [line for line in (state / "calls").read_text().splitlines() if not line.startswith("kustomize")]
    assert len(calls) == 3
    assert all(line.endswith("--namespace films") for line in calls)


def test_an_interrupt_says_that_the_job_continues(state: Path, disk: str) -> None:
    ask("submit", *JOB, *THERE, "--overlay", disk)
    now(state, jobStatus="RUNNING", jobDeploymentStatus="Running")
    (state / "log").write_text("")  # what kubectl follows until it is interrupted
    with Process(["logs", "-f", "trn", *THERE]) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline() == "40 videos: 40 ok\n"
        watching.send_signal(signal.SIGINT)
        (state / "log").unlink()
        assert watching.wait(30) == 130
        where = "--kubernetes -n video"
        told = f"esv-trn-1 continues: esv logs -f esv-trn-1 {where}, esv stop esv-trn-1 {where}"
        assert told in watching.stderr.read()


def test_a_wait_ends_with_the_job(state: Path, disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("submit", *JOB, *THERE, "--overlay", disk)
    now(state, jobStatus="SUCCEEDED", jobDeploymentStatus="Complete")
    seen: list[str] = []
    ended = kubernetes.wait("esv-trn-1", "video", lambda one: seen.append(one.state), follow=False)
    assert (ended.state, seen) == ("SUCCEEDED", ["SUCCEEDED"])
    now(state, jobStatus="RUNNING", jobDeploymentStatus="Running")
    seen.clear()

    def deleted(one: Submission) -> None:
        seen.append(one.state)
        (state / "items").write_text("[]")

    monkeypatch.setattr(kubernetes, "_POLL_S", 0.01)
    ended = kubernetes.wait("esv-trn-1", "video", deleted, follow=False)
    assert (ended.state, seen) == ("STOPPED", ["RUNNING", "STOPPED"])
    with pytest.raises(SpecError, match="no such job in namespace video"):
        kubernetes.find("esv-trn-9", "video")


def test_an_unreachable_api_server_is_polled_again(state: Path, disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("submit", *JOB, *THERE, "--overlay", disk)
    now(state, jobStatus="RUNNING", jobDeploymentStatus="Running")
    monkeypatch.setattr(kubernetes, "_POLL_S", 0.01)
    monkeypatch.setattr(polling, "_PAUSE_S", 0.2)
    calls = state / "calls"

    def away(one: Submission) -> None:
        if one.over:
            return
        now(state, jobStatus="SUCCEEDED", jobDeploymentStatus="Complete")
        (state / "refuse").write_text("Unable to connect to the server: net/http: TLS handshake timeout")
        before = calls.stat().st_size
        threading.Thread(target=come_back, args=(before,), daemon=True).start()

    def come_back(before: int) -> None:
        wait_until(lambda: calls.stat().st_size > before)
        (state / "refuse").unlink()

    assert kubernetes.wait("esv-trn-1", "video", away, follow=False).state == "SUCCEEDED"
    (state / "refuse").write_text("Error from server (Forbidden): rayjobs is forbidden")
    with pytest.raises(IncompleteError, match=r"esv-trn-1: cannot determine how the job ended .*is forbidden"):
        kubernetes.wait("esv-trn-1", "video", away, follow=False)
