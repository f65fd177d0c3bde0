"""The command `esv plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esv_ray.cli.options import JobArguments, job_options, read_work
from esv_ray.cli.types import Count, LocalPath

if TYPE_CHECKING:
    from esv_ray.spec_extract import ExtractSpec
    from esv_ray.spec_train import TrainSpec


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

    If SPEC is an extraction (it has the key `videos`), finds the videos, loads the backbone, and extracts a few videos
    for about 8 s, without keeping their features.

    If SPEC is a training run (it has a key such as n_max or epochs), reads its tables once, and prints the number of
    examples and heads, and the memory that an actor takes.

    \b
    Examples:
      esv plan job.yaml
      esv plan --features data/ --model models/trn --output esv/ --set frames=16 --json
      esv plan job.yaml --bench gpu.json --actors 8
      esv plan extract.yaml
      esv plan train.yaml

    \b
    Exit codes:
      0  the job can run
      1  with --check-ids: an id occurs in several files, so the job would end incomplete
      2  the request is invalid
    """
    from esv_ray.spec_extract import ExtractSpec
    from esv_ray.spec_kinds import ATTRIBUTION, kind_of
    from esv_ray.spec_train import TrainSpec

    spec = read_work(job)
    if kind_of(spec) is not ATTRIBUTION:
        for option, given in (("--read-lengths", read_lengths), ("--check-ids", check_ids), ("--bench", bench)):
            if given:
                raise click.UsageError(f"{option} is for jobs of esv attribute, not of esv {kind_of(spec).command}")
    if isinstance(spec, ExtractSpec):
        _plan_extraction(spec, actors, as_json)
        return
    if isinstance(spec, TrainSpec):
        if actors is not None:
            raise click.UsageError("--actors has no effect: the plan of a training is that of one actor")
        _plan_training(spec, as_json)
        return
    from esv_ray.bench.report import read_timings
    from esv_ray.cli.plan_page import show
    from esv_ray.cli.progress import file_progress
    from esv_ray.forecast.forecast import forecast
    from esv_ray.forecast.report import as_json as forecast_json

    timings = None if bench is None else read_timings(bench)
    estimate = forecast(
        spec,
        timings=timings,
        actors=actors,
        read_lengths=read_lengths,
        check_ids=check_ids,
        report=file_progress(),
    )
    if as_json:
        click.echo(json.dumps(forecast_json(estimate), indent=1))
    else:
        show(estimate)
    if estimate.repeated_ids is not None and estimate.repeated_ids.across_files:
        context.exit(1)


def _plan_extraction(spec: ExtractSpec, actors: int | None, as_json: bool) -> None:
    from esv_ray.cli.plan_page import show_extraction
    from esv_ray.forecast.extraction import as_json as forecast_json
    from esv_ray.forecast.extraction import forecast_extraction

    estimate = forecast_extraction(spec, actors=actors)
    if as_json:
        click.echo(json.dumps(forecast_json(estimate), indent=1))
    else:
        show_extraction(estimate)


def _plan_training(spec: TrainSpec, as_json: bool) -> None:
    from esv_ray.cli.plan_training import show_training
    from esv_ray.forecast.training import as_json as forecast_json
    from esv_ray.forecast.training import forecast_training

    forecast = forecast_training(spec)
    if as_json:
        click.echo(json.dumps(forecast_json(forecast), indent=1))
    else:
        show_training(forecast)
