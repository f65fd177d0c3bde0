"""A loaded model: what scores subsequences, and the score of the empty sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from esv_ray.core.estimator import Output
from esv_ray.core.games.heads import MultiScale
from esv_ray.core.games.modules import Average, CharacteristicFunction, VariableLength
from esv_ray.errors import ModelError, SpecError

# A scorer has: `n_max`, its longest head (None: it scores every length itself, no average over scales); `softmax`,
# whether its scores are logits or already values; `ordered`, whether the order of elements matters; `columns(C)`, the
# width of its scores, classes first; `width(s)`, numbers held for a subsequence beside its scores;
# `prepare(features (n, B, D), s, workspace)`, made once a scale and batch; `scores(prepared, elements (R, 1 or B, s),
# member (n + 1, R), out (R, B, columns))` writes scores, of heads f^s the share f^s / s that Eq. 9 gives them.
Scorer = MultiScale | Average | VariableLength | CharacteristicFunction


_PRIOR_ERROR = 1e-4  # of the sum of a prior, whose numbers may be rounded


@dataclass(frozen=True, eq=False)
class VideoModel:
    """A model whose ESVs can be computed.

    Attributes:
        scorer: the game; a torch module whose device and dtype the computation follows.
        prior: (C,) float64, the class prior: value of the empty sequence, sums to one.
        feature_dim: D.
        classes: C names, or None.
        digest: hash of the bundle it was loaded from, or "".
    """

    scorer: Scorer
    prior: Tensor
    feature_dim: int
    classes: tuple[str, ...] | None = None
    digest: str = ""

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.prior)

    @property
    def n_max(self) -> int | None:
        """Longest head of a multi-scale model; None where any length is scored."""
        return self.scorer.n_max

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._anchor().device

    @property
    def dtype(self) -> torch.dtype:
        """In which precision it computes: that of its weights; float32 where it has none."""
        return self._anchor().dtype

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> VideoModel:
        """The model on another device or in another floating dtype; its modules are moved, not copied."""
        return replace(self, scorer=self.scorer.to(device=device, dtype=dtype), prior=self.prior.to(device))

    def empty_value(self, output: Output) -> Tensor:
        """(C,) float64 value of the empty sequence: the class prior, or its logarithm.

        Raises:
            SpecError: logits are asked for, and there are none or a class has no finite one.
        """
        if output == "probability":
            return self.prior
        if not self.scorer.softmax:
            raise SpecError("output logit: the model gives values of its own, not logits; use output probability")
        missing = (self.prior <= 0).nonzero()[:, 0].tolist()
        if missing:
            told = ", ".join(str(c) for c in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise SpecError(
                f"output logit: expected a prior above 0 for every class, since its logarithm is the value of the "
                f"empty sequence; class {told} has 0: change the bundle's prior.csv, or use output probability"
            )
        return self.prior.log()

    def _anchor(self) -> Tensor:
        for tensor in (*self.scorer.parameters(), *self.scorer.buffers()):
            if tensor.is_floating_point():
                return tensor
        return torch.zeros(())


def multiscale_model(heads: Mapping[int, nn.Module], prior: Tensor, *, feature_dim: int) -> VideoModel:
    """A model of heads f^s: (N, s, D) -> (N, C), s = 1..n_max, averaged over scales by Eq. 9.

    Raises:
        ModelError: a scale is missing, or the prior is no distribution.
    """
    return VideoModel(MultiScale(heads, feature_dim=feature_dim), check_prior(prior), feature_dim)


def variable_length_model(module: nn.Module, prior: Tensor, *, feature_dim: int) -> VideoModel:
    """A model of one module (N, s, D) -> (N, C) that takes any s."""
    return VideoModel(VariableLength(module, feature_dim=feature_dim), check_prior(prior), feature_dim)


def characteristic_game(function: Callable[[Tensor], Tensor], empty: Tensor) -> VideoModel:
    """Any game as a model: `function` maps positions (N, s) to values (N, C); `empty` (C,) is v of no element."""
    return VideoModel(CharacteristicFunction(function), empty.double(), 1)


def check_prior(prior: Tensor) -> Tensor:
    """The prior in float64.

    Raises:
        ModelError: it is not (C,) probabilities that sum to one.
    """
    prior = prior.double()
    if prior.ndim != 1 or not len(prior):
        raise ModelError(f"prior: expected a probability for each class, shape (C,), got shape {tuple(prior.shape)}")
    wrong = (~(prior >= 0) | prior.isinf()).nonzero()[:, 0].tolist()
    if wrong:
        told = ", ".join(f"{prior[c].item():g} for class {c}" for c in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise ModelError(f"prior: expected probabilities from 0 to 1, got {told}; a class without videos has 0")
    if not abs(float(prior.sum()) - 1) <= _PRIOR_ERROR:
        raise ModelError(
            f"prior: expected probabilities of {len(prior)} classes that sum to 1 within {_PRIOR_ERROR:g}, got a sum "
            f"of {float(prior.sum()):.6g}; divide each by their sum, if no class is missing"
        )
    return prior
