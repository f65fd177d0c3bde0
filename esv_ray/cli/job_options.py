"""What `esv attribute` and `esv plan` are both told: the job, as a SPEC or by options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esv_ray.cli.types import LOCATION, NAME, LocalPath
from esv_ray.consent import check_packages
from esv_ray.errors import SpecError

if TYPE_CHECKING:
    from esv_ray.spec import JobSpec

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _of_ray(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and context.params.get("kubernetes"):
        raise click.UsageError("--address is a Ray cluster's, and --kubernetes starts one of the job's own")
    return value


def _of_kubernetes(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not context.params.get("kubernetes", True):
        raise click.UsageError(f"{parameter.opts[0]} goes with --kubernetes")
    return value


def _namespace(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if _of_kubernetes(context, parameter, value) is None:
        return None
    from esv_ray.submit.kubernetes.manifest_options import check_namespace

    return check_namespace(str(value))


def _packages(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return check_packages(value)
    except ValueError as error:
        raise SpecError(f"--code: {error}; repeat the option for another") from None


# On every command that loads a model bundle, and nowhere taken from data: not from a bundle, not from a run.json.
code_option = click.option(
    "--code",
    multiple=True,
    metavar="PACKAGE",
    callback=_packages,
    help="Allow code of this Python package to make the model (bundles of kind python). Repeatable.",
)

address_option = click.option(
    "--address",
    type=NAME,
    metavar="URL",
    callback=_of_ray,
    help="The cluster's dashboard, http://HEAD:8265; by default $RAY_API_SERVER_ADDRESS, or this machine's cluster.",
)


# Eager: what goes with it, and what does not, is known when the other options are read.
kubernetes_option = click.option(
    "--kubernetes", is_flag=True, is_eager=True, help="A RayJob on Kubernetes, through kubectl."
)
namespace_option = click.option(
    "--namespace", "-n", metavar="NAME", callback=_namespace, help="Of Kubernetes; by default kubectl's own."
)
overlay_option = click.option(
    "--overlay",
    type=LocalPath(),
    callback=_of_kubernetes,
    help="Of k8s/overlays: base (default), gpu, spot, kueue, cpu-local; or a folder of your own.",
)
image_option = click.option(
    "--image", callback=_of_kubernetes, help="In place of the overlay's esv-ray image; give it a tag."
)


def job_options(command: _Command) -> _Command:
    """The argument SPEC and the options that set or override its keys."""
    options = [
        click.argument("spec", type=LOCATION, required=False),
        click.option(
            "--features",
            type=LOCATION,
            metavar="URL",
            help="Feature table: a Parquet file, a directory of them, or a glob.",
        ),
        click.option("--model", type=LOCATION, metavar="URL", help="Model bundle (a directory with model.json)."),
        click.option("--output", type=LOCATION, metavar="URL", help="Where the attribution tables go."),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set any key of the spec. Repeatable."
        ),
        code_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def given_places(spec: str | None, places: Mapping[str, str | None], overrides: Sequence[str]) -> list[str]:
    """The places that options of their own name, as overrides.

    Args:
        spec: a file, which may name the others.
        places: key to location.
        overrides: of ``--set``, which may name them, too.

    Raises:
        UsageError: there is no file, and nothing else names one of them.
    """
    from esv_ray.spec_yaml import write_text

    named = {override.partition("=")[0].strip() for override in overrides}
    lacking = [f"--{key}" for key, url in places.items() if url is None and key not in named]
    if spec is None and lacking:
        *most, last = (f"--{key}" for key in places)
        raise click.UsageError(f"expected a SPEC, or {', '.join(most)} and {last}; missing {', '.join(lacking)}")
    return [f"{key}={write_text(url)}" for key, url in places.items() if url is not None]


def read_job(
    spec: str | None,
    features: str | None,
    model: str | None,
    output: str | None,
    overrides: tuple[str, ...],
    code: tuple[str, ...],
) -> JobSpec:
    """The job that the options ask for.

    Raises:
        UsageError: neither a SPEC nor all three places are given, by options or by ``--set``.
        EsvError: the spec is wrong, or cannot be read.
    """
    from esv_ray.spec import load_spec

    given = given_places(spec, {"features": features, "model": model, "output": output}, overrides)
    return load_spec(spec, [*given, *overrides], code=code)
