"""The backbone that keeps the images themselves, for models that read pixels."""

from __future__ import annotations

from math import prod

from esv_ray.extraction.backbones.backbone import BackboneInfo, Features, Images
from esv_ray.extraction.backbones.preprocessing import Preprocessing

NAME = "pixels"
_SIDE, _MOST_SIDE = 224, 4096
_VERSION = "pixels-1"


class Pixels:
    """Elements of H * W * 3 uint8 numbers, of clips k * H * W * 3: RGB, not normalized.

    Frames are resized to a short side, and their center is cut out, as video models are trained.
    """

    def __init__(self, size: tuple[int, int] | None, *, short_side: object = None, clip: int = 1) -> None:
        """Set up the images.

        Args:
            size: height and width; None: 224 each.
            short_side: pixels of the short side; None: the larger of height and width.
            clip: frames of an element; 1: images.

        Raises:
            ValueError: the short side is smaller than the image.
        """
        height, width = size or (_SIDE, _SIDE)
        least = max(height, width)
        found = least if short_side is None else short_side
        if type(found) is not int or not least <= found <= _MOST_SIDE:
            raise ValueError(f"expected pixels from {least} to {_MOST_SIDE}, got {short_side!r:.60}")
        shape = (*([clip] if clip > 1 else []), height, width, 3)
        preprocessing = Preprocessing((height, width), short_side=found)
        self.info = BackboneInfo(NAME, _VERSION, preprocessing, prod(shape), shape)

    def encode(self, images: Images) -> Features:
        """Return (N, D) numbers of the images; as `Backbone.encode`."""
        return images.reshape(len(images), -1)
