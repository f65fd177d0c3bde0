"""What is wrong with Kubernetes objects: schemas made strict, and the mistakes that no schema knows."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from esv_ray.errors import EsvError
from esv_ray.spec import load_spec

Object = dict[str, Any]
Pod = tuple[str, Object]  # where it stands, its template

# KubeRay's definition of a RayJob, where there is one: it is not a part of this project.
CRD = Path(__file__).parents[3] / "shared" / "k8s" / "rayjob-crd.yaml"
_KUBERNETES = "1.33"
_SECRET_NAME = re.compile(r"(?i)(secret|password|token|access_?key|credential)")
_SECRET_TEXT = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|(?i:aws_secret_access_key)\s*[:=]\s*\S")


def problems(objects: Sequence[Object]) -> list[str]:
    """All that is wrong, one line each: which object, and what."""
    found = [f"{label(one)}: {told}" for one in objects for told in [*by_schema(one), *by_rules(one)]]
    return [*found, *references(objects), *selectors(objects), *names_can_be_asked(objects)]


def label(one: Object) -> str:
    return f"{one.get('kind')}/{one.get('metadata', {}).get('name')}"


def by_schema(one: Object) -> Iterator[str]:
    """Core kinds by Kubernetes' own schemas, RayJobs by KubeRay's where it is at hand; unknown fields are refused."""
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
    """Structural schemas of Kubernetes say nothing of fields that they do not know; the API server drops those."""
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


def pods(one: Object) -> list[Pod]:
    """The pod templates of an object."""
    spec = one.get("spec", {})
    if one.get("kind") == "RayJob":
        cluster = spec["rayClusterSpec"]
        found = [("head", cluster["headGroupSpec"]["template"])]
        found += [(group["groupName"], group["template"]) for group in cluster.get("workerGroupSpecs", [])]
        return found + ([("submitter", spec["submitterPodTemplate"])] if "submitterPodTemplate" in spec else [])
    if one.get("kind") == "CronJob":
        return [("job", spec["jobTemplate"]["spec"]["template"])]
    return [("pod", spec["template"])] if isinstance(spec.get("template"), dict) else []


def by_rules(one: Object) -> Iterator[str]:
    """The rules that look at one object."""
    for where, template in pods(one):
        for rule in (security, images, gpus, resources, writable, mounts, keys_in_environment, account):
            yield from (f"{where}: {told}" for told in rule(template))
    yield from secrets(one)
    if one.get("kind") == "RayJob":
        yield from cluster_of_a_job(one)
    if one.get("kind") == "ConfigMap" and "job.yaml" in one.get("data", {}):
        try:
            load_spec(yaml.safe_load(one["data"]["job.yaml"]))
        except EsvError as error:
            yield f"job.yaml is no job spec: {error}"


def containers(template: Object) -> list[Object]:
    spec = template["spec"]
    return [*spec.get("containers", []), *spec.get("initContainers", [])]


def security(template: Object) -> Iterator[str]:
    """Pod security `restricted`, and a root file system that is not written."""
    pod = template["spec"].get("securityContext", {})
    if pod.get("runAsNonRoot") is not True or pod.get("runAsUser") == 0:
        yield "runs as root"
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccompProfile RuntimeDefault"
    for container in containers(template):
        own, name = container.get("securityContext", {}), container["name"]
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{name} keeps capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write to its root file system"


def images(template: Object) -> Iterator[str]:
    """Every image has a tag that stands for one thing."""
    for container in containers(template):
        image = container.get("image", "")
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"{container['name']}: image without a tag: {image}"


def gpus(template: Object) -> Iterator[str]:
    """GPUs are asked for as a limit, and their nodes' taint is borne."""
    for container in containers(template):
        asked, limits = (container.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
        for name in {key for key in (*asked, *limits) if key.endswith("/gpu")}:
            if asked.get(name) != limits.get(name):
                yield f"{container['name']}: {name} must be requested and limited alike"
            tolerations = template["spec"].get("tolerations", [])
            if not any(one.get("key") in (name, None) for one in tolerations):
                yield f"{container['name']}: no toleration of {name}"


def resources(template: Object) -> Iterator[str]:
    """Requests and limits stand, and memory is not promised twice."""
    for container in containers(template):
        asked, limits = (container.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
        for name in ("cpu", "memory"):
            if name not in asked or name not in limits:
                yield f"{container['name']}: no request or limit of {name}"
        if asked.get("memory") != limits.get("memory"):
            yield f"{container['name']}: memory requested and limited differ"


def writable(template: Object) -> Iterator[str]:
    """/tmp and HOME can be written."""
    empty = {volume["name"] for volume in template["spec"].get("volumes", []) if "emptyDir" in volume}
    for container in containers(template):
        mounted = {mount["mountPath"] for mount in container.get("volumeMounts", []) if mount["name"] in empty}
        home = next((one.get("value") for one in container.get("env", []) if one["name"] == "HOME"), None)
        for place in ("/tmp", home):
            if place not in mounted:
                yield f"{container['name']}: {place or 'HOME'} cannot be written"


def mounts(template: Object) -> Iterator[str]:
    """Volumes that are mounted exist."""
    there = {volume["name"] for volume in template["spec"].get("volumes", [])}
    for container in containers(template):
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in there:
                yield f"{container['name']}: no volume {mount['name']}"


def keys_in_environment(template: Object) -> Iterator[str]:
    """Secrets come by reference."""
    for container in containers(template):
        for one in container.get("env", []):
            if "value" in one and _SECRET_NAME.search(one["name"]):
                yield f"{container['name']}: {one['name']} in plain text"


def account(template: Object) -> Iterator[str]:
    """A pod says whether it speaks to the API."""
    if "automountServiceAccountToken" not in template["spec"]:
        yield "automountServiceAccountToken is left open"


def secrets(one: Object) -> Iterator[str]:
    """No secret is in a manifest."""
    if one.get("kind") == "Secret" and (one.get("data") or one.get("stringData")):
        yield "a secret in plain text"
    if _SECRET_TEXT.search(yaml.safe_dump(one)):
        yield "looks as if it held a key"


def cluster_of_a_job(one: Object) -> Iterator[str]:
    """What KubeRay and Ray want of each other."""
    cluster = one["spec"]["rayClusterSpec"]
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "no token authentication"
    head = cluster["headGroupSpec"]
    if head.get("rayStartParams", {}).get("num-cpus") != "0":
        yield "the head computes: num-cpus is not 0"
    if any(key.endswith("/gpu") for container in containers(head["template"]) for key in _limits(container)):
        yield "the head holds a GPU"
    rules = one["spec"].get("deletionStrategy", {}).get("deletionRules", [])
    deleted = {str(rule["condition"].get("jobStatus")) for rule in rules if rule["policy"] == "DeleteSelf"}
    if not one["spec"].get("shutdownAfterJobFinishes") and not deleted >= {"SUCCEEDED", "FAILED"}:
        yield "the cluster stays when the job is done"
    if cluster.get("enableInTreeAutoscaling"):
        if cluster.get("autoscalerOptions", {}).get("version") == "v2":
            for where, template in pods(one):
                if where != "submitter" and template["spec"].get("restartPolicy") != "Never":
                    yield f"{where}: autoscaler v2 wants restartPolicy Never"
        if not _token_of_the_autoscaler(cluster):
            yield "the autoscaler has no token for the API"
    if "kueue.x-k8s.io/queue-name" in one["metadata"].get("labels", {}) and not one["spec"].get("suspend"):
        yield "a queued job must begin suspended"


def _token_of_the_autoscaler(cluster: Object) -> bool:
    """Whether it mounts one of its own, or the whole pod has one."""
    pod = cluster["headGroupSpec"]["template"]["spec"]
    tokens = {
        volume["name"]
        for volume in pod.get("volumes", [])
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
    }
    mounted = {mount["name"] for mount in cluster.get("autoscalerOptions", {}).get("volumeMounts", [])}
    return bool(pod.get("automountServiceAccountToken") or tokens & mounted)


def _limits(container: Object) -> Object:
    return dict(container.get("resources", {}).get("limits", {}))


def names_can_be_asked(objects: Sequence[Object]) -> Iterator[str]:
    """A pod from which not everything may go out may ask for names."""
    policies = [
        one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy" and "Egress" in one["spec"].get("policyTypes", [])
    ]
    for one in objects:
        for where, template in pods(one):
            labels = template.get("metadata", {}).get("labels", {})
            of_it = [policy for policy in policies if _selects(policy["podSelector"], labels)]
            rules = [rule for policy in of_it for rule in policy.get("egress", [])]
            if of_it and not any(port.get("port") == 53 for rule in rules for port in rule.get("ports", [])):
                yield f"{label(one)}: {where}: its policies let no DNS through"


def references(objects: Sequence[Object]) -> Iterator[str]:
    """ConfigMaps, service accounts and claims that are named exist."""
    there = {(one["kind"], one["metadata"]["name"]) for one in objects}
    for one in objects:
        for where, template in pods(one):
            spec = template["spec"]
            wanted = [("ServiceAccount", spec["serviceAccountName"])] if "serviceAccountName" in spec else []
            for volume in spec.get("volumes", []):
                if "configMap" in volume:
                    wanted.append(("ConfigMap", volume["configMap"]["name"]))
                if "persistentVolumeClaim" in volume:
                    wanted.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
            yield from (
                f"{label(one)}: {where}: no {kind} {name}" for kind, name in wanted if (kind, name) not in there
            )


def selectors(objects: Sequence[Object]) -> Iterator[str]:
    """Whatever selects pods selects some."""
    labelled = [template.get("metadata", {}).get("labels", {}) for one in objects for _, template in pods(one)]
    for one in objects:
        wanted = _chosen(one)
        if wanted and not any(_selects(wanted, labels) for labels in labelled):
            yield f"{label(one)}: selects no pod: {wanted}"


def _chosen(one: Object) -> Object:
    """A label selector; empty where there is none, or where it selects all."""
    spec = one.get("spec", {})
    if one["kind"] == "Service":
        return {"matchLabels": spec["selector"]} if "selector" in spec else {}
    key = {"NetworkPolicy": "podSelector", "Deployment": "selector"}.get(one["kind"])
    return dict(spec[key]) if key else {}


def _selects(selector: Object, labels: Object) -> bool:
    within = all(
        labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", [])
        if rule["operator"] == "In"
    )
    return within and selector.get("matchLabels", {}).items() <= labels.items()
