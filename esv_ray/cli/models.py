"""esv train, esv import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from esv_ray.cli.job_options import given_places
from esv_ray.cli.types import LOCATION

if TYPE_CHECKING:
    from esv_ray.models.train import TrainResult


@click.command()
@click.argument("spec", type=LOCATION, required=False)
@click.option("--features", type=LOCATION, metavar="URL", help="Feature table with labels.")
@click.option("--output", type=LOCATION, metavar="URL", help="Where the model bundle goes.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set any key of the spec. Repeatable.")
def train(spec: str | None, features: str | None, output: str | None, overrides: tuple[str, ...]) -> None:
    """Train the multi-scale heads f^1 .. f^n_max (MLPs) on a feature table with labels.

    SPEC is a YAML file; options set or override its keys. Keys: features, output, validation (another table, or a
    share to hold out), classes (a CSV name,id), n_classes, n_max, hidden, hidden_layers, batch_norm, input_relu,
    dropout, epochs, patience, batch, learning_rate, weight_decay, seed, threads.

    \b
    Example:
      esv train --features data/train.parquet --output models/trn --set n_max=8 --set hidden=256
    """
    from esv_ray.cli.progress import train_progress
    from esv_ray.models.train import train as run
    from esv_ray.spec import load_train_spec

    given = given_places(spec, {"features": features, "output": output}, overrides)
    wanted = load_train_spec(spec, [*given, *overrides])
    with train_progress() as report:
        result = run(wanted, report)
    tell_training(result)


def tell_training(result: TrainResult) -> None:
    """Accuracies, for people."""
    table = Table(title=f"accuracy on {result.validation_videos} validation videos")
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
    click.echo(f"trained on {result.videos} videos; model: {result.output}")


@click.group(name="import")
def import_() -> None:
    """Bring in models and features of other software."""


@import_.command(name="model")
@click.argument("checkpoints", type=LOCATION, nargs=-1, required=True)
@click.option("--from", "source", type=click.Choice(["play-fair"]), required=True, help="Whose checkpoints they are.")
@click.option("--out", required=True, type=LOCATION, metavar="URL", help="Where the model bundle goes.")
@click.option("--prior", required=True, type=LOCATION, metavar="CSV", help="Class prior: header class,prior.")
@click.option("--classes", type=LOCATION, metavar="CSV", help="Class names: header name,id.")
@click.option(
    "--input-relu/--no-input-relu",
    default=True,
    show_default=True,
    help="Whether a TSN has a ReLU on its input, which its checkpoint does not tell.",
)
def import_model(
    checkpoints: tuple[str, ...], source: str, out: str, prior: str, classes: str | None, input_relu: bool
) -> None:
    """Import CHECKPOINTS: one TSN, one joint multi-scale file, or single-scale MLPs of all scales 1..n_max.

    Torch checkpoints or .safetensors files. Only tensors are unpickled. Every tensor is used or named as not used; a
    file with further layers, which would change F, is refused.
    """
    del source  # one so far
    from esv_ray.models.sources.play_fair import import_play_fair

    told = import_play_fair(checkpoints, prior=prior, out=out, classes=classes, input_relu=input_relu)
    click.echo(f"{told}; model: {out}")


@import_.command(name="features")
@click.argument("features", type=LOCATION)
@click.option("--from", "source", type=click.Choice(["play-fair"]), required=True, help="Whose features they are.")
@click.option("--split", default="validation", show_default=True, help="Group of the HDF5 file.")
@click.option("--out", required=True, type=LOCATION, metavar="URL", help="Where the feature table goes.")
def import_features(features: str, source: str, split: str, out: str) -> None:
    """Import FEATURES, an HDF5 file, as a Parquet feature table. Needs h5py: pip install 'esv-ray[hdf5]'."""
    del source  # one so far
    from esv_ray.input.sources.play_fair import import_play_fair_features

    count = import_play_fair_features(features, split=split, out=out)
    click.echo(f"{count} videos; feature table: {out}")
