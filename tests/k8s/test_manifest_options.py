"""Options of manifests: schedule, namespace, image, locations; invalid ones are refused in one line."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from esv_ray.cli import cli
from esv_ray.errors import SpecError
from esv_ray.spec import load_spec
from esv_ray.submit.kubernetes.manifest_options import check_cron, check_locations
from esv_ray.submit.kubernetes.manifests import render
from esv_ray.submit.submission import next_id
from tests.k8s.rules import pods
from tests.support.manifests import K8S, SPEC, one


@pytest.mark.slow
def test_a_schedule_does_not_collide_with_manual_attempts() -> None:
    command = ["render", "--features", "s3://b/f", "--model", "s3://b/m", "--output", "s3://b/o", "-n", "v"]
    told = CliRunner().invoke(cli, [*command, "--schedule", "@daily"])
    assert told.exit_code == 0, told.output
    objects = list(yaml.safe_load_all(told.stdout))
    inner = yaml.safe_load(one(objects, "ConfigMap", "esv-o-scheduled")["data"]["rayjob.yaml"])
    assert inner["metadata"]["name"] == "esv-o-0"
    assert one(objects, "ConfigMap", "esv-o-0-spec")
    assert next_id([], "s3://b/o", "o") == "esv-o-1", "a manual attempt has another name"
    assert inner["spec"]["backoffLimit"] == 1
    assert "has no registry" in told.stderr
    assert CliRunner().invoke(cli, [*command, "--schedule", "@daily", "--attempt", "2"]).exit_code == 2


@pytest.mark.parametrize(
    "cron", ["0 3 * * *", "*/15 0-6,12 1 jan-mar MON-FRI", " @daily ", "@every 1h30m", "5 4 * * 0,6"]
)
def test_schedules(cron: str) -> None:
    assert check_cron(cron) == cron.strip()


@pytest.mark.parametrize(
    "cron",
    [
        *("daily", "@often", "@every day", "", "0 3 * *", "0 3 * * * *"),
        *("99 3 * * *", "0 24 * * *", "0 3 0 * *", "0 3 * 13 *", "0 3 * * 7", "*/0 * * * *"),
        *("a * * * *", "5-1 * * * *", "1-2-3 * * * *", ", * * * *", "\u0663 * * * *"),
        *(f"{'9' * 5000} * * * *", f"*/{'9' * 5000} * * * *", "@every \u0663h"),
    ],
)
def test_invalid_schedules(cron: str) -> None:
    with pytest.raises(SpecError, match="--schedule: expected"):
        check_cron(cron)


@pytest.mark.parametrize("namespace", ["", "Video", "a b", "x_y", "-x", "x-", "a" * 64])
def test_invalid_namespaces(namespace: str) -> None:
    with pytest.raises(SpecError, match="--namespace: expected"):
        render(SPEC, "esv-o-1", "o", namespace=namespace)


@pytest.mark.parametrize(
    "image",
    [
        "",
        "esv-ray",
        "reg:5000/a/esv-ray",
        "bad image",
        "UPPER/X:1",
        "a:b:c",
        "reg.io/x:latest",
        "x@sha256:12",
        "reg.io/:1",
    ],
)
def test_invalid_images(image: str) -> None:
    with pytest.raises(SpecError, match="--image: expected"):
        render(SPEC, "esv-o-1", "o", image=image)


@pytest.mark.parametrize(
    "image", ["reg:5000/a/b_c/esv:1", f"reg.io/esv-ray@sha256:{'0' * 64}", "esv:1.0-cuda", "a.b/c:1"]
)
def test_images_replace_those_of_the_overlay(image: str, tmp_path: Path) -> None:
    base = os.path.relpath(K8S / "base", tmp_path)
    renamed = {"resources": [base], "images": [{"name": "esv-ray", "newName": "reg.io/team/ours", "newTag": "1"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(renamed))
    rayjob = one(render(SPEC, "esv-o-1", "o", overlay=str(tmp_path), image=image), "RayJob")
    assert {box["image"] for _, template in pods(rayjob) for box in template["spec"]["containers"]} == {image}


@pytest.mark.parametrize("key", ["features", "model", "output"])
@pytest.mark.parametrize("place", ["/data/there", "/tmp/there", "memory://there"])
def test_locations_that_pods_cannot_reach(key: str, place: str) -> None:
    spec = SPEC.model_copy(update={key: place})
    with pytest.raises(SpecError, match=rf"{key} {place}: .* object storage"):
        render(spec, "esv-o-1", "o")


@pytest.mark.parametrize(("path", "seen"), [("/data", True), ("/data/a", True), ("/data/../x", False), ("/d", False)])
def test_locations_on_a_volume(path: str, seen: bool) -> None:
    box = {"volumeMounts": [{"name": "disk", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/d"}]}
    volumes = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}, {"name": "tmp", "emptyDir": {}}]
    cluster = {"headGroupSpec": {"template": {"spec": {"containers": [box], "volumes": volumes}}}}
    with nullcontext() if seen else pytest.raises(SpecError, match="mount no persistent volume"):
        check_locations(SPEC.model_copy(update={"output": path}), cluster)


def test_a_group_with_shares_of_gpus(tmp_path: Path) -> None:
    base = os.path.relpath(K8S / "overlays" / "gpu", tmp_path)
    limits = {"cpu": "3500m", "memory": "24Gi", "nvidia.com/mig-1g.10gb": "2"}
    where = "/spec/rayClusterSpec/workerGroupSpecs/0/template/spec/containers/0/resources"
    patch = [{"op": "replace", "path": where, "value": {"requests": limits, "limits": limits}}]
    content = {"resources": [base], "patches": [{"target": {"kind": "RayJob"}, "patch": yaml.safe_dump(patch)}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    config = one(render(SPEC, "esv-o-1", "o", overlay=str(tmp_path)), "ConfigMap")
    assert load_spec(yaml.safe_load(config["data"]["job.yaml"])).cluster.actors == 16
