"""Errors of the adjusted estimator that come from F: what surrogates of heads do to values, and so to ESVs.

Three parts, beside the residuals of the read-out:

- The error of a surrogate's means is one function of X: its contrasts, times the softmax's mean slope. The values of a
  confident model jump, so that its slope is zero at most subsequences and huge at few. So the slope is that of scores
  divided by a temperature which grows with their spread: a kernel estimate.
- The errors of F at different X also move values one by one. Drawn errors are added to F of a few subsequences of each
  size; the mean square of the change of v counts as noise of the values.
- Errors that are not small beside the differences of classes flatten v (or sharpen it, where they leave a part of F
  out), and with it each ESV by a share of its own size: of a probit with variance S^2 + 8 / pi of the margins by
  half the ratio of the error's variance to it.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf, pi
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from esv_ray.core.games.model import Scorer
from esv_ray.core.spread import Spread

if TYPE_CHECKING:
    from esv_ray.core.adjusted.plan import AdjustedPlan, Size

_CAUTION = 1.8  # factor on the variance: the parts are estimates themselves
_FLOOR = 1e-3  # of the mean |ESV|: it dominates where nearly every subsequence is sampled
# Of the relative error of the class with the largest ESVs, at least, for the other classes. Values of classes that are
# hardly ever likely come from few subsequences, and residuals do not show those that are not in the sample: at n = 12,
# m = 32, the demo's model, intervals of such a class cover 67 % without it.
_LEAST = 0.25
_KERNEL = 0.2  # temperature over the standard deviation of the difference of two classes' scores


class HeadErrors:
    """The errors of a batch, collected from size to size."""

    def __init__(self, plan: AdjustedPlan, scorer: Scorer, n_classes: int, like: Tensor, batch: int) -> None:
        """Start without errors.

        Args:
            plan: the plan.
            scorer: the model's scorer.
            n_classes: C.
            like: (P, B * columns) on the device, in the dtype.
            batch: B.
        """
        self._plan, self._scorer, self._n_classes, self._batch = plan, scorer, n_classes, batch
        self._means: Tensor | None = None  # (P, B * columns): one draw of the error of the surrogates' means
        self._response = like.new_zeros((plan.n, batch, n_classes))  # of the ESVs to it
        # Residual contrasts of all heads, filled from head to head.
        most = sum(max(len(size.fit) - plan.terms, 0) for size in plan.sizes if size.fit is not None)
        self._contrasts, self._filled = like.new_empty((most, like.shape[1])), 0
        self._changes: list[Tensor] = []  # (L', B, C) random sums of the changes of v of each size
        self._own = like.new_zeros(batch)

    def add(self, size: Size, scores: Tensor, contrasts: Tensor | None) -> None:
        """Take a size's F, and the residual contrasts of its head.

        Args:
            size: the size.
            scores: (N, B, columns) F of its subsequences.
            contrasts: (L, B * columns), or None.
        """
        if contrasts is not None:
            self._contrasts[self._filled : self._filled + len(contrasts)] = contrasts
            self._filled += len(contrasts)
        if size.noise is not None:
            self._respond(size, scores)
        if contrasts is not None and size.errors is not None:
            if self._means is None:
                self._means = contrasts.new_zeros((len(size.errors), contrasts.shape[1]))
            self._means.addmm_(size.errors, contrasts)

    def _respond(self, size: Size, scores: Tensor) -> None:
        """Add what the errors of F at a size do to the ESVs."""
        assert size.noise is not None, "checked by the caller"
        assert size.signs is not None, "both or none"
        n, rows = self._plan.n, len(size.noise)
        at = torch.arange(rows, device=scores.device) * size.count // rows
        sample = scores[at][..., : self._n_classes]  # (R, B, C)
        noise = self._per_class(size.noise @ self._contrasts[: self._filled])
        margins = _margin(sample)
        spread = (margins - margins.mean(dim=0)).square().mean(dim=(0, 2))  # (B,)
        if self._scorer.softmax:
            change = torch.softmax(sample + noise, dim=2).sub_(torch.softmax(sample, dim=2))
            if size.share:  # what surrogates leave out has no contrasts over all subsequences of a size
                change -= size.share * _slope(noise, sample, spread)
        else:
            change = noise
        self._changes.append((size.signs @ change.reshape(rows, -1)).view(len(size.signs), self._batch, -1))
        if size.k == n:
            return
        if self._scorer.softmax:
            assert self._scorer.scales is not None, "only heads have errors"
            weight = size.single_response * (size.k * self._scorer.scales.divisor(size.k))  # sum over sizes: 1
            self._own += weight * _margin(noise).square().mean(dim=(0, 2)) / (2 * (8 / pi + spread))
        if self._means is not None:
            self._response += self._contrast(size, sample, spread)

    def _contrast(self, size: Size, sample: Tensor, spread: Tensor) -> Tensor:
        """Return the response (n, B, C) of the ESVs to the error of the surrogates' means at a size.

        Args:
            size: the size.
            sample: (R, B, C) F of some subsequences.
            spread: (B,) variance of its differences of classes.
        """
        assert self._means is not None, "checked by the caller"
        plan, n, means = self._plan, self._plan.n, self._means
        error = (means[:n] - means[:n].mean(dim=0)).mul_(size.single_response)
        if len(plan.pairs):
            error += (size.pair_response @ means[n + 1 :])[plan.bins]
        error = self._per_class(error)
        return _slope(error, sample, spread) if self._scorer.softmax else error

    def _per_class(self, rows: Tensor) -> Tensor:
        """Return rows (R, B * columns) as (R, B, C), without idle columns."""
        return rows.view(len(rows), self._batch, rows.shape[1] // self._batch)[..., : self._n_classes]

    def spread(self, residuals: list[Tensor], relabelling: Tensor | None, esv: Tensor) -> Spread:
        """Return the error model.

        Args:
            residuals: (L, B * columns) residual contrasts of the read-out, for each size.
            relabelling: (B, n), or None.
            esv: (B, n, C) the ESVs, in each video's order.
        """
        plan = self._plan
        read = [self._per_class(part) for part in residuals]
        rows = torch.cat([*read, *self._changes, self._response])
        equal = plan.weights.new_full((len(plan.weights), plan.n), 1 / plan.n)
        weights = _CAUTION * torch.cat([plan.weights, equal], dim=1)
        floor = 0.0 if self._scorer.scales is None else _FLOOR
        # Responses are linear in errors of the logits, the softmax is not: with large logits they are unbounded.
        bound = 1.0 if self._scorer.softmax else inf
        found = Spread(rows, weights, relabelling, floor, bound)
        if self._scorer.scales is None:
            return found
        own = _CAUTION * self._own.clamp_(min=0).square() + (_LEAST * _relative_error(found, esv)).square()
        return replace(found, own=own.sqrt_())


def _relative_error(spread: Spread, esv: Tensor) -> Tensor:
    """Return (B,): mean standard error over mean |ESV| of the class with the largest ESVs (B, n, C)."""
    sizes = esv.abs().mean(dim=1)
    size, top = sizes.max(dim=1, keepdim=True)  # (B, 1)
    rows = spread.rows.take_along_dim(top[None], dim=2)  # (rows, B, 1)
    stderr = replace(spread, rows=rows).stderr(esv.take_along_dim(top[:, None], dim=2))
    return (stderr.mean(dim=1) / size.clamp(min=torch.finfo(size.dtype).tiny))[:, 0]


def _slope(error: Tensor, sample: Tensor, spread: Tensor) -> Tensor:
    """Return an error (K, B, C) of scores times the softmax's mean slope over a sample (R, B, C).

    Args:
        error: (K, B, C).
        sample: (R, B, C) scores.
        spread: (B,) variance of its differences of classes.
    """
    cool = torch.rsqrt(1 + _KERNEL**2 * spread)[:, None]  # (B, 1), over the temperature
    values, error = torch.softmax(sample * cool, dim=2), error * cool
    along = torch.einsum("nbc,xbc->nxb", error, values)
    return error * values.mean(dim=0) - torch.einsum("nxb,xbc->nbc", along, values) / len(values)


def _margin(scores: Tensor) -> Tensor:
    """Return scores (R, B, C) as deviations whose mean square is that of the differences of two classes."""
    n_classes = scores.shape[2]
    factor: float = (2 * n_classes / max(n_classes - 1, 1)) ** 0.5
    return (scores - scores.mean(dim=2, keepdim=True)) * factor
