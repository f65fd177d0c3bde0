"""Manifests are read as kubectl reads them, and no text in them is written as a number."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from esv_ray.errors import SpecError
from esv_ray.spec import load_spec
from esv_ray.spec_yaml import read_plain
from esv_ray.submit.kubernetes.manifest_yaml import as_yaml, read_objects
from esv_ray.submit.kubernetes.manifests import render
from tests.support.manifests import K8S, SPEC, one

TEXTS = ["12e5678", "1e3", "0o10", "010", "08", "y", "n", "yes", "on", "1_0", "12:30", "2020-01-01", ".5", "=", "~", ""]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:30", "12:30"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("2020-01-01", "2020-01-01"),
        ("0644", 420),
        ("-0644", -420),
        ("0o644", 420),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("12e5678", "12e5678"),
        ("-.inf", float("-inf")),
        ("08", 8.0),
        (".5", 0.5),
        ("y", True),
        ("Off", False),
        ("=", "="),
        ("~", None),
        ("1Gi", "1Gi"),
        ("'1e3'", "1e3"),
    ],
)
def test_how_kubectl_reads_a_value(text: str, value: object) -> None:
    found = read_objects(f"a: {text}\n", "here")[0]["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
def test_kubectl_itself_reads_texts_as_texts(tmp_path: Path) -> None:
    data = {f"key{index}": text for index, text in enumerate(TEXTS)}
    path = tmp_path / "map.yaml"
    path.write_text(as_yaml([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}]))
    (tmp_path / "kustomization.yaml").write_text("resources: [map.yaml]\n")
    told = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert read_objects(told, "kubectl")[0]["data"] == data
    local = ["kubectl", "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", str(path)]
    done = subprocess.run(local, capture_output=True, text=True, check=False)
    if "connection refused" not in done.stderr:  # newer ones ask the cluster for its kinds
        assert json.loads(done.stdout)["data"] == data, done.stderr


@pytest.mark.slow
def test_names_like_numbers_in_a_job() -> None:
    for name in ("1e3", "12e5678", "y", "010"):
        objects = render(SPEC, f"esv-{name}-1", name, namespace=name)
        text = as_yaml(objects)
        for again in (list(yaml.safe_load_all(text)), read_objects(text, "here")):
            assert again == objects
            assert one(again, "RayJob")["metadata"]["namespace"] == name
            assert load_spec(read_plain(one(again, "ConfigMap")["data"]["job.yaml"])).output == SPEC.output


def overlay(folder: Path, environment: str) -> str:
    (folder / "base").symlink_to(K8S / "base")
    patch = [{"op": "replace", "path": "/spec/runtimeEnvYAML", "value": environment}]
    content = {"resources": ["base"], "patches": [{"target": {"kind": "RayJob"}, "patch": yaml.safe_dump(patch)}]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return str(folder)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
@pytest.mark.parametrize("environment", ["- a\n", "a: [\n", "env_vars: [a]\n", "text\n", "a: 1\n---\nb: 2\n"])
def test_an_invalid_runtime_environment_is_refused_in_one_line(tmp_path: Path, environment: str) -> None:
    with pytest.raises(SpecError, match="overlay: runtimeEnvYAML: ") as caught:
        render(SPEC, "esv-o-1", "o", overlay=overlay(tmp_path, environment))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
@pytest.mark.parametrize(
    "environment", ["", "env_vars:\n", 'env_vars: {COMMIT: "12e5678", AT: "1:30", SWITCH: "yes"}\n']
)
def test_a_runtime_environment_keeps_its_texts(tmp_path: Path, environment: str) -> None:
    objects = render(SPEC, "esv-o-1", "o", overlay=overlay(tmp_path, environment))
    variables = yaml.safe_load(one(objects, "RayJob")["spec"]["runtimeEnvYAML"])["env_vars"]
    assert all(isinstance(value, str) for value in variables.values())
    if "COMMIT" in environment:
        assert {"COMMIT": "12e5678", "AT": "1:30", "SWITCH": "yes"}.items() <= variables.items()
