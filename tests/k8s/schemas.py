"""Schemas of Kubernetes and KubeRay, made strict: unknown fields are refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

Object = dict[str, Any]

# KubeRay's definition of a RayJob, where there is one: it is not a part of this project.
CRD = Path(__file__).parents[3] / "shared" / "k8s" / "rayjob-crd.yaml"
_KUBERNETES = "1.37"


def by_schema(one: Object) -> Iterator[str]:
    """Check core kinds with Kubernetes' schemas, and RayJobs with KubeRay's if it is available."""
    if str(one.get("apiVersion", "")).startswith("ray.io/"):
        if CRD.exists():
            for error in jsonschema.Draft202012Validator(_rayjob_schema()).iter_errors(one):
                yield f"{'.'.join(map(str, error.absolute_path))}: {error.message:.200}"
        return
    try:
        kubernetes_validate.validate(one, _KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message:.200}"


@cache
def _rayjob_schema() -> Object:
    definition = yaml.load(CRD.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    version = next(one for one in definition["spec"]["versions"] if one["name"] == "v1")
    schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
    _strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return dict(schema)


def _strict(schema: object) -> None:
    """Refuse unknown fields, which the API server would drop: structural schemas of Kubernetes allow them."""
    if isinstance(schema, list):
        for value in schema:
            _strict(value)
    if not isinstance(schema, dict):
        return
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("anyOf", None)
        schema["type"] = ["integer", "string"]
    if isinstance(schema.get("properties"), dict):
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        for value in schema["properties"].values():
            _strict(value)
    for key in ("items", "additionalProperties", "allOf", "anyOf", "oneOf"):
        _strict(schema.get(key))
