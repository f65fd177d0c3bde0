"""What a job is called and where it stands, whoever runs it: Ray (`ray_jobs`) or Kubernetes (`kubernetes`).

A submission is ``esv-<name>-<attempt>``; each attempt resumes what earlier ones committed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from esv_ray.errors import SpecError
from esv_ray.job.environment import SUBMISSION

LONGEST_NAME = 36  # Kubernetes gives 47 signs to a RayJob's
STOP_WAIT_S = 30  # that a driver has to end after SIGTERM; Ray's own default of 3 s is short for a large cluster
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_ID = re.compile(r"esv-(?P<name>[a-z0-9-]+)-(?P<attempt>[0-9]{1,9})")


@dataclass(frozen=True)
class Submission:
    """A job as its scheduler knows it.

    Attributes:
        id: ``esv-<name>-<attempt>``.
        name, attempt: its parts.
        state: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        output: where its tables go.
        started, ended: seconds since 1970; None: not yet.
        message: what the scheduler says of it.
        exit_code: of `esv attribute`; None while it runs, or where that is not known.
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


def id_of(name: str, attempt: int) -> str:
    """The id of an attempt."""
    return f"esv-{name}-{attempt}"


def environment_of(submission: str) -> dict[str, str]:
    """Variables of a driver's environment."""
    return {SUBMISSION: submission, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "PYTHONUNBUFFERED": "1"}


def parts_of(submission: str) -> tuple[str, int] | None:
    """Name and attempt of an id; None: it is none of ours."""
    parts = _ID.fullmatch(submission)
    return None if parts is None else (parts["name"], int(parts["attempt"]))


def name_of(output: str) -> str:
    """The name that a job has by default: the last part of its output."""
    return slug(output.rstrip("/").rpartition("/")[2]) or "job"


def slug(text: str) -> str:
    """A text as a name: lower-case letters, digits and single hyphens, none at an end."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()  # letters without their accents
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:LONGEST_NAME].strip("-")


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


def newest_first(known: Iterable[Submission]) -> list[Submission]:
    """Those that have not begun yet, then by their start."""
    return sorted(known, key=lambda one: (one.started or float("inf"), one.attempt), reverse=True)


def the_one(known: Sequence[Submission], job: str, where: str) -> Submission:
    """A submission by its id, or the last attempt by its name.

    Args:
        known: all that there are.
        job: id or name.
        where: they are, for the error.

    Raises:
        SpecError: there is none.
    """
    named = [one for one in known if one.id == job]
    named = named or sorted((one for one in known if one.name == job), key=lambda one: one.attempt, reverse=True)
    if not named:
        others = ", ".join(dict.fromkeys(one.name for one in known)) or "none"
        raise SpecError(f"{job}: no such job {where} (jobs there: {others}); see esv jobs")
    return named[0]


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
    return id_of(name, max((one.attempt for one in before), default=0) + 1)


def exit_code(submission: Submission) -> int:
    """Of `esv submit --wait`: that of the job."""
    if submission.state == "SUCCEEDED":
        return 0
    if submission.state == "STOPPED":
        return 130
    return submission.exit_code if submission.exit_code in (1, 2, 130) else 1
