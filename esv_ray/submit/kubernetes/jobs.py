"""Jobs on Kubernetes through kubectl, with whatever rights and context its user has."""

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
from esv_ray.submit.kubernetes.manifests import NAME_LABEL, OUTPUT_NOTE, Object
from esv_ray.submit.polling import SilentError, patiently
from esv_ray.submit.submission import ENDED, Submission, newest_first, parts_of, the_one

_ANSWER_S = 120.0
_POLL_S = 5.0
_SILENT = re.compile(  # what kubectl says of an API server that is away, restarts, or has too much to do
    r"Unable to connect|was refused|no such host|i/o timeout|TLS handshake timeout|Client\.Timeout|timed out|\bEOF\b"
    r"|connection reset|unable to handle the request|too many requests"
)


def kubectl(*arguments: str, namespace: str | None, text: str | None = None) -> str:
    """What kubectl says.

    Raises:
        JobError: it is not installed.
        SpecError: it refuses; its reason in one line. SilentError where the cluster does not answer.
    """
    command = _command(arguments, namespace)
    try:
        done = subprocess.run(  # noqa: S603  # no shell
            command, input=text, capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SilentError(f"kubectl {arguments[0]}: no answer in {_ANSWER_S:g} s; is the cluster up?") from None
    if done.returncode:
        kind = SilentError if _SILENT.search(done.stderr) else SpecError
        raise kind(f"kubectl {arguments[0]}: {_reason(done.stderr)}")
    return done.stdout


def _command(arguments: Sequence[str], namespace: str | None) -> list[str]:
    if shutil.which("kubectl") is None:
        raise JobError("kubectl is not installed, through which Kubernetes is asked")
    return ["kubectl", *arguments, *([] if namespace is None else ["--namespace", namespace])]


def _reason(told: str) -> str:
    lines = [line for line in told.splitlines() if line.strip()]
    # Before its reason kubectl writes log lines of its client, one a try.
    plain = [line for line in lines if not re.match(r"[EWI]\d{4} ", line)] or lines or ["no reason given"]
    text = " ".join(" ".join(plain).split())[:300]
    if ("RayJob" in text and "no matches for kind" in text) or ("resource type" in text and "rayjob" in text):
        return "the cluster knows no RayJob: install the KubeRay operator (1.7 or newer) first"
    if "refused" in text or "no such host" in text or "provide credentials" in text:
        return f"no cluster answers ({text}); check kubectl's context"
    return text


def apply(objects: Sequence[Object], namespace: str | None) -> None:
    """Create or update the objects of a job. Its spec belongs to the RayJob, and goes with it.

    Raises:
        SpecError: the cluster refuses them.
    """
    told = json.loads(_apply(objects, namespace))
    there = {(one["kind"], one["metadata"]["name"]): one["metadata"] for one in told["items"]}
    rayjob = next(one for one in objects if one["kind"] == "RayJob")
    name = rayjob["metadata"]["name"]
    owner = {key: rayjob[key] for key in ("apiVersion", "kind")} | {"name": name, "uid": there["RayJob", name]["uid"]}
    spec = next(one for one in objects if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", f"{name}-spec"))
    _apply([{**spec, "metadata": {**spec["metadata"], "ownerReferences": [owner]}}], namespace)


def _apply(objects: Sequence[Object], namespace: str | None) -> str:
    return kubectl("apply", "--filename", "-", "--output", "json", namespace=namespace, text=as_yaml(objects))


def submissions(namespace: str | None) -> list[Submission]:
    """All RayJobs of ours in a namespace, the newest first."""
    told = json.loads(kubectl("get", "rayjobs.ray.io", "--output", "json", namespace=namespace))
    return newest_first(one for one in map(_submission, told["items"]) if one is not None)


def find(job: str, namespace: str | None) -> Submission:
    """A job by its id, or the last attempt by its name.

    Raises:
        SpecError: there is none.
    """
    return the_one(submissions(namespace), job, f"in namespace {namespace}" if namespace else "in kubectl's namespace")


def _submission(one: dict[str, Any]) -> Submission | None:
    meta, status = one["metadata"], one.get("status", {})
    parts = parts_of(meta["name"])
    if parts is None or NAME_LABEL not in meta.get("labels", {}):
        return None
    deployed = status.get("jobDeploymentStatus", "")
    return Submission(
        id=meta["name"],
        name=parts[0],
        attempt=parts[1],
        state=_state(deployed, status.get("jobStatus", "")),
        output=meta.get("annotations", {}).get(OUTPUT_NOTE, ""),
        started=_seconds(status.get("startTime")),
        ended=_seconds(status.get("endTime")),
        message=" ".join(str(status.get("message") or status.get("reason") or deployed).split()),
        exit_code=None,
    )


def _state(deployed: str, job: str) -> str:
    """A RayJob's state in Ray's words: what KubeRay does with it says whether it is over, not what Ray last said."""
    if deployed == "Complete":  # a job that was stopped is complete, too
        return job if job in ENDED else "SUCCEEDED"
    if deployed in ("Failed", "ValidationFailed"):
        return "STOPPED" if job == "STOPPED" else "FAILED"
    # It may be queued (Suspended), or tried again though its last cluster failed (Retrying).
    return "RUNNING" if deployed == "Running" and job in ("RUNNING", *ENDED) else "PENDING"


def _seconds(text: str | None) -> float | None:
    return None if not text else datetime.fromisoformat(text).timestamp()


def logs(submission: str, namespace: str | None, *, follow: bool) -> int:
    """What the driver writes, to standard output; kubectl's exit code. The job's pod of KubeRay repeats it."""
    flags = ["--follow"] if follow else []
    command = _command(["logs", f"job/{submission}", *flags], namespace)
    return subprocess.run(command, check=False).returncode  # noqa: S603  # no shell


def stop(job: str, namespace: str | None) -> Submission:
    """End a job: its RayJob is deleted, with the cluster, its pods and its spec; what is committed stays.

    Suspending it would leave the record, but a queue (Kueue) would start it again. A spec that was not submitted but
    rendered is not the RayJob's own, and stays: a schedule wants it again.
    """
    found, patience = find(job, namespace), f"--timeout={int(_ANSWER_S) - 10}s"
    kubectl("delete", f"rayjob.ray.io/{found.id}", "--ignore-not-found", "--wait=true", patience, namespace=namespace)
    return found


def wait(submission: str, namespace: str | None, each: Callable[[Submission], None], *, follow: bool) -> Submission:
    """Until a job has ended.

    Args:
        submission: its id.
        namespace: of the job.
        each: told of it now and then.
        follow: show what it writes, as soon as there is a pod that does.
    """
    shown, now = not follow, patiently(lambda: find(submission, namespace), submission)
    while True:
        there = [one for one in patiently(lambda: submissions(namespace), submission) if one.id == submission]
        now = there[0] if there else replace(now, state="STOPPED", message="deleted")
        each(now)
        if now.over:
            return now
        if not shown and now.state == "RUNNING":
            shown = logs(submission, namespace, follow=True) == 0
        time.sleep(_POLL_S)
