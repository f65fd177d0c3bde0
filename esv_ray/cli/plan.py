"""esv plan."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esv_ray.cli.options import JobArguments, job_options, location_overrides, read_job
from esv_ray.cli.types import Count, LocalPath


@click.command(short_help="Estimate time, memory and storage of a job.")
@job_options
@click.option("--read-lengths", is_flag=True, help="Read the features to get the exact length of every video.")
@click.option("--check-ids", is_flag=True, help="Read the ids and list those that are repeated.")
@click.option(
    "--bench",
    type=LocalPath(dir_okay=False, path_type=Path),
    help="Use measurements of esv bench --json. [default: measure the model here, for at most 8 s]",
)
@click.option("--actors", type=Count(0), metavar="N", help="Plan for N actors (same as --set cluster.actors=N).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def plan(
    context: click.Context,
    job: JobArguments,
    read_lengths: bool,
    check_ids: bool,
    bench: Path | None,
    actors: int | None,
    as_json: bool,
) -> None:
    """Estimate the time, memory and output size of a job, and check that it can run, without running it.

    Takes SPEC and the options that set its keys, as esv attribute does. Reads the footers of the feature table and
    loads the model. Writes nothing except a small object in the output's location, which is removed.

    If SPEC is a training (it has a key such as n_max or epochs), reads its tables once, and prints the number of
    examples and heads, and the memory that an actor takes.

    \b
    Examples:
      esv plan job.yaml
      esv plan --features data/ --model models/trn --output esv/ --set frames=16 --json
      esv plan job.yaml --bench gpu.json --actors 8
      esv plan train.yaml

    \b
    Exit codes:
      0  the job can run
      1  with --check-ids: an id occurs in several files, so the job would end incomplete
      2  the request is invalid
    """
    from esv_ray.spec_train import is_training

    if is_training(job.spec, job.overrides):
        for option, given in (("--read-lengths", read_lengths), ("--check-ids", check_ids), ("--bench", bench)):
            if given:
                raise click.UsageError(f"{option} is for jobs of esv attribute, not for trainings")
        _plan_training(job, as_json)
        return
    spec = read_job(job)
    from esv_ray.bench.report import read_timings
    from esv_ray.cli.plan_page import show
    from esv_ray.forecast.forecast import forecast
    from esv_ray.forecast.report import as_json as forecast_json

    timings = None if bench is None else read_timings(bench)
    estimate = forecast(spec, timings=timings, actors=actors, read_lengths=read_lengths, check_ids=check_ids)
    if as_json:
        click.echo(json.dumps(forecast_json(estimate), indent=1))
    else:
        show(estimate)
    if estimate.repeated_ids is not None and estimate.repeated_ids.across_files:
        context.exit(1)


def _plan_training(job: JobArguments, as_json: bool) -> None:
    from esv_ray.cli.plan_training import show_training
    from esv_ray.forecast.training import as_json as forecast_json
    from esv_ray.forecast.training import forecast_training
    from esv_ray.spec_train import load_train_spec

    if job.model is not None:
        raise click.UsageError("--model is for jobs of esv attribute; a training makes a model")
    locations = location_overrides(job.spec, {"features": job.features, "output": job.output}, job.overrides)
    forecast = forecast_training(load_train_spec(job.spec, [*locations, *job.overrides], code=job.code))
    if as_json:
        click.echo(json.dumps(forecast_json(forecast), indent=1))
    else:
        show_training(forecast)
