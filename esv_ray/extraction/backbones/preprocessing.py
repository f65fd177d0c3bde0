"""What images must be like before they enter a backbone; recorded in the metadata of a feature table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from esv_ray.decoding import Resize, ShortSide, Stretch
from esv_ray.decoding.frames import Interpolation
from esv_ray.errors import ModelError

Color = Literal["RGB", "BGR"]
_MOST_SIDE = 4096
_KEYS = ("size", "short_side", "color", "mean", "std", "interpolation")


@dataclass(frozen=True)
class Preprocessing:
    """The images that a backbone takes.

    Attributes:
        size: height and width in pixels.
        short_side: pixels of the short side, from whose center the image is cut; None: the whole frame is stretched.
        color: order of the channels.
        mean, std: of each channel in this order, for values 0..1: (value / 255 - mean) / std enters the backbone.
        interpolation: between pixels of a frame that is resized.
    """

    size: tuple[int, int]
    short_side: int | None = None
    color: Color = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: Interpolation = "bicubic"

    @property
    def resize(self) -> Resize:
        """What the decoder makes of a frame."""
        if self.short_side is None:
            return Stretch(*self.size, self.interpolation)
        return ShortSide(self.short_side, self.size, self.interpolation)

    def resized(self, size: tuple[int, int] | None) -> Preprocessing:
        """Return the same preprocessing for another size of images; the share that is cut off stays the same."""
        if size is None or size == self.size:
            return self
        if self.short_side is None:
            return replace(self, size=size)
        return replace(self, size=size, short_side=max(*size, round(self.short_side * max(size) / max(self.size))))

    def asdict(self) -> dict[str, Any]:
        """Return the values by name, as JSON holds them."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


IMAGENET = Preprocessing((224, 224), 256, "RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of most image encoders; for files that say nothing about it."""


def preprocessing_of(value: object) -> Preprocessing:
    """Read the preprocessing that a factory returns, a mapping.

    Raises:
        ModelError: says which key is wrong, expected and got.
    """
    if not isinstance(value, Mapping):
        raise ModelError(f"preprocessing: expected a mapping with the key size, got {type(value).__name__}")
    unknown = [key for key in value if key not in _KEYS]
    if unknown:
        raise ModelError(f"preprocessing: expected keys among {', '.join(_KEYS)}, got {unknown[0]!r:.60}")
    size = value.get("size")
    sides = (size, size) if _is_side(size) else tuple(size) if isinstance(size, list | tuple) else ()
    if len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise ModelError(
            f"preprocessing: size: expected pixels, or height and width, up to {_MOST_SIDE}, got {size!r:.60}"
        )
    short_side = value.get("short_side")
    if short_side is not None and not (_is_side(short_side) and short_side >= max(sides)):
        raise ModelError(f"preprocessing: short_side: expected at least {max(sides)} pixels, got {short_side!r:.60}")
    color = value.get("color", "RGB")
    if color not in ("RGB", "BGR"):
        raise ModelError(f"preprocessing: color: expected RGB or BGR, got {color!r:.60}")
    mean, std = _three(value, "mean", 0.0), _three(value, "std", 1.0)
    if not all(number > 0 for number in std):
        raise ModelError(f"preprocessing: std: expected numbers above 0, got {std}")
    interpolation = value.get("interpolation", "bicubic")
    if interpolation not in ("bicubic", "bilinear"):
        raise ModelError(f"preprocessing: interpolation: expected bicubic or bilinear, got {interpolation!r:.60}")
    return Preprocessing((sides[0], sides[1]), short_side, color, mean, std, interpolation)


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MOST_SIDE


def _three(value: Mapping[str, Any], key: str, default: float) -> tuple[float, float, float]:
    numbers = value.get(key, (default,) * 3)
    listed = list(numbers) if isinstance(numbers, list | tuple) else [numbers] * 3
    valid = len(listed) == 3 and all(type(number) in (int, float) and math.isfinite(number) for number in listed)
    if not valid:
        raise ModelError(f"preprocessing: {key}: expected three finite numbers, got {numbers!r:.60}")
    return float(listed[0]), float(listed[1]), float(listed[2])
