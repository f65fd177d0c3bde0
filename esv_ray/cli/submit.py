"""esv submit, esv render: a job to a Ray cluster, or to Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from esv_ray.cli.job_options import (
    address_option,
    image_option,
    job_options,
    kubernetes_option,
    namespace_option,
    overlay_option,
    read_job,
)
from esv_ray.cli.jobs import flags, going_on, standing
from esv_ray.cli.types import NAME, Count, LocalPath

if TYPE_CHECKING:
    from esv_ray.spec import JobSpec
    from esv_ray.submit.submission import Submission


partitions_option = click.option(
    "--partitions", is_flag=True, help="As of esv attribute: every sub-directory of the features not yet done."
)
ready_option = click.option(
    "--ready", type=NAME, metavar="NAME", help="With --partitions: only those that hold such a file."
)


@click.command()
@job_options
@address_option
@kubernetes_option
@namespace_option
@overlay_option
@image_option
@click.option("--dry-run", is_flag=True, help="With --kubernetes: print what would be applied.")
@click.option("--name", type=NAME, help="Of the job, by default the last part of its output.")
@click.option("--retry-failed", is_flag=True, help="Try the videos again that failed; what is well stays as it is.")
@partitions_option
@ready_option
@click.option(
    "--working-dir",
    type=LocalPath(exists=True, file_okay=False),
    metavar="DIR",
    help="Code that the model needs and the cluster lacks; sent along.",
)
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
    code: tuple[str, ...],
    address: str | None,
    kubernetes: bool,
    namespace: str | None,
    overlay: str | None,
    image: str | None,
    dry_run: bool,
    name: str | None,
    retry_failed: bool,
    partitions: bool,
    ready: str | None,
    working_dir: str | None,
    wait: bool,
    follow: bool,
) -> None:
    """Run a job on a Ray cluster, or as a RayJob on Kubernetes.

    The cluster is asked first whether it could: versions, request, storage from every node. The spec is stored in
    OUTPUT/_submissions. The same command again resumes what an earlier attempt left. With token authentication set
    RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.

    \b
    Examples:
      esv submit job.yaml --address http://head:8265
      esv submit job.yaml --address http://head:8265 --follow
      esv submit job.yaml --kubernetes --namespace video --overlay gpu
      esv submit job.yaml --kubernetes --overlay gpu --dry-run

    \b
    Exit codes:
      0    submitted; with --wait or --follow: done
      1    with --wait or --follow: too many videos failed, a unit could not be committed, or it is
           not known how the job ended, as the cluster stays silent
      2    the request is wrong, or the cluster cannot do it; nothing was started
      130  with --wait or --follow: the job was stopped, or you left it (Ctrl-C), and it goes on
    """
    job = read_job(spec, features, model, output, overrides, code)
    options = _options(retry_failed, partitions, ready)
    if kubernetes:
        if dry_run and (wait or follow):
            raise click.UsageError("--dry-run submits nothing that --wait or --follow could wait for")
        if working_dir:
            raise click.UsageError("--working-dir is sent to a Ray cluster; on Kubernetes the image holds the code")
        context.exit(
            _on_kubernetes(job, name, options, namespace, overlay or "base", image, dry_run, wait=wait, follow=follow)
        )
    if dry_run:
        raise click.UsageError("--dry-run goes with --kubernetes; esv plan tells what a job will take")
    context.exit(_on_ray(job, address, name, options, working_dir, wait=wait, follow=follow))


def _options(retry_failed: bool, partitions: bool, ready: str | None) -> list[str]:
    """Those of `esv attribute`."""
    if ready is not None and not partitions:
        raise click.UsageError("--ready goes with --partitions")
    if ready is not None:
        from esv_ray.attribution.partitions import check_ready

        check_ready(ready)
    flags = ["--retry-failed"] * retry_failed + ["--partitions"] * partitions
    return flags + ([] if ready is None else ["--ready", ready])


def _name(job: JobSpec, asked: str | None) -> str:
    from esv_ray.submit.submission import check_name, name_of

    return name_of(job.output) if asked is None else check_name(asked)


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
    from esv_ray.submit.ray_jobs import jobs as jobs
    from esv_ray.submit.ray_jobs.client import connect
    from esv_ray.submit.submission import exit_code

    name = _name(job, name)
    client = connect(address)
    submitted = jobs.submit(
        client,
        job,
        name,
        options=options,
        working_dir=working_dir,
        tell=lambda line: click.echo(line, err=True),
    )
    where = flags(address, False, None)
    click.echo(_submitted(submitted.id, name, where))
    if not (wait or follow):
        return 0
    with going_on(submitted.id, where):
        if follow:
            jobs.follow(client, submitted.id, lambda text: click.echo(text, nl=False))
        ended = jobs.wait(client, submitted.id, _waiting())
    click.echo(f"{ended.id} {ended.state}")
    return exit_code(ended)


def _submitted(submission: str, name: str, where: str) -> str:
    told = ", ".join(f"esv {verb} {name}{where}" for verb in ("status", "logs -f", "stop"))
    return f"submitted {submission}: {told}"


def _on_kubernetes(
    job: JobSpec,
    name: str | None,
    options: list[str],
    namespace: str | None,
    overlay: str,
    image: str | None,
    dry_run: bool,
    *,
    wait: bool,
    follow: bool,
) -> int:
    from esv_ray.submit.kubernetes import jobs as pods
    from esv_ray.submit.kubernetes import manifests
    from esv_ray.submit.kubernetes.manifest_yaml import as_yaml
    from esv_ray.submit.submission import exit_code, next_id

    name, namespace = _name(job, name), namespace or manifests.namespace_of(overlay)
    before = [] if dry_run else [one for one in pods.submissions(namespace) if one.name == name]
    submission = next_id(before, job.output, name)
    objects = manifests.render(
        job, submission, name, overlay=overlay, namespace=namespace, image=image, options=options
    )
    _note_image(objects, overlay)
    if dry_run:
        click.echo(as_yaml(objects), nl=False)
        return 0
    pods.apply(objects, namespace)
    where = flags(None, True, namespace)
    click.echo(_submitted(submission, name, where))
    if not (wait or follow):
        return 0
    with going_on(submission, where):
        ended = pods.wait(submission, namespace, _waiting(), follow=follow)
    click.echo(f"{ended.id} {ended.state}")
    return exit_code(ended)


def _cron(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from esv_ray.submit.kubernetes.manifest_options import check_cron

    return check_cron(value)


@click.command()
@job_options
@namespace_option
@overlay_option
@image_option
@click.option("--name", type=NAME, help="Of the job, by default the last part of its output.")
@click.option(
    "--attempt", type=Count(1), help="Which (default 1); a RayJob of each is of its own. Not with --schedule."
)
@click.option("--retry-failed", is_flag=True, help="Try the videos again that failed; what is well stays as it is.")
@partitions_option
@ready_option
@click.option(
    "--schedule", metavar="CRON", callback=_cron, help="A CronJob that begins it again and again, e.g. '0 3 * * *'."
)
def render(
    spec: str | None,
    features: str | None,
    model: str | None,
    output: str | None,
    overrides: tuple[str, ...],
    code: tuple[str, ...],
    namespace: str | None,
    overlay: str | None,
    image: str | None,
    name: str | None,
    attempt: int | None,
    retry_failed: bool,
    partitions: bool,
    ready: str | None,
    schedule: str | None,
) -> None:
    """Write the Kubernetes objects of a job as plain YAML, for kubectl or a GitOps repository.

    \b
    Examples:
      esv render job.yaml --overlay gpu --namespace video > rayjob.yaml
      esv render nightly.yaml --overlay gpu --namespace video --partitions --schedule '0 3 * * *'
    """
    from esv_ray.submit.kubernetes import manifests
    from esv_ray.submit.kubernetes.manifest_yaml import as_yaml
    from esv_ray.submit.submission import id_of

    job = read_job(spec, features, model, output, overrides, code)
    name = _name(job, name)
    options, overlay = _options(retry_failed, partitions, ready), overlay or "base"
    if schedule is not None and attempt is not None:
        raise click.UsageError("--attempt goes without --schedule, whose runs are of one name, one after the other")
    # The number of a schedule is that of no attempt by hand, so that neither takes the other's spec or name.
    submission = id_of(name, 0 if schedule is not None else attempt or 1)
    objects = manifests.render(
        job, submission, name, overlay=overlay, namespace=namespace, image=image, options=options
    )
    _note_image(objects, overlay)
    if schedule is not None:
        objects = manifests.scheduled(objects, schedule, name)
    click.echo(as_yaml(objects), nl=False)


def _note_image(objects: Sequence[Mapping[str, Any]], overlay: str) -> None:
    from esv_ray.submit.kubernetes.manifest_options import bare_image

    bare = bare_image(next(one for one in objects if one["kind"] == "RayJob")["spec"])
    if bare is not None and overlay != "cpu-local":  # whose image lies on the node
        click.echo(f"note: the image {bare} names no registry; give --image REGISTRY/esv-ray:TAG", err=True)


def _waiting(every_s: float = 10.0) -> Callable[[Submission], None]:
    """Tells where a job stands, now and then."""
    from esv_ray.submit.status import lines_of

    last = 0.0

    def each(now: Submission) -> None:
        nonlocal last
        if now.over or time.monotonic() - last >= every_s:
            last = time.monotonic()
            for line in lines_of(standing(now), time.time()):
                click.echo(line, err=True)

    return each
