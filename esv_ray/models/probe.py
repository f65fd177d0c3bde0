"""Check what exact values require of modules that are code of a user's.

Every call gives the same bits, rows of a batch do not influence each other, and logits are finite and of shape (N, C).
The built-in kinds have this by construction. A module that draws at random would give a table that says `exact` and
differs from run to run: TRN's published forward pass does, with numpy's generator, and only for longer sequences.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from esv_ray.core.games.heads import MultiScale
from esv_ray.core.games.model import VideoModel
from esv_ray.core.games.modules import VariableLength
from esv_ray.errors import ModelError
from esv_ray.models.user_code import user_code

_ROWS = 4  # sequences in a batch
_NEEDED = (1, 2)  # lengths that a module of any length must take
_TRIED = (3, 4, 8, 16, 32)  # longer ones, which it may refuse
_DRAWS = 32  # calls that are compared where a generator moved: draws from a few values agree by chance
_SEED = 0


class _NotTakenError(ModelError):
    """A module fails on features, or what it returns cannot be used."""


def check_modules(model: VideoModel, modules: Mapping[int, nn.Module] | nn.Module, *, longest: int | None) -> None:
    """Refuse modules whose outputs are no function of each sequence alone.

    Args:
        model: what is made of the modules; says D, C, device and dtype.
        modules: {s: module (N, s, D) -> (N, C)} or one of any length, in eval mode.
        longest: another length that a module of any length must take; None: no other.

    Raises:
        ModelError: a module fails, gives other shapes than (N, C) or values that are not finite; it stays in training
            mode; two calls on the same features differ; or rows of a batch influence each other.
    """
    for s, module, needed in _probes(modules, longest):
        parts = module.named_modules()
        training = [name or type(part).__name__ for name, part in parts if getattr(part, "training", False)]
        if training:
            raise ModelError(
                f"factory: the module of scale {s} stays in training mode after eval() ({training[0]!r:.80})"
            )
        _check(model, module, s, rows=True, needed=needed)


def check_repeatable(model: VideoModel) -> None:
    """Check modules again on a device or in a dtype to which the model was moved.

    A GPU may have kernels that sum in any order, and a module may hold a constant of another dtype. Rows of a batch are
    not compared: that they are independent is known, and products in low precision (`compute.matmul`) round coarsely.

    Raises:
        ModelError: as for `check_modules`.
    """
    scorer = model.scorer
    if isinstance(scorer, VariableLength | MultiScale):
        for s, module, needed in _probes(
            scorer.module if isinstance(scorer, VariableLength) else scorer.called(), None
        ):
            _check(model, module, s, rows=False, needed=needed)


def _probes(modules: Mapping[int, nn.Module] | nn.Module, longest: int | None) -> Iterator[tuple[int, nn.Module, bool]]:
    """Lengths, the module of each, and whether it must take them."""
    if isinstance(modules, Mapping):
        yield from ((s, module, True) for s, module in sorted(modules.items()))
        return
    needed = {*_NEEDED, *(() if longest is None else (longest,))}
    yield from ((s, modules, s in needed) for s in sorted(needed.union(_TRIED)))


def _check(model: VideoModel, module: nn.Module, s: int, *, rows: bool, needed: bool) -> None:
    features = _features(model, s)
    try:
        out, first = _repeated(model, module, features)
        if rows:
            _check_rows(out, torch.cat([first, _logits(model, module, features[1:])]), s, features.dtype)
    except _NotTakenError:
        if needed:
            raise


def _repeated(model: VideoModel, module: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, C) of features (N, s, D), and (1, C) of the first sequence alone; every call gives the same bits."""
    before = _generators(model.device)
    out = _logits(model, module, features)
    first = _logits(model, module, features[:1])  # between: what a module keeps of a call shows in the next
    after = _generators(model.device)
    moved = [name for name, state in after.items() if state != before[name]]
    for _ in range(_DRAWS if moved else 1):
        if not torch.equal(out, _logits(model, module, features)):
            raise ModelError(
                f"factory: expected the same logits at every call in eval mode, got others from the module of scale "
                f"{features.shape[1]} for the same features {tuple(features.shape)}: {_why(model.device, moved)}"
            )
    return out, first


def _why(device: torch.device, moved: Sequence[str]) -> str:
    if moved:
        return f"it draws from {' and '.join(moved)}; make it deterministic"
    on_gpu = "" if device.type == "cpu" else f", or uses an operation that is not deterministic on {device.type}"
    return f"it keeps state between calls, or draws from a generator of its own{on_gpu}; make it deterministic"


def _check_rows(out: Tensor, alone: Tensor, s: int, dtype: torch.dtype) -> None:
    """Compare logits (N, C) with those of smaller batches; the module takes features of `dtype`."""
    gap, largest = float((out - alone).abs().max()), float(out.abs().max())
    # Batches of other sizes take other kernels, which round otherwise: half of the digits is far more than that.
    # A module may return more digits than it computes with.
    digits = max(torch.finfo(out.dtype).eps, torch.finfo(dtype).eps)
    if not gap <= digits**0.5 * largest:
        raise ModelError(
            f"factory: expected logits that depend on their own sequence alone, got others for the module of scale {s} "
            f"when the batch holds other sequences (by {gap:.1e}, the largest is {largest:.1e}); does it use "
            "statistics of the batch, as batch norm in training mode does?"
        )


def _generators(device: torch.device) -> dict[str, object]:
    """States of the global generators, by what they are called."""
    states: dict[str, object] = {
        "numpy's global generator": pickle.dumps(np.random.get_state(legacy=False)),
        "torch's global generator": bytes(torch.get_rng_state().numpy()),
        "Python's random": random.getstate(),
    }
    if device.type == "cuda":
        states["torch's generator of the GPU"] = bytes(torch.cuda.get_rng_state(device).numpy())
    return states


def _features(model: VideoModel, s: int) -> Tensor:
    """(N, s, D) standard normal features, the same at every call."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn((_ROWS, s, model.feature_dim), generator=generator).to(model.device, model.dtype)


@torch.no_grad()
def _logits(model: VideoModel, module: nn.Module, features: Tensor) -> Tensor:
    """Logits (N, C) of features (N, s, D), which the module may overwrite."""
    shape = tuple(features.shape)
    try:
        with user_code(f"factory: the module of scale {shape[1]} fails on features {shape}"):
            out = module(features.clone())
    except ModelError as error:
        raise _NotTakenError(str(error)) from error
    expected = (len(features), model.n_classes)
    if not isinstance(out, Tensor) or tuple(out.shape) != expected or not out.is_floating_point():
        got = f"{tuple(out.shape)} {out.dtype}".replace("torch.", "") if isinstance(out, Tensor) else type(out).__name__
        raise _NotTakenError(
            f"factory: expected floating-point logits (N, {model.n_classes}) for features (N, {shape[1]}, {shape[2]}), "
            f"got {got} for N = {len(features)}"
        )
    if not out.isfinite().all():
        raise _NotTakenError(
            f"factory: expected finite logits, got NaN or infinity from the module of scale {shape[1]} for standard "
            f"normal features {shape}"
        )
    return out
