"""Models of kind `python`: modules that a function of the user's makes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from esv_ray.core.model import VideoModel, multiscale_model, variable_length_model
from esv_ray.errors import ModelError
from esv_ray.models.manifest import BundleManifest

_NOT_FACTORIES = frozenset(sys.stdlib_module_names) | {
    *("click", "esv_ray", "fsspec", "numpy", "pip", "pyarrow", "pydantic", "ray", "s3fs", "safetensors", "setuptools"),
    *("torch", "yaml"),
}
"""Packages that are on every machine where a job runs and that make no model."""


def model_from_factory(manifest: BundleManifest, prior: Tensor) -> VideoModel:
    """Call the factory of a `python` model: a mapping {s: module} or one variable-length module."""
    package, colon, name = (manifest.factory or "").partition(":")
    if not colon or not package or not name or package.startswith("."):
        raise ModelError(f"factory: expected package.module:function, got {manifest.factory!r:.100}")
    if package.partition(".")[0] in _NOT_FACTORIES:
        # A bundle is data: os:system with arguments must not run because somebody's model.json says so.
        raise ModelError(f"factory: expected a function of a package made for it, got {manifest.factory!r:.100}")
    try:
        made = getattr(importlib.import_module(package), name)(**manifest.arguments)
    except Exception as error:
        raise ModelError(
            f"factory: cannot make the model with {manifest.factory:.100}: {_one_line(error)}; is it installed where "
            "the job runs, and do `arguments` fit it?"
        ) from error
    dim = manifest.feature_dim
    if isinstance(made, Mapping) and all(isinstance(s, int) and isinstance(m, nn.Module) for s, m in made.items()):
        model = multiscale_model(dict(made), prior, feature_dim=dim)
        if manifest.n_max is not None and model.n_max != manifest.n_max:
            raise ModelError(f"factory: expected heads up to n_max = {manifest.n_max}, got {model.n_max}")
        probes = [(s, module) for s, module in sorted(made.items())]
    elif isinstance(made, nn.Module):
        model = variable_length_model(made, prior, feature_dim=dim)
        probes = [(1, made), (2, made)]
    else:
        raise ModelError(f"factory: expected a mapping {{s: module}} or a module, got {type(made).__name__}")
    for s, module in probes:
        _probe(module, s, model, manifest)
    return model


@torch.no_grad()
def _probe(module: nn.Module, s: int, model: VideoModel, manifest: BundleManifest) -> None:
    """Two sequences of zeros through a module of the user's: what it takes and gives is known before any job starts."""
    try:
        out = module(torch.zeros((2, s, manifest.feature_dim), dtype=model.dtype))
    except Exception as error:
        raise ModelError(
            f"factory: the module of scale {s} fails on features (2, {s}, {manifest.feature_dim}): {_one_line(error)}"
        ) from error
    shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if shape != (2, manifest.n_classes):
        raise ModelError(
            f"factory: expected logits (N, {manifest.n_classes}) for features (N, {s}, {manifest.feature_dim}), got "
            f"{shape} for N = 2"
        )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
