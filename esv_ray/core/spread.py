"""Error model of ESVs: standard errors of any linear combination of classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

# Larger rows are divided by a power of two before they are squared: in float32, squares from 1.8e19 on overflow.
_LARGE = 2.0**30


@dataclass(frozen=True, eq=False)
class Spread:
    """Error model of the ESVs of B videos of n elements.

    The ESV of element i has the variance sum over r of weights[i, r] * rows[r]^2. Rows are linear in the values of the
    game, with one column per class: the row of "class a minus class b" is the difference of their rows, which accounts
    for the errors that both share.

    Attributes:
        rows: (R, B, C).
        weights: (n, R), elements in the plan's order; (1, R) if they are the same for all.
        relabelling: (B, n) video element of each plan element; None: the identity.
        floor: smallest standard error, as a share of the mean |ESV|.
        bound: largest standard error of a class: 1 for a probability, whose ESVs lie in [-1, 1].
        own: (B,) share of an ESV's own size that is added to its error; None: 0.
    """

    rows: Tensor
    weights: Tensor
    relabelling: Tensor | None
    floor: float = 0.0
    bound: float = inf
    own: Tensor | None = None

    def stderr(self, esv: Tensor, mix: Tensor | None = None) -> Tensor:
        """Return standard errors (B, n, K).

        Args:
            esv: (B, n, K) the ESVs.
            mix: (C, K) combinations of classes; None: the classes themselves.
        """
        rows = self.rows if mix is None else self.rows @ mix
        batch, kinds = rows.shape[1:]
        scale = _scale(rows)
        variance = self.weights @ (rows / scale).square().reshape(len(rows), -1)
        if len(variance) == 1:
            variance = variance.view(1, batch, kinds).transpose(0, 1).expand(batch, esv.shape[1], kinds).contiguous()
        else:
            variance = per_video(variance, batch, kinds, self.relabelling)
        scale = scale[:, None]  # (B, 1, K)
        if self.floor:
            variance += (self.floor * esv.abs().mean(dim=1, keepdim=True) / scale).square()
        if self.own is not None:
            variance += (self.own[:, None, None] * esv / scale).square()
        stderr = variance.sqrt_().mul_(scale)
        if self.bound == inf:
            return stderr
        bound = self.bound if mix is None else self.bound * mix.abs().sum(dim=0)
        # This form maps NaN to the bound: an error that overflowed exceeds any probability.
        return torch.where(stderr <= bound, stderr, bound)

    def contrast(self, esv: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Return standard errors (B, n) of the ESVs of one class minus those of another, chosen for each video.

        Args:
            esv: (B, n, C) the ESVs.
            a: (B,) classes.
            b: (B,) classes.
        """

        def pick(values: Tensor, at: Tensor) -> Tensor:
            return values.gather(-1, at.expand(values.shape[:-1])[..., None])

        rows = pick(self.rows, a) - pick(self.rows, b)  # (R, B, 1)
        esvs = pick(esv, a[:, None]) - pick(esv, b[:, None])  # (B, n, 1)
        return replace(self, rows=rows, bound=2 * self.bound).stderr(esvs)[..., 0]

    def take(self, videos: Tensor) -> Spread:
        """Return the error model of some of the videos."""
        relabelling = None if self.relabelling is None else self.relabelling[videos]
        own = None if self.own is None else self.own[videos]
        return replace(self, rows=self.rows[:, videos], relabelling=relabelling, own=own)


def _scale(rows: Tensor) -> Tensor:
    """Return (B, K) divisors of rows (R, B, K) before they are squared: 1 or a power of two, so that no bit is lost."""
    top = rows.abs().amax(dim=0)
    return torch.where(top > _LARGE, torch.ldexp(torch.ones_like(top), torch.frexp(top).exponent - 1), 1.0)


def per_video(columns: Tensor, batch: int, n_classes: int, relabelling: Tensor | None) -> Tensor:
    """Reorder (n, B * columns), elements in the plan's order, to (B, n, C), elements in each video's order."""
    esv = columns.view(len(columns), batch, -1)[..., :n_classes].transpose(0, 1)  # (B, n, C)
    if relabelling is None:
        return esv.contiguous()
    own = torch.empty_like(esv, memory_format=torch.contiguous_format)
    return own.scatter_(1, relabelling.long()[:, :, None].expand_as(esv), esv)


def per_video_and_scale(columns: Tensor, batch: int, n_classes: int, relabelling: Tensor | None) -> Tensor:
    """Reorder (scales, n, B * columns), elements in the plan's order, to (B, scales, n, C), in each video's order."""
    out = columns.new_empty((batch, *columns.shape[:2], n_classes))
    for place, scale in enumerate(columns):
        out[:, place] = per_video(scale, batch, n_classes, relabelling)
    return out
