"""model.json: the description of a bundle."""

from __future__ import annotations

import difflib
import re
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictFloat, StrictInt, Tag, model_validator

from esv_ray.core.games.modules import Over
from esv_ray.core.scales import MOST_WEIGHT

PROJECTION_FILE = "projection.safetensors"
MODULE_FILE = "weights.safetensors"
POOLING_FILE = "pooling.safetensors"
WEIGHTS_FILE = re.compile(r"(?:head-\d+|projection|pooling|weights)\.safetensors")
"""Names of the files with weights."""
TABLE_FILES = ("prior.csv", "classes.csv")
"""Files that a bundle has beside its weights and model.json."""

_MOST = 2**24  # largest size that memory is allocated for
_CHANNELS = 3


class HeadFile(BaseModel):
    """A head of a multi-scale model.

    Attributes:
        file: name of the file with its weights.
        weight: its weight in F (`core.scales.Scales`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    weight: Annotated[StrictFloat | StrictInt, Field(ge=1 / MOST_WEIGHT, le=MOST_WEIGHT)] = 1.0


class PoolingManifest(BaseModel):
    """The pooling of a pooled model (`core.games.pooled`).

    Attributes:
        form: `cosine`: the direction of the mean element (CLIP); `gated_attention`: ABMIL and CLAM;
            `query_attention`: an attentive probe with one learned query.
        attention_heads: of `query_attention`.
        per_class: whether each class of `gated_attention` has an attention head.
        norm_eps: of the layer norms of `query_attention`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["cosine", "gated_attention", "query_attention"]
    attention_heads: Annotated[StrictInt, Field(ge=1, le=_MOST)] = 1
    per_class: bool = False
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5


_Scale = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}$")]

LIST, MAPPING = "list", "mapping"
"""The two forms of `heads`; pydantic names them in the place of an error."""


def _form(heads: object) -> str:
    return LIST if isinstance(heads, list | tuple) else MAPPING


class BundleManifest(BaseModel):
    """Content of model.json.

    Attributes:
        format: 2; bundles of format 1, with `heads` as a list, are read too.
        kind: `multiscale`: MLP heads; `average`: TSN; `pooled`: elements are summed between encode and decode;
            `python`: a factory returns the modules; `transformers`: a network of images of the library `transformers`.
        feature_dim: D.
        element_shape: of elements that are images (H, W, 3), or clips (k, H, W, 3), of D = H * W * 3 bytes; null:
            vectors. A key of the kinds `python`, `pooled` with a factory, and `transformers`.
        n_classes: C.
        n_max: longest head; null for a model of any length.
        heads: file and weight of the head of each scale ("1", "2", ...); for a TSN of scale 1; none for `python`. In
            format 1 a list of file names, head of scale 1 first.
        combine: whether F is the weighted mean over the scales, or the weighted sum. A key of format 2.
        projection: file of the linear layer before the heads, if there is one; absent: the folder says. A key of
            format 2.
        over: what a TSN averages over elements. A key of format 2.
        batch_norm, norm_eps, input_relu: layers of the heads.
        pooling: of a `pooled` model; null: a factory returns a module with encode and decode. A key of format 2.
        factory: ``package.module:function`` of a `python` model, or of a `pooled` one without `pooling`.
        arguments: keyword arguments of the factory.
        weights: file with the weights of a `python` model (null: the factory loads them), or of a network.
        config: configuration of a network, as its config.json has it.
        fixed_length: lengths of the modules in a `python` model that `esv_ray.fixed_length` has made, and how; null:
            not checked.
        training: how it was trained; informative only.
        extraction: what frames must be like before features are extracted from them, as far as the imported files say:
            `mean`, `std`, `color` (RGB or BGR), `size`. A job compares it with what the feature table records.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _misspelled(cls, values: object) -> object:
        """Refuse keys that are close to a known one, probably misspelled; other unknown keys are ignored."""
        for key in values if isinstance(values, dict) else ():
            near = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.8)
            if near and key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; did you mean {near[0]!r}?")
        return values

    @model_validator(mode="after")
    def _heads_of_the_format(self) -> BundleManifest:
        if self.heads and isinstance(self.heads, dict) != (self.format == 2):
            raise ValueError(
                "heads: expected a mapping of scales, as in format 2, got a list"
                if self.format == 2
                else "heads: expected a list of file names, as in format 1, got a mapping"
            )
        return self

    format: Literal[1, 2]
    kind: Literal["multiscale", "average", "pooled", "python", "transformers"]
    feature_dim: Annotated[StrictInt, Field(ge=1, le=_MOST)]
    element_shape: (
        Annotated[list[Annotated[StrictInt, Field(ge=1, le=_MOST)]], Field(min_length=3, max_length=4)] | None
    ) = None
    n_classes: Annotated[StrictInt, Field(ge=1, le=_MOST)]
    n_max: Annotated[StrictInt, Field(ge=1, le=_MOST)] | None = None
    heads: Annotated[
        Annotated[tuple[str, ...], Tag(LIST)] | Annotated[dict[_Scale, HeadFile], Tag(MAPPING)], Discriminator(_form)
    ] = ()
    combine: Literal["mean", "sum"] = "mean"
    projection: Literal["projection.safetensors"] | None = None
    over: Over = "logits"
    batch_norm: bool = False
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    input_relu: bool = False
    pooling: PoolingManifest | None = None
    factory: str | None = None
    arguments: dict[str, Any] = {}
    weights: Literal["weights.safetensors"] | None = None
    config: dict[str, Any] | None = None
    fixed_length: list[dict[str, Any]] | None = None
    training: dict[str, Any] | None = None
    extraction: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _images(self) -> BundleManifest:
        shape = self.element_shape
        if shape is not None and (prod(shape) != self.feature_dim or shape[-1] != _CHANNELS):
            raise ValueError(
                f"element_shape: expected [H, W, 3] or [k, H, W, 3] of {self.feature_dim} bytes, got {shape}"
            )
        if shape is not None and not self.runs_code and self.kind != "transformers":
            raise ValueError(f"element_shape: expected null for the kind {self.kind}, whose elements are vectors")
        if (self.kind == "transformers") != (self.config is not None):
            raise ValueError("config: a key of kind transformers, which needs it")
        if self.kind == "transformers" and (shape is None or self.weights is None):
            raise ValueError("kind transformers needs element_shape and weights")
        return self

    @property
    def head_files(self) -> dict[int, HeadFile]:
        """Files and weights of the heads, by scale."""
        if isinstance(self.heads, dict):
            return {int(s): self.heads[s] for s in sorted(self.heads, key=int)}
        return {s: HeadFile(file=name) for s, name in enumerate(self.heads, start=1)}

    @property
    def runs_code(self) -> bool:
        """Whether a factory builds the model."""
        return self.kind == "python" or (self.kind == "pooled" and self.pooling is None)

    def digested(self) -> dict[str, Any]:
        """Return the keys that the hash of the model covers; informative ones change no number."""
        kept = self.model_dump(exclude={"training", "extraction"})
        del kept["projection"], kept["weights"]  # the hash covers the files
        del kept["fixed_length"]  # the hash covers that of the modules
        if self.format == 1:
            del kept["combine"]  # hashes of older bundles stay as they are
        if self.over == "logits":  # likewise
            del kept["over"]
        for name in ("pooling", "element_shape", "config"):  # keys that older bundles do not have
            if kept[name] is None:
                del kept[name]
        if self.config is not None:
            kept["extraction"] = self.extraction  # a network prepares its images by it
        return kept
