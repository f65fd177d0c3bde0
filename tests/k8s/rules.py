"""Find problems in Kubernetes objects: by strict schemas, by rules for single objects, and by rules between objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from esv_ray.errors import EsvError
from esv_ray.spec import load_spec
from tests.k8s.pod_rules import by_pod_rules, containers, pods, token_mounted
from tests.k8s.schemas import CRD, Object, by_schema

__all__ = ["CRD", "Object", "by_schema", "label", "pods", "problems"]

_SECRET_TEXT = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|(?i:aws_secret_access_key)\s*[:=]\s*\S")
_LONGEST_RAYJOB = 47  # KubeRay's validation.go: it appends to the name
# In every namespace, and what the user makes by hand so that no file holds it.
_THERE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"), ("Secret", "esv-storage")}


def problems(objects: Sequence[Object]) -> list[str]:
    """Return all problems, one line each."""
    found = [f"{label(one)}: {told}" for one in objects for told in [*by_schema(one), *by_rules(one)]]
    return [*found, *references(objects), *selectors(objects), *names(objects)]


def label(one: Object) -> str:
    """Return the kind and name of an object."""
    return f"{one.get('kind')}/{one.get('metadata', {}).get('name')}"


def by_rules(one: Object) -> Iterator[str]:
    """Yield the problems of a single object."""
    for where, template in pods(one):
        yield from (f"{where}: {told}" for told in by_pod_rules(template))
    yield from secrets(one)
    if one.get("kind") == "RayJob":
        yield from cluster_of_a_job(one)
    if one.get("kind") == "ConfigMap" and "job.yaml" in one.get("data", {}):
        try:
            load_spec(yaml.safe_load(one["data"]["job.yaml"]))
        except EsvError as error:
            yield f"job.yaml is not a valid job spec: {error}"


def secrets(one: Object) -> Iterator[str]:
    """Require that no secret is in a manifest."""
    if one.get("kind") == "Secret" and (one.get("data") or one.get("stringData")):
        yield "a secret in plain text"
    if _SECRET_TEXT.search(yaml.safe_dump(one)):
        yield "seems to contain a key"


def cluster_of_a_job(one: Object) -> Iterator[str]:
    """Check what KubeRay, Ray and Kueue require of a RayJob."""
    cluster = one["spec"]["rayClusterSpec"]
    if len(one["metadata"]["name"]) > _LONGEST_RAYJOB:
        yield f"the name is longer than {_LONGEST_RAYJOB} characters, which KubeRay refuses"
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "no token authentication"
    head = cluster["headGroupSpec"]
    if head.get("rayStartParams", {}).get("num-cpus") != "0":
        yield "the head runs work: num-cpus is not 0"
    limits = [container.get("resources", {}).get("limits", {}) for container in containers(head["template"])]
    if any(key.endswith("/gpu") for limit in limits for key in limit):
        yield "the head holds a GPU"
    if not one["spec"].get("shutdownAfterJobFinishes") and not _deletes_itself(one):
        yield "the cluster is not deleted when the job is done"
    if cluster.get("enableInTreeAutoscaling"):
        if cluster.get("autoscalerOptions", {}).get("version") == "v2":
            for where, template in pods(one):
                if where != "submitter" and template["spec"].get("restartPolicy") != "Never":
                    yield f"{where}: autoscaler v2 requires restartPolicy Never"
        if not token_mounted(pods(one)[0][1], "autoscaler"):
            yield "the autoscaler has no token for the API"
    if "kueue.x-k8s.io/queue-name" in one["metadata"].get("labels", {}):
        if not one["spec"].get("suspend"):
            yield "a queued job must start suspended"
        if not one["spec"].get("shutdownAfterJobFinishes"):
            yield "Kueue requires that a queued job shuts its cluster down"


def _deletes_itself(rayjob: Object) -> bool:
    """Return whether a RayJob is deleted after success and any failure, also if its cluster never started."""
    rules = rayjob["spec"].get("deletionStrategy", {}).get("deletionRules", [])
    ends = [rule["condition"] for rule in rules if rule["policy"] == "DeleteSelf"]
    succeeded = any(end.get("jobStatus") == "SUCCEEDED" for end in ends)
    return succeeded and any(end.get("jobDeploymentStatus") == "Failed" for end in ends)


def references(objects: Sequence[Object]) -> Iterator[str]:
    """Require that referenced objects exist, unless they are optional."""
    there = _THERE | {(one["kind"], one["metadata"]["name"]) for one in objects}
    for one in objects:
        wanted = [(where, *pair) for where, template in pods(one) for pair in _wanted(template["spec"])]
        if one["kind"] == "RoleBinding":
            wanted += [("roleRef", one["roleRef"]["kind"], one["roleRef"]["name"])]
            wanted += [("subject", it["kind"], it["name"]) for it in one["subjects"]]
        for where, kind, name in dict.fromkeys(wanted):
            if (kind, name) not in there:
                yield f"{label(one)}: {where}: no {kind} {name}"


def _wanted(spec: Object) -> Iterator[tuple[str, str]]:
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    volumes = list(spec.get("volumes", []))
    volumes += [source for volume in volumes for source in volume.get("projected", {}).get("sources", [])]
    for volume in volumes:
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        yield from _named(volume, "configMap", "secret")
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        for source in container.get("envFrom", []):
            yield from _named(source, "configMapRef", "secretRef")
        for variable in container.get("env", []):
            yield from _named(variable.get("valueFrom", {}), "configMapKeyRef", "secretKeyRef")


def _named(source: Object, *keys: str) -> Iterator[tuple[str, str]]:
    for key in keys:
        it = source.get(key)
        if it is not None and not it.get("optional"):
            yield "ConfigMap" if key.startswith("configMap") else "Secret", it.get("name") or it["secretName"]


def chosen(selector: Object, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector selects a pod."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for one in selector.get("matchExpressions", []):
        has = one["key"] in labels
        within = labels.get(one["key"]) in one.get("values", [])
        if not {"In": within, "NotIn": not within, "Exists": has, "DoesNotExist": not has}[one["operator"]]:
            return False
    return True


def selectors(objects: Sequence[Object]) -> Iterator[str]:
    """Require that every selector selects a pod."""
    labelled = [labels for _, labels in _labelled(objects)]
    for one in objects:
        for selector in _selectors(one):
            if not any(chosen(selector, labels) for labels in labelled):
                yield f"{label(one)}: selects no pod: {selector}"


def _labelled(objects: Sequence[Object]) -> list[tuple[str, Mapping[str, str]]]:
    return [
        (f"{label(one)}: {where}", template.get("metadata", {}).get("labels", {}))
        for one in objects
        for where, template in pods(one)
    ]


def _selectors(one: Object) -> list[Object]:
    spec = one.get("spec", {})
    if one["kind"] == "Service":
        return [{"matchLabels": spec.get("selector", {})}]
    if one["kind"] == "Deployment":
        return [spec["selector"]]
    if one["kind"] != "NetworkPolicy":
        return []
    peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
    peers += [peer for rule in spec.get("egress", []) for peer in rule.get("to", [])]
    own = [peer["podSelector"] for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]
    return [spec["podSelector"], *own]


def names(objects: Sequence[Object]) -> Iterator[str]:
    """Require DNS for pods whose egress is restricted, by all policies that select them together."""
    policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
    out = [one for one in policies if isinstance(one.get("policyTypes"), list) and "Egress" in one["policyTypes"]]
    for where, labels in _labelled(objects):
        mine = [one for one in out if chosen(one["podSelector"], labels)]
        rules = [rule for one in mine for rule in one.get("egress", [])]
        ports = [port.get("port") for rule in rules for port in rule.get("ports", [])]
        if mine and 53 not in ports and {} not in rules:
            yield f"{where}: policies restrict egress and allow no DNS"
