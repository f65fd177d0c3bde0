"""Every overlay is built and has no problems; a planted error of each kind is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from esv_ray.errors import SpecError
from esv_ray.spec import load_spec
from esv_ray.submit.kubernetes.manifests import build, render, scheduled
from tests.k8s.rules import CRD, Object, by_schema, pods, problems
from tests.support.manifests import K8S, SPEC, one
from tests.support.slow import slow_tuples_unless

OVERLAYS = ["base", *(f"overlays/{path.parent.name}" for path in sorted(K8S.glob("overlays/*/kustomization.yaml")))]


def built(folder: str) -> list[Object]:
    return copy.deepcopy(_built(folder))


_BUILT: dict[str, list[Object]] = {}


def _built(folder: str) -> list[Object]:
    if folder not in _BUILT:
        _BUILT[folder] = build(K8S / folder)
    return _BUILT[folder]


def test_all_overlays_are_here() -> None:
    assert set(OVERLAYS) == {"base", *(f"overlays/{name}" for name in ("cpu-local", "gpu", "kueue", "spot"))}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_overlays_have_no_problems(folder: str) -> None:
    assert problems(built(folder)) == []


@pytest.mark.skipif(not CRD.exists(), reason="KubeRay's definition of a RayJob is not a part of this project")
@pytest.mark.parametrize("folder", OVERLAYS)
def test_rayjobs_keep_the_definition(folder: str) -> None:
    rayjob = one(built(folder), "RayJob")
    assert list(by_schema(rayjob)) == []
    rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["tolerance"] = []
    rayjob["spec"]["backoffLimits"] = 3
    rayjob["spec"]["ttlSecondsAfterFinished"] = "1h"
    assert len(list(by_schema(rayjob))) == 3, "two fields that are unknown, and a text for a number"


def worker(objects: list[Object]) -> Object:
    return next(template for where, template in pods(one(objects, "RayJob")) if "workers" in where)


def container(objects: list[Object]) -> Object:
    return worker(objects)["spec"]["containers"][0]  # type: ignore[no-any-return]


def cluster(objects: list[Object]) -> Object:
    return one(objects, "RayJob")["spec"]["rayClusterSpec"]  # type: ignore[no-any-return]


def to_head(objects: list[Object]) -> Object:
    return one(objects, "NetworkPolicy", "esv-submitter")["spec"]["egress"][0]["to"][0]  # type: ignore[no-any-return]


def _set(target: Callable[[list[Object]], Any], key: Any, value: Any) -> Callable[[list[Object]], None]:
    def plant(objects: list[Object]) -> None:
        target(objects)[key] = value

    return plant


def _drop(target: Callable[[list[Object]], Any], key: Any) -> Callable[[list[Object]], None]:
    def plant(objects: list[Object]) -> None:
        del target(objects)[key]

    return plant


def _add(made: Object) -> Callable[[list[Object]], None]:
    return lambda objects: objects.append(copy.deepcopy(made))


NOT_EMPTY: Object = {"configMap": {"name": "esv-spec"}}
FROM_OTHER: Object = {"configMapKeyRef": {"name": "other", "key": "k"}}
PLANTED: list[tuple[Callable[[list[Object]], None], str]] = [
    (_drop(lambda o: container(o)["resources"]["limits"], "nvidia.com/gpu"), "requested and limited alike"),
    (_drop(lambda o: container(o)["resources"]["requests"], "nvidia.com/gpu"), "requested and limited alike"),
    (_drop(lambda o: worker(o)["spec"], "tolerations"), "no toleration of nvidia.com/gpu"),
    (_set(container, "image", "esv-ray"), "image without a tag"),
    (_set(container, "image", "registry:5000/esv-ray:latest"), "image without a tag"),
    (lambda o: container(o)["env"].append({"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}), "in plain text"),
    (_set(lambda o: one(o, "ConfigMap")["data"], "more", "key: AKIA" + "A" * 16), "contain a key"),
    (
        _add({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}),
        "a secret in plain text",
    ),
    (_set(lambda o: worker(o)["spec"]["volumes"], 0, NOT_EMPTY | {"name": "tmp"}), "/tmp cannot be written"),
    (_set(lambda o: worker(o)["spec"]["volumes"], 1, NOT_EMPTY | {"name": "home"}), "/home/esv cannot be written"),
    (lambda o: container(o)["volumeMounts"].pop(2), "volume shm is mounted nowhere"),
    (_set(lambda o: worker(o)["spec"]["volumes"], 2, {"name": "shm", "hostPath": {"path": "/"}}), "is a hostPath"),
    (_set(lambda o: worker(o)["spec"], "hostNetwork", True), "shares the node's hostNetwork"),
    (lambda o: worker(o)["spec"]["volumes"].pop(2), "no volume shm"),
    (_set(lambda o: worker(o)["spec"]["securityContext"], "runAsUser", 0), "runs as root"),
    (_set(lambda o: container(o)["securityContext"], "runAsNonRoot", False), "runs as root"),
    (_set(lambda o: container(o)["securityContext"], "privileged", True), "may gain privileges"),
    (_set(lambda o: container(o)["securityContext"]["capabilities"], "add", ["SYS_PTRACE"]), "keeps capabilities"),
    (_drop(lambda o: cluster(o)["autoscalerOptions"], "securityContext"), "head: autoscaler"),
    (_set(lambda o: cluster(o)["autoscalerOptions"]["resources"]["requests"], "memory", "9Gi"), "autoscaler: memory"),
    (_drop(lambda o: worker(o)["spec"]["securityContext"], "seccompProfile"), "has no seccompProfile"),
    (_set(lambda o: container(o)["securityContext"], "allowPrivilegeEscalation", True), "may gain privileges"),
    (_drop(lambda o: container(o)["securityContext"], "capabilities"), "keeps capabilities"),
    (_drop(lambda o: container(o)["securityContext"], "readOnlyRootFilesystem"), "may write to its root"),
    (_drop(lambda o: container(o)["resources"]["limits"], "cpu"), "no request or limit of cpu"),
    (_set(lambda o: container(o)["resources"]["requests"], "memory", "1Gi"), "memory requested and limited differ"),
    (_drop(lambda o: worker(o)["spec"], "automountServiceAccountToken"), "is left open"),
    (_set(lambda o: cluster(o)["authOptions"], "mode", "disabled"), "no token authentication"),
    (_drop(lambda o: cluster(o)["headGroupSpec"]["rayStartParams"], "num-cpus"), "the head runs work"),
    (_set(lambda o: one(o, "RayJob")["spec"], "shutdownAfterJobFinishes", False), "the cluster is not deleted"),
    (_set(lambda o: worker(o)["spec"], "restartPolicy", "Always"), "requires restartPolicy Never"),
    (_set(lambda o: cluster(o)["autoscalerOptions"]["volumeMounts"][2], "mountPath", "/else"), "no token for the API"),
    (_set(lambda o: one(o, "RayJob")["metadata"], "name", "esv-" + "x" * 44), "longer than 47 characters"),
    (_set(lambda o: one(o, "RayJob")["metadata"]["labels"], "kueue.x-k8s.io/queue-name", "q"), "start suspended"),
    (_set(lambda o: container(o)["envFrom"], 0, {"secretRef": {"name": "mine"}}), "no Secret mine"),
    (lambda o: container(o)["env"].append({"name": "A", "valueFrom": FROM_OTHER}), "no ConfigMap other"),
    (_set(lambda o: worker(o)["spec"], "serviceAccountName", "nobody"), "no ServiceAccount nobody"),
    (lambda o: o.remove(one(o, "ConfigMap")), "no ConfigMap esv-spec"),
    (lambda o: one(o, "NetworkPolicy", "esv-names-and-storage")["spec"]["egress"].pop(0), "allow no DNS"),
    (lambda o: one(o, "NetworkPolicy", "esv-submitter")["spec"]["egress"].pop(1), "submitter: policies restrict"),
    (
        _set(lambda o: one(o, "NetworkPolicy", "esv-job-server")["spec"], "podSelector", {"matchLabels": {"a": "b"}}),
        "selects no pod",
    ),
    (_set(lambda o: to_head(o)["podSelector"]["matchLabels"], "esv-ray.dev/component", "haed"), "selects no pod"),
    (_set(lambda o: one(o, "ConfigMap")["data"], "job.yaml", "features: f\n"), "is not a valid job spec"),
    (_set(lambda o: one(o, "ServiceAccount"), "automount", True), "automount"),
    (_set(lambda o: one(o, "NetworkPolicy")["spec"], "policyTypes", "Egress"), "policyTypes"),
]


@pytest.mark.parametrize(
    ("plant", "expected"),
    slow_tuples_unless(lambda *each: PLANTED.index(each) % 4 == 0, PLANTED),
    ids=[f"{at}-{told}" for at, (_, told) in enumerate(PLANTED)],
)
def test_planted_errors_are_found(plant: Callable[[list[Object]], None], expected: str) -> None:
    objects = built("overlays/gpu")
    plant(objects)
    told = problems(objects)
    assert told, "nothing was found"
    assert all(expected in line for line in told), told


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["base", "cpu-local", "gpu", "kueue", "spot"])
def test_a_rendered_job_has_no_problems(overlay: str) -> None:
    objects = render(SPEC, "esv-o-3", "o", overlay=overlay, namespace="video", image="reg.io/a/esv-ray:1.2")
    assert problems(objects) == []
    assert {it["metadata"]["namespace"] for it in objects} == {"video"}
    rayjob = one(objects, "RayJob", "esv-o-3")
    images = {box["image"] for _, template in pods(rayjob) for box in template["spec"]["containers"]}
    assert images == {"reg.io/a/esv-ray:1.2"}
    variables = yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])["env_vars"]
    assert (variables["ESV_SUBMISSION"], variables["RAY_JOB_STOP_WAIT_TIME_S"]) == ("esv-o-3", "30")
    spec = load_spec(yaml.safe_load(one(objects, "ConfigMap", "esv-o-3-spec")["data"]["job.yaml"]))
    actors, gpu = {"base": (32, 0), "cpu-local": (2, 0), "gpu": (8, 1), "kueue": (4, 1), "spot": (8, 1)}[overlay]
    assert (spec.cluster.address, spec.cluster.actors, spec.cluster.gpus_per_actor) == ("auto", actors, gpu)


@pytest.mark.slow
def test_actors_of_the_spec_are_kept() -> None:
    spec = load_spec(
        SPEC.model_dump(), ["cluster.actors=3", "cluster.gpus_per_actor=0.5", "compute.threads=2", "code=zoo"]
    )
    config = one(render(spec, "esv-o-1", "o", overlay="gpu", arguments=["--retry-failed"]), "ConfigMap")
    made = load_spec(yaml.safe_load(config["data"]["job.yaml"]))
    assert (made.cluster.actors, made.cluster.gpus_per_actor, made.code) == (3, 0.5, ("zoo",))
    with pytest.raises(SpecError, match=r"no worker group .* 9 cores and 1 GPU"):
        render(load_spec(SPEC.model_dump(), ["compute.threads=9"]), "esv-o-1", "o", overlay="gpu")


@pytest.mark.slow
def test_a_scheduled_job_has_no_problems() -> None:
    made = render(SPEC, "esv-o-0", "o", overlay="gpu", namespace="video", arguments=["--partitions"])
    objects = scheduled(made, "0 3 * * *", "o")
    inner = yaml.safe_load(one(objects, "ConfigMap", "esv-o-scheduled")["data"]["rayjob.yaml"])
    assert inner["spec"]["entrypoint"].endswith("/etc/esv/job.yaml --partitions")
    assert problems([*objects, inner]) == []
    assert one(objects, "CronJob")["spec"]["schedule"] == "0 3 * * *"
    assert one(objects, "RoleBinding")["subjects"][0]["namespace"] == "video"
    rules = inner["spec"]["deletionStrategy"]["deletionRules"]
    assert {rule["policy"] for rule in rules} == {"DeleteSelf"}, "else its name is taken the next time"
    assert "shutdownAfterJobFinishes" not in inner["spec"]
    del inner["spec"]["deletionStrategy"]["deletionRules"][2]
    assert any("the cluster is not deleted" in told for told in problems([*objects, inner])), "one that never came up"
    queued = render(SPEC, "esv-o-1", "o", overlay="kueue")
    with pytest.raises(SpecError, match="an overlay other than kueue"):
        scheduled(queued, "0 3 * * *", "o")
    placeless = render(SPEC, "esv-o-0", "o", overlay="gpu")
    with pytest.raises(SpecError, match="--schedule requires --namespace"):
        scheduled(placeless, "0 3 * * *", "o")


def test_overlays_of_the_users_own(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--overlay: expected base, .*spot, or a folder"):
        render(SPEC, "esv-o-1", "o", overlay="nothing")
    (tmp_path / "kustomization.yaml").write_text("resources: [nothing.yaml]\n")
    with pytest.raises(SpecError, match=r"nothing\.yaml"):
        render(SPEC, "esv-o-1", "o", overlay=str(tmp_path))
    (tmp_path / "nothing.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: esv-spec}\n")
    with pytest.raises(SpecError, match="expected one RayJob named esv, found 0"):
        render(SPEC, "esv-o-1", "o", overlay=str(tmp_path))
