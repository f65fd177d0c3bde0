"""Jobs on a Ray cluster from afar, through Ray's job server: submitted, looked at, stopped.

A submission is ``esv-<name>-<attempt>``; each attempt resumes what earlier ones committed. Before anything runs, the
cluster is asked whether the job could (`preflight`); the spec is stored beside the output, from there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from esv_ray.cluster import preflight
from esv_ray.errors import JobError, SpecError, one_line
from esv_ray.spec import JobSpec

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

LONGEST_NAME = 36  # Kubernetes gives 47 signs to a RayJob's
_ID = re.compile(r"esv-(?P<name>[a-z0-9-]+)-(?P<attempt>\d+)")
_STOP_WAIT_S = 30  # that a driver has to end after SIGTERM; Ray's own default of 3 s is short for a large cluster
_PREFLIGHT_S = 300.0
_POLL_S = 0.5
_FRESH_CLUSTER_S = 60.0  # in which a cluster that has just started takes no jobs yet
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Submission:
    """A job as Ray knows it.

    Attributes:
        id: ``esv-<name>-<attempt>``.
        name, attempt: its parts.
        state: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        output: where its tables go.
        started, ended: seconds since 1970; None: not yet.
        message: what Ray says of it.
        exit_code: of `esv attribute`; None while it runs, or where Ray does not know.
    """

    id: str
    name: str
    attempt: int
    state: str
    output: str
    started: float | None
    ended: float | None
    message: str
    exit_code: int | None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED


def connect(address: str | None) -> JobSubmissionClient:
    """Ray's job client.

    Args:
        address: ``http://head:8265``; None: the environment's RAY_API_SERVER_ADDRESS, or this machine's cluster.

    Raises:
        SpecError: no such cluster, or a token that is missing or wrong.
        JobError: the client's packages are not installed.
    """
    url = address or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265"
    url = url if "://" in url else f"http://{url}"
    _knock(url)
    if "RAY_AUTH_MODE" not in os.environ and {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_MODE"] = "token"  # who has a token means it to be used
    with _in_words(url):
        from ray.dashboard.modules.job import sdk

        logging.getLogger(sdk.__name__).setLevel(logging.WARNING)  # else it tells of every connection that ends
        return sdk.JobSubmissionClient(url)


def _knock(url: str) -> None:
    """Ray's client itself would wait without a bound for a host that does not answer."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        host = port = None
    if not host or not port:
        raise SpecError(f"--address: expected the address of a cluster's dashboard, http://HOST:8265, got {url:.100}")
    try:
        socket.create_connection((host, port), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise SpecError(
            f"--address: no cluster answers at {url}: {one_line(error)}; is it up, and is this the port of its "
            "dashboard (8265)?"
        ) from error


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """What Ray's client raises, in one line."""
    try:
        yield
    except (ImportError, ModuleNotFoundError) as error:
        raise JobError(f"Ray's job client is not installed ({error}): pip install 'esv-ray[cluster]'") from error
    except _faults() as error:
        text = one_line(error)
        if "ray[default]" in text:
            raise JobError("Ray's job client is not installed: pip install 'esv-ray[cluster]'") from error
        if type(error).__name__ == "AuthenticationError":
            raise SpecError(
                f"{url}: the cluster refuses the token; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the cluster's"
            ) from error
        raise SpecError(f"{url}: not a Ray cluster's job server, or it fails: {text}") from error


def _faults() -> tuple[type[Exception], ...]:
    """What Ray's client raises; Ray is imported by whoever met one."""
    from ray.exceptions import RayError

    return (RayError, RuntimeError, OSError, ValueError)


def name_of(output: str) -> str:
    """The name that a job has by default: the last part of its output."""
    return slug(output.rstrip("/").rpartition("/")[2]) or "job"


def slug(text: str) -> str:
    """A text as a name: lower-case letters, digits and single hyphens, none at an end."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-")


def check_name(name: str) -> str:
    """A name that was asked for.

    Raises:
        SpecError: it is none.
    """
    if not name or slug(name) != name:
        raise SpecError(
            f"--name: expected lower-case letters, digits and single hyphens, at most {LONGEST_NAME} signs, "
            f"got {name!r:.60}"
        )
    return name


def submissions(client: JobSubmissionClient) -> list[Submission]:
    """All jobs of ours that the cluster remembers, the newest first."""
    with _in_words(client._address):
        found = [_submission(details) for details in client.list_jobs()]
    known = [one for one in found if one is not None]
    return sorted(known, key=lambda one: (one.started or time.time(), one.attempt), reverse=True)


def find(client: JobSubmissionClient, job: str) -> Submission:
    """A submission by its id, or the last attempt by its name.

    Raises:
        SpecError: there is none.
    """
    known = submissions(client)
    named = [one for one in known if one.id == job]
    named = named or sorted((one for one in known if one.name == job), key=lambda one: one.attempt, reverse=True)
    if not named:
        others = ", ".join(dict.fromkeys(one.name for one in known)) or "none"
        raise SpecError(f"{job}: no such job on {client._address} (jobs there: {others}); see esv jobs")
    return named[0]


def _submission(details: JobDetails) -> Submission | None:
    parts = _ID.fullmatch(details.submission_id or "")
    if parts is None:
        return None
    return Submission(
        id=parts[0],
        name=parts["name"],
        attempt=int(parts["attempt"]),
        state=str(details.status.value),
        output=(details.metadata or {}).get("esv_output", ""),
        started=None if details.start_time is None else details.start_time / 1000,
        ended=None if not details.end_time else details.end_time / 1000,
        message=" ".join((details.message or "").split()),
        exit_code=details.driver_exit_code,
    )


def submit(
    client: JobSubmissionClient,
    spec: JobSpec,
    name: str,
    *,
    options: Sequence[str] = (),
    working_dir: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Check the cluster, and run `esv attribute` there.

    Args:
        client: of the cluster.
        spec: the job; it uses the cluster that it runs on.
        name: of the job.
        options: of `esv attribute`.
        working_dir: a folder of code that the model needs and the cluster's image lacks.
        tell: told what is being done.

    Raises:
        SpecError: the job runs already, its name is another's, or the cluster cannot run it; nothing runs then.
    """
    spec = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"address": "auto"})})
    before = [one for one in submissions(client) if one.name == name]
    submission = next_id(before, spec.output, name)
    environment: dict[str, Any] = {
        "env_vars": {
            preflight.SUBMISSION: submission,
            "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S),
            "PYTHONUNBUFFERED": "1",
        },
        **({} if working_dir is None else {"working_dir": working_dir}),
    }
    tell("checking the cluster")
    _preflight(client, spec, submission, environment, partitions="--partitions" in options)
    place = preflight.spec_place(spec.output, submission)
    command = shlex.join(["python", "-m", "esv_ray", "attribute", place, *options])
    _start(client, command, submission, environment, {"esv_name": name, "esv_output": spec.output})
    return find(client, submission)


def next_id(before: Sequence[Submission], output: str, name: str) -> str:
    """The id of the next attempt.

    Args:
        before: attempts of this name.
        output: of the job.
        name: of the job.

    Raises:
        SpecError: an attempt has not ended, or the name is another job's.
    """
    for one in before:
        if one.output != output:
            raise SpecError(
                f"the name {name} is in use for the output {one.output} ({one.id}), got {output}; give another --name"
            )
        if not one.over:
            raise SpecError(
                f"{one.id} is in use: it is {one.state.lower()}; see esv status {name}, or end it by esv stop {name}"
            )
    return f"esv-{name}-{max((one.attempt for one in before), default=0) + 1}"


def _start(
    client: JobSubmissionClient,
    command: str,
    submission: str,
    environment: dict[str, Any],
    metadata: dict[str, str] | None = None,
) -> None:
    until = time.monotonic() + _FRESH_CLUSTER_S
    while True:
        try:
            with _in_words(client._address):
                client.submit_job(
                    entrypoint=command, submission_id=submission, runtime_env=environment, metadata=metadata or {}
                )
            return
        except SpecError as error:
            if "already exists" in str(error):
                raise SpecError(f"{submission} is in use: somebody else has just submitted it; see esv jobs") from None
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(2 * _POLL_S)


def _preflight(
    client: JobSubmissionClient, spec: JobSpec, submission: str, environment: dict[str, Any], *, partitions: bool
) -> None:
    check = f"check-{submission}-{os.urandom(3).hex()}"
    settings = {**environment["env_vars"], preflight.SPEC: preflight.spec_text(spec)}
    settings |= {preflight.PARTITIONS: "1"} if partitions else {}
    _start(client, "python -m esv_ray.cluster.preflight", check, {**environment, "env_vars": settings})
    state = _await(client, check, _PREFLIGHT_S)
    with _in_words(client._address):
        if state not in ENDED:
            client.stop_job(check)
            raise JobError(f"{client._address}: the cluster did not start a small job within {_PREFLIGHT_S:g} s")
        told = client.get_job_logs(check)
        message = client.get_job_info(check).message
        client.delete_job(check)
    line = next((line for line in told.splitlines() if line.startswith(preflight.MARK)), None)
    if line is None:
        last = " ".join((told.strip().splitlines() or [message or "no output"])[-1].split())
        raise SpecError(
            f"{client._address}: the cluster's Python cannot run esv_ray (its last line: {last:.200}); use an image "
            f"with esv-ray {preflight.versions()['esv-ray']}"
        )
    objections = list(preflight.objections(json.loads(line.removeprefix(preflight.MARK)), preflight.versions()))
    if objections:
        more = f"; and {len(objections) - 1} more such" if len(objections) > 1 else ""
        raise SpecError(f"{objections[0]}{more}; nothing was started")


def _await(client: JobSubmissionClient, submission: str, seconds: float) -> str:
    until = time.monotonic() + seconds
    while True:
        with _in_words(client._address):
            state = str(client.get_job_status(submission).value)
        if state in ENDED or time.monotonic() > until:
            return state
        time.sleep(_POLL_S)


def stop(client: JobSubmissionClient, job: str) -> Submission:
    """Ask a job to end, and wait until it has: SIGTERM, after which it drops what is in flight and says so.

    Raises:
        JobError: it does not end.
    """
    submission = find(client, job)
    if submission.over:
        return submission
    with _in_words(client._address):
        client.stop_job(submission.id)
    if _await(client, submission.id, 2.0 * _STOP_WAIT_S) not in ENDED:
        raise JobError(f"{submission.id} does not end within {2 * _STOP_WAIT_S} s; see esv logs {submission.id}")
    return find(client, submission.id)


def wait(client: JobSubmissionClient, submission: str, each: Callable[[Submission], None]) -> Submission:
    """Until a job has ended.

    Args:
        client: of the cluster.
        submission: its id.
        each: told of it now and then.
    """
    while True:
        now = find(client, submission)
        each(now)
        if now.over:
            return now
        time.sleep(4 * _POLL_S)


def logs(client: JobSubmissionClient, submission: str) -> str:
    """What the driver wrote so far."""
    with _in_words(client._address):
        return str(client.get_job_logs(submission))


def follow(client: JobSubmissionClient, submission: str, write: Callable[[str], None]) -> None:
    """What the driver writes, until it ends; a connection that breaks is made again where it broke."""
    written = 0
    while True:
        try:
            written = asyncio.run(_tail(client, submission, written, write))
        except _BrokenError as broken:
            written = broken.written
        if find(client, submission).over:
            rest = logs(client, submission)[written:]
            if rest:
                write(rest)
            return
        time.sleep(_POLL_S)


class _BrokenError(Exception):
    def __init__(self, written: int) -> None:
        super().__init__(written)
        self.written = written


async def _tail(client: JobSubmissionClient, submission: str, skip: int, write: Callable[[str], None]) -> int:
    seen = 0
    try:
        async for text in client.tail_job_logs(submission):
            fresh = text[max(0, skip - seen) :]
            seen += len(text)
            if fresh:
                write(fresh)
    except (RuntimeError, OSError) as error:
        raise _BrokenError(max(seen, skip)) from error
    return max(seen, skip)


def exit_code(submission: Submission) -> int:
    """Of `esv submit --wait`: that of the job."""
    if submission.state == "SUCCEEDED":
        return 0
    if submission.state == "STOPPED":
        return 130
    return submission.exit_code if submission.exit_code in (1, 2, 130) else 1
