"""Probabilities minus a baseline, from scores; where they are in bits in fewer passes than a softmax.

On a CPU, `exp2` takes half the time of a softmax (51 against 112 ns per subsequence of 174 classes), and division and
subtraction of the baseline are one pass: 95 against 134 ns altogether. Nothing is subtracted from the scores: a chunk
whose sums of exponentials are not in the range that float32 holds with all digits takes the softmax.
"""

from __future__ import annotations

from math import e, log2

import torch
from torch import Tensor

from esv_ray.core.workspace import Workspace

BITS = log2(e)
"""Unit of scores in bits: 2^(BITS x) = e^x."""

_LEAST, _MOST = 2.0**-60, 2.0**100  # sums of exponentials: what underflows is below 2^-66 of them
_FEW = 2**14  # numbers; of a smaller chunk the steps cost more than the passes


def waits_for_nothing(device: torch.device) -> bool:
    """Return whether looking at a result costs nothing; on a GPU it waits for all that was launched."""
    return device.type == "cpu"


def probabilities(
    scores: Tensor, baseline: Tensor, workspace: Workspace, kept: Tensor | None = None, *, unit: float = 1.0
) -> Tensor:
    """Return softmax(scores / unit) minus a baseline, in the workspace's buffer "values".

    Args:
        scores: (R, B, columns); -inf in idle columns, which become zero.
        baseline: (B, columns).
        workspace: buffers.
        kept: (R, B, columns) to which the probabilities themselves are written; None: not needed.
        unit: 1, or `BITS` of scores that may take the shorter way.

    Returns:
        (R, B, columns).
    """
    values = workspace.take("values", tuple(scores.shape))
    if unit == BITS and scores.numel() >= _FEW:
        torch.exp2(scores, out=values)
        sums = values.sum(dim=-1, keepdim=True)  # (R, B, 1)
        least, most = sums.aminmax()
        if float(least) >= _LEAST and float(most) <= _MOST:  # False for NaN
            sums.reciprocal_()
            if kept is not None:
                torch.mul(values, sums, out=kept)
            return torch.addcmul(-baseline, values, sums, out=values)
    torch.softmax(scores if unit == 1 else torch.div(scores, unit, out=values), dim=-1, out=values)
    if kept is not None:
        kept.copy_(values)
    return values.sub_(baseline)
