"""esv plan."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esv_ray.cli.job_options import job_options, read_job
from esv_ray.cli.types import Count, LocalPath


@click.command()
@job_options
@click.option("--read-lengths", is_flag=True, help="Read the features for the length of every video.")
@click.option("--check-ids", is_flag=True, help="Read the ids and name those that repeat.")
@click.option(
    "--bench",
    type=LocalPath(dir_okay=False, path_type=Path),
    help="Figures of esv bench --json. [default: measured here, for at most 8 s]",
)
@click.option("--actors", type=Count(0), help="What if there were so many; as --set cluster.actors=N.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_context
def plan(
    context: click.Context,
    spec: str | None,
    features: str | None,
    model: str | None,
    output: str | None,
    overrides: tuple[str, ...],
    code: tuple[str, ...],
    read_lengths: bool,
    check_ids: bool,
    bench: Path | None,
    actors: int | None,
    as_json: bool,
) -> None:
    """Tell what a job will take, and whether it could run, without running it.

    Takes what esv attribute takes. Reads the footers of the feature table, loads the model, and writes nothing but a
    small object to the output, which is removed.

    \b
    Examples:
      esv plan job.yaml
      esv plan --features data/ --model models/trn --output esv/ --set frames=16 --json
      esv plan job.yaml --bench gpu.json --actors 8

    \b
    Exit codes:
      0    the job could run
      1    with --check-ids: an id stands in several files, and the job would not finish
      2    the request is wrong
    """
    job = read_job(spec, features, model, output, overrides, code)
    from esv_ray.bench.report import read_figures
    from esv_ray.cli.plan_page import show
    from esv_ray.forecast.forecast import forecast
    from esv_ray.forecast.records import as_json as to_json

    figures = None if bench is None else read_figures(bench)
    told = to_json(forecast(job, figures=figures, actors=actors, read_lengths=read_lengths, check_ids=check_ids))
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        show(told)
    if check_ids and told["repeated_ids"]["across_files"]:
        context.exit(1)
