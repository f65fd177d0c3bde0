"""Submissions: their names, ids and specs, the same for Ray (`ray_jobs`) and Kubernetes (`kubernetes`).

A submission's id is ``esv-<name>-<attempt>``; each attempt resumes what earlier ones committed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from esv_ray.errors import SpecError
from esv_ray.job.environment import SUBMISSION
from esv_ray.spec_kinds import WorkSpec
from esv_ray.spec_yaml import write_plain

LONGEST_NAME = 36  # Kubernetes allows 47 characters for the name of a RayJob
STOP_WAIT_S = 30  # that a driver has to end after SIGTERM; Ray's default of 3 s is short for a large cluster
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_ID = re.compile(r"esv-(?P<name>[a-z0-9-]+)-(?P<attempt>[0-9]{1,9})")


@dataclass(frozen=True)
class Submission:
    """A job as its scheduler knows it.

    Attributes:
        id: ``esv-<name>-<attempt>``.
        name, attempt: parts of the id.
        state: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        output: location of its tables.
        started, ended: seconds since 1970; None: not yet.
        message: the scheduler's message.
        exit_code: of its command; None while it runs, or if it is not known.
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
        """Whether the job has ended."""
        return self.state in ENDED


def id_of(name: str, attempt: int) -> str:
    """Return the id of an attempt."""
    return f"esv-{name}-{attempt}"


def parse_id(submission: str) -> tuple[str, int] | None:
    """Return the name and the attempt of an id; None if it is not the id of a submission."""
    parts = _ID.fullmatch(submission)
    return None if parts is None else (parts["name"], int(parts["attempt"]))


def driver_environment(submission: str) -> dict[str, str]:
    """Return variables for the driver's environment."""
    return {SUBMISSION: submission, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "PYTHONUNBUFFERED": "1"}


def spec_text(spec: WorkSpec) -> str:
    """Return a spec as YAML that `load_work` reads."""
    return write_plain(spec.model_dump(mode="json"))


def name_of(output: str) -> str:
    """Return the default name of a job: the last part of its output."""
    return slug(output.rstrip("/").rpartition("/")[2]) or "job"


def slug(text: str) -> str:
    """Return a text as a name: lower-case letters, digits and single hyphens, none at an end."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()  # letters without their accents
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:LONGEST_NAME].strip("-")


def check_name(name: str) -> str:
    """Return a name that the user gives.

    Raises:
        SpecError: it is not valid.
    """
    if not name or slug(name) != name:
        raise SpecError(
            f"--name: expected lower-case letters, digits and single hyphens, at most {LONGEST_NAME} characters, "
            f"got {name!r:.60}"
        )
    return name


def newest_first(submissions: Iterable[Submission]) -> list[Submission]:
    """Sort submissions: those that have not started yet first, then the latest started."""
    return sorted(submissions, key=lambda job: (job.started or float("inf"), job.attempt), reverse=True)


def find_submission(submissions: Sequence[Submission], job: str, scope: str) -> Submission:
    """Return a submission by its id, or the last attempt by its name.

    Args:
        submissions: all of a cluster.
        job: id or name.
        scope: the cluster, for the error.

    Raises:
        SpecError: there is none.
    """
    matches = [submission for submission in submissions if submission.id == job]
    if not matches:
        attempts = [submission for submission in submissions if submission.name == job]
        matches = sorted(attempts, key=lambda submission: submission.attempt, reverse=True)
    if not matches:
        names = ", ".join(dict.fromkeys(submission.name for submission in submissions)) or "none"
        raise SpecError(f"{job}: no such job {scope} (known jobs: {names}); run esv jobs")
    return matches[0]


def next_id(attempts: Sequence[Submission], output: str, name: str) -> str:
    """Return the id of the next attempt.

    Args:
        attempts: earlier ones of this name.
        output: of the job.
        name: of the job.

    Raises:
        SpecError: an attempt has not ended, or another job has this name.
    """
    for attempt in attempts:
        if attempt.output != output:
            raise SpecError(
                f"the name {name} is in use for the output {attempt.output} ({attempt.id}), got {output}; use another "
                "--name"
            )
        if not attempt.over:
            raise SpecError(
                f"{attempt.id} is in use: it is {attempt.state.lower()}; run esv status {name}, or stop it with esv "
                f"stop {name}"
            )
    return id_of(name, max((attempt.attempt for attempt in attempts), default=0) + 1)


def exit_code(submission: Submission) -> int:
    """Return the exit code of `esv submit --wait`: the job's own."""
    if submission.state == "SUCCEEDED":
        return 0
    if submission.state == "STOPPED":
        return 130
    return submission.exit_code if submission.exit_code in (1, 2, 130) else 1
