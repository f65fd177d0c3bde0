"""The option `--argument NAME=VALUE`: keyword arguments of a factory."""

from __future__ import annotations

import json
from typing import Any

import click

from esv_ray.cli.types import LOCATION
from esv_ray.errors import SpecError


def parse_arguments(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Parse ``NAME=VALUE``; values as in ``--set``, so far as JSON holds them.

    Raises:
        SpecError: an argument is malformed, or given twice.
    """
    from esv_ray.spec_text import check_numbers
    from esv_ray.spec_yaml import read_value

    arguments: dict[str, Any] = {}
    for each in values:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise SpecError(f"--argument: expected NAME=VALUE, for example hidden=64, got {each!r:.100}")
        if name in arguments:
            raise SpecError(f"--argument: expected each name once, got {name:.60} twice")
        try:
            arguments[name] = read_value(text)
        except SpecError as error:
            raise SpecError(f"--argument {name:.60}: {error}") from None
        try:
            json.dumps(arguments[name], allow_nan=False)
        except ValueError:
            raise SpecError(f"--argument {name:.60}: expected a value that JSON can hold, got {text:.60}") from None
        check_numbers(f"--argument {name:.60}", arguments[name])
    return arguments


argument_option = click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    callback=parse_arguments,
    help="Keyword argument of the backbone's function. Repeatable.",
)
weights_option = click.option(
    "--weights", type=LOCATION, metavar="FILE", help="Weights of the backbone: a checkpoint or safetensors file."
)
"""Options of the commands that take a backbone."""
