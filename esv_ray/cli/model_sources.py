"""The sources of `esv import model`: their options, and the functions that read them.

A further source is a function here and an entry in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from esv_ray.models.sources.imported import Imported


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    """Keep the value of an option for `read_model`; the command has no parameter for it."""
    context.meta[f"{__name__}.{option.name}"] = value


INPUT_RELU = click.Option(
    ["--input-relu/--no-input-relu"],
    default=True,
    show_default=True,
    callback=_keep,
    expose_value=False,
    help="Whether a TSN of play-fair has a ReLU on its input; its checkpoint does not say.",
)
COMBINE = click.Option(
    ["--combine"],
    type=click.Choice(["sum", "mean"]),
    default="sum",
    show_default=True,
    callback=_keep,
    expose_value=False,
    help="How a TRN of trn-pytorch or mmaction2 combines its scales in subsequences shorter than the longest scale.",
)


@dataclass(frozen=True)
class Source:
    """A source of models.

    Attributes:
        read: reads the model: name of the source, arguments of the command, values of `options` by parameter name.
        options: options of the command that only some sources have; they are made with `callback=_keep,
            expose_value=False`.
        several: whether the model may be in several files.
        noun: what an argument is, for errors.
    """

    read: Callable[[str, Sequence[str], Mapping[str, Any]], Imported]
    options: tuple[click.Option, ...] = ()
    several: bool = False
    noun: str = "checkpoint"


def _play_fair(source: str, files: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.play_fair import read_play_fair

    return read_play_fair(files, input_relu=options["input_relu"])


def _trn(source: str, files: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.trn import read_trn

    return read_trn(files[0], source=source, combine=options["combine"])


SOURCES = {
    "play-fair": Source(_play_fair, (INPUT_RELU,), several=True),
    "trn-pytorch": Source(_trn, (COMBINE,)),
    "epic-kitchens": Source(_trn, (COMBINE,)),
    "mmaction2": Source(_trn, (COMBINE,)),
}
"""By the value of `--from`."""


def own_options() -> list[click.Option]:
    """Return the options that only some sources have."""
    return list(dict.fromkeys(option for source in SOURCES.values() for option in source.options))


def read_model(name: str, arguments: Sequence[str], context: click.Context) -> Imported:
    """Read the model of a source, with the options of the command.

    Raises:
        click.UsageError: an option is of other sources, or there are too many arguments.
        EsvError: the model cannot be read.
    """
    source = SOURCES[name]
    for option in own_options():
        given = option.name is not None and context.get_parameter_source(option.name)
        if given is click.core.ParameterSource.COMMANDLINE and option not in source.options:
            raise click.UsageError(f"{option.opts[0]} has no effect on models of {name}")
    if len(arguments) != 1 and not source.several:
        raise click.UsageError(f"expected one {source.noun} of {name}, the whole model, got {len(arguments)}")
    options = {str(option.name): context.meta[f"{__name__}.{option.name}"] for option in source.options}
    return source.read(name, arguments, options)
