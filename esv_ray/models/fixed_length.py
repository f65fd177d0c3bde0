"""Modules that take exactly `length` elements, made into modules of any length."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

How = Literal["interpolate", "repeat", "mean", "zero"]
HOWS: tuple[How, ...] = get_args(How)


class FixedLength(nn.Module):
    """A module of any length, made of one that takes exactly `length` elements (`fixed_length`)."""

    def __init__(self, module: nn.Module, length: int, how: How) -> None:
        super().__init__()
        self.module = module
        self.length = length
        self.how: How = how

    def forward(self, elements: Tensor) -> Tensor:
        """Return the logits (N, C) of subsequences (N, s, D), s >= 1."""
        out: Tensor = self.module(to_length(elements, self.length, self.how))
        return out

    def extra_repr(self) -> str:
        """Return the arguments, for `repr`."""
        return f"length={self.length}, how={self.how!r}"

    def about(self) -> dict[str, Any]:
        """Return the arguments, as model.json and run.json store them."""
        return {"length": self.length, "how": self.how}


def fixed_length(module: nn.Module, length: int, how: How = "interpolate") -> FixedLength:
    """Make a module of any length from one that takes exactly `length` elements.

    A subsequence of `length` elements is passed on as it is. Other lengths s give the module inputs that it was not
    trained on, so their values are only as good as its generalization to them; a multi-scale model, with a head
    trained for each length, avoids this.

    Args:
        module: (N, length, D) -> (N, C) logits.
        length: the number of elements that it takes.
        how: how s elements become `length` inputs. `interpolate`: interpolate linearly between the two nearest
            elements, at `length` evenly spaced times, for any s. The others sample `length` evenly spaced elements if
            s > length, as `frames` of a job does. If s < length, `repeat` takes the nearest element at each of these
            times, `mean` pads with copies of the mean element, and `zero` pads with zeros.

    Returns:
        A module (N, s, D) -> (N, C), for every s >= 1.

    Raises:
        ValueError: an argument is invalid.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"fixed_length: expected a torch.nn.Module, got {type(module).__name__}")
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise ValueError(f"fixed_length: length: expected a whole number >= 1, got {length!r:.60}")
    if how not in HOWS:
        raise ValueError(f"fixed_length: how: expected one of {', '.join(HOWS)}, got {how!r:.60}")
    return FixedLength(module, length, how)


def fixed_lengths(module: nn.Module) -> list[dict[str, Any]]:
    """Return length and `how` of every module of a fixed length in a module, in their order; [] if there is none."""
    return [part.about() for part in module.modules() if isinstance(part, FixedLength)]


def to_length(elements: Tensor, length: int, how: How) -> Tensor:
    """Return `length` elements (N, length, D) made from s elements (N, s, D), as `fixed_length` describes.

    Point j of `length` is at (j + 1/2) s / length, where element i spans i to i + 1: at the center of its share.
    """
    s = elements.shape[1]
    if s == length:
        return elements
    if how == "interpolate":
        lower, upper, share = _neighbors(s, length)
        fractions = torch.tensor(share, dtype=elements.dtype, device=elements.device)[:, None]  # (length, 1)
        return torch.lerp(elements[:, list(lower)], elements[:, list(upper)], fractions)  # (N, length, D)
    if s > length or how == "repeat":
        return elements[:, list(_nearest(s, length))]
    filling = elements.mean(dim=1, keepdim=True) if how == "mean" else torch.zeros_like(elements[:, :1])
    return torch.cat([elements, filling.expand(-1, length - s, *elements.shape[2:])], dim=1)


@lru_cache(maxsize=1024)
def _nearest(s: int, length: int) -> tuple[int, ...]:
    """Return the element in which each point lies: floor((j + 1/2) s / length)."""
    return tuple((2 * j + 1) * s // (2 * length) for j in range(length))


@lru_cache(maxsize=1024)
def _neighbors(s: int, length: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Return the elements before and after each point, and how far it is between their centers, 0 to 1.

    The center of element i is i + 1/2. Points outside the first and the last center take that element.
    """
    places = [max(0, min((2 * j + 1) * s - length, 2 * length * (s - 1))) for j in range(length)]  # in 1 / (2 length)
    lower = tuple(place // (2 * length) for place in places)
    upper = tuple(min(i + 1, s - 1) for i in lower)
    return lower, upper, tuple(place % (2 * length) / (2 * length) for place in places)
