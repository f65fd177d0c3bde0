"""esv attribute, esv verify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from esv_ray.cluster.state import JobResult


@click.command()
@click.argument("spec", required=False)
@click.option("--features", metavar="URL", help="Feature table: a Parquet file, a directory of them, or a glob.")
@click.option("--model", metavar="URL", help="Model bundle (a directory with model.json).")
@click.option("--output", metavar="URL", help="Where the attribution tables go.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set any key of the spec. Repeatable.")
@click.pass_context
def attribute(
    context: click.Context,
    spec: str | None,
    features: str | None,
    model: str | None,
    output: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Compute ESVs of every video of a feature table.

    SPEC is a YAML file; options set or override its keys. The same command again resumes an interrupted run.

    \b
    Examples:
      esv attribute job.yaml
      esv attribute --features data/ --model models/trn --output esv/ --set frames=8
      esv attribute job.yaml --set estimator.m=256 --set classes=[label,top:3]

    \b
    Exit codes:
      0    done
      1    too many videos failed, or a unit could not be committed (run again to go on)
      2    the request is wrong
      130  interrupted (run again to go on)
    """
    from esv_ray.cli.progress import job_progress
    from esv_ray.spec import load_spec

    places = {"features": features, "model": model, "output": output}
    given = [f"{key}={_quoted(url)}" for key, url in places.items() if url is not None]
    if spec is None and len(given) < len(places):
        lacking = ", ".join(f"--{key}" for key, url in places.items() if url is None)
        raise click.UsageError(f"expected a SPEC, or --features, --model and --output; missing {lacking}")
    job = load_spec(spec, [*given, *overrides])
    from esv_ray.cluster.driver import run_job  # Ray takes a second to import: wrong requests answer at once

    with job_progress() as report:
        result = run_job(job, report)
    tell(result)
    context.exit(result.exit_code)


def _quoted(url: str) -> str:
    """A location as a YAML string, whatever characters it holds."""
    return "'" + url.replace("'", "''") + "'"


def tell(result: JobResult) -> None:
    """How a job ended, for people."""
    counts = result.counts
    resumed = f", {result.resumed_units} of {result.units} units resumed" if result.resumed_units else ""
    click.echo(
        f"{counts.rows} videos: {counts.ok} ok, {counts.skipped} skipped, {counts.failed} failed; "
        f"{counts.attribution_rows} attributions in {result.seconds:.1f} s{resumed}"
    )
    for video_id, reason in result.failed:
        click.echo(f"  failed: {video_id or '(no id)'}: {reason}")
    if counts.failed > len(result.failed):
        click.echo(f"  and {counts.failed - len(result.failed)} more: see status and reason in {result.output}/videos")
    if counts.failed > result.max_failed * counts.rows:
        click.echo(f"more than max_failed = {result.max_failed:g} of the videos failed", err=True)
    for unit, reason in result.quarantined.items():
        click.echo(f"unit {unit} could not be committed: {reason}", err=True)
    if result.given_up:
        click.echo("every unit so far failed: stopped", err=True)
    elif result.quarantined:
        click.echo("the rest is committed; run the same command again to go on", err=True)
    click.echo(f"tables: {result.output}")


@click.command()
@click.argument("output")
@click.pass_context
def verify(context: click.Context, output: str) -> None:
    """Check that an OUTPUT is whole and consistent: counts, ids, schemas, efficiency, _SUCCESS.

    Exit codes: 0 good; 1 problems were found, one line each; 2 there is no output.
    """
    from esv_ray.storage import absolute
    from esv_ray.tables.verify import verify_output

    found = verify_output(absolute(output))
    for problem in found.problems:
        click.echo(problem, err=True)
    counts = found.counts
    click.echo(
        f"{found.committed} of {found.units} units, {counts.rows} videos: {counts.ok} ok, {counts.skipped} skipped, "
        f"{counts.failed} failed; largest efficiency gap of exact rows {found.worst_gap:.1e}; "
        + ("no problems" if not found.problems else f"{len(found.problems)} problems")
    )
    context.exit(1 if found.problems else 0)
