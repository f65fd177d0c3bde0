"""The command `esv train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from esv_ray.cli.options import location_overrides, output_option, set_option
from esv_ray.cli.types import LOCATION, NAME, Count, LocalPath
from esv_ray.errors import count_of
from esv_ray.show.text import printable
from esv_ray.signals import resumes

if TYPE_CHECKING:
    from esv_ray.training.work import TrainResult


@click.command(short_help="Train a model on a feature table with labels.")
@click.argument("spec", type=LOCATION, required=False)
@click.option("--features", type=LOCATION, metavar="URL", help="Feature table with labels.")
@output_option("Location of the model bundle.")
@set_option
@click.option(
    "--actors",
    type=Count(min=0),
    metavar="N",
    help="Maximum number of heads trained at a time, each by its own actor; 0: run in this process. Default: 0; "
    "with --address, as many as the cluster can hold.",
)
@click.option("--address", type=NAME, metavar="ADDRESS", help="Ray cluster, auto or HOST:PORT (default: none).")
@click.option("--retry-failed", is_flag=True, help="Train failed heads again; the others are unchanged.")
@click.option("--figures", is_flag=True, help="Draw accuracy and calibration into the folder training of the bundle.")
@click.option(
    "--log",
    type=LocalPath(),
    metavar="FILE",
    help="Append one line of JSON per unit, probe and fault to FILE (- for standard error).",
)
@click.pass_context
def train(
    context: click.Context,
    spec: str | None,
    features: str | None,
    output: str | None,
    overrides: tuple[str, ...],
    actors: int | None,
    address: str | None,
    retry_failed: bool,
    figures: bool,
    log: str | None,
) -> None:
    """Train multi-scale heads f^1 .. f^n_max (MLPs) on a feature table with labels.

    SPEC is a YAML file; options set or override its keys. The keys are: features, columns (other names of its
    columns), feature_dim, output, preset (play-fair: the architecture of the paper), validation (another table, or the
    share of videos to hold out), classes (a CSV file with header name,id; by default classes.csv in the folder of the
    features, if it is there), n_classes, class_weights, n_max, hidden, hidden_layers, batch_norm, input_relu, dropout,
    epochs, patience, batch, learning_rate, weight_decay, schedule, warmup, step_epochs, step_factor, precision,
    shuffle_buffer (memory), seed, seeds, threads, unlabelled, cluster.

    Heads are trained independently of each other, and each is committed when it is done. Run the same command again to
    resume an interrupted run; the model is the same as without the interruption, and for any number of actors.

    \b
    Examples:
      esv train --features data/train.parquet --output models/trn --set n_max=8 --set hidden=256
      esv train train.yaml --actors 4 --set seeds=3 --figures

    \b
    Exit codes:
      0    done
      1    a head failed (--retry-failed trains it again) or was not committed (run again to resume)
      2    the request is invalid
      130  interrupted (run again to resume)
    """
    from esv_ray.cli.progress import train_progress
    from esv_ray.cli.unit_log import unit_log
    from esv_ray.spec_train import load_train_spec
    from esv_ray.spec_yaml import write_text
    from esv_ray.training.work import train as run

    resumes()
    locations = location_overrides(spec, {"features": features, "output": output}, overrides)
    cluster = [] if address is None else [f"cluster.address={write_text(address)}"]
    cluster += [] if actors is None else [f"cluster.actors={actors}"]
    train_spec = load_train_spec(spec, [*locations, *overrides, *cluster])
    with unit_log(log), train_progress() as report:
        result = run(train_spec, report, retry_failed=retry_failed)
    show_training(result)
    if figures and result.trained is not None:
        _draw(result)
    context.exit(result.job.exit_code)


def show_training(result: TrainResult) -> None:
    """Print the accuracy of each head and of the whole model, or which heads are missing."""
    from esv_ray.cli.outcome import problem_lines

    if result.trained is not None:
        Console().print(_table(result))
    for note in result.notes:
        click.echo(note)
    for head, reason in result.job.failed:
        click.echo(f"failed: {head}: {printable(reason)}", err=True)
    if result.job.failed:
        click.echo("remove the cause, then run the same command with --retry-failed", err=True)
    for line in problem_lines(result.job):
        click.echo(line, err=True)
    resumed = f"; {result.job.resumed_units} of {result.job.units} heads resumed" if result.job.resumed_units else ""
    if result.trained is None:
        click.echo(f"no model yet: {result.job.counts.ok} of {count_of(result.job.units, 'head')} trained{resumed}")
    else:
        click.echo(f"trained on {count_of(result.videos, 'video')}{resumed}; model: {result.output}")


def _table(result: TrainResult) -> Table:
    assert result.trained is not None, "there is a model"
    seeds = len(result.plan.seeds) > 1
    table = Table(title=f"accuracy on {result.validation_videos} validation videos (f^s: head for s frames)")
    table.add_column("head")
    for name in ("accuracy", "ECE", "best epoch", *(["seed"] * seeds)):
        table.add_column(name, justify="right")
    for row in result.trained.accuracy.to_pylist():
        if not row["kept"]:
            continue
        whole = row["scale"] is None
        shown = "- (all shorter)" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
        error = "" if row["ece"] is None else f"{100 * row['ece']:.1f} %"
        best = "" if whole else str(row["best_epoch"])
        last = [] if not seeds else ["" if whole else str(row["seed"])]
        table.add_row("F (all scales)" if whole else f"f^{row['scale']}", shown, error, best, *last)
    return table


def _draw(result: TrainResult) -> None:
    """Write the figure of a training beside its tables."""
    from esv_ray import storage
    from esv_ray.analysis.figures.calibration import chart
    from esv_ray.analysis.figures.files import figure_files
    from esv_ray.training.planning import training_folder

    assert result.trained is not None, "there is a model"
    url = storage.join(training_folder(result.output), "calibration")
    for suffix, data in figure_files(chart, result.trained.calibration).items():
        storage.replace(f"{url}.{suffix}", data, "write a figure")
    click.echo(f"figure: {url}.svg, .png, .html")
