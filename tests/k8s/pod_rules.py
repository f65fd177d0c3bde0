"""Rules for pod templates that schemas do not express: security, resources, images, mounts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.k8s.schemas import Object

Pod = tuple[str, Object]  # where it stands, its template

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
_SECRET_NAME = re.compile(r"(?i)(secret|password|token|access_?key|credential)")
_RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"} | {
    "projected",
    "secret",
}
# What KubeRay gives the autoscaler where nothing else is said.
_AUTOSCALER = {
    "requests": {"cpu": "500m", "memory": "512Mi"},
    "limits": {"cpu": "500m", "memory": "512Mi"},
}


def pods(one: Object) -> list[Pod]:
    """Return the pod templates of an object; the head's includes the container that KubeRay adds."""
    spec = one.get("spec", {})
    if one.get("kind") == "RayJob":
        cluster = spec["rayClusterSpec"]
        found = [("head", _with_autoscaler(cluster))]
        found += [(group["groupName"], group["template"]) for group in cluster.get("workerGroupSpecs", [])]
        return found + ([("submitter", spec["submitterPodTemplate"])] if "submitterPodTemplate" in spec else [])
    if one.get("kind") == "CronJob":
        return [("job", spec["jobTemplate"]["spec"]["template"])]
    return [("pod", spec["template"])] if isinstance(spec.get("template"), dict) else []


def _with_autoscaler(cluster: Object) -> Object:
    template: Object = cluster["headGroupSpec"]["template"]
    if not cluster.get("enableInTreeAutoscaling"):
        return template
    options = cluster.get("autoscalerOptions", {})
    added = {"name": "autoscaler", "image": template["spec"]["containers"][0].get("image"), "resources": _AUTOSCALER}
    added |= {
        key: options[key] for key in ("image", "resources", "securityContext", "env", "volumeMounts") if key in options
    }
    return {**template, "spec": {**template["spec"], "containers": [*template["spec"]["containers"], added]}}


def containers(template: Object) -> list[Object]:
    """Return all containers of a pod."""
    spec = template["spec"]
    return [*spec.get("containers", []), *spec.get("initContainers", [])]


def by_pod_rules(template: Object) -> Iterator[str]:
    """Yield the problems found by all rules of this file."""
    for rule in (security, host, images, gpus, resources, writable, mounts, keys_in_environment, account):
        yield from rule(template)


def security(template: Object) -> Iterator[str]:
    """Require pod security `restricted`, and a read-only root file system."""
    pod = template["spec"].get("securityContext", {})
    for container in containers(template):
        own, name = container.get("securityContext", {}), container["name"]
        both = {**pod, **own}
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield f"{name} runs as root"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccompProfile"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{name} may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            yield f"{name} keeps capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write to its root file system"


def host(template: Object) -> Iterator[str]:
    """Forbid access to the node: its namespaces and its file system."""
    spec = template["spec"]
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"shares the node's {name}"
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - _RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is a {kind}, which pod security refuses"


def images(template: Object) -> Iterator[str]:
    """Require a tag of every image that does not move."""
    for container in containers(template):
        image = container.get("image") or ""
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"{container['name']}: image without a tag: {image}"


def gpus(template: Object) -> Iterator[str]:
    """Require equal requests and limits of GPUs, and a toleration of their nodes' taint."""
    for container in containers(template):
        asked, limits = (container.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
        for name in sorted({key for key in (*asked, *limits) if key.endswith("/gpu")}):
            if asked.get(name) != limits.get(name):
                yield f"{container['name']}: {name} must be requested and limited alike"
            tolerations = template["spec"].get("tolerations", [])
            if not any(one.get("key") in (name, None) for one in tolerations):
                yield f"{container['name']}: no toleration of {name}"


def resources(template: Object) -> Iterator[str]:
    """Require requests and limits, and equal ones of memory."""
    for container in containers(template):
        asked, limits = (container.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
        for name in ("cpu", "memory"):
            if name not in asked or name not in limits:
                yield f"{container['name']}: no request or limit of {name}"
        if asked.get("memory") != limits.get("memory"):
            yield f"{container['name']}: memory requested and limited differ"


def writable(template: Object) -> Iterator[str]:
    """Require that /tmp and HOME are writable."""
    empty = {volume["name"] for volume in template["spec"].get("volumes", []) if "emptyDir" in volume}
    for container in containers(template):
        mounted = {mount["mountPath"] for mount in container.get("volumeMounts", []) if mount["name"] in empty}
        home = next((one.get("value") for one in container.get("env", []) if one["name"] == "HOME"), None)
        for place in ("/tmp", home):
            if place not in mounted:
                yield f"{container['name']}: {place or 'HOME'} cannot be written"


def mounts(template: Object) -> Iterator[str]:
    """Require that mounted volumes exist, and that volumes are mounted."""
    there = {volume["name"] for volume in template["spec"].get("volumes", [])}
    used = {mount["name"] for container in containers(template) for mount in container.get("volumeMounts", [])}
    for container in containers(template):
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in there:
                yield f"{container['name']}: no volume {mount['name']}"
    yield from (f"volume {name} is mounted nowhere" for name in sorted(there - used))


def keys_in_environment(template: Object) -> Iterator[str]:
    """Require that secrets are references."""
    for container in containers(template):
        for one in container.get("env", []):
            if "value" in one and _SECRET_NAME.search(one["name"]):
                yield f"{container['name']}: {one['name']} in plain text"


def account(template: Object) -> Iterator[str]:
    """Require that a pod states whether it has a token for the API, and of which account."""
    spec = template["spec"]
    if "automountServiceAccountToken" not in spec:
        yield "automountServiceAccountToken is left open"
    elif spec["automountServiceAccountToken"] and "serviceAccountName" not in spec:
        yield "speaks to the API, as nobody in particular"


def token_mounted(template: Object, name: str) -> bool:
    """Return whether a container mounts the token of the pod's account."""
    if template["spec"].get("automountServiceAccountToken"):
        return True
    found = [one for one in containers(template) if one["name"] == name]
    return any(mount["mountPath"] == TOKEN for one in found for mount in one.get("volumeMounts", []))
