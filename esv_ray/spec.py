"""Specs of jobs: YAML in, frozen and validated specs out. `spec_train` and `spec_extract` have those of other work.

Only `load_spec` and its like build specs; later code does not check them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from esv_ray import storage
from esv_ray.consent import check_packages
from esv_ray.errors import SpecError
from esv_ray.estimator import Estimator, Kind, Output
from esv_ray.spec_columns import OWN_NAMES, ColumnNames
from esv_ray.spec_text import apply_override, check_numbers, describe_error, read_yaml
from esv_ray.spec_values import (
    Location,
    Number,
    Positive,
    Text,
    Whole,
    bytes_or_auto,
    class_choices,
    one_or_many,
    share_or_auto,
    whole_number,
    whole_or_auto,
)


def packages(value: object) -> tuple[str, ...]:
    """Read the names of packages whose code may run."""
    return check_packages(one_or_many(value) if isinstance(value, str) else value)


def section(value: object) -> object:
    """Read a section; one without keys, or with all keys commented out, is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping | BaseModel):
        raise ValueError(f"expected a mapping (nested keys), got {value!r:.60}")
    return value


def _ascending(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Return numbers in ascending order, each once: another order must not change the job's fingerprint."""
    if not numbers:
        raise ValueError("expected at least one number")
    return tuple(sorted(set(numbers)))


Columns = Annotated[ColumnNames, BeforeValidator(section)]


class Frozen(BaseModel):
    """A section of a spec: unknown keys are refused, and values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EstimatorSpec(Frozen):
    """The keys of an `estimator.Estimator`, as a spec may write them."""

    kind: Kind = Estimator.kind
    m: Positive = Estimator.m
    iterations: Positive = Estimator.iterations
    seed: Whole = Estimator.seed
    tolerance: Annotated[Number, Field(gt=0, allow_inf_nan=False)] | None = Estimator.tolerance
    max_iterations: Positive = Estimator.max_iterations
    output: Output = Estimator.output

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.request()
        except SpecError as error:
            raise ValueError(str(error).removeprefix("estimator: ")) from None
        return self

    def request(self) -> Estimator:
        """Return the request for this estimator."""
        return Estimator(**self.model_dump())


class VariationSpec(Frozen):
    """Settings of the tables of variations.

    Attributes:
        offsets: of `smoothness`: by how many frames an element is moved, both ways.
        shuffles: of `order`: number of random orders.
        steps: of the method `integrated_gradients`: points of its integration.
    """

    offsets: Annotated[tuple[Positive, ...], BeforeValidator(one_or_many), AfterValidator(_ascending)] = (1, 2, 3)
    shuffles: Positive = 8
    steps: Positive = 50


class ComputeSpec(Frozen):
    """Settings of the computation that change results by rounding only.

    Attributes:
        dtype: dtype of the computation; tables are float32.
        batch: videos of equal length that are computed together; `auto`: depends on the length.
        threads: torch threads of an actor.
        unit: rows of a unit, the piece of work that is committed whole; `auto`: depends on the size of the table.
        memory_budget: bytes, or a text such as 2GB, that the work of an actor may take; a video that would take more is
            sampled if the estimator is `auto`, else fails. `auto`: depends on the machine or device that plans the job.
        matmul: precision of matrix products on GPUs that support a faster one: torch's `highest` (float32), `high`
            (TF32) or `medium` (bfloat16).
    """

    dtype: Literal["float32", "float64"] = "float32"
    batch: Annotated[Positive | Literal["auto"], BeforeValidator(whole_or_auto)] = "auto"
    threads: Positive = 1
    unit: Annotated[Positive | Literal["auto"], BeforeValidator(whole_or_auto)] = "auto"
    memory_budget: Annotated[Positive | Literal["auto"], BeforeValidator(bytes_or_auto)] = "auto"
    matmul: Literal["highest", "high", "medium"] = "highest"


class ClusterSpec(Frozen):
    """Where a job runs. Results do not depend on it, except that a machine's actors share the default memory budget.

    Attributes:
        address: null: this machine; `auto` or an address: a running Ray cluster.
        actors: `auto`: as many as the cluster's GPUs hold, or its cores if it has no GPU, updated as nodes join and
            leave; a number: the most, which is requested from an autoscaler; 0: in this process, without Ray.
        gpus_per_actor: share of a GPU per actor; 0: no GPU; `auto`: a whole one if the cluster has any.
        stall_timeout: seconds without a finished batch of videos or a call of a module of the model after which an
            actor is ended and its units are bisected; null: never.
    """

    address: Text | None = None
    actors: Annotated[Annotated[Whole, Field(ge=0)] | Literal["auto"], BeforeValidator(whole_or_auto)] = "auto"
    gpus_per_actor: Annotated[
        Annotated[Number, Field(ge=0, le=1, allow_inf_nan=False)] | Literal["auto"], BeforeValidator(share_or_auto)
    ] = "auto"
    stall_timeout: Annotated[Number, Field(gt=0, allow_inf_nan=False)] | None = 600.0

    @field_validator("address")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address is not None and address.startswith(("http://", "https://")):
            raise ValueError(
                f"expected auto, HOST:PORT or ray://HOST:PORT, got {address!r:.100}; the URL of a cluster's dashboard "
                "is for esv submit --address"
            )
        return address

    def on(self, address: str) -> Self:
        """Return the same on a Ray cluster."""
        return self.model_copy(update={"address": address})


# Sorted, each once: the order has no meaning and must not change the fingerprint of the job.
Labels = Annotated[
    tuple[Whole, ...], BeforeValidator(one_or_many), AfterValidator(lambda labels: tuple(sorted(set(labels))))
]


MethodName = Literal["esv", "integrated_gradients", "grad_cam", "occlusion", "random"]


def _with_esv(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods in the order of the documentation: another order must not change the job's fingerprint."""
    if "esv" not in methods:
        raise ValueError(f"expected esv among the methods, got {', '.join(methods)}; add it: the others go beside it")
    return tuple(name for name in get_args(MethodName) if name in methods)


Table = Literal["marginals", "interactions", "discards", "replacements", "smoothness", "order", "sanity"]


def _each_once(tables: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tables in the order of the documentation: another order must not change the job's fingerprint."""
    return tuple(name for name in get_args(Table) if name in tables)


_FRAMES = "numbers of frames >= 1, `all`, or a list of numbers and `all`"


class JobSpec(Frozen):
    """An attribution job; the documentation of the job spec describes the keys.

    Attributes:
        columns: names of the feature table's columns that differ from its own.
        sampling: which frames are sampled: the middle one of each of n segments, or one at random.
        code: Python packages whose code may run to build the model; results do not depend on it.
        classes: whose ESVs are kept; a job replaces the names of classes by their ids when it is checked.
        unlabelled: labels that mark videos without a label, such as -1 or 255.
        methods: methods of attribution: `esv`, and others for comparison.
        tables: tables that are written beside the videos and their ESVs.
    """

    features: Location
    columns: Columns = OWN_NAMES
    model: Location
    output: Location
    code: Annotated[tuple[str, ...], BeforeValidator(packages)] = ()
    frames: Literal["all"] | tuple[Positive | Literal["all"], ...] = "all"
    short: Literal["all", "skip"] = "all"
    sampling: Literal["uniform", "jittered"] = "uniform"
    max_failed: Annotated[Number, Field(ge=0, le=1)] = 0.01
    unlabelled: Labels = ()
    classes: Annotated[tuple[int | str, ...], BeforeValidator(class_choices)] = ("label", "predicted")
    methods: Annotated[tuple[MethodName, ...], BeforeValidator(one_or_many), AfterValidator(_with_esv)] = ("esv",)
    tables: Annotated[tuple[Table, ...], BeforeValidator(one_or_many), AfterValidator(_each_once)] = ()
    variations: Annotated[VariationSpec, BeforeValidator(section)] = VariationSpec()
    estimator: Annotated[EstimatorSpec, BeforeValidator(section)] = EstimatorSpec()
    compute: Annotated[ComputeSpec, BeforeValidator(section)] = ComputeSpec()
    cluster: Annotated[ClusterSpec, BeforeValidator(section)] = ClusterSpec()

    @field_validator("frames", mode="before")
    @classmethod
    def _frames(cls, value: object) -> object:
        if value == "all":
            return value
        many = one_or_many(value)
        if not many:
            raise ValueError(f"expected {_FRAMES}")
        counts = [whole_number(n, _FRAMES) for n in many if n != "all"]
        if min(counts, default=1) < 1:
            raise ValueError(f"expected {_FRAMES}")
        numbers: tuple[int | str, ...] = tuple(sorted(set(counts)))
        if "all" in many:
            return (*numbers, "all") if numbers else "all"
        return numbers

    @property
    def threads(self) -> int:
        """Torch threads of an actor."""
        return self.compute.threads

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """Numbers of frames at which each video is attributed, ascending; without `all`."""
        return () if self.frames == "all" else tuple(n for n in self.frames if n != "all")

    @property
    def all_frames(self) -> bool:
        """Whether each video is attributed with all of its frames."""
        return "all" in self.frames

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        if "interactions" in self.tables and self.estimator.kind != "exact":
            raise ValueError(
                "tables: interactions need the values of all subsequences: expected estimator.kind exact, got "
                f"{self.estimator.kind}; set it, with at most about 16 frames, or leave interactions out"
            )
        return self


_Spec = TypeVar("_Spec", bound=Frozen)
Source = str | PathLike[str] | Mapping[str, Any] | None


def load_spec(
    source: Source = None, overrides: str | Iterable[str] = (), *, code: str | Collection[str] = ()
) -> JobSpec:
    """Load and validate a job spec.

    Args:
        source: location of a YAML file, or its content as a mapping, or None: overrides only.
        overrides: `key=value` strings, keys dotted (``estimator.m=256``), values in YAML; one or several.
        code: names of packages that are added to those of the spec.

    Raises:
        SpecError: a key is unknown or missing, or a value is invalid; one line with the nearest valid key.
        DataError: the file cannot be read.
    """
    spec = load_as(JobSpec, source, overrides)
    places = {key: storage.absolute(getattr(spec, key)) for key in ("features", "model", "output")}
    return spec.model_copy(update={**places, "code": with_consent(spec.code, code)})


def with_consent(own: Sequence[str], code: object) -> tuple[str, ...]:
    """Return the packages of a spec and those that the caller adds, each once.

    Raises:
        SpecError: one is not the name of a package.
    """
    try:
        return tuple(dict.fromkeys((*own, *check_packages(code))))
    except ValueError as error:
        raise SpecError(f"code: {error}") from None


def with_memory_budget(spec: JobSpec, size: int) -> JobSpec:
    """Return the spec with a memory budget in bytes."""
    return spec.model_copy(update={"compute": spec.compute.model_copy(update={"memory_budget": size})})


# Keys that earlier versions did not have: with these values a job is the one that it was before, and can be resumed.
_LATER = {"sampling": "uniform"}


def job_keys(spec: JobSpec) -> dict[str, object]:
    """Return the keys of a job on which its results depend, flat: {"estimator.m": 1024, ...}.

    The caller adds the hash of the model's bundle, since its location does not matter. The output's location, the
    packages whose code may run, the allowed failures and the cluster do not change results.
    """
    free = {"model", "output", "code", "max_failed", "cluster"}
    values = spec.model_dump(mode="json")
    flat: dict[str, object] = {}
    for key, value in values.items():
        if key not in free:
            inner = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else None
            flat.update({key: value} if inner is None else inner)
    return {key: value for key, value in flat.items() if key not in _LATER or value != _LATER[key]}


def fingerprint(keys: Mapping[str, object]) -> str:
    """Return a hash of everything that results depend on."""
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:32]


def load_as(kind: type[_Spec], source: Source, overrides: str | Iterable[str]) -> _Spec:
    """Load and validate a spec of a kind; arguments and errors as for `load_spec`."""
    location = "spec"
    values: dict[str, Any] = {}
    if isinstance(source, Mapping):
        values = {key: dict(value) if isinstance(value, Mapping) else value for key, value in source.items()}
    elif source is not None:
        location = storage.given(source, "source")
        values = read_yaml(location)
    for override in [overrides] if isinstance(overrides, str) else overrides:
        apply_override(values, override)
    check_numbers(location, values)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SpecError(f"{location}: {describe_error(kind, error.errors()[0])}") from None
