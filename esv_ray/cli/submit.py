"""esv submit: a job to a Ray cluster, or to Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from esv_ray.cli.job_options import address_option, job_options, read_job
from esv_ray.cli.jobs import standing

if TYPE_CHECKING:
    from esv_ray.cluster.submission import Submission
    from esv_ray.spec import JobSpec


@click.command()
@job_options
@address_option
@click.option("--name", help="Of the job, by default the last part of its output.")
@click.option("--retry-failed", is_flag=True, help="Try the videos again that failed; what is well stays as it is.")
@click.option("--working-dir", metavar="DIR", help="Code that the model needs and the cluster lacks; sent along.")
@click.option("--wait", is_flag=True, help="Wait until it has ended, and tell its progress; its exit code is ours.")
@click.option("--follow", is_flag=True, help="The same, showing what it writes.")
@click.pass_context
def submit(
    context: click.Context,
    spec: str | None,
    features: str | None,
    model: str | None,
    output: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    name: str | None,
    retry_failed: bool,
    working_dir: str | None,
    wait: bool,
    follow: bool,
) -> None:
    """Run a job on a Ray cluster.

    The cluster is asked first whether it could: versions, request, storage from every node. The spec is stored in
    OUTPUT/_submissions. The same command again resumes what an earlier attempt left. With token authentication set
    RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.

    \b
    Examples:
      esv submit job.yaml --address http://head:8265
      esv submit job.yaml --address http://head:8265 --follow

    \b
    Exit codes:
      0    submitted; with --wait or --follow: done
      1    with --wait or --follow: too many videos failed, or a unit could not be committed
      2    the request is wrong, or the cluster cannot do it; nothing was started
      130  with --wait or --follow: the job was stopped
    """
    job = read_job(spec, features, model, output, overrides)
    options = ["--retry-failed"] if retry_failed else []
    context.exit(_on_ray(job, address, name, options, working_dir, wait=wait, follow=follow))


def _on_ray(
    job: JobSpec,
    address: str | None,
    name: str | None,
    options: list[str],
    working_dir: str | None,
    *,
    wait: bool,
    follow: bool,
) -> int:
    from esv_ray.cluster import submission as jobs

    name = jobs.name_of(job.output) if name is None else jobs.check_name(name)
    client = jobs.connect(address)
    submitted = jobs.submit(
        client,
        job,
        name,
        options=options,
        working_dir=working_dir,
        tell=lambda line: click.echo(line, err=True),
    )
    click.echo(f"submitted {submitted.id}: esv status {name}, esv logs -f {name}, esv stop {name}")
    if not (wait or follow):
        return 0
    if follow:
        jobs.follow(client, submitted.id, lambda text: click.echo(text, nl=False))
    ended = jobs.wait(client, submitted.id, _waiting())
    click.echo(f"{ended.id} {ended.state}")
    return jobs.exit_code(ended)


def _waiting(every_s: float = 10.0) -> Callable[[Submission], None]:
    """Tells where a job stands, now and then."""
    from esv_ray.cluster.standing import lines_of

    last = 0.0

    def each(now: Submission) -> None:
        nonlocal last
        if now.over or time.monotonic() - last >= every_s:
            last = time.monotonic()
            for line in lines_of(standing(now), time.time()):
                click.echo(line, err=True)

    return each
