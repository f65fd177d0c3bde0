"""The Kubernetes objects of a job: an overlay of ``k8s/`` built by kustomize, with name, spec and image filled in.

The RayJob and the ConfigMap that holds its spec belong to one job. All other objects (service accounts, network
policies) are shared by the jobs of a namespace, and select by labels.
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
from esv_ray.spec_kinds import ATTRIBUTION, WorkSpec, kind_of
from esv_ray.spec_yaml import write_plain
from esv_ray.submit.kubernetes.manifest_options import (
    check_cron,
    check_image,
    check_locations,
    check_namespace,
    set_image,
)
from esv_ray.submit.kubernetes.manifest_yaml import as_yaml, read_objects
from esv_ray.submit.kubernetes.pods import worker_pods
from esv_ray.submit.submission import driver_environment, spec_text

Object = dict[str, Any]

NAME_LABEL, OUTPUT_ANNOTATION = "esv-ray.dev/job", "esv-ray.dev/output"
_TREES = (Path(__file__).parents[2] / "_k8s", Path(__file__).parents[3] / "k8s")  # installed; a checkout
_RAYJOB, _SPEC, _SCHEDULED = "esv", "esv-spec", "esv-scheduled"
_BUILD_S, _MOST_RETRIES = 60.0, 1
# Ten minutes after its end a RayJob is deleted with its cluster: KubeRay would keep it, and its name would be taken.
_DELETION_RULES = [
    {"policy": "DeleteSelf", "condition": {state: value, "ttlSeconds": 600}}
    for state, value in (("jobStatus", "SUCCEEDED"), ("jobStatus", "FAILED"), ("jobDeploymentStatus", "Failed"))
]


def overlays() -> dict[str, Path]:
    """Return the overlays that come with the package, by name.

    Raises:
        JobError: the package was installed without them.
    """
    tree = next((tree for tree in _TREES if tree.is_dir()), None)
    if tree is None:
        raise JobError(f"this installation has no manifests (looked in {_TREES[0]}); install esv-ray from its wheel")
    built_on_base = {path.parent.name: path.parent for path in sorted(tree.glob("overlays/*/kustomization.yaml"))}
    return {"base": tree / "base", **built_on_base}


def build(folder: Path) -> list[Object]:
    """Build a kustomization and return its objects.

    Raises:
        SpecError: kustomize refuses it.
        JobError: kubectl is not installed.
    """
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    if shutil.which(command[0]) is None:
        raise JobError(
            "kubectl, which builds the manifests, is required but not installed; see "
            "https://kubernetes.io/docs/tasks/tools"
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
    """Return the folder of an overlay, given by its name or as a folder of the user's own.

    Raises:
        SpecError: there is no such overlay.
    """
    available = overlays()
    if overlay in available:
        return available[overlay]
    folder = Path(overlay)
    if (folder / "kustomization.yaml").is_file():
        return folder
    raise SpecError(
        f"--overlay: expected {', '.join(available)}, or a folder with a kustomization.yaml, got {overlay!r:.100}"
    )


def render(
    spec: WorkSpec,
    submission: str,
    name: str,
    *,
    overlay: str = "base",
    namespace: str | None = None,
    image: str | None = None,
    arguments: Sequence[str] = (),
) -> list[Object]:
    """Return the objects of a job.

    Args:
        spec: the job; it uses the cluster that is started for it, and as many actors as that can grow to hold.
        submission: the RayJob's name, ``esv-<name>-<attempt>``; attempt 0 is for a schedule alone.
        name: of the job.
        overlay: a name of `overlays`, or a folder of the user's own.
        namespace: in which it runs; None: that of the overlay or of kubectl's context.
        image: replaces the overlay's image.
        arguments: further ones of the job's command.

    Raises:
        SpecError: the overlay is missing or incomplete, or the image, namespace or locations are invalid.
    """
    objects = build(overlay_folder(overlay))
    rayjob, config = _find(objects, "RayJob", _RAYJOB, overlay), _find(objects, "ConfigMap", _SPEC, overlay)
    check_locations(spec, rayjob["spec"]["rayClusterSpec"])
    groups = rayjob["spec"]["rayClusterSpec"].get("workerGroupSpecs", [])
    spec = _for_workers(spec, groups)
    config["data"] = {"job.yaml": spec_text(spec)}
    rayjob["spec"]["entrypoint"] = shlex.join([*entrypoint(rayjob["spec"]["entrypoint"], spec), *arguments])
    rayjob["spec"]["runtimeEnvYAML"] = _with_submission(rayjob["spec"].get("runtimeEnvYAML", ""), submission)
    for item in (rayjob, config):
        item["metadata"].setdefault("labels", {})[NAME_LABEL] = name
        item["metadata"].setdefault("annotations", {})[OUTPUT_ANNOTATION] = spec.output
    rayjob["metadata"]["name"], config["metadata"]["name"] = submission, f"{submission}-spec"
    _rename_config(rayjob["spec"], f"{submission}-spec")
    if image is not None:
        set_image(rayjob["spec"], check_image(image))
    if namespace is not None:
        check_namespace(namespace)
        for item in objects:
            _set_namespace(item, namespace)
    return objects


def namespace_of(overlay: str) -> str | None:
    """Return the namespace that an overlay sets; None: it leaves that to kubectl."""
    namespace: str | None = _find(build(overlay_folder(overlay)), "RayJob", _RAYJOB, overlay)["metadata"].get(
        "namespace"
    )
    return namespace


def scheduled(objects: Sequence[Object], cron: str, name: str) -> list[Object]:
    """Return the objects of a job on a schedule: a CronJob creates the RayJob that a ConfigMap holds.

    Args:
        objects: of `render`.
        cron: the schedule, five cron fields.
        name: of the job.

    Raises:
        SpecError: the schedule is invalid, there is no namespace, or the overlay uses Kueue.
    """
    cron = check_cron(cron)
    rayjob = next(item for item in objects if item["kind"] == "RayJob")
    if "kueue.x-k8s.io/queue-name" in rayjob["metadata"].get("labels", {}):
        raise SpecError(
            "--schedule: Kueue refuses a RayJob that deletes itself, as scheduled RayJobs do; use an overlay other "
            "than kueue"
        )
    namespace = rayjob["metadata"].get("namespace")
    if namespace is None:
        raise SpecError("--schedule requires --namespace: the CronJob's account gets the right to create RayJobs there")
    others = [item for item in objects if item is not rayjob]
    rayjob = {**rayjob, "spec": {**rayjob["spec"], "deletionStrategy": {"deletionRules": _DELETION_RULES}}}
    for key in ("shutdownAfterJobFinishes", "ttlSecondsAfterFinished"):  # KubeRay accepts these or rules, not both
        rayjob["spec"].pop(key, None)
    # A retry is a whole new cluster, and the next run will come anyway.
    rayjob["spec"]["backoffLimit"] = min(_MOST_RETRIES, rayjob["spec"].get("backoffLimit", 0))
    schedule = build(overlays()["base"].parent / "schedule")
    _find(schedule, "ConfigMap", _SCHEDULED, "schedule")["data"] = {"rayjob.yaml": as_yaml([rayjob])}
    _find(schedule, "CronJob", _SCHEDULED, "schedule")["spec"]["schedule"] = cron
    for item in schedule:
        if item["kind"] in ("ConfigMap", "CronJob"):
            item["metadata"]["name"] = f"esv-{name}-scheduled"
            item["metadata"].setdefault("labels", {})[NAME_LABEL] = name
        if item["kind"] == "CronJob":
            _rename_config(item["spec"], f"esv-{name}-scheduled", old=_SCHEDULED)
        _set_namespace(item, namespace)
    return [*others, *schedule]


def _find(objects: Sequence[Object], kind: str, name: str, overlay: str) -> Object:
    """Return the object of a kind and name.

    Raises:
        SpecError: there is none, or more than one.
    """
    matches = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    if len(matches) != 1:
        raise SpecError(
            f"overlay {overlay}: expected one {kind} named {name}, found {len(matches)} (namePrefix and nameSuffix are "
            "not supported)"
        )
    return matches[0]


def entrypoint(text: str, spec: WorkSpec) -> list[str]:
    """Return the words of an overlay's entry point, which is written for attribution, for another kind of work.

    Raises:
        SpecError: it does not name the script of attribution.
    """
    words, script = shlex.split(text), f"/{ATTRIBUTION.command}.py"
    if kind_of(spec) is ATTRIBUTION:
        return words
    if not any(word.endswith(script) for word in words):
        raise SpecError(
            f"overlay: entrypoint: expected the script jobs{script}, in whose place jobs/{kind_of(spec).command}.py "
            f"runs, got {text!r:.200}"
        )
    own = f"/{kind_of(spec).command}.py"
    return [word.removesuffix(script) + own if word.endswith(script) else word for word in words]


def _for_workers(spec: WorkSpec, groups: Sequence[Mapping[str, Any]]) -> WorkSpec:
    """Return the spec with what the driver cannot see before workers start: the most actors, and whether they use GPUs.

    Raises:
        SpecError: no worker can hold an actor.
    """
    nodes = [worker_pods(group, f"overlay: workerGroupSpecs[{index}]") for index, group in enumerate(groups)]
    placed, cluster = spec.cluster.on("auto"), dict[str, Any]()
    share = placed.gpus_per_actor
    if share == "auto":
        share = cluster["gpus_per_actor"] = 1.0 if any(node["GPU"] for node, _ in nodes) else 0.0
    shape = ActorShape(spec.threads, share)
    actors = sum(capacity([node], shape) * most for node, most in nodes)
    if not actors:
        raise SpecError(
            f"overlay: no worker group fits an actor of {shape}; lower compute.threads, or raise the resources of a "
            "worker group"
        )
    if placed.actors == "auto":
        cluster["actors"] = actors
    return spec.model_copy(update={"cluster": placed.model_copy(update=cluster)})


def _with_submission(text: str, submission: str) -> str:
    documents = read_objects(text, "overlay: runtimeEnvYAML")
    environment = documents[0] if documents else {}
    if (
        len(documents) > 1
        or not isinstance(environment, dict)
        or not isinstance(environment.get("env_vars") or {}, dict)
    ):
        raise SpecError(f"overlay: runtimeEnvYAML: expected keys, and keys below env_vars, got {text!r:.100}")
    environment["env_vars"] = {**driver_environment(submission), **(environment.get("env_vars") or {})}
    return write_plain(environment)


def _rename_config(node: object, name: str, old: str = _SPEC) -> None:
    """Change all references to a ConfigMap."""
    if isinstance(node, dict):
        reference = node.get("configMap") or node.get("configMapRef") or node.get("configMapKeyRef")
        if isinstance(reference, dict) and reference.get("name") == old:
            reference["name"] = name
        for value in node.values():
            _rename_config(value, name, old)
    elif isinstance(node, list):
        for value in node:
            _rename_config(value, name, old)


def _set_namespace(item: Object, namespace: str) -> None:
    if item["kind"] != "Namespace":
        item["metadata"]["namespace"] = namespace
    for subject in item.get("subjects", []):
        if subject.get("kind") == "ServiceAccount":
            subject["namespace"] = namespace
