"""Check options of a job's manifests: image, namespace, schedule, and locations that pods can reach."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.spec_kinds import WorkSpec, locations_of
from esv_ray.spec_values import digits

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"([A-Za-z0-9.-]+(:[0-9]+)?/)?{_PART}(/{_PART})*"  # registry, path
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@sha256:(?P<digest>[0-9a-f]{64}))?"
)
_CRON_FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every ([0-9]+(\.[0-9]+)?(s|m|h))+")
_EPHEMERAL = {"emptyDir", "configMap", "secret", "projected", "downwardAPI"}  # volumes that do not outlive their pod


def check_namespace(namespace: str) -> str:
    """Return a namespace that the user gives.

    Raises:
        SpecError: it is not a valid name for Kubernetes.
    """
    if not _LABEL.fullmatch(namespace):
        raise SpecError(
            "--namespace: expected lower-case letters, digits and hyphens, at most 63 characters, got "
            f"{namespace!r:.80}"
        )
    return namespace


def check_image(image: str) -> str:
    """Return an image that the user gives.

    Raises:
        SpecError: it is not a valid reference, or may refer to another image tomorrow.
    """
    parts = _IMAGE.fullmatch(image)
    if parts is None or not (parts["tag"] or parts["digest"]) or (parts["tag"] == "latest" and not parts["digest"]):
        raise SpecError(
            "--image: expected REGISTRY/NAME:TAG (a tag other than latest) or REGISTRY/NAME@sha256:..., "
            f"got {image!r:.200}"
        )
    return image


def set_image(rayjob: dict[str, Any], image: str) -> None:
    """Set the image of the containers that run Ray, the first of each pod, and of others with the same image."""
    templates = list(_templates(rayjob))
    replaced = {template["spec"]["containers"][0]["image"] for template in templates}
    for template in templates:
        for container in (*template["spec"]["containers"], *template["spec"].get("initContainers", ())):
            if container["image"] in replaced:
                container["image"] = image


def image_without_registry(rayjob: dict[str, Any]) -> str | None:
    """Return an image of a RayJob whose name has no registry; None if all have one."""
    images = [template["spec"]["containers"][0]["image"] for template in _templates(rayjob)]
    return next((image for image in images if "/" not in image), None)


def _templates(rayjob: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = rayjob["rayClusterSpec"]
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster.get("workerGroupSpecs", ()))
    if "submitterPodTemplate" in rayjob:
        yield rayjob["submitterPodTemplate"]


def check_locations(spec: WorkSpec, cluster: dict[str, Any]) -> None:
    """Check that pods can reach a job's locations: paths of this machine are refused.

    Args:
        spec: the job.
        cluster: a RayCluster's spec; its head and workers may mount volumes that hold the path.

    Raises:
        SpecError: a location is a path, and no persistent volume is mounted there.
    """
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())]
    for key, url in locations_of(spec):
        if storage.in_this_process(url):
            raise SpecError(f"{key} {url}: exists in the memory of one process only; use object storage on Kubernetes")
        if "://" in url or all(_is_mounted(url, group["template"]["spec"]) for group in groups):
            continue
        raise SpecError(
            f"{key} {url}: a path, but the overlay's pods mount no persistent volume there; use object storage "
            "(s3://...), or an overlay of your own that mounts a volume in the head and in all workers"
        )


def _is_mounted(path: str, pod: dict[str, Any]) -> bool:
    persistent = {volume["name"] for volume in pod.get("volumes", ()) if not _EPHEMERAL & set(volume)}
    mounts = pod["containers"][0].get("volumeMounts", ())
    paths = [mount["mountPath"] for mount in mounts if mount["name"] in persistent]
    path = posixpath.normpath(path)  # ".." leads out of a volume
    return any(PurePosixPath(path).is_relative_to(mounted) for mounted in paths)


def check_cron(cron: str) -> str:
    """Return a schedule that the user gives, without surrounding blanks.

    Kubernetes parses schedules with Go's robfig/cron. No Python library accepts the same: cronsim 2.8 and croniter 7.0
    accept 7 for Sunday, L, mon#2 and a sixth field, and refuse ? and @every. kubectl's server-side dry run would check
    it, but needs a cluster, which `esv render` does not.

    Raises:
        SpecError: Kubernetes would refuse it.
    """
    fields = cron.split()
    if cron.strip() in _MACROS or _EVERY.fullmatch(cron.strip()):
        return cron.strip()
    if len(fields) != len(_CRON_FIELDS):
        raise SpecError(f"--schedule: expected five cron fields, '0 3 * * *', or @daily, got {cron!r:.60}")
    for field, (name, (least, most)) in zip(fields, _CRON_FIELDS.items(), strict=True):
        names = {"month": _MONTHS, "weekday": _WEEKDAYS}.get(name, ())
        for part in field.split(","):
            if not _is_cron(part, least, most, {text: least + index for index, text in enumerate(names)}):
                raise SpecError(
                    f"--schedule: expected {least} to {most}, *, ranges (1-5) or steps (*/2) for the {name}, "
                    f"got {part!r:.40} in {cron!r:.60}"
                )
    return cron.strip()


def _is_cron(part: str, least: int, most: int, names: dict[str, int]) -> bool:
    """Return whether a part of a field is *, a number or a range, and its step, if it has one, a number above 0."""
    span, _, step = part.partition("/")
    if "/" in part and not digits(step):
        return False
    if span in ("*", "?"):
        return True
    ends = [names.get(end.lower(), digits(end)) for end in span.split("-")]
    valid = [end for end in ends if end is not None and least <= end <= most]
    return len(ends) <= 2 and valid == ends and valid == sorted(valid)
