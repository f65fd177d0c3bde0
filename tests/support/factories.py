"""Factories of `python` models, named in model.json as tests.support.factories:NAME."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import esv_ray
from esv_ray.core.games.heads import MlpHead
from esv_ray.core.games.pooled import OwnPooling
from tests.conftest import make_heads
from tests.support.pooled import CASES, DeepSet, drawn


class MeanLinear(nn.Module):
    """A variable-length module: mean over elements of a linear layer, with dropout that must be off."""

    def __init__(self, feature_dim: int, n_classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.linear = nn.Linear(feature_dim, n_classes)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(self.linear.weight.shape, generator=generator))
            self.linear.bias.copy_(torch.randn(self.linear.bias.shape, generator=generator))
        self.dropout = nn.Dropout(0.5)

    def forward(self, subsequences: Tensor) -> Tensor:
        out: Tensor = self.linear(self.dropout(subsequences).relu()).mean(dim=1)
        return out


class Wrapped(nn.Module):
    """A head that the fast path does not know."""

    def __init__(self, head: MlpHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, subsequences: Tensor) -> Tensor:
        out: Tensor = self.head(subsequences)
        return out


class Pair(nn.Module):
    def forward(self, subsequences: Tensor) -> tuple[Tensor, Tensor]:
        return subsequences, subsequences


@esv_ray.factory
def variable(feature_dim: int = 4, n_classes: int = 3) -> nn.Module:
    return MeanLinear(feature_dim, n_classes)


@esv_ray.factory
def heads(n_max: int = 3, n_classes: int = 3) -> dict[int, nn.Module]:
    return {s: Wrapped(head) for s, head in make_heads(n_max=n_max, n_classes=n_classes).items()}


@esv_ray.factory
def mlp_heads() -> dict[int, MlpHead]:
    return make_heads()


@esv_ray.factory
def gap() -> dict[int, nn.Module]:
    return {s: head for s, head in heads().items() if s != 2}


@esv_ray.factory
def second_head_wrong_classes() -> dict[int, nn.Module]:
    return {1: heads()[1], 2: heads(n_classes=5)[2]}


@esv_ray.factory
def second_head_wrong_inputs() -> dict[int, nn.Module]:
    return {1: heads()[1], 2: Wrapped(make_heads(feature_dim=7)[2])}


@esv_ray.factory
def string_keys() -> dict[str, nn.Module]:
    return {str(s): head for s, head in heads().items()}


@esv_ray.factory
def functions() -> dict[int, object]:
    return {1: lambda subsequences: subsequences}


@esv_ray.factory
def pair() -> nn.Module:
    return Pair()


@esv_ray.factory
def empty() -> dict[int, nn.Module]:
    return {}


@esv_ray.factory
def as_list() -> list[nn.Module]:
    return [heads()[1]]


@esv_ray.factory
def nothing() -> None:
    return None


@esv_ray.factory
def failing() -> nn.Module:
    raise OSError("weights.bin\nwas not found")


not_a_function = 3


@esv_ray.factory
def deep_set() -> nn.Module:
    case = CASES["encode and decode"]()
    assert isinstance(case.pooling, OwnPooling)
    return case.pooling.module


@esv_ray.factory
def deep_set_of_another_forward() -> nn.Module:
    class Other(DeepSet):
        def forward(self, sequences: Tensor) -> Tensor:
            return self.decode(self.encode(sequences.flatten(0, 1))[: len(sequences)], sequences[:, 0, 0].exp())

    module = Other()
    drawn(module)
    return module


@esv_ray.factory
def deep_set_that_draws() -> nn.Module:
    class Random(DeepSet):
        def encode(self, elements: Tensor) -> Tensor:
            return super().encode(elements + torch.randn_like(elements))

    return Random()


@esv_ray.factory
def encode_of_another_shape() -> nn.Module:
    class Wide(DeepSet):
        def encode(self, elements: Tensor) -> Tensor:
            return super().encode(elements)[..., None]

    return Wide()


class MeanImage(nn.Module):
    """A module of images of any size: mean colors of quarters of each image, a linear layer, weights by position."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        self.linear = nn.Linear(12, n_classes, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(20 * torch.randn(self.linear.weight.shape, generator=generator))

    def forward(self, images: Tensor) -> Tensor:  # (N, s, H, W, 3) uint8, or (N, s, k, H, W, 3)
        if images.ndim == 6:
            images = images.float().mean(dim=2)
        count, s, height, width, _ = images.shape
        cells = images.float().view(count, s, 2, height // 2, 2, width // 2, 3)
        quarters = cells.mean(dim=(3, 5)) / 255  # (N, s, 2, 2, 3)
        weights = 1 / (1 + torch.arange(images.shape[1], device=images.device, dtype=torch.float32))
        out: Tensor = self.linear((quarters.flatten(2) * weights[:, None]).sum(dim=1) / weights.sum())
        return out


class SumOfImages(nn.Module):
    """A pooled module of images: encode gives an image's mean colors."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(12)
        self.linear = nn.Linear(3, n_classes, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(20 * torch.randn(self.linear.weight.shape, generator=generator))

    def encode(self, images: Tensor) -> Tensor:  # (N, H, W, 3) uint8
        return images.float().mean(dim=(1, 2)) / 255

    def decode(self, sums: Tensor, sizes: Tensor) -> Tensor:
        out: Tensor = self.linear(sums / sizes[:, None])
        return out


@esv_ray.factory
def of_images(n_classes: int = 3) -> nn.Module:
    return MeanImage(n_classes)


@esv_ray.factory
def scales_of_images(n_classes: int = 3) -> dict[int, nn.Module]:
    return {1: MeanImage(n_classes), 2: MeanImage(n_classes)}


@esv_ray.factory
def sum_of_images(n_classes: int = 3) -> nn.Module:
    return SumOfImages(n_classes)


@esv_ray.factory
def four_images(how: Literal["interpolate", "repeat"] = "repeat") -> nn.Module:
    return esv_ray.fixed_length(MeanImage(3), 4, how)
