"""Jobs on a Ray cluster from afar, through Ray's job server: submitted, looked at, stopped.

Before anything runs, the cluster is asked whether the job could (`preflight`); the spec is stored beside the output,
from there.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from esv_ray.errors import JobError, SpecError
from esv_ray.spec import JobSpec
from esv_ray.submit.polling import patiently
from esv_ray.submit.ray_jobs import preflight
from esv_ray.submit.ray_jobs.client import in_words
from esv_ray.submit.submission import (
    ENDED,
    STOP_WAIT_S,
    Submission,
    environment_of,
    newest_first,
    next_id,
    parts_of,
    the_one,
)

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_PREFLIGHT_S = 300.0
_POLL_S = 0.5
_QUIET_S = 60.0
_LONGEST_REASON = 300
_FRESH_CLUSTER_S = 60.0  # in which a cluster that has just started takes no jobs yet


def submissions(client: JobSubmissionClient) -> list[Submission]:
    """All jobs of ours that the cluster remembers, the newest first."""
    with in_words(client._address):
        found = [_submission(details) for details in client.list_jobs()]
    return newest_first(one for one in found if one is not None)


def find(client: JobSubmissionClient, job: str) -> Submission:
    """A submission by its id, or the last attempt by its name.

    Raises:
        SpecError: there is none.
    """
    return the_one(submissions(client), job, f"on {client._address}")


def _submission(details: JobDetails) -> Submission | None:
    parts = parts_of(details.submission_id or "")
    if parts is None:
        return None
    return Submission(
        id=str(details.submission_id),
        name=parts[0],
        attempt=parts[1],
        state=str(details.status.value),
        output=(details.metadata or {}).get("esv_output", ""),
        started=None if details.start_time is None else details.start_time / 1000,
        ended=None if not details.end_time else details.end_time / 1000,
        message=_reason(details.message or ""),
        exit_code=details.driver_exit_code,
    )


def _reason(message: str) -> str:
    """In one line: the last that our own command said in the logs that Ray adds to it, else what Ray says."""
    ours = [line for line in message.splitlines() if line.startswith("esv: ")]
    plain = re.split("last available logs", message, maxsplit=1, flags=re.IGNORECASE)[0]
    text = " ".join((ours[-1] if ours else plain).split()).rstrip(",")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


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
        "env_vars": environment_of(submission),
        **({} if working_dir is None else {"working_dir": working_dir}),
    }
    tell("checking the cluster")
    _preflight(client, spec, submission, environment, partitions="--partitions" in options)
    place = preflight.spec_place(spec.output, submission)
    command = shlex.join(["python", "-m", "esv_ray", "attribute", place, *options])
    _start(client, command, submission, environment, {"esv_name": name, "esv_output": spec.output})
    return patiently(lambda: find(client, submission), submission)


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
            with in_words(client._address):
                client.submit_job(
                    entrypoint=command, submission_id=submission, runtime_env=environment, metadata=metadata or {}
                )
            return
        except SpecError as error:
            if "already exists" in str(error):  # two who asked at once took the same number
                raise SpecError(f"{submission} is in use: somebody else has just submitted it; see esv jobs") from None
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(2 * _POLL_S)


def _preflight(
    client: JobSubmissionClient, spec: JobSpec, submission: str, environment: dict[str, Any], *, partitions: bool
) -> None:
    check = f"check-{submission}-{os.urandom(3).hex()}"
    settings = {**environment["env_vars"], preflight.SPEC: preflight.packed(spec)}
    settings |= {preflight.PARTITIONS: "1"} if partitions else {}
    _start(client, "python -m esv_ray.submit.ray_jobs.preflight", check, {**environment, "env_vars": settings})
    try:
        state = _await(client, check, _PREFLIGHT_S)
        if state not in ENDED:
            raise JobError(f"{client._address}: the cluster did not start a small job within {_PREFLIGHT_S:g} s")
    except BaseException:  # whoever leaves leaves nothing running
        with suppress(SpecError), in_words(client._address):
            client.stop_job(check)
        raise
    # It stays in Ray's list: Ray itself still looks after it for a while, and would enter it anew as failed.
    with in_words(client._address):
        told = client.get_job_logs(check)
        message = client.get_job_info(check).message
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
        with in_words(client._address):
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
    with in_words(client._address):
        client.stop_job(submission.id)
    if _await(client, submission.id, 2.0 * STOP_WAIT_S) not in ENDED:
        raise JobError(f"{submission.id} does not end within {2 * STOP_WAIT_S} s; see esv logs {submission.id}")
    return find(client, submission.id)


def wait(client: JobSubmissionClient, submission: str, each: Callable[[Submission], None]) -> Submission:
    """Until a job has ended.

    Args:
        client: of the cluster.
        submission: its id.
        each: told of it now and then.
    """
    while True:
        now = patiently(lambda: find(client, submission), submission)
        each(now)
        if now.over:
            return now
        time.sleep(4 * _POLL_S)


def logs(client: JobSubmissionClient, submission: str) -> str:
    """What the driver wrote so far."""
    with in_words(client._address):
        return str(client.get_job_logs(submission))


def follow(client: JobSubmissionClient, submission: str, write: Callable[[str], None]) -> None:
    """What the driver writes, until it ends; a connection that breaks is made again where it broke."""
    written = 0
    while True:
        try:
            written = asyncio.run(_tail(client, submission, written, write))
        except _BrokenError as broken:
            written = broken.written
        if patiently(lambda: find(client, submission), submission).over:
            rest = patiently(lambda: logs(client, submission), submission)[written:]
            if rest:
                write(rest)
            return
        time.sleep(_POLL_S)


class _BrokenError(Exception):
    def __init__(self, written: int) -> None:
        super().__init__(written)
        self.written = written


async def _tail(client: JobSubmissionClient, submission: str, skip: int, write: Callable[[str], None]) -> int:
    from aiohttp import ClientError

    seen, told = 0, client.tail_job_logs(submission)
    try:
        # A way that was lost says nothing; nor does a driver for a while, whose log is then asked for once more.
        while (text := await asyncio.wait_for(anext(told, None), _QUIET_S)) is not None:
            fresh = text[max(0, skip - seen) :]
            seen += len(text)
            if fresh:
                write(fresh)
    except (RuntimeError, OSError, ClientError, TimeoutError) as error:
        raise _BrokenError(max(seen, skip)) from error
    return max(seen, skip)
