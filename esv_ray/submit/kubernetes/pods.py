"""What Ray will count on the pods of a worker group: quantities of Kubernetes, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any

from esv_ray.errors import SpecError
from esv_ray.spec_values import digits

_QUANTITY = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(n|u|m|k|[KMGTPE]i?|[eE][-+]?[0-9]{1,3})?")
_FACTORS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3} | {
    f"{sign}{binary}": (1024.0 if binary else 1000.0) ** power
    for power, sign in enumerate("KMGTPE", start=1)
    for binary in ("", "i")
    if sign != "K" or binary
}


def pods_of(group: object, where: str) -> tuple[Mapping[str, float], int]:
    """Return what Ray counts on a pod of a worker group, by Ray's names, and the most pods that it may have.

    Args:
        group: an entry of a RayCluster's workerGroupSpecs.
        where: it is, for the error.

    Raises:
        SpecError: it has no container, or a number in it is none; one line says which.
    """
    section = _section(group, where)
    where = f"{where} {section.get('groupName', '')!s:.60}".rstrip()
    most = section.get("maxReplicas", section.get("replicas", 1))
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise SpecError(f"{where}: maxReplicas (or replicas): expected a whole number >= 0, got {most!r:.60}")
    pod = _section(_section(section.get("template"), f"{where}: template").get("spec"), f"{where}: template.spec")
    containers = pod.get("containers")
    if not isinstance(containers, list) or not containers:
        raise SpecError(f"{where}: expected a container, of which the first runs Ray, got {containers!r:.60}")
    resources = _section(_section(containers[0], f"{where}: container").get("resources"), f"{where}: resources")
    held: dict[str, float] = {}
    for kind in ("requests", "limits"):  # limits win
        for name, value in _section(resources.get(kind), f"{where}: resources.{kind}").items():
            if name == "cpu" or _is_gpu(str(name)):
                held[str(name)] = quantity(value, f"{where}: resources.{kind}: {name}")
    asked = _section(section.get("rayStartParams"), f"{where}: rayStartParams")
    cpus, gpus = ceil(held.pop("cpu", 0.0)), sum(held.values())  # rounded as KubeRay does
    return {"CPU": _asked(asked, "num-cpus", cpus, where), "GPU": _asked(asked, "num-gpus", gpus, where)}, most


def quantity(value: object, where: str) -> float:
    """Read a quantity of Kubernetes, such as 2, "500m", 1.5 or 4Gi.

    Raises:
        SpecError: it is none.
    """
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    parts = _QUANTITY.fullmatch(str(value)) if plain else None
    if parts is None:
        raise SpecError(f"{where}: expected a quantity such as 2, 500m or 1.5, got {value!r:.60}")
    suffix = parts[2] or ""
    found = float(parts[1]) * (_FACTORS[suffix] if suffix in _FACTORS else float(f"1{suffix}"))
    if not isfinite(found) or found > 1e9:
        raise SpecError(f"{where}: expected cores or GPUs that a pod may have, got {value!r:.60}")
    return found


def _asked(asked: Mapping[str, Any], name: str, otherwise: float, where: str) -> float:
    """A number that Ray is started with, which it takes in digits alone."""
    if name not in asked:
        return float(otherwise)
    found = None if isinstance(asked[name], bool | float) else digits(str(asked[name]))
    if found is None:
        raise SpecError(f"{where}: rayStartParams: {name}: expected a whole number in quotes, got {asked[name]!r:.60}")
    return float(found)


def _is_gpu(name: str) -> bool:
    return name.endswith("gpu") or "/mig-" in name


def _section(value: object, where: str) -> Mapping[str, Any]:
    """Keys below a key; none where nothing stands there."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SpecError(f"{where}: expected keys below it, got {value!r:.60}")
    return value
