"""Check that a user's modules meet the requirements of exact values.

Every call must give the same bits, rows of a batch must not influence each other, and logits must be finite and of
shape (N, C). The built-in kinds guarantee this. A random module would give a table marked `exact` that differs from run
to run: TRN's published forward pass draws from numpy's generator, but only for longer sequences. What these checks do
not detect, the engine may: it watches the generators in every batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from esv_ray.core.games.heads import MultiScale
from esv_ray.core.games.images import image_shape
from esv_ray.core.games.model import VideoModel
from esv_ray.core.games.modules import VariableLength
from esv_ray.core.games.pooled import OwnPooling, Pooled
from esv_ray.core.generators import generator_states, moved_generators, own_generators
from esv_ray.errors import ModelError
from esv_ray.models.user_code import user_code

_ROWS = 4  # sequences in a batch
_IMAGE_ROWS = 2  # of images, whose networks take seconds on a CPU: fewer lengths and calls, too
_NEEDED = (1, 2)  # lengths that a module of any length must accept
_TRIED = (3, 4, 8, 16, 32)  # longer ones, which it may reject
_DRAWS = 32  # calls to compare if a generator advanced: draws from a few values may agree by chance
_CALLS = 8  # of one sequence, to compare if none did: the module may seed a generator from the time at each call
_IMAGE_CALLS = 1
_SEED = 0
_MOST_BYTES = 2**28  # of the features of a probe: the largest length may be any number in model.json


class _NotTakenError(ModelError):
    """A module fails on features, or its output cannot be used."""


class _FailsError(_NotTakenError):
    """A module raises an error on features."""


def check_modules(model: VideoModel, modules: Mapping[int, nn.Module] | nn.Module, *, longest: int | None) -> None:
    """Refuse modules whose outputs do not depend on each sequence alone.

    Args:
        model: the model made of the modules; gives D, C, device and dtype.
        modules: {s: module (N, s, D) -> (N, C)}, or one module of any length; in eval mode.
        longest: another length that a module of any length must accept, or None.

    Raises:
        ModelError: a module fails, stays in training mode, or returns a shape other than (N, C) or values that are not
            finite; two calls on the same features differ; or rows of a batch influence each other.
    """
    for s, module, needed in _probes(modules, longest):
        parts = module.named_modules()
        training = [name or type(part).__name__ for name, part in parts if getattr(part, "training", False)]
        if training:
            raise ModelError(
                f"factory: the module of scale {s} stays in training mode after eval() ({training[0]!r:.80})"
            )
        try:
            _check(model, module, s, rows=True, needed=needed)
        except _FailsError as error:
            raise ModelError(f"{error}{any_length(modules)}") from error


def any_length(modules: Mapping[int, nn.Module] | nn.Module) -> str:
    """Return the end of an error about a module that fails at a length; nothing for modules of given lengths."""
    if isinstance(modules, Mapping | OwnPooling):
        return ""
    return (
        "; a module must take sequences of any length: of one that takes exactly `length` elements, return "
        "esv_ray.fixed_length(module, length)"
    )


def check_repeatable(model: VideoModel) -> None:
    """Check modules again after the model was moved to another device or dtype.

    GPU kernels may sum in any order, and a module may hold a constant of another dtype. Rows of a batch are not
    compared again: `check_modules` did so, and products in low precision (`compute.matmul`) round coarsely.

    Raises:
        ModelError: as for `check_modules`.
    """
    for s, module, needed in _probes(_modules_of(model), None):
        _check(model, module, s, rows=False, needed=needed)


def taken_by(model: VideoModel) -> Iterator[tuple[int, nn.Module, Tensor]]:
    """Yield each length that a user's modules are tried at, its module, and the features (N, s, D), if it takes them.

    Nothing for models that run no user's code.
    """
    for s, module, _ in _probes(_modules_of(model), None):
        features = _features(model, s)
        try:
            _logits(model, module, features)
        except _NotTakenError:
            continue
        yield s, module, features


def _modules_of(model: VideoModel) -> Mapping[int, nn.Module] | nn.Module:
    """Return the user's modules of a model, by scale, or the one of any length; empty if there are none."""
    scorer = model.scorer
    if isinstance(scorer, VariableLength):
        return scorer.module
    if isinstance(scorer, Pooled) and isinstance(scorer.pooling, OwnPooling):
        return scorer.pooling
    return scorer.called() if isinstance(scorer, MultiScale) else {}


def takes_images(modules: nn.Module) -> bool:
    """Return whether a module, or the one in a pooling, takes images."""
    return image_shape([modules, *modules.children()]) is not None


def _probes(modules: Mapping[int, nn.Module] | nn.Module, longest: int | None) -> Iterator[tuple[int, nn.Module, bool]]:
    """Yield each length, its module, and whether the module must accept it."""
    if isinstance(modules, Mapping):
        yield from ((s, module, True) for s, module in sorted(modules.items()))
        return
    needed = {*_NEEDED, *(() if longest is None else (longest,))}
    tried = () if takes_images(modules) else _TRIED
    yield from ((s, modules, s in needed) for s in sorted(needed.union(tried)))


def _check(model: VideoModel, module: nn.Module, s: int, *, rows: bool, needed: bool) -> None:
    features = _features(model, s)
    try:
        out, first = _repeated(model, module, features)
        if rows:
            _check_rows(out, torch.cat([first, _logits(model, module, features[1:])]), s, model.dtype)
    except _NotTakenError:
        if needed:
            raise


def _repeated(model: VideoModel, module: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) of features (N, s, D), and (1, C) of the first sequence alone; check that calls agree."""
    own = own_generators(module)
    before = generator_states(model.device, own)
    out = _logits(model, module, features)
    first = _logits(model, module, features[:1])  # in between, to detect state that a call leaves behind
    again = _logits(model, module, features)
    moved = moved_generators(before, generator_states(model.device, own))
    expected, inputs, calls = (
        (out, features, _DRAWS) if moved else (first, features[:1], _IMAGE_CALLS if model.shape else _CALLS)
    )
    if not torch.equal(out, again) or not all(
        torch.equal(expected, _logits(model, module, inputs)) for _ in range(calls)
    ):
        raise ModelError(
            "factory: expected the same logits at every call in eval mode, got different ones from the module of "
            f"scale {features.shape[1]} for the same features {tuple(features.shape)}: {_why(model.device, moved)}"
        )
    return out, first


def _why(device: torch.device, moved: Sequence[str]) -> str:
    if moved:
        return f"it draws from {' and '.join(moved)}; make it deterministic"
    on_gpu = "" if device.type == "cpu" else f", or uses a nondeterministic operation on {device.type}"
    return f"it keeps state between calls, or draws from a generator of its own{on_gpu}; make it deterministic"


def _check_rows(out: Tensor, alone: Tensor, s: int, dtype: torch.dtype) -> None:
    """Compare logits (N, C) with those of smaller batches, for weights of `dtype`."""
    gap, largest = float((out - alone).abs().max()), float(out.abs().max())
    # Other batch sizes use other kernels, which round differently, but by far less than half of the digits.
    # A module may return a wider dtype than it computes in.
    digits = max(torch.finfo(out.dtype).eps, torch.finfo(dtype).eps)
    if not gap <= digits**0.5 * largest:
        raise ModelError(
            f"factory: expected logits that depend on their own sequence alone, but those of the module of scale {s} "
            f"change by {gap:.1e} with the other sequences of the batch (largest logit {largest:.1e}); check for batch "
            "statistics, as in batch norm in training mode"
        )


def _features(model: VideoModel, s: int) -> Tensor:
    """Return (N, s, D) standard normal features, or bytes of images, the same at every call.

    Raises:
        ModelError: they are too large.
    """
    rows = _ROWS if model.shape is None else _IMAGE_ROWS
    size = rows * s * model.feature_dim * model.element_dtype.itemsize
    if size > _MOST_BYTES:
        raise ModelError(
            f"n_max: expected a length whose features can be tried, got {s} elements of {model.feature_dim} numbers "
            f"(D), which take {size} bytes for {rows} sequences; at most {_MOST_BYTES} are taken"
        )
    generator = torch.Generator().manual_seed(_SEED)
    if model.shape is not None:
        return torch.randint(256, (rows, s, model.feature_dim), generator=generator, dtype=torch.uint8).to(model.device)
    return torch.randn((rows, s, model.feature_dim), generator=generator).to(model.device, model.dtype)


@torch.no_grad()
def _logits(model: VideoModel, module: nn.Module, features: Tensor) -> Tensor:
    """Return logits (N, C) of features (N, s, D); the module gets a copy, which it may overwrite."""
    shape = (*features.shape[:2], *(model.shape or features.shape[2:]))
    try:
        with user_code(f"factory: the module of scale {shape[1]} fails on features {shape}"):
            out = module(features.clone())
    except ModelError as error:
        raise _FailsError(str(error)) from error
    expected = (len(features), model.n_classes)
    if not isinstance(out, Tensor) or tuple(out.shape) != expected or not out.is_floating_point():
        got = f"{tuple(out.shape)} {out.dtype}".replace("torch.", "") if isinstance(out, Tensor) else type(out).__name__
        raise _NotTakenError(
            f"factory: expected floating-point logits (N, {model.n_classes}) for features "
            f"(N, {', '.join(map(str, shape[1:]))}), got {got} for N = {len(features)}"
        )
    if not out.isfinite().all():
        raise _NotTakenError(
            f"factory: expected finite logits, got NaN or infinity from the module of scale {shape[1]} for "
            f"{'standard normal features' if model.shape is None else 'random images'} {shape}"
        )
    return out
