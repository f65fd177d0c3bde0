"""The command `esv train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from esv_ray.cli.options import location_overrides, output_option, set_option
from esv_ray.cli.types import LOCATION
from esv_ray.errors import count_of

if TYPE_CHECKING:
    from esv_ray.models.train import TrainResult


@click.command(short_help="Train a model on a feature table with labels.")
@click.argument("spec", type=LOCATION, required=False)
@click.option("--features", type=LOCATION, metavar="URL", help="Feature table with labels.")
@output_option("Location of the model bundle.")
@set_option
def train(spec: str | None, features: str | None, output: str | None, overrides: tuple[str, ...]) -> None:
    """Train multi-scale heads f^1 .. f^n_max (MLPs) on a feature table with labels.

    SPEC is a YAML file; options set or override its keys. The keys are: features, columns (other names of its
    columns), feature_dim, output, validation (another table, or the share of videos to hold out), classes (a CSV file
    with header name,id; by default classes.csv in the folder of the features, if it is there), n_classes, n_max,
    hidden, hidden_layers, batch_norm, input_relu, dropout, epochs, patience, batch, learning_rate, weight_decay, seed,
    threads, unlabelled.

    \b
    Example:
      esv train --features data/train.parquet --output models/trn --set n_max=8 --set hidden=256
    """
    from esv_ray.cli.progress import train_progress
    from esv_ray.models.train import train as run
    from esv_ray.spec import load_train_spec

    locations = location_overrides(spec, {"features": features, "output": output}, overrides)
    train_spec = load_train_spec(spec, [*locations, *overrides])
    with train_progress() as report:
        result = run(train_spec, report)
    show_training(result)


def show_training(result: TrainResult) -> None:
    """Print the accuracy of each head and of the whole model."""
    table = Table(title=f"accuracy on {result.validation_videos} validation videos (f^s: head for s frames)")
    table.add_column("head")
    table.add_column("accuracy", justify="right")
    table.add_column("best epoch", justify="right")
    for s, accuracy in result.accuracy.items():
        shown = "- (all shorter)" if accuracy is None else f"{100 * accuracy:.1f} %"
        table.add_row(f"f^{s}", shown, str(result.epochs[s]))
    table.add_row("F (all scales)", f"{100 * result.accuracy_f:.1f} %", "")
    Console().print(table)
    for note in result.notes:
        click.echo(note)
    click.echo(f"trained on {count_of(result.videos, 'video')}; model: {result.output}")
