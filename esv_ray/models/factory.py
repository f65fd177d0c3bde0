"""Models of kind `python`, and `pooled` ones of the user: modules from a decorated function of an allowed package."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

from esv_ray.consent import covers, is_dotted, is_factory
from esv_ray.core.games.images import OfImages
from esv_ray.core.games.model import VideoModel, multiscale_model, pooled_model, variable_length_model
from esv_ray.core.games.pooled import Pooled, PoolingOfImages
from esv_ray.errors import ModelError, short_text
from esv_ray.models.class_tables import few
from esv_ray.models.fixed_length import FixedLength, fixed_lengths
from esv_ray.models.manifest import BundleManifest
from esv_ray.models.module_weights import Modules, load_weights
from esv_ray.models.own_pooling import check_forward, encoded_width, own_pooling
from esv_ray.models.probe import check_modules
from esv_ray.models.user_code import user_code

_MOST_ARGUMENTS = 8  # named in an error
_WHOLE = ("repeat", "zero")  # ways to fill up a sequence that make no new images


def model_from_factory(
    manifest: BundleManifest, prior: Tensor, code: Sequence[str], weights: Mapping[str, Tensor] | None = None
) -> VideoModel:
    """Call the factory of a model.

    Args:
        manifest: names the factory and its keyword arguments.
        prior: (C,), the class prior.
        code: packages whose code may run; no other package is imported.
        weights: for the modules that the factory returns (`module_weights`), or None: it loads them itself.

    Returns:
        The model of the mapping {s: module} or the module of any length that the factory returns, on the CPU.

    Raises:
        ModelError: consent is missing, the factory cannot be called, the weights are those of other modules, or the
            modules are not deterministic.
    """
    make = find_factory(manifest.factory, manifest.arguments, code)
    with working_folder_importable():
        modules = of_elements(make.modules(manifest.arguments, weights), manifest.element_shape)
        with user_code(f"factory: cannot use what {make.name} returns"):
            model = model_of_modules(modules, prior, manifest.feature_dim, pooled=manifest.kind == "pooled")
            if model.n_max is not None and manifest.n_max is not None and model.n_max != manifest.n_max:
                raise ModelError(f"factory: expected heads up to n_max = {manifest.n_max}, got {model.n_max}")
            check_modules(model, called(model, modules), longest=manifest.n_max)
    found = fixed_lengths(model.scorer)
    if manifest.fixed_length is not None and found != manifest.fixed_length:
        raise ModelError(
            f"fixed_length: expected {manifest.fixed_length!r:.200} as model.json says, got {found!r:.200} from the "
            f"module of {make.name}; its code has changed: import the model again"
        )
    return model


def model_of_modules(modules: Modules, prior: Tensor, feature_dim: int, *, pooled: bool) -> VideoModel:
    """Return the model of a mapping {s: module}, of one module of any length, or of one with encode and decode.

    Args:
        modules: what a factory returned.
        prior: (C,).
        feature_dim: D.
        pooled: whether F is decode(sum of encode, number of elements).

    Raises:
        ModelError: there is no module, a pooled one is none, or the prior is not a distribution.
    """
    if pooled:
        pooling = own_pooling(modules)
        width = encoded_width(pooling, feature_dim)
        check_forward(pooling, feature_dim)
        return pooled_model(pooling, prior, feature_dim=feature_dim, width=width)
    if isinstance(modules, nn.Module):
        return variable_length_model(modules, prior, feature_dim=feature_dim)
    return multiscale_model(dict(modules), prior, feature_dim=feature_dim)


def of_elements(modules: Modules, shape: Sequence[int] | None) -> Modules:
    """Return modules that take elements (N, s, D): those of a factory, or, if these take images, in a wrapper.

    Args:
        modules: what a factory returned, with its weights.
        shape: of the images that they take, (H, W, 3), or of clips, (k, H, W, 3); None: vectors.

    Raises:
        ModelError: a module of a fixed length would mix bytes of images.
    """
    if shape is None:
        return modules
    if isinstance(modules, Mapping):
        return {s: OfImages(module, tuple(shape)) for s, module in modules.items()}
    if isinstance(modules, FixedLength) and modules.how not in _WHOLE:
        raise ModelError(
            f"factory: fixed_length of a module of images: expected how='repeat' or how='zero', got {modules.how!r}: "
            "bytes are not interpolated"
        )
    pooling = all(callable(getattr(modules, name, None)) for name in ("encode", "decode"))
    return PoolingOfImages(modules, tuple(shape)) if pooling else OfImages(modules, tuple(shape))


def called(model: VideoModel, modules: Modules) -> Modules:
    """Return the modules of a model whose calls are checked."""
    return model.scorer.pooling if isinstance(model.scorer, Pooled) else modules


@dataclass(frozen=True)
class Factory:
    """A factory whose code may run.

    Attributes:
        name: ``package.module:function``.
        function: decorated with @esv_ray.factory.
    """

    name: str
    function: FunctionType

    def modules(self, arguments: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> Modules:
        """Call the factory, and load the weights into what it returns.

        Args:
            arguments: keyword arguments of the function.
            weights: by name, or None: the factory loads them.

        Raises:
            ModelError: it fails, or returns something else than modules; or the weights are those of other modules.
        """
        with user_code(f"factory: {self.name} failed; check its arguments{_takes(self.function)} and what it reads"):
            returned = self.function(**arguments)
        with user_code(f"factory: cannot use what {self.name} returns"):
            modules = _modules(returned)
            if weights is not None:
                load_weights(modules, weights)
        return modules


def find_factory(factory: str | None, arguments: Mapping[str, Any], code: Sequence[str]) -> Factory:
    """Import a factory of an allowed package.

    Args:
        factory: ``package.module:function``.
        arguments: its keyword arguments, for the error's text.
        code: packages whose code may run; no other package is imported.

    Raises:
        ModelError: consent is missing, or it is not a decorated function of an allowed package.
    """
    module, name = _parse(factory)
    if not covers(code, module):
        raise ModelError(_consent_missing(module, name, arguments, code))
    with working_folder_importable():
        return Factory(f"{module}:{name}", _import(module, name, code))


@contextmanager
def working_folder_importable() -> Iterator[None]:
    """Make modules in the working folder importable, before any others, as ``python -m`` does.

    For as long as code runs to which the user has consented: what esv_ray itself imports never comes from there.
    """
    folder = _working_folder()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the code may change the list, too
            sys.path.remove(folder)


def _working_folder() -> str:
    """Return the folder where the command was started; `.` if it has been removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return "."


def _modules(returned: object) -> Modules:
    """Return what a factory returned, if it is modules.

    Raises:
        ModelError: it is something else, or an empty mapping; or a key is no scale.
    """
    containers = nn.ModuleDict | nn.ModuleList
    if isinstance(returned, nn.Module) and not isinstance(returned, containers):
        return returned
    if isinstance(returned, Mapping) and all(
        type(s) is int and s >= 1 and isinstance(module, nn.Module) for s, module in returned.items()
    ):
        if returned:
            return dict(returned)
        raise ModelError("factory: expected a mapping {s: module} or a module, got a mapping without modules")
    raise ModelError(f"factory: expected a mapping {{s: module}} or a module, got {_no_modules(returned)}")


def _no_modules(returned: object) -> str:
    """Return what a factory returned in the place of modules, and what to return if it is near."""
    kind = type(returned).__name__
    if isinstance(returned, type):
        return f"the class {returned.__name__}; return an object of it, {returned.__name__}(...)"
    if isinstance(returned, Mapping | nn.ModuleDict):
        keys = few([f"{key!r:.40}" for key in returned], 3)
        return f"{kind} with the keys {keys}; the keys are scales, whole numbers from 1: {{1: module, 2: module}}"
    if isinstance(returned, list | tuple | nn.ModuleList):
        return f"{kind}; name the scale of each module: {{1: module, 2: module}}"
    return kind


def _parse(factory: str | None) -> tuple[str, str]:
    """Split ``package.module:function`` into module and function."""
    module, _, name = (factory or "").partition(":")
    if not is_dotted(module) or not name.isidentifier():
        raise ModelError(f"factory: expected package.module:function, got {factory!r:.100}")
    return module, name


def _consent_missing(module: str, name: str, arguments: Mapping[str, Any], code: Sequence[str]) -> str:
    """Return the message that names the code that would run, and how to allow it."""
    names = [key if key.isidentifier() else repr(key) for key in arguments][:_MOST_ARGUMENTS]
    names += ["..."] if len(arguments) > len(names) else []
    call = f"{module}:{name}({', '.join(f'{argument:.40}' for argument in names)})"
    package = module.partition(".")[0]
    return (
        f"factory: expected consent to run code, got none for {call}{_given(code)}; if you trust the package "
        f"{package}, allow it: --code {package}, or code: [{package}] in the spec, or load_model(..., "
        f"code=[{package!r}])"
    )


def _given(code: Sequence[str]) -> str:
    if not code:
        return ""
    suffix = "; give it without .py" if any(package.endswith(".py") for package in code) else ""
    return f" (only for {few([repr(package)[:40] for package in code], 3)}{suffix})"


def _takes(function: FunctionType) -> str:
    """Return which arguments a factory takes."""
    names = [*inspect.signature(function).parameters]
    return f" (it takes {few(names, _MOST_ARGUMENTS)})" if names else " (it takes none)"


def _import(module: str, name: str, code: Sequence[str]) -> FunctionType:
    """Import the factory, which must be a decorated function of an allowed package."""
    with user_code(f"factory: {module} was found, but an error is raised while it is imported"):
        try:
            home = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # something that the module imports
            raise ModelError(
                f"factory: cannot import {module}, is it installed where the job runs, or in the folder where esv "
                f"starts? {short_text(error, 200)}"
            ) from error
    # Not getattr: a module's __getattr__ could return anything.
    function = vars(home).get(name) if isinstance(home, ModuleType) else None
    if function is None:
        marked = (
            [each for each, value in vars(home).items() if is_factory(value)] if isinstance(home, ModuleType) else []
        )
        has = f"; it has {few(marked, 3)}" if marked else ""
        raise ModelError(
            f"factory: {module} defines no function {name}; expected one decorated with @esv_ray.factory{has}"
        )
    if not is_factory(function):
        raise ModelError(
            f"factory: expected a function decorated with @esv_ray.factory, got {module}:{name}, which is "
            f"{_undecorated(function)}"
        )
    if not covers(code, function.__module__):
        raise ModelError(
            f"factory: {module}:{name} is a function of {function.__module__}, which is not allowed; name that package "
            f"too: --code {function.__module__.partition('.')[0]}"
        )
    return function


def _undecorated(value: object) -> str:
    kind = type(value).__name__
    return "a plain function; write @esv_ray.factory above it" if kind == "function" else f"an object of type {kind}"
