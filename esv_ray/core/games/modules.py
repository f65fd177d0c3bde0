"""Games without fixed scales: models of any length (TSN and the like) and any characteristic function.

Like `heads.MultiScale` these are scorers (`model.Scorer`): they turn subsequences of one length into class scores.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esv_ray.core.workspace import Workspace


def gather_subsequences(features: Tensor, elements: Tensor) -> Tensor:
    """Subsequences of videos.

    Args:
        features: (B, n, D).
        elements: (R, 1 or B, s) positions.

    Returns:
        (R * B, s, D), the videos of a subsequence side by side.
    """
    batch, _, dim = features.shape
    rows, _, s = elements.shape
    video = torch.arange(batch, device=features.device)[None, :, None]
    return features[video, elements.long()].reshape(rows * batch, s, dim)


class Average(nn.Module):
    """TSN (Wang et al. 2016): mean over elements of a linear classifier.

    f(X) = mean over x in X of (weight @ relu(x) + bias), the ReLU where `input_relu`.
    """

    n_max: int | None = None
    softmax = True
    ordered = False

    def __init__(self, weight: Tensor, bias: Tensor, *, input_relu: bool) -> None:
        """Weight (C, D), bias (C,)."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.input_relu = input_relu

    def columns(self, n_classes: int) -> int:
        """As wide as there are classes."""
        return n_classes

    def width(self, s: int) -> int:
        """No room beside the scores."""
        del s
        return 0

    def prepare(self, features: Tensor, s: int, workspace: Workspace) -> Tensor:
        """Class scores of each element over s, (n, B, C), contiguous: a subsequence's scores are their sum."""
        del workspace
        elements = features.relu() if self.input_relu else features
        return F.linear(elements, self.weight, self.bias).div_(s)

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Into out (R, B, C) from the elements' shares and membership (n + 1, R)."""
        del elements
        n = len(prepared)
        torch.mm(member[:n].t(), prepared.view(n, -1), out=out.view(len(out), -1))


class VariableLength(nn.Module):
    """Any module (N, s, D) -> (N, C) logits that takes every s from 1 to n."""

    n_max: int | None = None
    softmax = True
    ordered = True

    def __init__(self, module: nn.Module, *, feature_dim: int) -> None:
        super().__init__()
        self.module = module.eval()
        self.feature_dim = feature_dim

    def columns(self, n_classes: int) -> int:
        """As wide as there are classes."""
        return n_classes

    def width(self, s: int) -> int:
        """The gathered features."""
        return s * self.feature_dim

    def prepare(self, features: Tensor, s: int, workspace: Workspace) -> Tensor:
        """(B, n, D)."""
        del s, workspace
        return features.transpose(0, 1)

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Into out (R, B, C) by running the module on the gathered subsequences."""
        del member
        assert elements is not None, "an ordered game is asked with positions"
        out.copy_(self.module(gather_subsequences(prepared, elements)).view_as(out))


class CharacteristicFunction(nn.Module):
    """Any game v: {subsequences} -> R^C, given as a function of element positions; features are not looked at."""

    n_max: int | None = None
    softmax = False
    ordered = True

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        """A function from positions (N, s) int64, ascending in each row, to values (N, C)."""
        super().__init__()
        self.function = function

    def columns(self, n_classes: int) -> int:
        """As wide as there are classes."""
        return n_classes

    def width(self, s: int) -> int:
        """The positions."""
        return 2 * s

    def prepare(self, features: Tensor, s: int, workspace: Workspace) -> Tensor:
        """The features, for their batch size only: (B, n, D)."""
        del s, workspace
        return features.transpose(0, 1)

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Values into out (R, B, C)."""
        del member
        assert elements is not None, "an ordered game is asked with positions"
        batch, (rows, _, s) = prepared.shape[0], elements.shape
        positions = elements.long().expand(rows, batch, s).reshape(rows * batch, s)
        out.copy_(self.function(positions).view_as(out))
