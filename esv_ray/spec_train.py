"""The spec of a training run: which heads to train, on which feature table, how, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.spec import ClusterSpec, Columns, Frozen, JobSpec, Labels, Source, load_as, section
from esv_ray.spec_columns import OWN_NAMES
from esv_ray.spec_values import (
    Location,
    Number,
    Positive,
    ShareOrLocation,
    Truth,
    Whole,
    bytes_or_auto,
    number,
    one_or_many,
    whole_or_auto,
)

PRESETS: Mapping[str, Mapping[str, object]] = {
    # configs/feature_multiscale_trn.jsonnet of the authors' code: heads of scales 1 to 8, each trained alone.
    "play-fair": {
        "n_max": 8,
        "hidden": 256,
        "hidden_layers": 1,
        "dropout": 0.1,
        "batch_norm": False,
        "input_relu": False,
    }
}
"""Keys that a preset sets."""


class TrainClusterSpec(ClusterSpec):
    """Where a training runs: in the process of the command, unless actors or a cluster are asked for.

    Attributes:
        actors: most actors, each of which trains one head at a time; `auto`: as many as the cluster holds.
    """

    actors: Annotated[Annotated[Whole, Field(ge=0)] | Literal["auto"], BeforeValidator(whole_or_auto)] = 0

    @model_validator(mode="before")
    @classmethod
    def _of_a_cluster(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("address") is not None and "actors" not in values:
            return {**values, "actors": "auto"}
        return values

    def on(self, address: str) -> Self:
        """Return the same on a Ray cluster, with as many actors as it holds unless their number is given."""
        actors = {} if "actors" in self.model_fields_set else {"actors": "auto"}
        return self.model_copy(update={"address": address, **actors})


def _bytes(value: object) -> object:
    """Read a number of bytes."""
    if value == "auto":
        raise ValueError("expected a number of bytes, such as 500MB or 2GB, got 'auto'")
    return bytes_or_auto(value)


def _widths(value: object) -> object:
    """Read one width, or a list of them."""
    return tuple(value) if isinstance(value, list) else value


def _weights(value: object) -> object:
    """Read `balanced`, or one weight per class."""
    if value is None or value == "balanced":
        return value
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected balanced, or a list of one number per class, got {value!r:.80}")
    return tuple(number(weight, "weights that are numbers") for weight in one_or_many(value))


def _some_weight(weights: tuple[float, ...] | str | None) -> tuple[float, ...] | str | None:
    if isinstance(weights, tuple) and (not all(0 <= weight < float("inf") for weight in weights) or not sum(weights)):
        raise ValueError(f"expected weights >= 0, some of them above 0, got {list(weights)!r:.80}")
    return weights


class TrainSpec(Frozen):
    """A training of multi-scale MLP heads; the documentation of the training spec describes the keys.

    Attributes:
        features: feature table with labels.
        columns: names of the columns of both feature tables that differ from their own.
        feature_dim: D; required if `features` are flat lists of T * D numbers, whose type does not give D.
        output: where the model bundle goes.
        preset: a published set of keys (`PRESETS`).
        validation: another feature table, or the share of the training videos to hold out.
        unlabelled: labels that mark videos without a label; training skips those videos.
        classes: CSV (header name,id) with the class names; null: no names.
        n_classes: C; null: as many as `classes` names, else the largest label plus one.
        class_weights: class weights of the loss; null: all 1; `balanced`: inverse to the number of training videos; or
            C numbers.
        n_max: scale of the longest head.
        hidden: width of each hidden layer, or one number per layer.
        hidden_layers, batch_norm, input_relu, dropout: of the heads, as in the paper's models.
        epochs: most passes over the training videos.
        patience: epochs without a better validation loss after which a head's training stops.
        batch, learning_rate, weight_decay: of AdamW.
        schedule: how the learning rate changes: `constant`, `cosine` to 0 at the last epoch, or `step`.
        warmup: epochs in which the learning rate grows from 0, linearly.
        step_epochs, step_factor: for `step`: every `step_epochs` epochs, the learning rate is multiplied by the factor.
        precision: of the products in training: `float32`, `bfloat16` (autocast), `auto`: bfloat16 on GPUs.
        shuffle_buffer: bytes of features that are shuffled together; a larger table is streamed.
        seed: fixes split, initial weights and the subsequences drawn.
        seeds: number of seeds, counted up from `seed`; per scale the head with the lowest validation loss is kept.
        threads: torch threads of each actor.
        cluster: where the heads are trained.
    """

    features: Location
    columns: Columns = OWN_NAMES
    feature_dim: Positive | None = None
    output: Location
    preset: Literal["play-fair"] | None = None
    validation: ShareOrLocation = 0.1
    unlabelled: Labels = ()
    classes: Location | None = None
    n_classes: Positive | None = None
    class_weights: Annotated[
        tuple[float, ...] | Literal["balanced"] | None, BeforeValidator(_weights), AfterValidator(_some_weight)
    ] = None
    n_max: Positive = 8
    hidden: Annotated[Positive | tuple[Positive, ...], BeforeValidator(_widths)] = 256
    hidden_layers: Annotated[Whole, Field(ge=0)] = 1
    batch_norm: Truth = False
    input_relu: Truth = False
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    epochs: Positive = 100
    patience: Positive = 10
    batch: Positive = 128
    learning_rate: Annotated[Number, Field(gt=0, allow_inf_nan=False)] = 1e-3
    weight_decay: Annotated[Number, Field(ge=0, allow_inf_nan=False)] = 1e-4
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup: Annotated[Number, Field(ge=0, allow_inf_nan=False)] = 0.0
    step_epochs: Positive = 30
    step_factor: Annotated[Number, Field(gt=0, le=1)] = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    shuffle_buffer: Annotated[Positive, BeforeValidator(_bytes)] = 10**9
    seed: Whole = 0
    seeds: Positive = 1
    threads: Positive = 1
    cluster: Annotated[TrainClusterSpec, BeforeValidator(section)] = TrainClusterSpec()

    @model_validator(mode="before")
    @classmethod
    def _of_a_preset(cls, values: Any) -> Any:
        keys = PRESETS.get(str(values.get("preset")), {}) if isinstance(values, Mapping) else {}
        differ = [key for key in keys if key in values and values[key] != keys[key]]
        if differ:
            raise ValueError(
                f"{differ[0]}: expected {keys[differ[0]]}, as in the preset {values['preset']}, got "
                f"{values[differ[0]]!r:.60}; leave the key or the preset out"
            )
        return {**keys, **values} if keys else values

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.batch_norm and self.batch == 1:
            raise ValueError("batch: expected at least 2 with batch_norm, because a single row has no variance, got 1")
        if isinstance(self.hidden, tuple) and self.hidden_layers not in (1, len(self.hidden)):  # 1 is the default
            raise ValueError(
                f"hidden_layers: a list of widths ({list(self.hidden)!r:.60}) determines the number of layers; leave "
                "hidden_layers out"
            )
        if self.warmup > self.epochs:
            raise ValueError(f"warmup: expected at most epochs = {self.epochs}, got {self.warmup:g}")
        return self

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return self.hidden if isinstance(self.hidden, tuple) else (self.hidden,) * self.hidden_layers

    @property
    def head_seeds(self) -> tuple[int, ...]:
        """Seeds of the heads of each scale."""
        return tuple(range(self.seed, self.seed + self.seeds))


def load_train_spec(source: Source = None, overrides: Iterable[str] = (), *, code: Iterable[str] = ()) -> TrainSpec:
    """Load and validate a training spec; arguments and errors as for `spec.load_spec`.

    Args:
        source, overrides: as for `spec.load_spec`.
        code: must be empty: a training runs no code of other packages.
    """
    if tuple(code):
        raise SpecError(
            f"--code: expected none, because training runs no code of packages, got {', '.join(code)}; leave it out"
        )
    spec = load_as(TrainSpec, source, overrides)
    places = {
        key: storage.absolute(value)
        for key in ("features", "validation", "classes", "output")
        if isinstance(value := getattr(spec, key), str)
    }
    return spec.model_copy(update=places)


MARKS = frozenset(TrainSpec.model_fields) - frozenset(JobSpec.model_fields)
"""Keys that only the spec of a training has."""


def train_keys(spec: TrainSpec) -> dict[str, object]:
    """Return the keys on which the heads depend, besides the videos and the names of the classes."""
    free = {"features", "columns", "feature_dim", "output", "preset", "classes", "cluster", "validation"}
    values = spec.model_dump(mode="json", exclude=free)
    values["hidden"] = list(spec.hidden_dims)
    del values["hidden_layers"]
    values["validation"] = spec.validation if isinstance(spec.validation, float) else "a table"
    return values
