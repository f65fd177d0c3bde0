"""What is asked of a job's Kubernetes objects, checked: image, namespace, schedule, and places that pods can reach."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.spec import JobSpec
from esv_ray.spec_values import digits

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"([A-Za-z0-9.-]+(:[0-9]+)?/)?{_PART}(/{_PART})*"  # registry, path
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@sha256:(?P<digest>[0-9a-f]{64}))?"
)
_CRON_FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every ([0-9]+(\.[0-9]+)?(s|m|h))+")
_FLEETING = {"emptyDir", "configMap", "secret", "projected", "downwardAPI"}  # volumes that outlive no pod


def check_namespace(namespace: str) -> str:
    """A namespace that was asked for.

    Raises:
        SpecError: Kubernetes has none of such a name.
    """
    if not _LABEL.fullmatch(namespace):
        raise SpecError(
            f"--namespace: expected lower-case letters, digits and hyphens, at most 63 signs, got {namespace!r:.80}"
        )
    return namespace


def check_image(image: str) -> str:
    """An image that was asked for.

    Raises:
        SpecError: it is no reference, or one that means another image tomorrow.
    """
    parts = _IMAGE.fullmatch(image)
    if parts is None or not (parts["tag"] or parts["digest"]) or (parts["tag"] == "latest" and not parts["digest"]):
        raise SpecError(
            "--image: expected REGISTRY/NAME:TAG (a tag other than latest) or REGISTRY/NAME@sha256:..., "
            f"got {image!r:.200}"
        )
    return image


def set_image(rayjob: dict[str, Any], image: str) -> None:
    """Of the containers that run Ray, which KubeRay knows by being the first, and of others of the same image."""
    templates = list(_templates(rayjob))
    old = {template["spec"]["containers"][0]["image"] for template in templates}
    for template in templates:
        for box in (*template["spec"]["containers"], *template["spec"].get("initContainers", ())):
            if box["image"] in old:
                box["image"] = image


def bare_image(rayjob: dict[str, Any]) -> str | None:
    """An image of a RayJob that names no registry."""
    images = [template["spec"]["containers"][0]["image"] for template in _templates(rayjob)]
    return next((image for image in images if "/" not in image), None)


def _templates(rayjob: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = rayjob["rayClusterSpec"]
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster.get("workerGroupSpecs", ()))
    if "submitterPodTemplate" in rayjob:
        yield rayjob["submitterPodTemplate"]


def check_places(spec: JobSpec, cluster: dict[str, Any]) -> None:
    """Refuse paths of this machine, which pods do not see.

    Args:
        spec: the job.
        cluster: a RayCluster's spec; its head and workers may mount volumes that hold the path.

    Raises:
        SpecError: a place is a path, and no lasting volume is mounted there.
    """
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())]
    for key in ("features", "model", "output"):
        url = getattr(spec, key)
        if storage.in_this_process(url):
            raise SpecError(f"{key} {url}: lives in the memory of one process; use object storage on Kubernetes")
        if "://" in url or all(_mounted(url, group["template"]["spec"]) for group in groups):
            continue
        raise SpecError(
            f"{key} {url}: a path, and the overlay's pods mount nothing lasting there; use object storage (s3://...), "
            "or an overlay of your own that mounts a volume in the head and in all workers"
        )


def _mounted(path: str, pod: dict[str, Any]) -> bool:
    lasting = {one["name"] for one in pod.get("volumes", ()) if not _FLEETING & set(one)}
    mounts = [one["mountPath"] for one in pod["containers"][0].get("volumeMounts", ()) if one["name"] in lasting]
    path = posixpath.normpath(path)  # ".." leads out of a volume
    return any(PurePosixPath(path).is_relative_to(mount) for mount in mounts)


def check_cron(cron: str) -> str:
    """A schedule that was asked for, without blanks around it.

    Kubernetes reads it by Go's robfig/cron, which takes less than Python's cron libraries do: no 7 for Sunday, no L.

    Raises:
        SpecError: Kubernetes takes none such.
    """
    fields = cron.split()
    if cron.strip() in _MACROS or _EVERY.fullmatch(cron.strip()):
        return cron.strip()
    if len(fields) != len(_CRON_FIELDS):
        raise SpecError(f"--schedule: expected five fields as of cron, '0 3 * * *', or @daily, got {cron!r:.60}")
    for field, (name, (least, most)) in zip(fields, _CRON_FIELDS.items(), strict=True):
        names = {"month": _MONTHS, "weekday": _DAYS}.get(name, ())
        for part in field.split(","):
            if not _is_cron(part, least, most, {one: least + index for index, one in enumerate(names)}):
                raise SpecError(
                    f"--schedule: expected {least} to {most}, *, ranges (1-5) or steps (*/2) of the {name}, "
                    f"got {part!r:.40} in {cron!r:.60}"
                )
    return cron.strip()


def _is_cron(part: str, least: int, most: int, names: dict[str, int]) -> bool:
    span, _, step = part.partition("/")
    if "/" in part and not digits(step):
        return False
    if span in ("*", "?"):
        return True
    ends = [names.get(end.lower(), digits(end)) for end in span.split("-")]
    known = [end for end in ends if end is not None and least <= end <= most]
    return len(ends) <= 2 and known == ends and known == sorted(known)
