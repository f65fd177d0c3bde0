"""Resources of the pods of a worker group, and one line for each invalid number in an overlay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from esv_ray.errors import SpecError
from esv_ray.submit.kubernetes.manifests import render
from esv_ray.submit.kubernetes.pods import quantity, worker_pods
from tests.support.manifests import K8S, SPEC


def group(resources: object = None, params: object = None, **keys: object) -> dict[str, Any]:
    container = {"name": "ray", "resources": resources}
    template = {"spec": {"containers": [container]}}
    return {"groupName": "workers", "maxReplicas": 3, "template": template, "rayStartParams": params, **keys}


@pytest.mark.parametrize(
    ("value", "cores"),
    [
        (2, 2.0), ("2", 2.0), (1.5, 1.5), ("1.", 1.0), (".5", 0.5), ("500m", 0.5), ("1500m", 1.5), ("2e3m", None),
        ("1e1", 10.0), ("5E-1", 0.5), ("2k", 2000.0), ("1Ki", 1024.0), ("250000u", 0.25), ("500000000n", 0.5), (0, 0.0),
        ("1E", None), ("-1", None), ("4 cores", None), ("", None), (None, None), (True, None), ([2], None),
        ("\u0664", None), ("1_0", None), ("inf", None), ("nan", None), ("9" * 400, None), ("1e999", None),
    ],
)  # fmt: skip
def test_quantities(value: object, cores: float | None) -> None:
    if cores is not None:
        assert quantity(value, "cpu") == pytest.approx(cores)
        return
    with pytest.raises(SpecError, match=r"^cpu: expected (a quantity|cores)") as caught:
        quantity(value, "cpu")
    assert len(str(caught.value)) < 200


def test_resources_of_a_pod() -> None:
    """Limits take precedence over requests, `rayStartParams` over both; cores are rounded up; GPUs of any vendor."""
    limits = {"cpu": "3500m", "memory": "4Gi", "nvidia.com/gpu": 1, "nvidia.com/mig-1g.5gb": "2"}
    assert worker_pods(group({"requests": {"cpu": 1}, "limits": limits}), "o") == ({"CPU": 4.0, "GPU": 3.0}, 3)
    assert worker_pods(group({"requests": {"cpu": 2}}, {"num-gpus": "1"}), "o") == ({"CPU": 2.0, "GPU": 1.0}, 3)
    assert worker_pods(group(None, {"num-cpus": "6"}, maxReplicas=0), "o") == ({"CPU": 6.0, "GPU": 0.0}, 0)
    bare = {"template": {"spec": {"containers": [{}]}}, "replicas": 2}
    assert worker_pods(bare, "o") == ({"CPU": 0.0, "GPU": 0.0}, 2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (group({"limits": {"cpu": "4 cores"}}), "o workers: resources.limits: cpu: expected a quantity such as"),
        (group({"requests": {"nvidia.com/gpu": "one"}}), "o workers: resources.requests: nvidia.com/gpu: expected"),
        (group({"limits": ["cpu"]}), "o workers: resources.limits: expected a mapping, got ['cpu']"),
        (group("4"), "o workers: resources: expected a mapping"),
        (group(None, {"num-cpus": "four"}), "o workers: rayStartParams: num-cpus: expected a whole number in quotes"),
        (group(None, {"num-gpus": "0.5"}), "o workers: rayStartParams: num-gpus: expected a whole number in quotes"),
        (group(None, {"num-cpus": "\u0664"}), "o workers: rayStartParams: num-cpus: expected"),
        (group(maxReplicas="8"), "o workers: maxReplicas (or replicas): expected a whole number >= 0, got '8'"),
        (group(maxReplicas=None), "o workers: maxReplicas (or replicas): expected a whole number >= 0, got None"),
        (group(maxReplicas=1.5), "o workers: maxReplicas"),
        (group(template=None), "o workers: expected containers, the first of which runs Ray, got None"),
        (group(template={"spec": {"containers": []}}), "o workers: expected containers"),
        (group(template={"spec": {"containers": ["ray"]}}), "o workers: container: expected a mapping"),
        ("workers", "o: expected a mapping"),
    ],
)
def test_invalid_numbers_are_reported_with_their_location(wrong: object, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        worker_pods(wrong, "o")
    assert str(caught.value).startswith(said)


def test_an_overlay_with_an_invalid_quantity_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(K8S / 'base', tmp_path)}]\n"
        "patches:\n- target: {kind: RayJob}\n  patch: |\n    - op: replace\n"
        "      path: /spec/rayClusterSpec/workerGroupSpecs/0/template/spec/containers/0/resources/limits/cpu\n"
        "      value: four\n"
    )
    with pytest.raises(SpecError, match=r"^overlay: workerGroupSpecs\[0\] .*: resources\.limits: cpu: expected a quan"):
        render(SPEC, "esv-o-1", "o", overlay=str(tmp_path))
