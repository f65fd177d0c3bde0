"""What standard errors are made of: linear in the values, so that those of any combination of classes are had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

# Rows beyond this are squared after a division by a power of two: float32 squares of numbers from 1.8e19 are infinite.
_LARGE = 2.0**30


@dataclass(frozen=True, eq=False)
class Spread:
    """Errors of the ESVs of B videos of n elements.

    The ESV of element i has the variance sum over r of weights[i, r] * rows[r]^2. Rows are linear in the values of the
    game, one column a class: the row of "class a less class b" is the difference of theirs, errors that both share
    included.

    Attributes:
        rows: (R, B, C).
        weights: (n, R) by the plan's elements.
        relabelling: (B, n) video element that stands for each of the plan's; None: the same.
        floor: least standard error, as a share of the mean |ESV|.
        bound: largest standard error of a class: 1 for a probability, whose ESVs lie in [-1, 1].
    """

    rows: Tensor
    weights: Tensor
    relabelling: Tensor | None
    floor: float = 0.0
    bound: float = inf

    def stderr(self, esv: Tensor, mix: Tensor | None = None) -> Tensor:
        """Standard errors (B, n, K).

        Args:
            esv: (B, n, K) the ESVs whose errors they are.
            mix: (C, K) combinations of classes; None: the classes themselves.
        """
        rows = self.rows if mix is None else self.rows @ mix
        batch, kinds = rows.shape[1:]
        scale = _scale(rows)
        variance = self.weights @ (rows / scale).square().reshape(len(rows), -1)
        variance = per_video(variance, batch, kinds, self.relabelling)
        scale = scale[:, None]  # (B, 1, K)
        if self.floor:
            variance += (self.floor * esv.abs().mean(dim=1, keepdim=True) / scale).square()
        found = variance.sqrt_().mul_(scale)
        if self.bound == inf:
            return found
        bound = found.new_tensor(self.bound) if mix is None else self.bound * mix.abs().sum(dim=0)
        # Written so that NaN becomes the bound: errors that overflowed are larger than any probability's.
        return torch.where(found <= bound, found, bound)

    def take(self, videos: Tensor) -> Spread:
        """That of some of the videos."""
        relabelling = None if self.relabelling is None else self.relabelling[videos]
        return replace(self, rows=self.rows[:, videos], relabelling=relabelling)


def _scale(rows: Tensor) -> Tensor:
    """(B, K) by which rows (R, B, K) are divided before they are squared: 1, or a power of two: no bit is lost."""
    top = rows.abs().amax(dim=0)
    return torch.where(top > _LARGE, torch.ldexp(torch.ones_like(top), torch.frexp(top).exponent - 1), 1.0)


def per_video(columns: Tensor, batch: int, n_classes: int, relabelling: Tensor | None) -> Tensor:
    """(n, B * columns) by the plan's elements -> (B, n, C) by the video's own."""
    esv = columns.view(len(columns), batch, -1)[..., :n_classes].transpose(0, 1)  # (B, n, C)
    if relabelling is None:
        return esv.contiguous()
    own = torch.empty_like(esv, memory_format=torch.contiguous_format)
    return own.scatter_(1, relabelling.long()[:, :, None].expand_as(esv), esv)
