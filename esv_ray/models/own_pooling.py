"""A user's pooling: a module with encode and decode, checked before it is used."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from esv_ray.core.games.images import OfImages, trial_elements
from esv_ray.core.games.pooled import OwnPooling, Pooling
from esv_ray.errors import ModelError

_LENGTHS = (1, 2, 5)  # at which a module's own forward pass is compared
_ROWS = 3
_SEED = 0


def own_pooling(returned: object) -> OwnPooling:
    """Return the pooling of a factory's module.

    Raises:
        ModelError: it is not a module with encode and decode.
    """
    missing = [name for name in ("encode", "decode") if not callable(getattr(returned, name, None))]
    if not isinstance(returned, nn.Module) or missing:
        got = type(returned).__name__
        lacks = f" without {' and '.join(missing)}" if missing else ""
        raise ModelError(
            "factory: a pooled model needs a module with encode (N, D) -> (N, E) and decode (R, E), (R,) -> (R, C), "
            f"got {got}{lacks}"
        )
    return OwnPooling(returned).eval()


@torch.no_grad()
def encoded_width(pooling: OwnPooling, feature_dim: int) -> int:
    """Return E.

    Raises:
        ModelError: encode does not return (N, E) for (N, D).
    """
    out = cast(Pooling, pooling.module).encode(_features(pooling, 1, feature_dim)[:, 0])
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != _ROWS or not out.shape[1]:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelError(f"factory: expected encode ({_ROWS}, {feature_dim}) -> ({_ROWS}, E), got {got}")
    return out.shape[1]


@torch.no_grad()
def check_forward(pooling: OwnPooling, feature_dim: int) -> None:
    """Check that a module's own forward pass, if it has one, is decode(sum of encode, number of elements).

    Raises:
        ModelError: it differs, or fails.
    """
    module = pooling.module
    own = module.module if isinstance(module, OfImages) else module
    if type(own).forward is nn.Module.forward:
        return
    for s in _LENGTHS:
        features = _features(pooling, s, feature_dim)
        expected, got = module(features.clone()), pooling(features)
        if expected.shape != got.shape or not torch.allclose(expected, got, rtol=1e-3, atol=1e-4):
            gap = f"by up to {float((expected - got).abs().max()):.3g}" if expected.shape == got.shape else "in shape"
            raise ModelError(
                f"factory: expected the forward pass of {type(own).__name__} to be decode(sum of encode(x), number "
                f"of elements), got logits that differ {gap} for {s} element(s); use kind python for other models"
            )


def _features(pooling: OwnPooling, s: int, feature_dim: int) -> Tensor:
    """Return (N, s, D) random elements in the dtype of the module's weights; bytes of images."""
    dtype = next((each.dtype for each in pooling.parameters() if each.is_floating_point()), torch.float32)
    return trial_elements((_ROWS, s, feature_dim), pooling.module, torch.Generator().manual_seed(_SEED), dtype)
