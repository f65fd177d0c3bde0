"""A user's own modules as a model bundle: the factory's name, its arguments and, optionally, the weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from esv_ray import storage
from esv_ray.core.games.images import OfImages, trial_elements
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import ModelError
from esv_ray.input.images import shown_elements
from esv_ray.machine import host_memory
from esv_ray.models.class_tables import few, in_file
from esv_ray.models.factory import find_factory, model_of_modules, of_elements, working_folder_importable
from esv_ray.models.fixed_length import FixedLength, fixed_lengths
from esv_ray.models.module_sizes import dtype_of, feature_dim_of, n_classes_of
from esv_ray.models.module_weights import Modules, load_weights, weights_of
from esv_ray.models.own_pooling import check_forward, own_pooling
from esv_ray.models.probe import check_modules, takes_images
from esv_ray.models.saving import save_python
from esv_ray.models.sources.checkpoint_names import unwrapped
from esv_ray.models.sources.checkpoints import Checkpoint, read_checkpoint
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.notes import unused_rows
from esv_ray.models.user_code import user_code
from esv_ray.models.weights import tensors_of

_SEED = 0
_POOLING = ("encode", "decode")
_ROWS = 2
_LENGTHS = (1, 2, 8, 16)  # at which the modules of two calls are compared
_IMAGE_LENGTHS = (1, 2)  # of modules of images, which take seconds


def read_module(
    factory: str,
    *,
    code: Sequence[str],
    arguments: Mapping[str, Any] | None = None,
    weights: str | None = None,
    feature_dim: int | None = None,
    shape: tuple[int, ...] | None = None,
) -> Imported:
    """Call a factory and check the modules that it returns.

    Args:
        factory: ``package.module:function``, a decorated function.
        code: packages whose code may run; no other package is imported.
        arguments: keyword arguments of the factory; they stand in the bundle.
        weights: location of a safetensors file or a torch checkpoint with the weights, which the bundle gets; None: the
            factory loads them.
        feature_dim: D; None: the only one with which the modules run.
        shape: of the images that the modules take, (H, W, 3), or of clips, (k, H, W, 3); None: they take vectors.

    Raises:
        ModelError: consent is missing, the factory fails, the weights are those of other modules, or the modules break
            a rule of `probe`: draw at random, mix sequences, or do not take every length. Or two calls of the factory
            return different modules.
        DataError: the weights cannot be read.
    """
    arguments = dict(arguments or {})
    _check_no_file(factory)
    make = find_factory(factory, arguments, code)
    unusable = f"factory: cannot use what {make.name} returns"
    with working_folder_importable():
        modules, again = (make.modules(arguments, None) for _ in range(2))
        with user_code(unusable):
            names = [*weights_of(modules)]
    state, read = (
        (None, None) if weights is None else _read_weights(weights, names, by_scale=isinstance(modules, Mapping))
    )
    with working_folder_importable(), user_code(unusable):
        pooled, checked = _checked(make.name, modules, again, state, feature_dim, shape)
    lengths, dim = fixed_lengths(checked.scorer), checked.feature_dim

    def with_prior(prior: Tensor) -> VideoModel:
        return model_of_modules(of_elements(modules, shape), prior, dim, pooled=pooled)

    def save(url: str, prior: Tensor, classes: tuple[str, ...] | None) -> None:
        manifest: dict[str, Any] = {"kind": "pooled" if pooled else "python", "feature_dim": dim}
        manifest |= {"n_max": checked.n_max, "factory": make.name}
        manifest |= {"arguments": arguments, **({"fixed_length": lengths} if lengths else {})}
        manifest |= {} if shape is None else {"element_shape": list(shape)}
        save_python(url, manifest, state, prior, classes=classes)

    allow = " ".join(f"--code {package}" for package in code)
    rows = [("code", f"runs {make.name}({_listed(arguments)}); allow it with {allow} where the model is used")]
    rows += [("weights", _about_weights(weights, state))]
    rows += [] if read is None else unused_rows({read.url: read}, dim)
    if shape is not None:
        rows += [("elements", f"{shown_elements(shape, None)}, {dim} bytes (D)")]
    elif feature_dim is None:
        rows += [("note", f"D = {dim} was found by running the module; --feature-dim sets it")]
    found, f = _described(modules, pooled=pooled)
    return Imported(found, f, dim, checked.n_classes, model=with_prior, save=save, rows=tuple(rows))


def _check_no_file(factory: str) -> None:
    """Refuse the path of a file in the place of a module's name, with the name."""
    module, _, name = factory.rpartition(":")
    if "/" in module or module.endswith(".py"):
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ModelError(
            f"{factory!r:.200}: expected the name of a function, package.module:function, got a file; from the folder "
            f"that has {dotted.partition('.')[0]:.100} in it, give {dotted:.200}:{name:.100}"
        )


def _read_weights(url: str, names: Sequence[str], *, by_scale: bool) -> tuple[dict[str, Tensor], Checkpoint | None]:
    """Return the tensors of a file, and the checkpoint that they are from, unless it is a safetensors file.

    Args:
        url: location.
        names: of the modules' tensors; a checkpoint may nest its state dict, and name tensors as wrappers do.
        by_scale: whether they are those of a mapping {s: module}, which a checkpoint may keep as one, too.
    """
    if url.lower().endswith(".safetensors"):
        data = storage.read_bytes(url, "read the weights", most=host_memory() // 2)
        with in_file(url):
            return tensors_of(data), None
    own = {unwrapped(name): name for name in names}
    checkpoint = read_checkpoint(url, own.__contains__, by_scale=by_scale)
    prefix = _prefix(checkpoint.state, own)
    state = dict[str, Tensor]()
    for name in checkpoint.state:
        short = name.removeprefix(prefix)
        state[own.get(short, name)] = checkpoint.tensor(name).clone()  # some may share memory in the file
    return state, checkpoint


def _prefix(found: Collection[str], own: Collection[str]) -> str:
    """Return what stands before all names of the modules in a checkpoint, for example `model.` of Lightning."""
    first = next(iter(own), "")
    ends = [name.removesuffix(first) for name in found if name.endswith(f".{first}") and first not in found]
    return next((prefix for prefix in ends if all(prefix + name in found for name in own)), "")


def _checked(
    name: str,
    modules: Modules,
    again: Modules,
    state: Mapping[str, Tensor] | None,
    feature_dim: int | None,
    shape: tuple[int, ...] | None,
) -> tuple[bool, VideoModel]:
    """Return whether a model is pooled, and the model with a uniform prior, after all checks of its modules.

    Args:
        name: ``package.module:function``.
        modules: what the factory returned; the weights are loaded into them.
        again: what it returned when it was called again.
        state: the weights, or None: the factory has loaded them.
        feature_dim: D, or None: to be found.
        shape: of the images that they take, or None.
    """
    for each in (modules, again):
        if state is not None:
            load_weights(each, state)
        for module in _all(each):
            module.eval()
    _check_same_weights(name, modules, again)
    modules, again = (of_elements(each, shape) for each in (modules, again))
    feature_dim = feature_dim if shape is None else prod(shape)
    pooled = _is_pooled(modules, feature_dim)
    run, run_again = (own_pooling(each) if pooled else each for each in (modules, again))
    dim = feature_dim_of(run) if feature_dim is None else feature_dim
    n_classes = n_classes_of(run, dim)
    model = model_of_modules(modules, torch.full((n_classes,), 1 / n_classes), dim, pooled=pooled)
    check_modules(model, run, longest=None)
    _check_same_logits(name, run, run_again, dim)
    return pooled, model


def _all(modules: Modules) -> list[nn.Module]:
    return list(modules.values()) if isinstance(modules, Mapping) else [modules]


def _is_pooled(modules: Modules, feature_dim: int | None) -> bool:
    """Return whether F is decode(sum of encode, number of elements): of a module with both, unless its forward differs.

    Raises:
        ModelError: a module with encode and decode, but without a forward pass, cannot be used.
    """
    if not isinstance(modules, nn.Module) or not all(callable(getattr(modules, name, None)) for name in _POOLING):
        return False
    try:
        pooling = own_pooling(modules)
        check_forward(pooling, feature_dim_of(pooling) if feature_dim is None else feature_dim)
    except (ModelError, RuntimeError, TypeError, ValueError):  # e.g. encode and decode of an autoencoder
        own = modules.module if isinstance(modules, OfImages) else modules
        if type(own).forward is nn.Module.forward:
            raise
        return False
    return True


def _check_same_weights(name: str, modules: Modules, again: Modules) -> None:
    """Refuse a factory whose modules start from random weights.

    Raises:
        ModelError: the modules of two calls differ.
    """
    first, second = weights_of(modules), weights_of(again)
    differ = [key for key, tensor in first.items() if key not in second or not _same(tensor, second[key])]
    if differ or len(first) != len(second):
        raise ModelError(
            f"factory: expected the same weights at every call of {name}, got others ({few(differ, 3)}): they are "
            "drawn at random; give the trained ones with --weights FILE, or load them in the factory"
        )


def _check_same_logits(name: str, modules: Modules, again: Modules, feature_dim: int) -> None:
    """Refuse modules whose logits depend on something random beside their weights, such as an attribute.

    Raises:
        ModelError: the modules of two calls return different logits.
    """
    lengths = _IMAGE_LENGTHS if isinstance(modules, nn.Module) and takes_images(modules) else _LENGTHS
    one, other = (
        dict(each) if isinstance(each, Mapping) else dict.fromkeys(lengths, each) for each in (modules, again)
    )
    generator = torch.Generator().manual_seed(_SEED)
    for s, module in one.items():
        features = trial_elements((_ROWS, s, feature_dim), module, generator, dtype_of(module))
        try:
            same = torch.equal(_logits(module, features), _logits(other[s], features))
        except ModelError:
            continue  # a length that it does not have to take; the others have been checked
        if not same:
            raise ModelError(
                f"factory: expected the same module at every call of {name}, got one with the same weights and other "
                f"logits at scale {s}: it draws something else at random; make it deterministic"
            )


@torch.no_grad()
def _logits(module: nn.Module, features: Tensor) -> Tensor:
    with user_code(f"factory: the module of scale {features.shape[1]} fails"):
        out: Tensor = module(features.clone())
    return out


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same bits, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    bits = [each.detach().cpu().contiguous().flatten().view(torch.uint8) for each in (one, other)]
    return torch.equal(*bits)


def _described(modules: Modules, *, pooled: bool) -> tuple[str, str]:
    """Return what was found, and what F is."""
    count = sum(parameter.numel() for module in _all(modules) for parameter in module.parameters())
    if pooled:
        found = f"{type(modules).__name__}, a module with encode and decode; {count:,} weights"
        return found, "decode(sum of encode(x) over the elements, number of elements)"
    if isinstance(modules, Mapping):
        found = f"modules of scales {few(sorted(modules), 12)}; {count:,} weights"
        return found, "mean over scales of the mean logits over subsequences of each scale (Eq. 8 of the paper)"
    if isinstance(modules, FixedLength):
        found = f"{type(modules.module).__name__}, a module of {modules.length} elements; {count:,} weights"
        return found, f"logits of the module for {modules.length} elements made of the subsequence's ({modules.how})"
    return f"{type(modules).__name__}, for sequences of any length; {count:,} weights", "logits of the module"


def _about_weights(url: str | None, state: Mapping[str, Tensor] | None) -> str:
    if url is None or state is None:
        return "those that the factory loads; --weights FILE puts others into the bundle"
    return f"{url}: {len(state)} tensors"


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={json.dumps(value):.60}" for key, value in arguments.items())
