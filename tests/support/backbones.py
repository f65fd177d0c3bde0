"""Backbones of tests: small modules of random weights, made by decorated functions."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import esv_ray

PREPROCESSING = {"size": 16, "short_side": 20, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


class Convolution(nn.Module):
    """(N, 3, 16, 16) -> (N, 12)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 12))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


class Seen(nn.Module):
    """The images themselves, flat."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Motion(nn.Module):
    """(N, 3, k, H, W) -> (N, 3 k): the mean of each channel of each frame of a clip."""

    def forward(self, clips: Tensor) -> Tensor:
        return clips.mean(dim=(3, 4)).flatten(1)


class Poisonous(nn.Module):
    """Raises, dies or returns NaN on images that are red all over, unless a file is there."""

    def __init__(self, poison: str, antidote: str) -> None:
        super().__init__()
        self.poison, self.antidote = poison, Path(antidote)

    def forward(self, images: Tensor) -> Tensor:
        red = (images[:, 0] > 0.8).all() and (images[:, 1] < 0.3).all()
        if red and not self.antidote.exists():
            if self.poison == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.poison == "raises":
                raise RuntimeError("poison")
            return torch.full((len(images), 3), torch.nan)
        return images.mean(dim=(2, 3))


@esv_ray.factory
def convolution(seed: int = 0) -> Any:
    return Convolution(seed), PREPROCESSING


@esv_ray.factory
def seen(**preprocessing: Any) -> Any:
    return Seen(), {"size": 16, **preprocessing}


class Views(nn.Module):
    """Takes a view of its input, for which the channels must come before the pixels in memory, too."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.view(len(images), -1).view(len(images), 3, -1).mean(dim=2)


@esv_ray.factory
def views() -> Any:
    return Views(), {"size": 16}


@esv_ray.factory
def motion() -> Any:
    return Motion(), {"size": 16}


@esv_ray.factory
def poisonous(poison: str, antidote: str) -> Any:
    return Poisonous(poison, antidote), {"size": 16}


@esv_ray.factory
def no_module() -> Any:
    return "a text", {"size": 16}


@esv_ray.factory
def matrix() -> Any:
    return nn.Identity(), {"size": 16}
