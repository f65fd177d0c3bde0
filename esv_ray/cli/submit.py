"""esv submit, esv render: a job for a Ray cluster, or for Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from esv_ray.cli.jobs import job_continues, submission_status, target_flags
from esv_ray.cli.options import (
    JobArguments,
    RunOptions,
    Target,
    image_option,
    job_options,
    name_option,
    namespace_option,
    option_group,
    overlay_option,
    read_work,
    run_options,
    target_options,
)
from esv_ray.cli.progress import print_every
from esv_ray.cli.types import Count, LocalPath

if TYPE_CHECKING:
    from esv_ray.spec_kinds import WorkSpec
    from esv_ray.submit.submission import Submission


@dataclass(frozen=True)
class SubmitOptions:
    """Options of a submission, and of what the command does afterwards."""

    overlay: str | None
    image: str | None
    dry_run: bool
    name: str | None
    working_dir: str | None
    wait: bool
    follow: bool


submit_options = option_group(
    SubmitOptions,
    "options",
    overlay_option,
    image_option,
    click.option("--dry-run", is_flag=True, help="With --kubernetes: print the objects instead of applying them."),
    name_option,
    click.option(
        "--working-dir",
        type=LocalPath(exists=True, file_okay=False),
        metavar="DIR",
        help="Folder with code that the job needs and the cluster lacks; uploaded with the job.",
    ),
    click.option("--wait", is_flag=True, help="Wait for the job, showing progress; exit with its exit code."),
    click.option("--follow", is_flag=True, help="Like --wait, and print the job's log."),
)


@click.command(short_help="Run a job on a Ray cluster or on Kubernetes.")
@job_options
@target_options
@submit_options
@run_options
@click.pass_context
def submit(context: click.Context, job: JobArguments, target: Target, options: SubmitOptions, run: RunOptions) -> None:
    """Run a job on a Ray cluster, or as a RayJob on Kubernetes.

    SPEC is a spec of esv attribute, esv extract or esv train: one with the key `videos` is an
    extraction, and one with a key such as n_max or epochs is a training run.

    A Ray cluster is checked before the job starts: its software versions, the spec, and access to the storage from
    every node; the spec is stored in OUTPUT/_submissions. On Kubernetes nothing is checked on the cluster (run esv plan
    first), and the spec is stored in a ConfigMap. Run the same command again to resume what an earlier attempt left
    unfinished. For a cluster with token authentication, set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH. Ray
    clusters need the extra `cluster` of esv-ray; --kubernetes needs kubectl.

    \b
    Examples:
      esv submit job.yaml --address http://head:8265
      esv submit job.yaml --address http://head:8265 --follow
      esv submit extract.yaml --address http://head:8265
      esv submit job.yaml --kubernetes -n video --overlay gpu \\
        --image registry.example/esv-ray:0.1.0-cuda
      esv submit job.yaml --kubernetes --overlay gpu --dry-run

    \b
    Exit codes:
      0    submitted; with --wait or --follow: done
      1    with --wait or --follow: too many videos failed, a unit could not be committed, or the
           job's end is unknown because the cluster stopped answering
      2    the request is invalid, or the cluster cannot run the job; nothing was started. With --wait
           or --follow also: the job itself ended with exit code 2
      130  with --wait or --follow: the job was stopped, or you pressed Ctrl-C and the job continues
    """
    spec = read_work(job)
    run.check_for(spec)
    if target.kubernetes:
        if options.dry_run and (options.wait or options.follow):
            raise click.UsageError("--dry-run submits nothing, so --wait and --follow have nothing to wait for")
        if options.working_dir:
            raise click.UsageError("--working-dir is for Ray clusters; on Kubernetes the image contains the code")
        context.exit(_submit_to_kubernetes(spec, target, options, run))
    if options.dry_run:
        raise click.UsageError("--dry-run requires --kubernetes; esv plan estimates what a job will take")
    context.exit(_submit_to_ray(spec, target, options, run))


def _job_name(spec: WorkSpec, name: str | None) -> str:
    from esv_ray.submit.submission import check_name, name_of

    return name_of(spec.output) if name is None else check_name(name)


def _submit_to_ray(spec: WorkSpec, target: Target, options: SubmitOptions, run: RunOptions) -> int:
    from esv_ray.submit.ray_jobs.client import connect
    from esv_ray.submit.ray_jobs.jobs import wait
    from esv_ray.submit.ray_jobs.logs import follow
    from esv_ray.submit.ray_jobs.submit import submit as submit_job
    from esv_ray.submit.submission import exit_code

    name = _job_name(spec, options.name)
    client = connect(target.address)
    submission = submit_job(
        client,
        spec,
        name,
        arguments=run.arguments(),
        working_dir=options.working_dir,
        report=lambda line: click.echo(line, err=True),
    )
    flags = target_flags(target)
    click.echo(_submitted(submission.id, name, flags))
    if not (options.wait or options.follow):
        return 0
    with job_continues(submission.id, flags):
        if options.follow:
            follow(client, submission.id, lambda text: click.echo(text, nl=False))
        ended = wait(client, submission.id, _status_printer())
    click.echo(f"{ended.id} {ended.state}")
    return exit_code(ended)


def _submit_to_kubernetes(spec: WorkSpec, target: Target, options: SubmitOptions, run: RunOptions) -> int:
    from esv_ray.submit.kubernetes import jobs as kubernetes_jobs
    from esv_ray.submit.kubernetes import manifests
    from esv_ray.submit.kubernetes.manifest_yaml import as_yaml
    from esv_ray.submit.submission import exit_code, next_id

    overlay = options.overlay or "base"
    name = _job_name(spec, options.name)
    namespace = target.namespace or manifests.namespace_of(overlay)
    submissions = [] if options.dry_run else kubernetes_jobs.submissions(namespace)
    submission = next_id([earlier for earlier in submissions if earlier.name == name], spec.output, name)
    objects = manifests.render(
        spec,
        submission,
        name,
        overlay=overlay,
        namespace=namespace,
        image=options.image,
        arguments=run.arguments(),
    )
    _note_image(objects, overlay)
    if options.dry_run:
        click.echo(as_yaml(objects), nl=False)
        return 0
    kubernetes_jobs.apply(objects, namespace)
    flags = target_flags(Target(None, True, namespace))
    click.echo(_submitted(submission, name, flags))
    if not (options.wait or options.follow):
        return 0
    with job_continues(submission, flags):
        ended = kubernetes_jobs.wait(submission, namespace, _status_printer(), follow=options.follow)
    click.echo(f"{ended.id} {ended.state}")
    return exit_code(ended)


def _submitted(submission: str, name: str, flags: str) -> str:
    commands = ", ".join(f"esv {verb} {name}{flags}" for verb in ("status", "logs -f", "stop"))
    return f"submitted {submission}: {commands}"


def _check_schedule(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from esv_ray.submit.kubernetes.manifest_options import check_cron

    return check_cron(value)


@dataclass(frozen=True)
class RenderOptions:
    """Options of a job's Kubernetes objects."""

    namespace: str | None
    overlay: str | None
    image: str | None
    name: str | None
    attempt: int | None
    schedule: str | None


render_options = option_group(
    RenderOptions,
    "options",
    namespace_option,
    overlay_option,
    image_option,
    name_option,
    click.option(
        "--attempt",
        type=Count(1),
        metavar="N",
        help="Attempt number in the RayJob's name (default 1). Not with --schedule.",
    ),
    click.option(
        "--schedule",
        metavar="CRON",
        callback=_check_schedule,
        help="Make a CronJob that starts the job on this schedule, for example '0 3 * * *'. Requires --namespace, "
        "or an overlay that sets one; not with the kueue overlay.",
    ),
)


@click.command(short_help="Write a job's Kubernetes objects as YAML.")
@job_options
@render_options
@run_options
def render(job: JobArguments, options: RenderOptions, run: RunOptions) -> None:
    """Write the Kubernetes objects of a job as plain YAML, for kubectl or a GitOps repository.

    Needs kubectl or kustomize.

    \b
    Examples:
      esv render job.yaml -n video --overlay gpu \\
        --image registry.example/esv-ray:0.1.0-cuda > rayjob.yaml
      esv render nightly.yaml -n video --overlay gpu \\
        --image registry.example/esv-ray:0.1.0-cuda --partitions --schedule '0 3 * * *'
    """
    from esv_ray.submit.kubernetes import manifests
    from esv_ray.submit.kubernetes.manifest_yaml import as_yaml
    from esv_ray.submit.submission import id_of

    spec = read_work(job)
    name, overlay = _job_name(spec, options.name), options.overlay or "base"
    run.check_for(spec)
    if options.schedule is not None and options.attempt is not None:
        raise click.UsageError("--attempt cannot be used with --schedule: all its runs have one name, one at a time")
    # Attempt 0 belongs to the schedule alone: manual attempts never take its spec or name.
    submission = id_of(name, 0 if options.schedule is not None else options.attempt or 1)
    objects = manifests.render(
        spec,
        submission,
        name,
        overlay=overlay,
        namespace=options.namespace,
        image=options.image,
        arguments=run.arguments(),
    )
    _note_image(objects, overlay)
    if options.schedule is not None:
        objects = manifests.scheduled(objects, options.schedule, name)
    click.echo(as_yaml(objects), nl=False)


def _note_image(objects: Sequence[Mapping[str, Any]], overlay: str) -> None:
    from esv_ray.submit.kubernetes.manifest_options import image_without_registry

    image = image_without_registry(next(item for item in objects if item["kind"] == "RayJob")["spec"])
    if image is not None and overlay != "cpu-local":  # its image is loaded onto the node
        click.echo(f"note: the image {image} has no registry; give --image REGISTRY/esv-ray:TAG", err=True)


def _status_printer() -> Callable[[Submission], None]:
    """Return a callback that prints a job's status every ten seconds, and when it has ended."""
    from esv_ray.submit.status import status_lines

    return print_every(
        lambda now: status_lines(submission_status(now), time.time()), first=True, final=lambda now: now.over
    )
