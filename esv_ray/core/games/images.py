"""Modules of images: their elements are bytes, (H, W, 3), or (k, H, W, 3) of clips, held as D uint8 numbers.

Scorers move elements as rows of D numbers, whatever these are. The wrappers here give a module its images back.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Numbers that a network holds for each number of an image, while it runs: the image in the network's dtype, normalized,
# and the activations of its widest layer. Growth of the resident memory in one forward pass of images of 224 x 224, in
# float32 numbers per byte of the images: TimeSformer (base, 8 images) 38, VideoMAE (base, 16) 15.
_HELD = 40


class OfImages(nn.Module):
    """A module (N, s, *shape) uint8 -> (N, C) logits, as one of elements (N, s, D)."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        """Take a module and the shape of its elements: (H, W, 3), or (k, H, W, 3)."""
        super().__init__()
        self.module = module
        self.shape = shape

    def forward(self, elements: Tensor) -> Tensor:
        """Return the logits (N, C) of elements (N, s, D) uint8."""
        out: Tensor = self.module(self.images(elements))
        return out

    def images(self, elements: Tensor) -> Tensor:
        """Return the images (..., *shape) of elements (..., D)."""
        return elements.reshape(*elements.shape[:-1], *self.shape)


def image_shape(modules: Iterable[nn.Module]) -> tuple[int, ...] | None:
    """Return the shape of the images that modules take, all of one model; None if they take vectors."""
    return next((module.shape for module in modules if isinstance(module, OfImages)), None)


def held_numbers(module: nn.Module, feature_dim: int) -> int:
    """Return the numbers held for an element that a module is called on: its D features, or an image's activations."""
    return feature_dim * (_HELD if isinstance(module, OfImages) else 1)


def trial_elements(size: tuple[int, ...], module: nn.Module, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return random elements (..., D) to try a module with: standard normal in a dtype, or bytes if it takes images."""
    if image_shape([module, *module.children()]) is None:
        return torch.randn(size, generator=generator).to(dtype)
    return torch.randint(256, size, generator=generator, dtype=torch.uint8)
