"""The common part of networks of images: they normalize uint8 images themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from esv_ray.core.games.images import OfImages
from esv_ray.models.networks.preparation import Preparation

_LEVELS = 255


class Network(OfImages):
    """A network of images (N, s, D) uint8, which is given the positions of the elements in their sequence.

    Attributes:
        longest: most elements of a sequence; None: any number.
        f: description of F in one line.
    """

    longest: int | None = None
    f = ""

    def __init__(self, module: nn.Module, shape: tuple[int, ...], preparation: Preparation) -> None:
        """Take a network of `transformers`, the shape of its elements, and how it prepares its images."""
        super().__init__(module, shape)
        for name in ("mean", "std"):
            channels = torch.tensor(getattr(preparation, name), dtype=torch.float32)
            self.register_buffer(name, channels[:, None, None], persistent=False)

    def forward(self, elements: Tensor, places: Tensor | None = None, n: int | None = None) -> Tensor:
        """Return the logits (N, C) of subsequences.

        Args:
            elements: (N, s, D) uint8.
            places: (N, s) int64, ascending, of these elements in their sequence; None: 0 .. s - 1.
            n: elements of the sequence; None: s.
        """
        count, s, _ = elements.shape
        if places is None:
            places = torch.arange(s, device=elements.device).expand(count, s)
        return self.logits(self.normalized(elements), places, s if n is None else n)

    def normalized(self, elements: Tensor) -> Tensor:
        """Return images (N, s, 3, H, W) of elements (N, s, D) uint8, of clips (N, s, k, 3, H, W)."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        images: Tensor = (self.images(elements).movedim(-1, -3).to(mean.dtype) / _LEVELS - mean) / std
        return images

    def logits(self, images: Tensor, places: Tensor, n: int) -> Tensor:
        """Return the logits (N, C) of images, as `normalized` returns them, at places (N, s) of n."""
        raise NotImplementedError
