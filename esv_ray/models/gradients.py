"""Check that the gradients of a user's modules exist, before a method that needs them is applied to the first video.

The built-in kinds have gradients. A module may have none: under `torch.no_grad`, after `detach`, a conversion to NumPy
or an operation like argmax, or because its backward pass fails. A step function, e.g. of rounded features, has
gradients that are 0 everywhere, and say nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from esv_ray.core.games.model import VideoModel
from esv_ray.errors import ModelError, short_text
from esv_ray.models.probe import taken_by
from esv_ray.models.user_code import user_code

_NEED = "integrated_gradients and grad_cam need gradients"
_INSTEAD = "or use esv and occlusion alone"
# A module that saturates at features of this size may have gradients at smaller ones.
_SIZES = (1.0, 1e-2, 1e-4)


def check_gradients(model: VideoModel) -> None:
    """Refuse modules without gradients, at each length that they are tried at (`models.probe`).

    Gradients that are not finite are left to the videos that have them.

    Raises:
        ModelError: the logits of a module have no gradient in the features, or only zeros although they change with
            the features; or its forward or backward pass fails where gradients are recorded.
    """
    for s, module, features in taken_by(model):
        if any(_gradient(module, s, size * features).ne(0).any() for size in _SIZES):
            continue
        with torch.no_grad():
            logits = module(features.clone())
        if not torch.equal(logits, logits[:1].expand_as(logits)):
            raise ModelError(
                f"{_NEED}, but those of the module of scale {s} are 0, although its logits change with the features; "
                f"check for rounding, comparisons and sorting in its forward, {_INSTEAD}"
            )


def _gradient(module: nn.Module, s: int, features: Tensor) -> Tensor:
    """Return the gradient (N, s, D) of a weighted sum of the logits.

    Raises:
        ModelError: there is none.
    """
    inputs = features.detach().clone().requires_grad_()
    # cuDNN's recurrent layers have no backward pass in eval mode; torch's own have.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        with user_code(f"{_NEED}, but the module of scale {s} fails where they are recorded"):
            logits = module(inputs.clone())
        gradient = None
        if logits.requires_grad:
            # Not their plain sum: log-probabilities may sum to a constant.
            weights = torch.linspace(1, 2, logits.numel(), device=logits.device, dtype=logits.dtype)
            try:
                (gradient,) = torch.autograd.grad(logits.flatten() @ weights, inputs, allow_unused=True)
            except RuntimeError as error:
                raise ModelError(
                    f"{_NEED}, but those of the module of scale {s} failed: {short_text(error, 200)}; correct it, "
                    f"{_INSTEAD}"
                ) from error
    if gradient is None:
        raise ModelError(
            f"{_NEED}, but the module of scale {s} returns logits without one; remove torch.no_grad, detach and "
            f"conversions to NumPy from its forward, {_INSTEAD}"
        )
    return gradient
