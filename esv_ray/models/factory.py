"""Models of kind `python`, and `pooled` ones of the user: modules from a marked function of an allowed package."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

from esv_ray.consent import covers, is_dotted, is_factory
from esv_ray.core.games.model import VideoModel, multiscale_model, pooled_model, variable_length_model
from esv_ray.core.games.pooled import Pooled
from esv_ray.errors import ModelError
from esv_ray.models.manifest import BundleManifest
from esv_ray.models.own_pooling import check_forward, encoded_width, own_pooling
from esv_ray.models.probe import check_modules
from esv_ray.models.user_code import user_code

_MOST_ARGUMENTS = 8  # named in an error


def model_from_factory(manifest: BundleManifest, prior: Tensor, code: Sequence[str]) -> VideoModel:
    """Call the factory of a model.

    Args:
        manifest: names the factory and its keyword arguments.
        prior: (C,), the class prior.
        code: packages whose code may run; no other package is imported.

    Returns:
        The model of the mapping {s: module} or the module of any length that the factory returns, on the CPU.

    Raises:
        ModelError: consent is missing, the factory cannot be called, or its modules are not deterministic.
    """
    module, name = _parse(manifest.factory)
    if not covers(code, module):
        raise ModelError(_consent_missing(module, name, manifest.arguments))
    make = _import(module, name, code)
    with user_code(f"factory: {module}:{name} failed, check `arguments` and what it reads"):
        returned = make(**manifest.arguments)
    with user_code(f"factory: cannot use what {module}:{name} returns"):
        model = _model(returned, prior, manifest)
        check_modules(model, _called(model, returned), longest=manifest.n_max)
    return model


def _model(returned: object, prior: Tensor, manifest: BundleManifest) -> VideoModel:
    """Create a model from the return value of a factory."""
    if manifest.kind == "pooled":
        pooling = own_pooling(returned)
        width = encoded_width(pooling, manifest.feature_dim)
        check_forward(pooling, manifest.feature_dim)
        return pooled_model(pooling, prior, feature_dim=manifest.feature_dim, width=width)
    if isinstance(returned, nn.Module):
        return variable_length_model(returned, prior, feature_dim=manifest.feature_dim)
    if not isinstance(returned, Mapping) or not all(
        isinstance(s, int) and isinstance(module, nn.Module) for s, module in returned.items()
    ):
        raise ModelError(f"factory: expected a mapping {{s: module}} or a module, got {type(returned).__name__}")
    model = multiscale_model(dict(returned), prior, feature_dim=manifest.feature_dim)
    if manifest.n_max is not None and model.n_max != manifest.n_max:
        raise ModelError(f"factory: expected heads up to n_max = {manifest.n_max}, got {model.n_max}")
    return model


def _called(model: VideoModel, returned: object) -> Mapping[int, nn.Module] | nn.Module:
    """Return the modules whose calls are checked."""
    if isinstance(model.scorer, Pooled):
        return model.scorer.pooling
    assert isinstance(returned, Mapping | nn.Module), "checked by _model"
    return returned


def _parse(factory: str | None) -> tuple[str, str]:
    """Split ``package.module:function`` into module and function."""
    module, _, name = (factory or "").partition(":")
    if not is_dotted(module) or not name.isidentifier():
        raise ModelError(f"factory: expected package.module:function, got {factory!r:.100}")
    return module, name


def _consent_missing(module: str, name: str, arguments: Mapping[str, Any]) -> str:
    """Return the message that names the code that would run, and how to allow it."""
    names = [key if key.isidentifier() else repr(key) for key in arguments][:_MOST_ARGUMENTS]
    names += ["..."] if len(arguments) > len(names) else []
    call = f"{module}:{name}({', '.join(f'{argument:.40}' for argument in names)})"
    package = module.partition(".")[0]
    return (
        f"factory: expected consent to run code, got none for {call}; if you trust the package {package}, allow it: "
        f"--code {package}, or code: [{package}] in the spec, or load_model(..., code=[{package!r}])"
    )


def _import(module: str, name: str, code: Sequence[str]) -> FunctionType:
    """Import the factory, which must be a marked function of an allowed package."""
    with user_code(f"factory: cannot import {module}, is it installed where the job runs?"):
        home = importlib.import_module(module)
    # Not getattr: a module's __getattr__ could return anything.
    function = vars(home).get(name) if isinstance(home, ModuleType) else None
    if function is None:
        raise ModelError(f"factory: {module} defines no function {name}; check `factory` in model.json")
    if not is_factory(function):
        raise ModelError(
            f"factory: expected a function with the mark @esv_ray.factory, got {module}:{name}, which is "
            f"{_without_mark(function)}"
        )
    if not covers(code, function.__module__):
        raise ModelError(
            f"factory: {module}:{name} is a function of {function.__module__}, which is not allowed; name that package "
            f"too: --code {function.__module__.partition('.')[0]}"
        )
    return function


def _without_mark(value: object) -> str:
    kind = type(value).__name__
    return "a function without it" if kind == "function" else f"an object of type {kind}"
