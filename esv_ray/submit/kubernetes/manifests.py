"""A job as Kubernetes objects: an overlay of ``k8s/`` built by kustomize, its name, spec and image filled in.

Objects that belong to one job are the RayJob and the ConfigMap that holds its spec; all others (service accounts,
network policies) are shared by the jobs of a namespace and select by labels.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esv_ray.errors import JobError, SpecError
from esv_ray.job.resources import ActorShape, capacity
from esv_ray.spec import JobSpec
from esv_ray.spec_yaml import write_plain
from esv_ray.submit.kubernetes.manifest_options import check_cron, check_image, check_namespace, check_places, set_image
from esv_ray.submit.kubernetes.manifest_yaml import as_yaml, read_objects
from esv_ray.submit.kubernetes.pods import pods_of
from esv_ray.submit.ray_jobs.preflight import spec_text
from esv_ray.submit.submission import environment_of

Object = dict[str, Any]

NAME_LABEL, OUTPUT_NOTE = "esv-ray.dev/job", "esv-ray.dev/output"
_TREES = (Path(__file__).parents[2] / "_k8s", Path(__file__).parents[3] / "k8s")  # installed; a checkout
_RAYJOB, _SPEC, _SCHEDULED = "esv", "esv-spec", "esv-scheduled"
_BUILD_S, _MOST_RETRIES = 60.0, 1
# Ten minutes after it has ended, with its cluster: else KubeRay keeps a RayJob, whose name is taken the next time.
_DELETED_WHEN_OVER = [
    {"policy": "DeleteSelf", "condition": {state: value, "ttlSeconds": 600}}
    for state, value in (("jobStatus", "SUCCEEDED"), ("jobStatus", "FAILED"), ("jobDeploymentStatus", "Failed"))
]


def overlays() -> dict[str, Path]:
    """The overlays that come with the package, by name."""
    tree = next((tree for tree in _TREES if tree.is_dir()), None)
    if tree is None:
        raise JobError(f"this installation has no manifests (looked in {_TREES[0]}); install esv-ray from its wheel")
    found = {path.parent.name: path.parent for path in sorted(tree.glob("overlays/*/kustomization.yaml"))}
    return {"base": tree / "base", **found}


def build(folder: Path) -> list[Object]:
    """The objects of a kustomization.

    Raises:
        SpecError: kustomize refuses it.
        JobError: there is no kubectl.
    """
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    if shutil.which(command[0]) is None:
        raise JobError(
            "kubectl is not installed, which builds the manifests; see https://kubernetes.io/docs/tasks/tools"
        )
    try:
        done = subprocess.run(  # noqa: S603  # no shell; the folder is an argument of its own
            [*command, str(folder)], capture_output=True, text=True, timeout=_BUILD_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise JobError(f"{folder}: {command[0]} does not end within {_BUILD_S:g} s") from None
    if done.returncode:
        raise SpecError(f"{folder}: {' '.join(done.stderr.split())[:300]}")
    return read_objects(done.stdout, str(folder))


def overlay_folder(overlay: str) -> Path:
    """The folder of an overlay: by its name, or the user's own.

    Raises:
        SpecError: there is none.
    """
    known = overlays()
    if overlay in known:
        return known[overlay]
    own = Path(overlay)
    if (own / "kustomization.yaml").is_file():
        return own
    raise SpecError(
        f"--overlay: expected {', '.join(known)}, or a folder with a kustomization.yaml, got {overlay!r:.100}"
    )


def render(
    spec: JobSpec,
    submission: str,
    name: str,
    *,
    overlay: str = "base",
    namespace: str | None = None,
    image: str | None = None,
    options: Sequence[str] = (),
) -> list[Object]:
    """The objects of one job.

    Args:
        spec: the job; it uses the cluster that is started for it, and as many actors as that may grow to hold.
        submission: the RayJob's name, ``esv-<name>-<attempt>``; that of a schedule is attempt 0, and nobody else's.
        name: of the job.
        overlay: a name of `overlays`, or the folder of the user's own.
        namespace: where it runs; None: what the overlay or kubectl's context says.
        image: in place of the overlay's.
        options: of `esv attribute`.

    Raises:
        SpecError: the overlay is none, or lacks what belongs to a job; or image, namespace or places cannot be.
    """
    objects = build(overlay_folder(overlay))
    rayjob, config = _one(objects, "RayJob", _RAYJOB, overlay), _one(objects, "ConfigMap", _SPEC, overlay)
    check_places(spec, rayjob["spec"]["rayClusterSpec"])
    groups = rayjob["spec"]["rayClusterSpec"].get("workerGroupSpecs", [])
    spec = _for_groups(spec, groups, namespace)
    config["data"] = {"job.yaml": spec_text(spec)}
    rayjob["spec"]["entrypoint"] = shlex.join([*shlex.split(rayjob["spec"]["entrypoint"]), *options])
    rayjob["spec"]["runtimeEnvYAML"] = _with_submission(rayjob["spec"].get("runtimeEnvYAML", ""), submission)
    for one in (rayjob, config):
        one["metadata"].setdefault("labels", {})[NAME_LABEL] = name
        one["metadata"].setdefault("annotations", {})[OUTPUT_NOTE] = spec.output
    rayjob["metadata"]["name"], config["metadata"]["name"] = submission, f"{submission}-spec"
    _rename_config(rayjob["spec"], f"{submission}-spec")
    if image is not None:
        set_image(rayjob["spec"], check_image(image))
    if namespace is not None:
        check_namespace(namespace)
        for one in objects:
            _move(one, namespace)
    return objects


def namespace_of(overlay: str) -> str | None:
    """The namespace that an overlay says; None: it leaves that to kubectl."""
    found: str | None = _one(build(overlay_folder(overlay)), "RayJob", _RAYJOB, overlay)["metadata"].get("namespace")
    return found


def scheduled(objects: Sequence[Object], cron: str, name: str) -> list[Object]:
    """The objects of a job that is begun again and again: a CronJob makes the RayJob that a ConfigMap holds.

    Args:
        objects: of `render`.
        cron: when, five fields as of cron.
        name: of the job.
    """
    cron = check_cron(cron)
    rayjob = next(one for one in objects if one["kind"] == "RayJob")
    if "kueue.x-k8s.io/queue-name" in rayjob["metadata"].get("labels", {}):
        raise SpecError("--schedule: Kueue takes no RayJob that deletes itself; choose another overlay than kueue")
    namespace = rayjob["metadata"].get("namespace")
    if namespace is None:
        raise SpecError("--schedule: expected --namespace, in which an account gets the right to create RayJobs")
    others = [one for one in objects if one is not rayjob]
    rayjob = {**rayjob, "spec": {**rayjob["spec"], "deletionStrategy": {"deletionRules": _DELETED_WHEN_OVER}}}
    for key in ("shutdownAfterJobFinishes", "ttlSecondsAfterFinished"):  # KubeRay takes these or rules, not both
        rayjob["spec"].pop(key, None)
    # A retry is a whole new cluster, and the next run is to come anyway.
    rayjob["spec"]["backoffLimit"] = min(_MOST_RETRIES, rayjob["spec"].get("backoffLimit", 0))
    around = build(overlays()["base"].parent / "schedule")
    _one(around, "ConfigMap", _SCHEDULED, "schedule")["data"] = {"rayjob.yaml": as_yaml([rayjob])}
    _one(around, "CronJob", _SCHEDULED, "schedule")["spec"]["schedule"] = cron
    for one in around:
        if one["kind"] in ("ConfigMap", "CronJob"):
            one["metadata"]["name"] = f"esv-{name}-scheduled"
            one["metadata"].setdefault("labels", {})[NAME_LABEL] = name
        if one["kind"] == "CronJob":
            _rename_config(one["spec"], f"esv-{name}-scheduled", old=_SCHEDULED)
        _move(one, namespace)
    return [*others, *around]


def _one(objects: Sequence[Object], kind: str, name: str, where: str) -> Object:
    found = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    if len(found) != 1:
        raise SpecError(
            f"overlay {where}: expected one {kind} named {name}, found {len(found)} (no namePrefix, no nameSuffix)"
        )
    return found[0]


def _for_groups(spec: JobSpec, groups: Sequence[Mapping[str, Any]], namespace: str | None) -> JobSpec:
    """The spec with what the driver cannot see while no worker is there: the most actors, and whether on GPUs."""
    nodes = [pods_of(group, f"overlay: workerGroupSpecs[{place}]") for place, group in enumerate(groups)]
    cluster: dict[str, Any] = {"address": "auto"}
    share = spec.cluster.gpus_per_actor
    if share == "auto":
        share = cluster["gpus_per_actor"] = 1.0 if any(node["GPU"] for node, _ in nodes) else 0.0
    shape = ActorShape(spec.compute.threads, share)
    room = sum(capacity([node], shape) * most for node, most in nodes)
    if not room:
        raise SpecError(f"no worker group of the overlay has room for an actor of {shape}; see compute.threads")
    if spec.cluster.actors == "auto":
        cluster["actors"] = room
    return spec.model_copy(update={"cluster": spec.cluster.model_copy(update=cluster)})


def _with_submission(text: str, submission: str) -> str:
    read = read_objects(text, "overlay: runtimeEnvYAML")
    environment = read[0] if read else {}
    if len(read) > 1 or not isinstance(environment, dict) or not isinstance(environment.get("env_vars") or {}, dict):
        raise SpecError(f"overlay: runtimeEnvYAML: expected keys, and keys below env_vars, got {text!r:.100}")
    environment["env_vars"] = {**environment_of(submission), **(environment.get("env_vars") or {})}
    return write_plain(environment)


def _rename_config(node: object, name: str, old: str = _SPEC) -> None:
    """References to a ConfigMap, wherever they stand."""
    if isinstance(node, dict):
        reference = node.get("configMap") or node.get("configMapRef") or node.get("configMapKeyRef")
        if isinstance(reference, dict) and reference.get("name") == old:
            reference["name"] = name
        for value in node.values():
            _rename_config(value, name, old)
    elif isinstance(node, list):
        for value in node:
            _rename_config(value, name, old)


def _move(one: Object, namespace: str) -> None:
    if one["kind"] != "Namespace":
        one["metadata"]["namespace"] = namespace
    for subject in one.get("subjects", []):
        if subject.get("kind") == "ServiceAccount":
            subject["namespace"] = namespace
