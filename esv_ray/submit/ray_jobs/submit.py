"""Submit a job to a Ray cluster, after a check of the cluster (`preflight`)."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from esv_ray.errors import JobError, SpecError
from esv_ray.spec_kinds import WorkSpec, kind_of
from esv_ray.submit.polling import poll
from esv_ray.submit.ray_jobs import preflight
from esv_ray.submit.ray_jobs.client import client_errors
from esv_ray.submit.ray_jobs.jobs import POLL_S, find, submissions, wait_for_end
from esv_ray.submit.submission import ENDED, Submission, driver_environment, next_id

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_PREFLIGHT_S = 300.0
_FRESH_CLUSTER_S = 60.0  # during which a cluster that has just started accepts no jobs yet


def submit(
    client: JobSubmissionClient,
    spec: WorkSpec,
    name: str,
    *,
    arguments: Sequence[str] = (),
    working_dir: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Check the cluster, and run the command of the job's kind there: `esv attribute` or `esv extract`.

    Args:
        client: of the cluster.
        spec: the job; it uses the cluster that it runs on.
        name: of the job.
        arguments: further ones of the command.
        working_dir: a folder with code that the job needs and the cluster's image lacks.
        report: called with a line about the current step.

    Raises:
        SpecError: the job runs already, another job has its name, or the cluster cannot run it; nothing was started.
    """
    spec = spec.model_copy(update={"cluster": spec.cluster.on("auto")})
    attempts = [submission for submission in submissions(client) if submission.name == name]
    submission = next_id(attempts, spec.output, name)
    environment: dict[str, Any] = {
        "env_vars": driver_environment(submission),
        **({} if working_dir is None else {"working_dir": working_dir}),
    }
    report("checking the cluster")
    _preflight(client, spec, submission, environment, partitions="--partitions" in arguments)
    location = preflight.spec_location(spec.output, submission)
    command = shlex.join(["python", "-m", "esv_ray", kind_of(spec).command, location, *arguments])
    _start(client, command, submission, environment, {"esv_name": name, "esv_output": spec.output})
    return poll(lambda: find(client, submission), submission)


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
            with client_errors(client._address):
                client.submit_job(
                    entrypoint=command, submission_id=submission, runtime_env=environment, metadata=metadata or {}
                )
            return
        except SpecError as error:
            if "already exists" in str(error):  # two users who submitted at once got the same number
                raise SpecError(
                    f"{submission} is in use: another process has just submitted this id; run esv jobs"
                ) from None
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(2 * POLL_S)


def _preflight(
    client: JobSubmissionClient, spec: WorkSpec, submission: str, environment: dict[str, Any], *, partitions: bool
) -> None:
    """Run the check of the cluster as a Ray job.

    Raises:
        SpecError: the cluster cannot run the job.
        JobError: the cluster does not start the check.
    """
    check = f"check-{submission}-{os.urandom(3).hex()}"
    settings = {**environment["env_vars"], preflight.SPEC: preflight.packed(spec)}
    settings |= {preflight.PARTITIONS: "1"} if partitions else {}
    _start(client, "python -m esv_ray.submit.ray_jobs.preflight", check, {**environment, "env_vars": settings})
    try:
        state = wait_for_end(client, check, _PREFLIGHT_S)
        if state not in ENDED:
            raise JobError(
                f"{client._address}: the preflight check did not end within {_PREFLIGHT_S:g} s; check that the "
                "cluster has free resources, then submit again"
            )
    except BaseException:  # an interrupt, too, leaves no check running
        with suppress(SpecError), client_errors(client._address):
            client.stop_job(check)
        raise
    # It stays in Ray's list: Ray still polls it for a while, and would list it again as failed.
    objections = list(preflight.objections(_report(client, check), preflight.versions()))
    if objections:
        more = f"; and {len(objections) - 1} more such problems" if len(objections) > 1 else ""
        raise SpecError(f"{objections[0]}{more}; nothing was started")


def _report(client: JobSubmissionClient, check: str) -> Mapping[str, Any]:
    """Return what the check printed.

    Raises:
        SpecError: it could not run.
    """
    with client_errors(client._address):
        log = client.get_job_logs(check)
        message = client.get_job_info(check).message
    line = next((line for line in log.splitlines() if line.startswith(preflight.MARK)), None)
    if line is None:
        last = " ".join((log.strip().splitlines() or [message or "no output"])[-1].split())
        raise SpecError(
            f"{client._address}: the cluster's Python cannot run esv_ray (its last line: {last:.200}); use an image "
            f"with esv-ray {preflight.versions()['esv-ray']}"
        )
    report: Mapping[str, Any] = json.loads(line.removeprefix(preflight.MARK))
    return report
