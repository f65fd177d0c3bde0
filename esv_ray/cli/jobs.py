"""esv status, esv logs, esv stop, esv jobs: what was submitted."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esv_ray.cli.attribute import printable
from esv_ray.cli.job_options import address_option, kubernetes_option, namespace_option
from esv_ray.cli.types import NAME
from esv_ray.errors import DataError, SpecError

if TYPE_CHECKING:
    from esv_ray.submit.status import Standing
    from esv_ray.submit.submission import Submission

_OF_AN_OUTPUT = ("run.json", "progress.json", "_SUCCESS")

as_json = click.option("--json", "machine", is_flag=True, help="One JSON object in place of text.")


@click.command()
@click.argument("job", type=NAME)
@address_option
@kubernetes_option
@namespace_option
@as_json
def status(job: str, address: str | None, kubernetes: bool, namespace: str | None, machine: bool) -> None:
    """Where a JOB stands: its id, its name (the last attempt), or the location of its output.

    An output is looked at on its storage alone, which outlives the cluster.

    \b
    Examples:
      esv status mtrn-8 --address http://head:8265
      esv status esv-mtrn-8-2 --kubernetes --namespace video
      esv status s3://bucket/esv/mtrn-8/
    """
    if "/" in job:
        _tell(_of_output(job), machine)
        return
    with _or_output(job):
        found = _find(job, address, kubernetes, namespace)
    _tell(standing(found), machine)


@click.command()
@click.argument("job", type=NAME)
@address_option
@kubernetes_option
@namespace_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.pass_context
def logs(
    context: click.Context, job: str, address: str | None, kubernetes: bool, namespace: str | None, follow: bool
) -> None:
    """What a JOB (id, or name for its last attempt) wrote."""
    where = flags(address, kubernetes, namespace)
    if kubernetes:
        from esv_ray.submit.kubernetes import jobs as pods

        with _or_output(job):
            found = pods.find(job, namespace)
        with going_on(found.id, where):
            context.exit(pods.logs(found.id, namespace, follow=follow))
    from esv_ray.submit.ray_jobs import jobs as jobs
    from esv_ray.submit.ray_jobs.client import connect

    with _or_output(job):
        client = connect(address)
        found = jobs.find(client, job)
    if follow:
        with going_on(found.id, where):
            jobs.follow(client, found.id, lambda text: click.echo(text, nl=False))
    else:
        click.echo(jobs.logs(client, found.id), nl=False)


@click.command()
@click.argument("job", type=NAME)
@address_option
@kubernetes_option
@namespace_option
def stop(job: str, address: str | None, kubernetes: bool, namespace: str | None) -> None:
    """End a JOB (id, or name for its last attempt). What is committed stays; submit it again to resume."""
    if kubernetes:
        from esv_ray.submit.kubernetes import jobs as pods

        with _or_output(job):
            found = pods.stop(job, namespace)
        click.echo(f"{found.id} and its cluster are deleted; what is committed stays: {found.output}")
        return
    from esv_ray.submit.ray_jobs import jobs as jobs
    from esv_ray.submit.ray_jobs.client import connect

    with _or_output(job):
        client = connect(address)
        before = jobs.find(client, job)
    ended = jobs.stop(client, before.id)
    if before.over:
        click.echo(f"{ended.id} had ended before: {ended.state}")
        return
    _tell(standing(ended), machine=False)
    click.echo("what is committed stays; submit it again to resume")


@click.command()
@address_option
@kubernetes_option
@namespace_option
@as_json
def jobs(address: str | None, kubernetes: bool, namespace: str | None, machine: bool) -> None:
    """The jobs that a cluster remembers, the newest first."""
    if kubernetes:
        from esv_ray.submit.kubernetes import jobs as pods

        known = pods.submissions(namespace)
    else:
        from esv_ray.submit.ray_jobs.client import connect
        from esv_ray.submit.ray_jobs.jobs import submissions

        known = submissions(connect(address))
    if machine:
        from esv_ray.submit.status import utc

        fields = ("id", "name", "attempt", "state", "output", "exit_code")
        times = [{"started": utc(one.started), "ended": utc(one.ended)} for one in known]
        told = [{field: getattr(one, field) for field in fields} | its for one, its in zip(known, times, strict=True)]
        click.echo(json.dumps(told, indent=1))
        return
    if not known:
        click.echo("no jobs")
    width = max((len(one.id) for one in known), default=0)
    for one in known:
        begun = "-" if one.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(one.started))
        click.echo(printable(f"{one.id:{width}}  {one.state:9}  {begun:16}  {one.output}"))


def flags(address: str | None, kubernetes: bool, namespace: str | None) -> str:
    """Where a job is, for another command about it."""
    if kubernetes:
        return " --kubernetes" + (f" -n {namespace}" if namespace else "")
    return f" --address {shlex.quote(address)}" if address else ""


@contextmanager
def going_on(submission: str, where: str) -> Iterator[None]:
    """Who leaves while a job is watched is told that it goes on.

    Args:
        submission: its id.
        where: `flags`.
    """
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{submission} goes on: esv logs -f {submission}{where}, esv stop {submission}{where}", err=True)
        raise click.exceptions.Exit(130) from None


def standing(submission: Submission) -> Standing:
    """A scheduler's view of a job, joined with its progress file."""
    from esv_ray.submit.status import standing_of

    return standing_of(
        submission.output,
        job=submission.id,
        state=submission.state,
        message=submission.message,
        started=submission.started,
        ended=submission.ended,
    )


@contextmanager
def _or_output(job: str) -> Iterator[None]:
    """Where no such job is found, say so if the name is that of an output in the working folder, or its location."""
    try:
        yield
    except SpecError as error:
        if "/" in job:
            raise SpecError(
                f"{error}; {job} is a location: esv status {job} shows an output's progress, and logs and stop take "
                "the id or name of a job"
            ) from error
        if any(Path(job, name).is_file() for name in _OF_AN_OUTPUT):
            raise SpecError(f"{error}; for the output in this folder: esv status ./{job}") from error
        raise


def _find(job: str, address: str | None, kubernetes: bool, namespace: str | None) -> Submission:
    if kubernetes:
        from esv_ray.submit.kubernetes import jobs as pods

        return pods.find(job, namespace)
    from esv_ray.submit.ray_jobs.client import connect
    from esv_ray.submit.ray_jobs.jobs import find

    return find(connect(address), job)


def _of_output(output: str) -> Standing:
    from esv_ray.storage import absolute
    from esv_ray.submit.status import standing_of

    found = standing_of(absolute(output))
    if found.progress is None:
        raise DataError(
            found.unread
            or f"{found.output}: expected the output of a job, found no progress.json; one that was submitted a moment "
            "ago writes it in seconds"
        )
    return found


def _tell(found: Standing, machine: bool) -> None:
    from esv_ray.submit.status import as_json, lines_of

    if machine:
        click.echo(json.dumps(as_json(found), indent=1))
        return
    for line in lines_of(found, time.time()):
        click.echo(printable(line))
