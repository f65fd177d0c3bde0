"""The group of commands `esv import`."""

from __future__ import annotations

import click

from esv_ray.cli.import_features import import_features
from esv_ray.cli.import_model import import_model


@click.group(name="import")
def import_() -> None:
    """Import models and features from other software."""


import_.add_command(import_model)
import_.add_command(import_features)
