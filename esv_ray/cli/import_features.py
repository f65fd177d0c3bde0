"""esv import features."""

from __future__ import annotations

import click

from esv_ray.cli.types import LOCATION


@click.command(name="features")
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
