"""Jobs on Kubernetes through kubectl, with the rights and the context of its user."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from esv_ray.errors import JobError, SpecError
from esv_ray.submit.kubernetes.manifest_yaml import as_yaml
from esv_ray.submit.kubernetes.manifests import NAME_LABEL, OUTPUT_ANNOTATION, Object
from esv_ray.submit.polling import UnreachableError, poll
from esv_ray.submit.submission import ENDED, Submission, find_submission, newest_first, parse_id

_TIMEOUT_S = 120.0
_POLL_S = 5.0
_UNREACHABLE = re.compile(  # messages of kubectl about an API server that is unavailable, restarting or overloaded
    r"Unable to connect|was refused|no such host|i/o timeout|TLS handshake timeout|Client\.Timeout|timed out|\bEOF\b"
    r"|connection reset|unable to handle the request|too many requests"
)


def kubectl(*arguments: str, namespace: str | None, text: str | None = None) -> str:
    """Run kubectl and return its output.

    Args:
        arguments: of kubectl.
        namespace: None: that of its context.
        text: its standard input.

    Raises:
        JobError: it is not installed.
        SpecError: it refuses; its reason in one line. UnreachableError if the cluster does not answer.
    """
    command = _command(arguments, namespace)
    try:
        done = subprocess.run(  # noqa: S603  # no shell
            command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"kubectl {arguments[0]}: no response within {_TIMEOUT_S:g} s; check that the cluster is running and "
            "that kubectl's current context is right"
        ) from None
    if done.returncode:
        kind = UnreachableError if _UNREACHABLE.search(done.stderr) else SpecError
        raise kind(f"kubectl {arguments[0]}: {_reason(done.stderr)}")
    return done.stdout


def _command(arguments: Sequence[str], namespace: str | None) -> list[str]:
    if shutil.which("kubectl") is None:
        raise JobError("kubectl is required but not installed; see https://kubernetes.io/docs/tasks/tools")
    return ["kubectl", *arguments, *([] if namespace is None else ["--namespace", namespace])]


def _reason(stderr: str) -> str:
    """Return why kubectl failed, in one line."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    # Before its reason kubectl writes log lines of its client, one per try.
    reasons = [line for line in lines if not re.match(r"[EWI]\d{4} ", line)] or lines or ["no reason given"]
    text = " ".join(" ".join(reasons).split())[:300]
    if ("RayJob" in text and "no matches for kind" in text) or ("resource type" in text and "rayjob" in text):
        return "the cluster does not know RayJobs: install the KubeRay operator (1.7 or newer) first"
    if "refused" in text or "no such host" in text or "provide credentials" in text:
        return f"cannot reach the cluster ({text}); check kubectl's context"
    return text


def apply(objects: Sequence[Object], namespace: str | None) -> None:
    """Create or update the objects of a job. Its spec is owned by the RayJob, so it is deleted with it.

    Raises:
        SpecError: the cluster refuses them.
    """
    applied = json.loads(_apply(objects, namespace))
    uids = {(item["kind"], item["metadata"]["name"]): item["metadata"]["uid"] for item in applied["items"]}
    rayjob = next(item for item in objects if item["kind"] == "RayJob")
    name = rayjob["metadata"]["name"]
    owner = {key: rayjob[key] for key in ("apiVersion", "kind")} | {"name": name, "uid": uids["RayJob", name]}
    spec = next(item for item in objects if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", f"{name}-spec"))
    _apply([{**spec, "metadata": {**spec["metadata"], "ownerReferences": [owner]}}], namespace)


def _apply(objects: Sequence[Object], namespace: str | None) -> str:
    return kubectl("apply", "--filename", "-", "--output", "json", namespace=namespace, text=as_yaml(objects))


def submissions(namespace: str | None) -> list[Submission]:
    """Return the submissions in a namespace, newest first: the RayJobs that `esv` made."""
    rayjobs = json.loads(kubectl("get", "rayjobs.ray.io", "--output", "json", namespace=namespace))
    return newest_first(job for job in map(_submission, rayjobs["items"]) if job is not None)


def find(job: str, namespace: str | None) -> Submission:
    """Return a submission by its id, or the last attempt by its name.

    Raises:
        SpecError: there is none.
    """
    scope = f"in namespace {namespace}" if namespace else "in kubectl's namespace"
    return find_submission(submissions(namespace), job, scope)


def _submission(rayjob: dict[str, Any]) -> Submission | None:
    metadata, status = rayjob["metadata"], rayjob.get("status", {})
    parts = parse_id(metadata["name"])
    if parts is None or NAME_LABEL not in metadata.get("labels", {}):
        return None
    deployment = status.get("jobDeploymentStatus", "")
    return Submission(
        id=metadata["name"],
        name=parts[0],
        attempt=parts[1],
        state=_state(deployment, status.get("jobStatus", "")),
        output=metadata.get("annotations", {}).get(OUTPUT_ANNOTATION, ""),
        started=_seconds(status.get("startTime")),
        ended=_seconds(status.get("endTime")),
        message=" ".join(str(status.get("message") or status.get("reason") or deployment).split()),
        exit_code=None,
    )


def _state(deployment: str, job: str) -> str:
    """Return a RayJob's state in Ray's terms; KubeRay's state decides whether it has ended, not Ray's last one."""
    if deployment == "Complete":  # a stopped job is complete, too
        return job if job in ENDED else "SUCCEEDED"
    if deployment in ("Failed", "ValidationFailed"):
        return "STOPPED" if job == "STOPPED" else "FAILED"
    # It may be queued (Suspended), or be retried after its last cluster failed (Retrying).
    return "RUNNING" if deployment == "Running" and job in ("RUNNING", *ENDED) else "PENDING"


def _seconds(text: str | None) -> float | None:
    return None if not text else datetime.fromisoformat(text).timestamp()


def logs(submission: str, namespace: str | None, *, follow: bool) -> int:
    """Print the driver's log, which the pod of KubeRay's submitter job repeats; return kubectl's exit code."""
    flags = ["--follow"] if follow else []
    command = _command(["logs", f"job/{submission}", *flags], namespace)
    return subprocess.run(command, check=False).returncode  # noqa: S603  # no shell


def stop(job: str, namespace: str | None) -> Submission:
    """Stop a job: delete its RayJob with the cluster, its pods and its spec. Committed units are kept.

    Suspending the RayJob would keep its record, but a queue (Kueue) would start it again. A spec that was rendered, not
    submitted, is not owned by the RayJob and is kept: a schedule needs it again.
    """
    submission, timeout = find(job, namespace), f"--timeout={int(_TIMEOUT_S) - 10}s"
    name = f"rayjob.ray.io/{submission.id}"
    kubectl("delete", name, "--ignore-not-found", "--wait=true", timeout, namespace=namespace)
    return submission


def wait(submission: str, namespace: str | None, report: Callable[[Submission], None], *, follow: bool) -> Submission:
    """Wait until a job has ended, tolerating minutes without an answer of its cluster.

    Args:
        submission: the job's id.
        namespace: of the job.
        report: called with the job's state after each poll.
        follow: print the job's log, as soon as there is a pod that has it.

    Raises:
        IncompleteError: it is not known how the job ended (`poll`).
    """
    shown, now = not follow, poll(lambda: find(submission, namespace), submission)
    while True:
        matches = [job for job in poll(lambda: submissions(namespace), submission) if job.id == submission]
        now = matches[0] if matches else replace(now, state="STOPPED", message="deleted")
        report(now)
        if now.over:
            return now
        if not shown and now.state == "RUNNING":
            shown = logs(submission, namespace, follow=True) == 0
        time.sleep(_POLL_S)
