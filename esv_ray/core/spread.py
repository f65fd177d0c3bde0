"""What standard errors are made of: linear in the values, so that those of any combination of classes are had."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


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
    """

    rows: Tensor
    weights: Tensor
    relabelling: Tensor | None
    floor: float = 0.0

    def stderr(self, esv: Tensor, mix: Tensor | None = None) -> Tensor:
        """Standard errors (B, n, K).

        Args:
            esv: (B, n, K) the ESVs whose errors they are.
            mix: (C, K) combinations of classes; None: the classes themselves.
        """
        rows = self.rows if mix is None else self.rows @ mix
        batch, kinds = rows.shape[1:]
        variance = self.weights @ rows.square().reshape(len(rows), -1)
        variance = per_video(variance, batch, kinds, self.relabelling)
        if self.floor:
            variance += (self.floor * esv.abs().mean(dim=1, keepdim=True)).square()
        return variance.sqrt_()

    def take(self, videos: Tensor) -> Spread:
        """That of some of the videos."""
        relabelling = None if self.relabelling is None else self.relabelling[videos]
        return replace(self, rows=self.rows[:, videos], relabelling=relabelling)


def per_video(columns: Tensor, batch: int, n_classes: int, relabelling: Tensor | None) -> Tensor:
    """(n, B * columns) by the plan's elements -> (B, n, C) by the video's own."""
    esv = columns.view(len(columns), batch, -1)[..., :n_classes].transpose(0, 1)  # (B, n, C)
    if relabelling is None:
        return esv.contiguous()
    own = torch.empty_like(esv, memory_format=torch.contiguous_format)
    return own.scatter_(1, relabelling.long()[:, :, None].expand_as(esv), esv)
