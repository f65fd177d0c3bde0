"""Marginal contributions of each scale in the closed form: linear in the means and the contrasts of the heads.

With c_s(k) the share of head s in F of k elements, m_s the mean of f^s and D_s its contrast (`logit.plan`), the mean of
F over the X of k elements that hold element i is the sum over s of c_s(k) (m_s + (s/k - s/n) D_s(i)), and over the X
that do not, the sum of c_s(k) (m_s - s/n D_s(i)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.recipe import evaluated_scales
from esv_ray.core.scales import Scales


@dataclass(frozen=True)
class HeadEstimates:
    """Estimates of the S evaluated scales.

    Attributes:
        contrasts: (S, n, W) D_s; zero for s = n.
        means: (S, W) m_s.
    """

    contrasts: Tensor
    means: Tensor


def zero_estimates(count: int, n: int, width: int, *, like: Tensor) -> HeadEstimates:
    """Return zeros for `count` scales, in the dtype and on the device of another tensor."""
    return HeadEstimates(like.new_zeros((count, n, width)), like.new_zeros((count, width)))


def combine(estimates: HeadEstimates, empty: Tensor, scales: Scales | None) -> Tensor:
    """Return marginals (n, n, W) for each scale and element.

    Args:
        estimates: estimates of all evaluated scales.
        empty: (W,) value of the empty sequence.
        scales: scales of the model's heads; None for a model that scores every length itself.
    """
    count, n, _ = estimates.contrasts.shape
    of_contrasts, of_means, of_empty = _mixes(n, scales, empty.dtype, empty.device)
    out = (of_contrasts @ estimates.contrasts.view(count, -1)).view(n, n, -1)
    out += (of_means @ estimates.means + of_empty[:, None] * empty)[:, None]
    return out


@lru_cache(maxsize=64)
def _mixes(n: int, scales: Scales | None, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights of the contrasts (n, S), of the means (n, S), and of the empty sequence's value (n,), cached."""
    s = np.array(evaluated_scales(n, scales))
    k = np.arange(n + 1)[:, None]
    below = np.arange(n + 1) < (1 if scales is None else scales.shortest)
    if scales is None:
        shares = (s == k).astype(np.float64)  # (n + 1, S)
    else:
        divisors = np.array([np.inf if below[size] else scales.divisor(size) for size in range(n + 1)])
        shares = np.where(s <= k, np.array(scales.weights)[s - 1] / divisors[:, None], 0.0)
    contrasts = shares[1:] * (s / k[1:] - s / n) + shares[:-1] * s / n
    mixes = (contrasts, np.diff(shares, axis=0), np.diff(below.astype(np.float64)))
    of_contrasts, of_means, of_empty = (torch.from_numpy(mix).to(device, dtype) for mix in mixes)
    return of_contrasts, of_means, of_empty
