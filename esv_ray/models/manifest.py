"""model.json: the description of a bundle."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

_MOST = 2**24  # largest size that memory is allocated for


class BundleManifest(BaseModel):
    """Content of model.json.

    Attributes:
        format: 1.
        kind: `multiscale`: MLP heads; `average`: TSN; `python`: a factory returns the modules.
        feature_dim: D.
        n_classes: C.
        n_max: longest head; null for a model of any length.
        heads: file names, head of scale 1 first; one file for a TSN; empty for `python`.
        batch_norm, norm_eps, input_relu: layers of the heads.
        factory: ``package.module:function`` of a `python` model.
        arguments: keyword arguments of the factory.
        training: how it was trained; informative only.
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

    format: Literal[1]
    kind: Literal["multiscale", "average", "python"]
    feature_dim: Annotated[StrictInt, Field(ge=1, le=_MOST)]
    n_classes: Annotated[StrictInt, Field(ge=1, le=_MOST)]
    n_max: Annotated[StrictInt, Field(ge=1, le=_MOST)] | None = None
    heads: tuple[str, ...] = ()
    batch_norm: bool = False
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    input_relu: bool = False
    factory: str | None = None
    arguments: dict[str, Any] = {}
    training: dict[str, Any] | None = None
