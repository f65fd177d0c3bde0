"""The result of an attribution, and the steps that all estimators share: relabeling of elements and of positions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esv_ray.core.games.model import VideoModel
from esv_ray.core.spread import Spread


@dataclass(frozen=True)
class Extras:
    """What an attribution returns besides ESVs (issue 20).

    Attributes:
        marginals: the marginal contributions of each scale (`Attribution.marginals`).
        values: the values of all subsequences (`Attribution.values`), of exact attributions over lattices.
    """

    marginals: bool = False
    values: bool = False


NO_EXTRAS = Extras()


@dataclass(frozen=True)
class Attribution:
    """Results for a batch of B videos of n elements.

    Attributes:
        esv: (B, n, C) Element Shapley Values, in probability or in logits.
        stderr: (B, n, C) standard errors; None if exact, or from a single iteration of Algorithm 1.
        scores: (B, C) values of the full sequence; the mean over iterations if sampled.
        gaps: (B,) efficiency gaps: largest over classes of |sum of ESVs - (scores - prior)|.
        evaluations: head evaluations per video.
        exact: whether every subsequence was evaluated.
        iterations: iterations of the sampling; 0 if exact.
        spread: error model behind `stderr`; None if there are no standard errors.
        difference_stderr: (B, n) standard errors of the ESVs of the label minus those of the predicted class; None if
            unknown.
        met: (B,) bool in host memory: whether the standard errors met the estimator's tolerance; None without one.
        marginals: (B, n, n, C): for scale s (place s - 1) and element i, the mean of v(X' + i) - v(X') over the X' of
            length s - 1 without i; NaN where the scale says nothing about the element. The mean over the scales that
            are not NaN is the ESV. None unless requested (`Extras`).
        values: for each scale s (place s - 1) the values (N_s, B, columns) of all subsequences of length s, in the
            order of `lattices.lattice.full_lattice`, classes first; no scales if all values are that of the empty
            sequence; None if sampled, or not requested.
    """

    esv: Tensor
    stderr: Tensor | None
    scores: Tensor
    gaps: Tensor
    evaluations: int
    exact: bool
    iterations: int = 0
    spread: Spread | None = None
    difference_stderr: Tensor | None = None
    met: Tensor | None = None
    marginals: Tensor | None = None
    values: tuple[Tensor, ...] | None = None

    def relative_stderr(self, chosen: Tensor) -> Tensor:
        """Return (B,): mean standard error over mean |ESV| of a class's elements, largest of the chosen classes (B, C).

        It is 0 for exact results and infinite for sampled results without standard errors.
        """
        if self.exact:
            return self.gaps.new_zeros(len(self.gaps))
        if self.stderr is None:
            return self.gaps.new_full((len(self.gaps),), torch.inf)
        share = self.stderr.mean(dim=1) / self.esv.abs().mean(dim=1)  # (B, C)
        return torch.where(chosen, share, 0.0).amax(dim=1)

    def take(self, rows: Tensor) -> Attribution:
        """Return the results of some of the videos."""
        at = rows.to(self.esv.device)
        return replace(
            self,
            esv=self.esv[at],
            stderr=None if self.stderr is None else self.stderr[at],
            scores=self.scores[at],
            gaps=self.gaps[at],
            spread=None if self.spread is None else self.spread.take(at),
            met=None if self.met is None else self.met[rows],
            marginals=None if self.marginals is None else self.marginals[at],
            values=None if self.values is None else tuple(values[:, at] for values in self.values),
        )


def elements_first(model: VideoModel, features: Tensor, n: int, relabelling: Tensor | None) -> Tensor:
    """Return the elements that the scorer sees as (n, B, D'), contiguous; relabelled, if it ignores their order.

    Models that depend on the order relabel the positions instead (`relabel_positions`).

    Args:
        model: the model whose scorer evaluates the subsequences.
        features: (B, n, D).
        n: number of elements of the plan.
        relabelling: (B, n) permutation of each video's elements, or None.

    Raises:
        ValueError: the features have another number of elements than the plan.
    """
    if features.shape[1] != n:
        raise ValueError(f"the plan is for {n} elements, got features of {features.shape[1]}")
    features = model.scorer.embed(features)
    if relabelling is not None and not model.scorer.ordered:
        features = features.take_along_dim(relabelling[:, :, None].long(), dim=1)
    return features.transpose(0, 1).contiguous()


def relabel_positions(positions: Tensor, relabelling: Tensor | None) -> Tensor:
    """Map positions (R, s) of a plan's elements to those of each video, in time order: (R, 1 or B, s) int32."""
    if relabelling is None:
        return positions[:, None]
    return relabelling[:, positions.long()].sort(dim=-1).values.transpose(0, 1)
