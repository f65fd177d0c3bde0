"""Marginal contributions of each scale, from the adjusted estimator's own estimates of sizes.

With a_k the mean value at size k and D_k(i) the contrast of element i, E[v | i in X] = a_k + (1 - k/n) D_k(i) and
E[v | i not in X] = a_k - k/n D_k(i), so that the marginal of scale s is

    a_s - a_(s-1) + (1 - s/n) D_s(i) + (s-1)/n D_(s-1)(i).

Its sum over s is v(all) - v(none) + the sum of D_k(i): the mean over scales is the ESV. Sizes left out are interpolated
as the ESVs' quadrature does (`design.interpolation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.regression.design import interpolation, subsequences_of
from esv_ray.core.regression.estimates import Estimates, is_chained
from esv_ray.core.regression.surrogate import of_values

if TYPE_CHECKING:
    from esv_ray.core.adjusted.plan import AdjustedPlan, Size


@dataclass(frozen=True)
class OperatorSizes:
    """Sizes of the operators that a plan holds for marginals.

    Attributes:
        sizes: number of evaluated sizes below n.
        coefficients: per size, of the read-out.
        columns: estimates that need several sizes.
        chained: whether states are chained over sizes.
        subsequences: number of subsequences of all sizes.
        own: numbers in the operators `own`.
    """

    sizes: int
    coefficients: int
    columns: int
    chained: bool
    subsequences: int
    own: int

    @property
    def rows(self) -> int:
        """Rows of `shared`."""
        return self.coefficients if self.chained else self.columns

    @property
    def numbers(self) -> int:
        """Numbers in all operators."""
        links = self.coefficients * ((self.sizes - 1) * self.coefficients + self.columns) if self.chained else 0
        return self.subsequences * self.rows + self.own + links

    @property
    def products(self) -> int:
        """Products per video and class."""
        again = (self.sizes - 1) * self.coefficients**2 if self.chained else 0  # links apply forward and backward
        return self.numbers + again

    @property
    def building(self) -> int:
        """Floating-point operations to build them, beside the read-out's."""
        products = 2 * self.subsequences * self.coefficients * self.rows
        if self.chained:
            return products + 3 * self.sizes * self.coefficients**3
        return products + 4 * self.sizes * self.coefficients**2 * self.columns


def operator_sizes(n: int, rows: int, sizes: list[int]) -> OperatorSizes:
    """Return the sizes of the operators for n elements, at most `rows` subsequences at each of some sizes below n."""
    totals = {k: subsequences_of(n, k) for k in sizes}
    most = {k: rows if k > 1 else n for k in sizes}
    complete = [k for k in sizes if totals[k] <= most[k]]
    coefficients = sum(of_values(n, rows).features.counts())
    columns = (n + 1) * (len(sizes) - len(complete))
    subsequences = sum(int(min(totals[k], most[k])) for k in sizes)
    return OperatorSizes(
        sizes=len(sizes),
        coefficients=coefficients,
        columns=columns,
        chained=is_chained(len(sizes), columns, coefficients, subsequences),
        subsequences=subsequences,
        own=(n + 1) * sum(int(totals[k]) for k in complete),
    )


def size_operators(estimates: Estimates | None, index: int) -> dict[str, Tensor]:
    """Return the fields `own`, `shared`, `link` and `output` of a size that is the node of an index."""
    if estimates is None:
        return {}
    out = {"own": estimates.own[index], "shared": estimates.shared[index]}
    if estimates.links:
        out |= {"link": estimates.links[index], "output": estimates.outputs[index]}
    return {name: torch.from_numpy(np.ascontiguousarray(operator)) for name, operator in out.items()}


def mixes(n: int, sizes: list[int], smooth_from: int) -> tuple[Tensor, Tensor]:
    """Return the fields `mixes` and `ends` of a plan.

    Args:
        n: number of elements.
        sizes: evaluated sizes below n, ascending; shorter subsequences have the value of the empty one.
        smooth_from: as for `design.quadrature`.
    """
    known = interpolation(n, sizes, smooth_from=smooth_from) if sizes else np.zeros((n + 1, 0))
    scale = np.arange(1, n + 1)
    contrasts = (1 - scale / n)[:, None] * known[1:] + ((scale - 1) / n)[:, None] * known[:-1]
    below = np.arange(n + 1) < (sizes[0] if sizes else n)
    ends = np.stack([np.diff(below.astype(np.float64)), (scale == n).astype(np.float64)])
    return torch.from_numpy(np.stack([contrasts, np.diff(known, axis=0)])), torch.from_numpy(ends)


def estimates_by_size(plan: AdjustedPlan, gathered: list[tuple[Tensor, Tensor]], like: Tensor) -> Tensor:
    """Return the estimates (sizes, n + 1, W) of each size but n: its contrasts and, below them, its mean.

    Args:
        plan: with marginals, and without joint operators.
        gathered: for each size but n, its operators `own` (n + 1 or 0, W) and `shared` (R, W) applied to values.
        like: (W,), for the dtype and device.
    """
    n, sizes = plan.n, plan.sizes[:-1]
    estimates = like.new_zeros((len(sizes), n + 1, len(like)))
    sampled = [index for index, (own, _) in enumerate(gathered) if not len(own)]
    for index, (own, _) in enumerate(gathered):
        if len(own):
            estimates[index] = own
    if sampled:
        shared = [part for _, part in gathered]
        found = _chained(sizes, shared) if sizes[0].link is not None else _direct(shared, n)
        for index, estimate in zip(sampled, found, strict=True):  # a list as an index would be copied to the device
            estimates[index] = estimate
    return estimates


def combine(plan: AdjustedPlan, estimates: Tensor, prior: Tensor, scores: Tensor) -> Tensor:
    """Return marginals (n, n, W) for each scale and element.

    Args:
        plan: with marginals.
        estimates: (sizes, n + 1, W) of each size but n.
        prior: (W,) value of the empty sequence.
        scores: (W,) value of the full one.
    """
    assert plan.mixes is not None, "checked at the start"
    assert plan.ends is not None, "both or none"
    n, sizes = plan.n, plan.sizes[:-1]
    out = (plan.mixes[0] @ estimates[:, :n].reshape(len(sizes), -1)).view(n, n, -1)
    common = plan.mixes[1] @ estimates[:, n]  # (n, W)
    common += plan.ends[0][:, None] * prior + plan.ends[1][:, None] * scores
    out += common[:, None]
    return out


def _direct(shared: list[Tensor], n: int) -> Tensor:
    """Return the estimates (sampled sizes, n + 1, W), which are sums over sizes."""
    total = torch.zeros_like(shared[0])
    for part in shared:
        total += part
    return total.view(-1, n + 1, total.shape[1])


def _chained(sizes: tuple[Size, ...], shared: list[Tensor]) -> Tensor:
    """Return the estimates (sampled sizes, n + 1, W) by a filter over sizes and a smoother; overwrites shared."""
    for index in range(1, len(sizes)):
        link = sizes[index].link
        assert link is not None, "all sizes are linked, or none"
        shared[index].addmm_(link, shared[index - 1], alpha=-1)
    out: list[Tensor] = []
    for index in reversed(range(len(sizes))):
        if index + 1 < len(sizes):
            link = sizes[index + 1].link
            assert link is not None, "all sizes are linked, or none"
            shared[index].addmm_(link.t(), shared[index + 1], alpha=-1)
        output = sizes[index].output
        assert output is not None, "linked sizes have outputs"
        if len(output):
            out.append(output @ shared[index])
    return torch.stack(out[::-1])
