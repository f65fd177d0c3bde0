"""esv train, esv import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from esv_ray.cli.options import location_overrides, set_option
from esv_ray.cli.types import LOCATION

if TYPE_CHECKING:
    from esv_ray.core.scales import Combine
    from esv_ray.models.train import TrainResult


@click.command(short_help="Train a model on a feature table with labels.")
@click.argument("spec", type=LOCATION, required=False)
@click.option("--features", type=LOCATION, metavar="URL", help="Feature table with labels.")
@click.option("--output", type=LOCATION, metavar="URL", help="Location of the model bundle.")
@set_option
def train(spec: str | None, features: str | None, output: str | None, overrides: tuple[str, ...]) -> None:
    """Train multi-scale heads f^1 .. f^n_max (MLPs) on a feature table with labels.

    SPEC is a YAML file; options set or override its keys. The keys are: features, output, validation (another table,
    or the share of videos to hold out), classes (a CSV file with header name,id), n_classes, n_max, hidden,
    hidden_layers, batch_norm, input_relu, dropout, epochs, patience, batch, learning_rate, weight_decay, seed,
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
    """Import models and features from other software."""


@import_.command(name="model")
@click.argument("checkpoints", type=LOCATION, nargs=-1, required=True)
@click.option(
    "--from",
    "source",
    type=click.Choice(["play-fair", "trn-pytorch", "mmaction2"]),
    required=True,
    help="Software that wrote the checkpoints.",
)
@click.option("--out", required=True, type=LOCATION, metavar="URL", help="Location of the model bundle.")
@click.option("--prior", required=True, type=LOCATION, metavar="CSV", help="Class prior; the header is class,prior.")
@click.option("--classes", type=LOCATION, metavar="CSV", help="Class names; the header is name,id.")
@click.option(
    "--input-relu/--no-input-relu",
    default=True,
    show_default=True,
    help="Whether a TSN of play-fair has a ReLU on its input; its checkpoint does not say.",
)
@click.option(
    "--combine",
    type=click.Choice(["sum", "mean"]),
    default="sum",
    show_default=True,
    help="How a TRN of trn-pytorch or mmaction2 combines its scales in subsequences shorter than the longest scale.",
)
def import_model(
    checkpoints: tuple[str, ...],
    source: str,
    out: str,
    prior: str,
    classes: str | None,
    input_relu: bool,
    combine: Combine,
) -> None:
    """Import CHECKPOINTS as a model bundle.

    CHECKPOINTS are torch checkpoints or .safetensors files: of play-fair one TSN, one joint multi-scale file, or one
    single-scale MLP for each scale 1..n_max; of trn-pytorch one TRN; of mmaction2 one model with a TRNHead or a
    TSNHead. Only tensors and plain values are unpickled. Known tensors are either used or reported as not used. A file
    with any other tensor is refused, because that tensor may change the model's output.

    \b
    Examples:
      esv import model --from play-fair --out models/trn --prior priors.csv trn_1_frames.pth trn_2_frames.pth
      esv import model --from trn-pytorch --out models/trn --prior priors.csv TRN_something_RGB.pth.tar
    """
    if source == "play-fair":
        from esv_ray.models.sources.play_fair import import_play_fair

        summary = import_play_fair(checkpoints, prior=prior, out=out, classes=classes, input_relu=input_relu)
        click.echo(f"{summary}; model: {out}")
        return
    from esv_ray.models.sources.trn import import_trn

    if len(checkpoints) != 1:
        raise click.UsageError(f"expected one checkpoint of {source}, the whole model, got {len(checkpoints)}")
    for heading, text in import_trn(
        checkpoints[0], source=source, prior=prior, out=out, classes=classes, combine=combine
    ):
        click.echo(f"{heading:<6} {text}")


@import_.command(name="features")
@click.argument("features", type=LOCATION)
@click.option(
    "--from", "source", type=click.Choice(["play-fair"]), required=True, help="Software that wrote the features."
)
@click.option("--split", default="validation", show_default=True, help="Group in the HDF5 file.")
@click.option("--out", required=True, type=LOCATION, metavar="URL", help="Location of the feature table.")
def import_features(features: str, source: str, split: str, out: str) -> None:
    """Import FEATURES, an HDF5 file, as a Parquet feature table.

    Requires h5py: pip install 'esv-ray[hdf5]'.
    """
    del source  # the only one so far
    from esv_ray.input.sources.play_fair import import_play_fair_features

    count = import_play_fair_features(features, split=split, out=out)
    click.echo(f"{count} videos; feature table: {out}")
