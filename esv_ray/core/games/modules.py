"""Games without fixed scales: models of any length (e.g. TSN) and any characteristic function.

Like `heads.MultiScale` these are scorers (`model.Scorer`): they map subsequences of one length to class scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esv_ray.core.games.images import held_numbers
from esv_ray.core.scales import Scales
from esv_ray.core.workspace import Workspace

Over = Literal["logits", "probabilities"]
"""What a TSN averages over elements."""


def gather_subsequences(features: Tensor, elements: Tensor) -> Tensor:
    """Gather the features of subsequences.

    Args:
        features: (B, n, D).
        elements: (R, 1 or B, s) positions.

    Returns:
        (R * B, s, D), the videos of a subsequence next to each other.
    """
    batch, _, dim = features.shape
    rows, _, s = elements.shape
    video = torch.arange(batch, device=features.device)[None, :, None]
    return features[video, elements.long()].reshape(rows * batch, s, dim)


def weighted_sums(scores: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sums (K, B, C) of scores (R * B, C), rows as of `gather_subsequences`, for weights (K, R)."""
    out: Tensor = torch.tensordot(weights, scores.reshape(weights.shape[1], -1, scores.shape[-1]), dims=1)
    return out


class AnyLength(nn.Module):
    """Base of the scorers that score every length themselves: scores as wide as there are classes."""

    scales: Scales | None = None
    longest: int | None = None

    def embed(self, features: Tensor) -> Tensor:
        """Return the features (..., n, D) themselves."""
        return features

    def columns(self, n_classes: int) -> int:
        """Return C: there are no idle columns."""
        return n_classes

    def prepare(self, features: Tensor, s: int, workspace: Workspace) -> Tensor:
        """Return the features (B, n, D) of features (n, B, D)."""
        del s, workspace
        return features.transpose(0, 1)

    def lay_out(self, elements: Tensor, s: int) -> Tensor:
        """Return the elements (B, n, D') themselves."""
        del s
        return elements


class Average(AnyLength):
    """TSN (Wang et al. 2016): mean over elements of a linear classifier.

    f(X) = mean over x in X of (weight @ relu(x) + bias), the ReLU only with `input_relu`. Over `probabilities` it is
    the mean of the softmax of these logits: a head of scale 1 alone, whose values are linear in it. With p_i the
    probabilities of element i, m_-i their mean over the other elements, b the prior and H_n the harmonic number, its
    ESVs are ((p_i - b) + (p_i - m_-i) (H_n - 1)) / n.
    """

    probabilities = True
    ordered = False

    def __init__(self, weight: Tensor, bias: Tensor, *, input_relu: bool, over: Over = "logits") -> None:
        """Take weight (C, D) and bias (C,)."""
        super().__init__()
        self.over = over
        self.softmax = over == "logits"
        if over == "probabilities":
            self.scales = Scales((1.0,), linear=True)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.input_relu = input_relu

    def width(self, s: int) -> int:
        """Return 0: nothing is held beside the scores."""
        del s
        return 0

    def prepare(self, features: Tensor, s: int, workspace: Workspace) -> Tensor:
        """Return each element's class scores divided by s, (n, B, C), contiguous; a subsequence's are their sum."""
        del workspace
        elements = features.relu() if self.input_relu else features
        logits = F.linear(elements, self.weight, self.bias)
        return (logits if self.softmax else logits.softmax(dim=-1)).div_(s)

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Write scores to out (R, B, C), from the elements' shares and membership (n + 1, R)."""
        del elements
        n = len(prepared)
        torch.mm(member[:n].t(), prepared.view(n, -1), out=out.view(len(out), -1))

    def lay_out(self, elements: Tensor, s: int) -> Tensor:
        """Return each element's logits, or probabilities, (B, n, C)."""
        del s
        logits = F.linear(elements.relu() if self.input_relu else elements, self.weight, self.bias)
        return logits if self.softmax else logits.softmax(dim=-1)

    def weighted(self, laid_out: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
        """Return weighted sums of the scores, differentiable (`model.Scorer`)."""
        return weighted_sums(gather_subsequences(laid_out, positions).mean(dim=1), weights)


class VariableLength(AnyLength):
    """Any module (N, s, D) -> (N, C) logits that takes every s from 1 to n."""

    softmax = True
    probabilities = True
    ordered = True

    def __init__(self, module: nn.Module, *, feature_dim: int) -> None:
        super().__init__()
        self.module = module.eval()
        self._held = held_numbers(module, feature_dim)

    def width(self, s: int) -> int:
        """Return the numbers held per subsequence: the gathered features; of images also the module's activations."""
        return s * self._held

    def _logits(self, features: Tensor, positions: Tensor) -> Tensor:
        """Return the logits (R * B, C) of subsequences: features (B, n, D), positions (R, 1 or B, s)."""
        out: Tensor = self.module(gather_subsequences(features, positions))
        return out

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Write scores to out (R, B, C), by running the module on the gathered subsequences."""
        del member
        assert elements is not None, "an ordered game needs positions"
        out.copy_(self._logits(prepared, elements).view_as(out))

    def weighted(self, laid_out: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
        """Return weighted sums of the scores, differentiable (`model.Scorer`)."""
        return weighted_sums(self._logits(laid_out, positions), weights)


class PlacedNetwork(VariableLength):
    """A network of this package, which is told the places of a subsequence's elements in their sequence.

    It is called on (N, s, D), places (N, s) int64 and n, the number of elements of the sequence.
    """

    def __init__(self, network: nn.Module, *, feature_dim: int, longest: int | None) -> None:
        """Take a network, and the most elements that it takes, or None."""
        super().__init__(network, feature_dim=feature_dim)
        self.longest = longest

    def _logits(self, features: Tensor, positions: Tensor) -> Tensor:
        rows, _, s = positions.shape
        batch, n, _ = features.shape
        places = positions.long().expand(rows, batch, s).reshape(rows * batch, s)
        out: Tensor = self.module(gather_subsequences(features, positions), places, n)
        return out


class CharacteristicFunction(AnyLength):
    """Any game v: {subsequences} -> R^C, given as a function of element positions; features are ignored."""

    softmax = False
    probabilities = False
    ordered = True

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        """Take a function from positions (N, s) int64, ascending in each row, to values (N, C)."""
        super().__init__()
        self.function = function

    def width(self, s: int) -> int:
        """Return the numbers held per subsequence: positions, in int64."""
        return 2 * s

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Write values to out (R, B, C)."""
        del member
        assert elements is not None, "an ordered game needs positions"
        batch, (rows, _, s) = prepared.shape[0], elements.shape
        positions = elements.long().expand(rows, batch, s).reshape(rows * batch, s)
        out.copy_(self.function(positions).view_as(out))

    def weighted(self, laid_out: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
        """Return weighted sums of the values (`model.Scorer`), which do not depend on the features."""
        rows, _, s = positions.shape
        values = self.function(positions.long().expand(rows, len(laid_out), s).reshape(-1, s))
        return weighted_sums(values.to(laid_out), weights)
