"""The sources of `esv import model`: their options, and the functions that read them.

A further source is a function here and an entry in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from esv_ray.cli.factory_arguments import parse_arguments
from esv_ray.cli.options import check_code, parse_size
from esv_ray.cli.types import LOCATION, Count, Real

if TYPE_CHECKING:
    from esv_ray.models.sources.imported import Imported


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    """Keep the value of an option for `read_model`; the command has no parameter for it."""
    context.meta[f"{__name__}.{option.name}"] = value


def _kept(parse: Callable[..., object]) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that keeps what another callback returns."""
    return lambda context, option, value: _keep(context, option, parse(context, option, value))


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
    help="How a TRN of trn-pytorch, epic-kitchens or mmaction2 combines its scales in subsequences shorter than the "
    "longest scale.",
)
OVER = click.Option(
    ["--over"],
    type=click.Choice(["logits", "probabilities"]),
    default="logits",
    show_default=True,
    callback=_keep,
    expose_value=False,
    help="What a model imported from linear, or a TSN from mmaction2, averages over elements.",
)
LAYER = click.Option(
    ["--layer"],
    metavar="NAME",
    callback=_keep,
    expose_value=False,
    help="With linear: name of the last linear layer, e.g. fc; without it, the layers of the file are listed.",
)
CODE = click.Option(
    ["--code"],
    multiple=True,
    metavar="PACKAGE",
    callback=_kept(check_code),
    expose_value=False,
    help="Allow code of this Python package, or module, to run (with --from module). Repeatable.",
)
ARGUMENT = click.Option(
    ["--argument"],
    multiple=True,
    metavar="NAME=VALUE",
    callback=_kept(parse_arguments),
    expose_value=False,
    help="Keyword argument of the factory (with --from module); values as in --set. Repeatable.",
)
WEIGHTS = click.Option(
    ["--weights"],
    type=LOCATION,
    metavar="FILE",
    callback=_keep,
    expose_value=False,
    help="Safetensors file or torch checkpoint with the weights of the modules (with --from module); the bundle "
    "gets a copy.",
)
FEATURE_DIM = click.Option(
    ["--feature-dim"],
    type=Count(min=1, max=2**24),
    callback=_keep,
    expose_value=False,
    help="Number of features per element, D (with --from module). Default: found by running the module.",
)
SIZE = click.Option(
    ["--size"],
    metavar="PIXELS",
    callback=_kept(parse_size),
    expose_value=False,
    help="The modules take images of this size, PIXELS or HEIGHTxWIDTH (with --from module), as esv extract --backbone "
    "pixels makes them.",
)
CLIP = click.Option(
    ["--clip"],
    type=Count(min=1),
    callback=_keep,
    expose_value=False,
    help="With --size: an element is a clip of this many images.",
)
ATTENTION_HEADS = click.Option(
    ["--attention-heads"],
    type=Count(min=1),
    callback=_keep,
    expose_value=False,
    help="Number of attention heads of an attentive probe; its checkpoint does not say.",
)


SCALE = click.Option(
    ["--scale"],
    type=Real(min=0, min_open=True),
    callback=_keep,
    expose_value=False,
    help="Factor of the logits of a zero-shot classifier; default: logit_scale of the file, or 100 if it has none.",
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

    return read_trn(files[0], source=source, combine=options["combine"], over=options.get("over", "logits"))


def _linear(source: str, files: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.linear import read_linear

    return read_linear(files[0], layer=options["layer"], over=options["over"])


def _attention(source: str, files: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.attention import read_attention

    return read_attention(files[0], source=source)


def _attentive_probe(source: str, files: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.attentive_probe import read_attentive_probe

    if options["attention_heads"] is None:
        raise click.UsageError("expected --attention-heads N: the checkpoint of an attentive probe does not record it")
    return read_attentive_probe(files[0], attention_heads=options["attention_heads"])


def _clip(source: str, files: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.clip import read_clip

    return read_clip(files[0], scale=options["scale"])


def _module(source: str, names: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.module import read_module

    size, clip, dim = options["size"], options["clip"] or 1, options["feature_dim"]
    if size is None and options["clip"] is not None:
        raise click.UsageError("--clip: expected --size, too: it is for modules of images")
    if size is not None and dim is not None:
        raise click.UsageError("--feature-dim: expected either --size, of images, or --feature-dim, of vectors")
    height_and_width = None if size is None else tuple(size) * (3 - len(size))
    shape = None if height_and_width is None else (*([clip] if clip > 1 else []), *height_and_width, 3)
    return read_module(
        names[0],
        code=options["code"],
        arguments=options["argument"],
        weights=options["weights"],
        feature_dim=dim,
        shape=shape,
    )


def _huggingface(source: str, folders: Sequence[str], options: Mapping[str, Any]) -> Imported:
    from esv_ray.models.sources.huggingface import read_huggingface

    return read_huggingface(folders[0])


SOURCES = {
    "play-fair": Source(_play_fair, (INPUT_RELU,), several=True),
    "trn-pytorch": Source(_trn, (COMBINE,)),
    "epic-kitchens": Source(_trn, (COMBINE,)),
    "mmaction2": Source(_trn, (COMBINE, OVER)),
    "linear": Source(_linear, (LAYER, OVER)),
    "clip": Source(_clip, (SCALE,), noun="file of text embeddings"),
    "abmil": Source(_attention),
    "clam": Source(_attention),
    "attentive-probe": Source(_attentive_probe, (ATTENTION_HEADS,)),
    "huggingface": Source(_huggingface, noun="folder"),
    "module": Source(_module, (CODE, ARGUMENT, WEIGHTS, FEATURE_DIM, SIZE, CLIP), noun="factory"),
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
