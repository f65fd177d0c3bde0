"""Jobs on a Ray cluster: find them, stop them, wait for them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from esv_ray.errors import JobError
from esv_ray.submit.polling import poll
from esv_ray.submit.ray_jobs.client import client_errors
from esv_ray.submit.submission import ENDED, STOP_WAIT_S, Submission, find_submission, newest_first, parse_id

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

POLL_S = 0.5
_LONGEST_REASON = 300


def submissions(client: JobSubmissionClient) -> list[Submission]:
    """Return all submissions that the cluster remembers, newest first."""
    with client_errors(client._address):
        jobs = [_submission(details) for details in client.list_jobs()]
    return newest_first(submission for submission in jobs if submission is not None)


def find(client: JobSubmissionClient, job: str) -> Submission:
    """Return a submission by its id, or the last attempt by its name.

    Raises:
        SpecError: there is none.
    """
    return find_submission(submissions(client), job, f"on {client._address}")


def _submission(details: JobDetails) -> Submission | None:
    parts = parse_id(details.submission_id or "")
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
    """Return one line: the last error of `esv` in the log that Ray appends to its message, else Ray's message."""
    errors = [line for line in message.splitlines() if line.startswith("esv: ")]
    without_log = re.split("last available logs", message, maxsplit=1, flags=re.IGNORECASE)[0]
    text = " ".join((errors[-1] if errors else without_log).split()).rstrip(",")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def stop(client: JobSubmissionClient, job: str) -> Submission:
    """Stop a job with SIGTERM, and wait until it has ended.

    Raises:
        JobError: it does not end.
    """
    submission = find(client, job)
    if submission.over:
        return submission
    with client_errors(client._address):
        client.stop_job(submission.id)
    if wait_for_end(client, submission.id, 2.0 * STOP_WAIT_S) not in ENDED:
        raise JobError(f"{submission.id} did not stop within {2 * STOP_WAIT_S} s; run esv logs {submission.id}")
    return find(client, submission.id)


def wait_for_end(client: JobSubmissionClient, submission: str, timeout_s: float) -> str:
    """Return the state of a Ray job once it has ended, or after a timeout."""
    until = time.monotonic() + timeout_s
    while True:
        with client_errors(client._address):
            state = str(client.get_job_status(submission).value)
        if state in ENDED or time.monotonic() > until:
            return state
        time.sleep(POLL_S)


def wait(client: JobSubmissionClient, submission: str, report: Callable[[Submission], None]) -> Submission:
    """Wait until a job has ended, however long that takes and while its cluster is unreachable for minutes.

    Args:
        client: of the cluster.
        submission: the job's id.
        report: called with the job's state after each poll.

    Raises:
        IncompleteError: it is not known how the job ended (`poll`).
    """
    while True:
        now = poll(lambda: find(client, submission), submission)
        report(now)
        if now.over:
            return now
        time.sleep(4 * POLL_S)
