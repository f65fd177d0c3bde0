"""Options that several commands share, and the dataclasses that their values are passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esv_ray.cli.types import LOCATION, NAME, LocalPath
from esv_ray.consent import check_packages
from esv_ray.errors import SpecError

if TYPE_CHECKING:
    from esv_ray.spec import JobSpec
    from esv_ray.spec_kinds import WorkSpec

_Command = TypeVar("_Command", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class JobArguments:
    """The requested job: a SPEC file, and options that set or override its keys."""

    spec: str | None
    features: str | None
    model: str | None
    output: str | None
    overrides: tuple[str, ...]
    code: tuple[str, ...]


@dataclass(frozen=True)
class RunOptions:
    """Options for failed videos and partitions."""

    retry_failed: bool
    partitions: bool
    ready: str | None

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            UsageError: ``--ready`` is given without ``--partitions``.
        """
        if self.ready is not None and not self.partitions:
            raise click.UsageError("--ready requires --partitions")

    def check_for(self, spec: WorkSpec) -> None:
        """Check that the options go together, and with the kind of a job.

        Raises:
            UsageError: ``--ready`` is given without ``--partitions``, or the job can have no partitions.
            SpecError: ``--ready`` is not the name of a file.
        """
        from esv_ray.spec_kinds import kind_of

        self.check()
        kind = kind_of(spec)
        if self.partitions and not kind.has_partitions:
            raise click.UsageError(f"--partitions is for jobs of esv attribute, not of esv {kind.command}")
        if self.ready is not None:
            from esv_ray.attribution.partitions import check_ready

            check_ready(self.ready)

    def arguments(self) -> list[str]:
        """Return the options as arguments of the job's command."""
        flags = ["--retry-failed"] * self.retry_failed + ["--partitions"] * self.partitions
        return flags + ([] if self.ready is None else ["--ready", self.ready])


@dataclass(frozen=True)
class Target:
    """The target of a submitted job: a Ray cluster, or Kubernetes."""

    address: str | None
    kubernetes: bool
    namespace: str | None


def option_group(into: type[Any], name: str, *options: Decorator) -> Callable[[_Command], _Command]:
    """Return a decorator that adds options to a command and passes their values on as one object.

    Args:
        into: a dataclass whose fields have the names of the options' parameters.
        name: the command's parameter that receives the object.
        options: click's decorators, in the order of the help page.
    """
    keys = [field.name for field in fields(into)]

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def call(*arguments: Any, **values: Any) -> Any:  # click passes every value by keyword
            values[name] = into(**{key: values.pop(key) for key in keys})
            return command(*arguments, **values)

        grouped: Any = call
        for option in reversed(options):
            grouped = option(grouped)
        return grouped  # type: ignore[no-any-return]

    return decorate


def _check_address(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and context.params.get("kubernetes"):
        raise click.UsageError("--address is for a running Ray cluster; --kubernetes starts one for the job")
    return value


def _check_kubernetes(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not context.params.get("kubernetes", True):
        raise click.UsageError(f"{parameter.opts[0]} requires --kubernetes")
    return value


def _check_namespace(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if _check_kubernetes(context, parameter, value) is None:
        return None
    from esv_ray.submit.kubernetes.manifest_options import check_namespace

    return check_namespace(str(value))


def check_code(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages that the option ``--code`` names.

    Raises:
        SpecError: a value is not the name of a package.
    """
    try:
        return check_packages(value)
    except ValueError as error:
        raise SpecError(f"--code: {error}; repeat the option for another package") from None


def output_option(text: str, *, into: str = "output", required: bool = False) -> Decorator:
    """Return the option for what a command writes: --output, and --out for short, everywhere.

    Args:
        text: the line of the help page.
        into: the command's parameter that receives the location.
        required: whether it must be given.
    """
    return click.option("--output", "--out", into, type=LOCATION, metavar="URL", required=required, help=text)


# On every command that loads a model bundle. Consent is never read from data: not from a bundle, not from a run.json.
code_option = click.option(
    "--code",
    multiple=True,
    metavar="PACKAGE",
    callback=check_code,
    help="Allow code of this Python package to build the model (bundles of kind python). Repeatable.",
)
class_option = click.option(
    "--class",
    "class_",
    type=click.Choice(["label", "predicted"]),
    help="Class whose ESVs are used (default: label if the job kept its ESVs for all labeled videos, else predicted).",
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of the spec. Repeatable."
)
address_option = click.option(
    "--address",
    type=NAME,
    metavar="URL",
    callback=_check_address,
    help="URL of the cluster's dashboard, http://HEAD:8265 (default: $RAY_API_SERVER_ADDRESS, else "
    "$RAY_ADDRESS if it is a URL, else this machine's cluster).",
)
# Eager: the checks of the other options need its value.
kubernetes_option = click.option(
    "--kubernetes", is_flag=True, is_eager=True, help="Use a RayJob on Kubernetes, through kubectl."
)
namespace_option = click.option(
    "--namespace",
    "-n",
    metavar="NAME",
    callback=_check_namespace,
    help="Kubernetes namespace (default: the overlay's, if one is used and sets it, else kubectl's current one).",
)
overlay_option = click.option(
    "--overlay",
    type=LocalPath(),
    callback=_check_kubernetes,
    help="Variant of the Kubernetes objects: base (default), gpu, spot, kueue or cpu-local; or a folder of your own "
    "with a kustomization.yaml.",
)
image_option = click.option(
    "--image", callback=_check_kubernetes, help="Image to use instead of the overlay's esv-ray image; include a tag."
)
name_option = click.option(
    "--name", type=NAME, metavar="NAME", help="Name of the job (default: the last part of its output)."
)
retry_failed_option = click.option(
    "--retry-failed", is_flag=True, help="Recompute failed videos only; completed ones are unchanged."
)
partitions_option = click.option(
    "--partitions",
    is_flag=True,
    help="Run each subfolder of the features as a separate job; skip finished ones.",
)
ready_option = click.option(
    "--ready",
    type=NAME,
    metavar="NAME",
    help="With --partitions: only subfolders that contain a file of this name.",
)

job_options = option_group(
    JobArguments,
    "job",
    click.argument("spec", type=LOCATION, required=False),
    click.option(
        "--features",
        type=LOCATION,
        metavar="URL",
        help="Feature table: a Parquet file, a folder of Parquet files, or a glob.",
    ),
    click.option("--model", type=LOCATION, metavar="URL", help="Model bundle (a folder with model.json)."),
    output_option("Location of the attribution tables."),
    set_option,
    code_option,
)
target_options = option_group(Target, "target", address_option, kubernetes_option, namespace_option)
run_options = option_group(RunOptions, "run", retry_failed_option, partitions_option, ready_option)


def location_overrides(spec: str | None, locations: Mapping[str, str | None], overrides: Sequence[str]) -> list[str]:
    """Return the locations that options of their own name, as overrides.

    Args:
        spec: a file, which may name the others.
        locations: by key.
        overrides: values of ``--set``, which may name them, too.

    Raises:
        UsageError: there is no file, and nothing else names one of them.
    """
    from esv_ray.spec_yaml import write_text

    overridden = {override.partition("=")[0].strip() for override in overrides}
    missing = [f"--{key}" for key, url in locations.items() if url is None and key not in overridden]
    if spec is None and missing:
        *others, last = (f"--{key}" for key in locations)
        raise click.UsageError(f"expected a SPEC, or {', '.join(others)} and {last}; missing {', '.join(missing)}")
    return [f"{key}={write_text(url)}" for key, url in locations.items() if url is not None]


def read_job(job: JobArguments) -> JobSpec:
    """Read and check the requested job.

    Raises:
        UsageError: neither a SPEC nor all three locations are given, by options or by ``--set``.
        EsvError: the spec is invalid, of another kind of work, or cannot be read.
    """
    from esv_ray.spec import load_spec
    from esv_ray.spec_kinds import ATTRIBUTION, check_kind

    if job.spec is not None:
        check_kind(job.spec, ATTRIBUTION)
    locations = {"features": job.features, "model": job.model, "output": job.output}
    overrides = location_overrides(job.spec, locations, job.overrides)
    return load_spec(job.spec, [*overrides, *job.overrides], code=job.code)


def read_work(job: JobArguments) -> WorkSpec:
    """Read and check the requested job of any kind; errors as for `read_job`."""
    from esv_ray.spec_kinds import ATTRIBUTION, kind_in

    kind = kind_in(job.spec, job.overrides)
    if kind is ATTRIBUTION:
        return read_job(job)
    locations = {"output": job.output}
    for key, url in (("features", job.features), ("model", job.model)):
        if url is not None and key not in kind.reads:
            raise click.UsageError(f"--{key} is for jobs of esv attribute; this one is of esv {kind.command}")
        locations |= {key: url} if key in kind.reads else {}
    overrides = location_overrides(job.spec or "", locations, job.overrides)
    return kind.load(job.spec, [*overrides, *job.overrides], code=job.code)


def parse_size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse ``224`` or ``HEIGHTxWIDTH``."""
    if value is None:
        return None
    sides = value.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() and 0 < len(side) < 6 for side in sides):
        raise SpecError(f"--size: expected pixels such as 224, or HEIGHTxWIDTH such as 224x320, got {value!r:.60}")
    return tuple(int(side) for side in sides)
