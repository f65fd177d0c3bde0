"""esv status, esv logs, esv stop, esv jobs: submitted jobs."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esv_ray.cli.options import Target, target_options
from esv_ray.cli.types import NAME
from esv_ray.errors import DataError, SpecError
from esv_ray.show.text import printable

if TYPE_CHECKING:
    from esv_ray.submit.status import JobStatus
    from esv_ray.submit.submission import Submission

_OUTPUT_FILES = ("run.json", "progress.json", "_SUCCESS")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.command(short_help="Show the status of a job.")
@click.argument("job", type=NAME)
@target_options
@json_option
def status(job: str, target: Target, as_json: bool) -> None:
    """Show the status of a JOB, given by its id, its name (for the last attempt) or the location of its output.

    If JOB is an output, only its storage is read, so this works after the cluster is gone. JOB is taken as an output if
    it contains a slash, or if neither --address nor --kubernetes is given and the working directory has an output of
    that name.

    \b
    Examples:
      esv status mtrn-8 --address http://head:8265
      esv status esv-mtrn-8-2 --kubernetes --namespace video
      esv status s3://bucket/esv/mtrn-8/
    """
    if "/" in job or (_is_output(job) and not _names_a_cluster(target)):
        _show(_output_status(job), as_json)
        return
    with _suggest_output(job, target):
        submission = _find(job, target)
    _show(submission_status(submission), as_json)


@click.command(short_help="Print the log of a submitted job.")
@click.argument("job", type=NAME)
@target_options
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines until the job ends.")
@click.pass_context
def logs(context: click.Context, job: str, target: Target, follow: bool) -> None:
    """Print the log of a JOB, given by its id or its name (for the last attempt).

    With --kubernetes, the exit code is that of kubectl.
    """
    options = target_flags(target)
    if target.kubernetes:
        from esv_ray.submit.kubernetes import jobs as kubernetes_jobs

        with _suggest_output(job, target):
            submission = kubernetes_jobs.find(job, target.namespace)
        with job_continues(submission.id, options):
            context.exit(kubernetes_jobs.logs(submission.id, target.namespace, follow=follow))
    from esv_ray.submit.ray_jobs import jobs as ray_jobs
    from esv_ray.submit.ray_jobs import logs as ray_logs
    from esv_ray.submit.ray_jobs.client import connect

    with _suggest_output(job, target):
        client = connect(target.address)
        submission = ray_jobs.find(client, job)
    if follow:
        with job_continues(submission.id, options):
            ray_logs.follow(client, submission.id, lambda text: click.echo(text, nl=False))
    else:
        click.echo(ray_logs.logs(client, submission.id), nl=False)


@click.command(short_help="Stop a submitted job.")
@click.argument("job", type=NAME)
@target_options
def stop(job: str, target: Target) -> None:
    """Stop a JOB, given by its id or its name (for the last attempt).

    Committed units are kept. Submit the job again to resume it. With --kubernetes the RayJob and its logs are deleted:
    save the log first, with esv logs.
    """
    if target.kubernetes:
        from esv_ray.submit.kubernetes import jobs as kubernetes_jobs

        with _suggest_output(job, target):
            submission = kubernetes_jobs.stop(job, target.namespace)
        click.echo(f"deleted {submission.id} and its cluster; committed units are kept: {submission.output}")
        return
    from esv_ray.submit.ray_jobs import jobs as ray_jobs
    from esv_ray.submit.ray_jobs.client import connect

    with _suggest_output(job, target):
        client = connect(target.address)
        before = ray_jobs.find(client, job)
    stopped = ray_jobs.stop(client, before.id)
    if before.over:
        click.echo(f"{stopped.id} had already ended: {stopped.state}")
        return
    _show(submission_status(stopped), as_json=False)
    click.echo("committed units are kept; submit the job again to resume it")


@click.command()
@target_options
@json_option
def jobs(target: Target, as_json: bool) -> None:
    """List the jobs that a cluster remembers, newest first."""
    if target.kubernetes:
        from esv_ray.submit.kubernetes import jobs as kubernetes_jobs

        submissions = kubernetes_jobs.submissions(target.namespace)
    else:
        from esv_ray.submit.ray_jobs import jobs as ray_jobs
        from esv_ray.submit.ray_jobs.client import connect

        submissions = ray_jobs.submissions(connect(target.address))
    if as_json:
        click.echo(json.dumps([_submission_json(submission) for submission in submissions], indent=1))
        return
    if not submissions:
        click.echo("no jobs")
    width = max((len(submission.id) for submission in submissions), default=0)
    for submission in submissions:
        started = submission.started
        start = "-" if started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(started))
        click.echo(printable(f"{submission.id:{width}}  {submission.state:9}  {start:16}  {submission.output}"))


def _submission_json(submission: Submission) -> dict[str, object]:
    from esv_ray.submit.status import utc

    values = asdict(submission)
    plain = {key: values[key] for key in ("id", "name", "attempt", "state", "output", "exit_code")}
    return plain | {"started": utc(submission.started), "ended": utc(submission.ended)}


def target_flags(target: Target) -> str:
    """Return the options that another command about the same job needs."""
    if target.kubernetes:
        return " --kubernetes" + (f" -n {target.namespace}" if target.namespace else "")
    return f" --address {shlex.quote(target.address)}" if target.address else ""


@contextmanager
def job_continues(submission: str, options: str) -> Iterator[None]:
    """Report that the job continues when the user interrupts a command that follows it.

    Args:
        submission: the job's id.
        options: of `target_flags`.
    """
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            f"\n{submission} continues: esv logs -f {submission}{options}, esv stop {submission}{options}", err=True
        )
        raise click.exceptions.Exit(130) from None


def submission_status(submission: Submission) -> JobStatus:
    """Return the status of a submitted job: its scheduler's view, joined with its progress file."""
    from esv_ray.submit.status import read_status

    return read_status(
        submission.output,
        job=submission.id,
        state=submission.state,
        message=submission.message,
        started=submission.started,
        ended=submission.ended,
    )


@contextmanager
def _suggest_output(job: str, target: Target) -> Iterator[None]:
    """Add to an error about an unknown job how to show an output that has this name or location."""
    try:
        yield
    except SpecError as error:
        if "/" in job:
            raise SpecError(
                f"{error}; {job} is a location: esv status {job} shows an output's progress, and logs and stop take "
                "the id or name of a job"
            ) from error
        if _is_output(job):
            raise SpecError(f"{error}; for the output in this folder: esv status ./{job}") from error
        if not _names_a_cluster(target):
            raise SpecError(f"{job}: no job's output in this folder has this name, and {error}") from error
        raise


def _is_output(job: str) -> bool:
    """Return whether the working directory holds the output of a job under this name."""
    return any(Path(job, name).is_file() for name in _OUTPUT_FILES)


def _names_a_cluster(target: Target) -> bool:
    """Return whether the options or the environment say which cluster is meant."""
    from esv_ray.submit.ray_jobs.client import VARIABLES

    return target.kubernetes or target.address is not None or any(os.environ.get(name) for name in VARIABLES)


def _find(job: str, target: Target) -> Submission:
    if target.kubernetes:
        from esv_ray.submit.kubernetes import jobs as kubernetes_jobs

        return kubernetes_jobs.find(job, target.namespace)
    from esv_ray.submit.ray_jobs import jobs as ray_jobs
    from esv_ray.submit.ray_jobs.client import connect

    return ray_jobs.find(connect(target.address), job)


def _output_status(output: str) -> JobStatus:
    from esv_ray.storage import absolute
    from esv_ray.submit.status import read_status

    status = read_status(absolute(output))
    if status.progress is None:
        raise DataError(
            status.unread
            or f"{status.output}: expected the output of a job, found no progress.json; a job that was just submitted "
            "writes it within seconds"
        )
    return status


def _show(status: JobStatus, as_json: bool) -> None:
    from esv_ray.submit.status import status_json, status_lines

    if as_json:
        click.echo(json.dumps(status_json(status), indent=1))
        return
    for line in status_lines(status, time.time()):
        click.echo(printable(line))
