"""A job to be rendered, and how an object is found among manifests."""

from __future__ import annotations

from pathlib import Path

from esv_ray.spec import load_spec
from tests.k8s.rules import Object

K8S = Path(__file__).parents[2] / "k8s"

SPEC = load_spec({"features": "s3://b/f", "model": "s3://b/m", "output": "s3://b/o"})


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    return next(it for it in objects if it["kind"] == kind and name in (None, it["metadata"]["name"]))
