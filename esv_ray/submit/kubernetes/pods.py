"""Resources of the pods of a worker group, as Ray counts them: Kubernetes' quantities, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any

from esv_ray.errors import SpecError
from esv_ray.spec_values import digits

_QUANTITY = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(n|u|m|k|[KMGTPE]i?|[eE][-+]?[0-9]{1,3})?")
_FACTORS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3} | {
    f"{prefix}{binary}": (1024.0 if binary else 1000.0) ** power
    for power, prefix in enumerate("KMGTPE", start=1)
    for binary in ("", "i")
    if prefix != "K" or binary
}


def worker_pods(group: object, location: str) -> tuple[Mapping[str, float], int]:
    """Return the resources of a pod of a worker group, by Ray's names, and the most pods that the group may have.

    Args:
        group: an entry of a RayCluster's workerGroupSpecs.
        location: location of the group in the overlay, for the error.

    Raises:
        SpecError: it has no container, or one of its numbers is not valid.
    """
    section = _section(group, location)
    location = f"{location} {section.get('groupName', '')!s:.60}".rstrip()
    most = section.get("maxReplicas", section.get("replicas", 1))
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise SpecError(f"{location}: maxReplicas (or replicas): expected a whole number >= 0, got {most!r:.60}")
    pod = _section(_section(section.get("template"), f"{location}: template").get("spec"), f"{location}: template.spec")
    containers = pod.get("containers")
    if not isinstance(containers, list) or not containers:
        raise SpecError(f"{location}: expected containers, the first of which runs Ray, got {containers!r:.60}")
    resources = _section(_section(containers[0], f"{location}: container").get("resources"), f"{location}: resources")
    counts: dict[str, float] = {}
    for kind in ("requests", "limits"):  # limits take precedence
        for name, value in _section(resources.get(kind), f"{location}: resources.{kind}").items():
            if name == "cpu" or _is_gpu(str(name)):
                counts[str(name)] = quantity(value, f"{location}: resources.{kind}: {name}")
    parameters = _section(section.get("rayStartParams"), f"{location}: rayStartParams")
    cpus, gpus = ceil(counts.pop("cpu", 0.0)), sum(counts.values())  # rounded as KubeRay does
    resources_of_pod = {
        "CPU": _start_parameter(parameters, "num-cpus", cpus, location),
        "GPU": _start_parameter(parameters, "num-gpus", gpus, location),
    }
    return resources_of_pod, most


def quantity(value: object, location: str) -> float:
    """Return a quantity of Kubernetes, such as 2, "500m", 1.5 or 4Gi, as a number.

    Raises:
        SpecError: it is not a quantity.
    """
    scalar = isinstance(value, int | float | str) and not isinstance(value, bool)
    parts = _QUANTITY.fullmatch(str(value)) if scalar else None
    if parts is None:
        raise SpecError(f"{location}: expected a quantity such as 2, 500m or 1.5, got {value!r:.60}")
    suffix = parts[2] or ""
    number = float(parts[1]) * (_FACTORS[suffix] if suffix in _FACTORS else float(f"1{suffix}"))
    if not isfinite(number) or number > 1e9:
        raise SpecError(f"{location}: expected cores or GPUs that a pod may have, got {value!r:.60}")
    return number


def _start_parameter(parameters: Mapping[str, Any], name: str, default: float, location: str) -> float:
    """Return a number of `ray start`, which accepts digits only."""
    if name not in parameters:
        return float(default)
    value = parameters[name]
    number = None if isinstance(value, bool | float) else digits(str(value))
    if number is None:
        raise SpecError(f"{location}: rayStartParams: {name}: expected a whole number in quotes, got {value!r:.60}")
    return float(number)


def _is_gpu(name: str) -> bool:
    return name.endswith("gpu") or "/mig-" in name


def _section(value: object, location: str) -> Mapping[str, Any]:
    """Return the keys below a key; none if it has no value."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SpecError(f"{location}: expected a mapping, got {value!r:.60}")
    return value
