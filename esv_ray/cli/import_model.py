"""The command `esv import model`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import click

from esv_ray.cli.model_sources import SOURCES, own_options, read_model
from esv_ray.cli.options import output_option
from esv_ray.cli.types import LOCATION, PRIOR_SOURCE
from esv_ray.show.text import printable

_NAME = r"[A-Za-z0-9][\w-]*"  # of an output: a folder of the bundle


def _parse_outputs(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, int]]:
    """Parse ``NAME=FROM:TO``."""
    outputs: dict[str, tuple[int, int]] = {}
    for value in values:
        name, sign, _ = value.partition("=")
        if sign and not re.fullmatch(_NAME, name):
            raise click.BadParameter(f"expected a NAME of letters, digits, _ and -, got {name!r} in {value!r}")
        match = re.fullmatch(rf"({_NAME})=([0-9]{{1,7}}):([0-9]{{1,7}})", value)
        if match is None or int(match[2]) >= int(match[3]):
            raise click.BadParameter(f"expected NAME=FROM:TO with FROM below TO, for example verbs=0:97, got {value!r}")
        if match[1] in outputs:
            raise click.BadParameter(f"expected each name once, got {match[1]} twice")
        outputs[match[1]] = int(match[2]), int(match[3])
    return outputs


def _of_output(option: str, values: tuple[str, ...], name: str | None) -> str | None:
    """Return the value of an option for one of the outputs, or for a model without --outputs."""
    if name is None:
        if len(values) > 1:
            raise click.UsageError(f"expected {option} once, got {len(values)} values; several are for --outputs")
        return values[0] if values else None
    given = _named(values, name)
    if len(given) > 1:
        raise click.UsageError(f"expected {option} {name}=... once, got {len(given)}")
    return given[0] if given else None


def _named(values: Sequence[str], name: str) -> list[str]:
    """Return the values of an output, of values ``NAME=VALUE``."""
    return [value.removeprefix(f"{name}=") for value in values if value.startswith(f"{name}=")]


def _check_names(outputs: Mapping[str, object], options: Mapping[str, Sequence[str]]) -> None:
    """Refuse values for outputs that --outputs does not name."""
    for option, values in options.items():
        for value in values:
            if outputs and value.partition("=")[0] not in outputs:
                raise click.UsageError(f"expected {option} NAME=... with NAME of {', '.join(outputs)}, got {value!r}")


@click.command(name="model")
@click.argument("checkpoints", type=LOCATION, nargs=-1, required=True)
@click.option(
    "--from",
    "source",
    type=click.Choice(list(SOURCES)),
    required=True,
    metavar="SOURCE",  # the choices would make a line of the help page too long
    help=f"Layout of the checkpoints, one of {', '.join(name for name in SOURCES if name != 'module')}; or "
    "module: your own PyTorch modules.",
)
@output_option("Location of the model bundle.", into="out", required=True)
@click.option(
    "--prior",
    "priors",
    required=True,
    multiple=True,
    type=PRIOR_SOURCE,
    metavar="SOURCE",
    help="Class prior: a CSV with the header class,prior; uniform; labels:TABLE, the shares of the classes in a "
    "feature table; or model:TABLE, the model's mean output over its videos. With --outputs: NAME=SOURCE for each.",
)
@click.option(
    "--compare-prior",
    "compared",
    multiple=True,
    type=LOCATION,
    metavar="SOURCE",
    help="Another prior, as for --prior: print how it differs. Repeatable. With --outputs: NAME=SOURCE.",
)
@click.option(
    "--classes",
    "class_tables",
    multiple=True,
    type=LOCATION,
    metavar="CSV",
    help="Class names; the header is name,id. With --outputs: NAME=CSV for each. Default: with --prior labels:TABLE, "
    "TABLE/classes.csv if it exists.",
)
@click.option(
    "--outputs",
    multiple=True,
    metavar="NAME=FROM:TO",
    callback=_parse_outputs,
    help="Keep columns FROM to TO - 1 of the outputs, in a bundle OUTPUT/NAME; repeatable. For a model with several "
    "sets of classes, for example verbs=0:97 and nouns=97:397.",
)
@click.pass_context
def import_model(
    context: click.Context,
    checkpoints: tuple[str, ...],
    source: str,
    out: str,
    priors: tuple[str, ...],
    compared: tuple[str, ...],
    class_tables: tuple[str, ...],
    outputs: Mapping[str, tuple[int, int]],
) -> None:
    """Import CHECKPOINTS as a model bundle.

    CHECKPOINTS are torch checkpoints or .safetensors files. What they hold depends on --from:

    \b
      play-fair        one TSN, one joint multi-scale file, or one MLP for each scale 1..n_max
      trn-pytorch      one TRN
      epic-kitchens    one TRN, of verbs and nouns
      mmaction2        one model with a TRNHead or a TSNHead
      linear           any model; --layer names its last layer
      clip             one text embedding per class; also .npy or .npz
      abmil, clam      one model that pools with gated or plain attention
      attentive-probe  one probe with a learned query
      huggingface      the folder of a TimeSformer or a VideoMAE, which take images

    No code in a file runs. For every source but linear and clip, a file with an unknown tensor is refused, because that
    tensor may change the model's output.

    With --from module, the argument is not a checkpoint but the name of a function that returns your PyTorch module,
    package.module:function, in the current folder or an installed package. Its code runs only with --code.

    \b
    Examples:
      esv import model --from play-fair --output models/trn --prior prior.csv trn_1.pth trn_2.pth
      esv import model --from trn-pytorch --output models/trn --prior prior.csv TRN_something.pth.tar
      esv import model --from epic-kitchens --output models/epic trn_rgb.ckpt \\
        --outputs verbs=0:97 --prior verbs=verb-priors.csv \\
        --outputs nouns=97:397 --prior nouns=noun-priors.csv
      esv import model --from linear --layer fc --over probabilities --output models/clips \\
        --prior labels:train.parquet r3d_18.pth
      esv import model --from module my_models:make --code my_models \\
        --weights weights.safetensors --prior prior.csv --output models/own
      esv import model --from huggingface --prior uniform --output models/videomae videomae/
    """
    from esv_ray import storage
    from esv_ray.models.sources.importing import BundleRequest, import_bundles, read_all

    _check_names(outputs, {"--prior": priors, "--classes": class_tables, "--compare-prior": compared})
    requests = []
    kept: list[tuple[str | None, tuple[int, int] | None]] = [*outputs.items()] or [(None, None)]
    for name, columns in kept:
        prior, classes = _of_output("--prior", priors, name), _of_output("--classes", class_tables, name)
        if prior is None:
            raise click.UsageError(f"expected --prior {name}=SOURCE for the output {name}, got none")
        place = out if name is None else storage.join(out, name)
        others = compared if name is None else tuple(_named(compared, name))
        requests.append(BundleRequest(place, prior, classes, columns, others))
    rows = import_bundles(read_all(lambda: read_model(source, checkpoints, context), requests), requests)
    for heading, text in rows:
        click.echo(printable(f"{heading:<8} {text}"))


import_model.params.extend(own_options())
