"""Video models: a scorer of subsequences, and the value of the empty sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from esv_ray.core.games.heads import MultiScale
from esv_ray.core.games.images import image_shape
from esv_ray.core.games.modules import Average, CharacteristicFunction, PlacedNetwork, VariableLength
from esv_ray.core.games.pooled import OwnPooling, Pooled
from esv_ray.core.scales import Combine, Scales
from esv_ray.errors import ModelError, SpecError, short_text
from esv_ray.estimator import Output

# A scorer has: `longest`, most elements of a sequence, or None; `scales`, those of its heads (None: it scores every
# length itself, without a recursion); `softmax`, whether its scores are logits or already values; `probabilities`,
# whether the values of output `probability` are those of classes; `ordered`, whether the order of elements matters;
# `columns(C)`, the width of its scores, classes first; `width(s)`, numbers held per subsequence beside its scores;
# `embed(features (..., n, D))`, the elements (..., n, D') that it scores, called once per batch; `prepare(elements (n,
# B, D'), s, workspace)`, called once per scale and batch; `scores(prepared, elements (R, 1 or B, s), member (n + 1, R),
# out (R, B, columns))` writes scores; heads f^s write f^s / `Scales.share`. Differentiable in the elements are
# `lay_out(elements (B, n, D'), s)`, called once per scale and batch, and `weighted(laid_out, positions (R, 1 or B, s),
# weights (K, R))`, weighted sums (K, B, columns) of scores.
Scorer = MultiScale | Average | Pooled | VariableLength | CharacteristicFunction


_PRIOR_ERROR = 1e-4  # tolerance of the sum of a prior, whose numbers may be rounded


@dataclass(frozen=True, eq=False)
class VideoModel:
    """A model whose ESVs can be computed.

    Attributes:
        scorer: the game; a torch module whose device and dtype the computation follows.
        prior: (C,) float64, the class prior: the value of the empty sequence; its sum is 1.
        feature_dim: D.
        classes: C names, or None.
        digest: hash of its bundle, or "".
        shape: shape of an element of D uint8 numbers: (H, W, 3) for an image, (k, H, W, 3) for a clip; None: elements
            are vectors of D numbers.
    """

    scorer: Scorer
    prior: Tensor
    feature_dim: int
    classes: tuple[str, ...] | None = None
    digest: str = ""
    shape: tuple[int, ...] | None = None

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.prior)

    @property
    def scales(self) -> Scales | None:
        """Scales of a multi-scale model; None where any length is scored."""
        return self.scorer.scales

    @property
    def n_max(self) -> int | None:
        """Longest head of a multi-scale model; None where any length is scored."""
        return None if self.scales is None else self.scales.n_max

    @property
    def runs_user_code(self) -> bool:
        """Whether a user's module or function computes scores; other models are deterministic by construction."""
        scorer = self.scorer
        if isinstance(scorer, MultiScale):
            return not scorer.padded
        if isinstance(scorer, Pooled):
            return isinstance(scorer.pooling, OwnPooling)
        return not isinstance(scorer, Average | PlacedNetwork)

    @property
    def device(self) -> torch.device:
        """Device of the scorer."""
        return self._anchor().device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights; float32 if there are none."""
        return self._anchor().dtype

    @property
    def element_dtype(self) -> torch.dtype:
        """Type of the numbers of elements: that of the weights, or bytes of images."""
        return self.dtype if self.shape is None else torch.uint8

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> VideoModel:
        """Return the model on another device or in another floating-point dtype; its modules are moved, not copied.

        Raises:
            SpecError: there is no such device here, or the dtype is not a floating-point type.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise SpecError(f"dtype: expected a floating-point dtype of torch, got {dtype!r:.60}")
        try:
            torch.empty(0, device=device)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, TypeError) as error:  # of torch, by device and build
            raise SpecError(
                f"device: expected one that torch can use here, got {str(device)!r:.60} ({short_text(error, 120)})"
            ) from None
        return replace(self, scorer=self.scorer.to(device=device, dtype=dtype), prior=self.prior.to(device))

    def check_output(self, output: Output) -> None:
        """Check that the model can give this output; `empty_value` does not check it, to avoid a wait for the device.

        Raises:
            SpecError: the output is `logit`, but the model has no logits, or the prior of a class is 0.
        """
        if output == "probability":
            return
        if not self.scorer.softmax:
            returned = "the mean of probabilities" if self.scorer.probabilities else "values of its own"
            raise SpecError(f"output logit: the model returns {returned}, not logits; use output probability")
        missing = (self.prior <= 0).nonzero()[:, 0].tolist()
        if missing:
            zeros = ", ".join(str(c) for c in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise SpecError(
                f"output logit: expected a prior above 0 for every class, since its logarithm is the value of the "
                f"empty sequence; class {zeros} has 0: change the bundle's prior.csv, or use output probability"
            )

    def empty_value(self, output: Output) -> Tensor:
        """Return the value of the empty sequence, (C,) float64: the class prior, or its logarithm (`check_output`)."""
        return self.prior if output == "probability" else self.prior.log()

    def _anchor(self) -> Tensor:
        """Return the scorer's first floating-point tensor; zero if it has none."""
        if self._anchor_place is None:
            return torch.zeros(())
        module, name = self._anchor_place
        tensor: Tensor = getattr(module, name)
        return tensor

    @cached_property
    def _anchor_place(self) -> tuple[nn.Module, str] | None:
        """Module and name of the scorer's first floating-point tensor, which stay when it is moved.

        Looked up once: a search through eight heads takes 30 us, and `explain` asks nine times.
        """
        for name, tensor in (*self.scorer.named_parameters(), *self.scorer.named_buffers()):
            if tensor.is_floating_point():
                holder, _, own = name.rpartition(".")
                return self.scorer.get_submodule(holder), own
        return None


def multiscale_model(
    heads: Mapping[int, nn.Module],
    prior: Tensor,
    *,
    feature_dim: int,
    weights: Mapping[int, float] | None = None,
    combine: Combine = "mean",
    projection: nn.Linear | None = None,
) -> VideoModel:
    """Create a model of heads f^s: (N, s, D') -> (N, C); arguments as for `MultiScale`, but `feature_dim` is D.

    Raises:
        ModelError: there is no head, or the prior is not a distribution over at least two classes.
    """
    if projection is not None and projection.in_features != feature_dim:
        raise ModelError(f"projection: expected {feature_dim} inputs, D, got {projection.in_features}")
    dim = feature_dim if projection is None else projection.out_features
    scorer = MultiScale(heads, feature_dim=dim, weights=weights, combine=combine, projection=projection)
    return VideoModel(scorer, _prior_of_classes(prior), feature_dim, shape=image_shape(heads.values()))


def variable_length_model(module: nn.Module, prior: Tensor, *, feature_dim: int) -> VideoModel:
    """Create a model of one module (N, s, D) -> (N, C) that takes any s.

    Raises:
        ModelError: the prior is not a distribution over at least two classes.
    """
    scorer = VariableLength(module, feature_dim=feature_dim)
    return VideoModel(scorer, _prior_of_classes(prior), feature_dim, shape=image_shape([module]))


def placed_model(network: nn.Module, prior: Tensor, *, feature_dim: int, longest: int | None) -> VideoModel:
    """Create a model of a network of images that is told the places of elements (`modules.PlacedNetwork`).

    Raises:
        ModelError: the prior is not a distribution over at least two classes.
    """
    scorer = PlacedNetwork(network, feature_dim=feature_dim, longest=longest)
    return VideoModel(scorer, _prior_of_classes(prior), feature_dim, shape=image_shape([network]))


def pooled_model(pooling: nn.Module, prior: Tensor, *, feature_dim: int, width: int) -> VideoModel:
    """Create a model F(X) = decode(sum over x in X of encode(x), |X|).

    Args:
        pooling: with encode and decode (`pooled.Pooling`).
        prior: (C,).
        feature_dim: D.
        width: E of encode (N, D) -> (N, E).

    Raises:
        ModelError: the prior is not a distribution over at least two classes.
    """
    shape = image_shape(pooling.children())
    return VideoModel(Pooled(pooling, width=width), _prior_of_classes(prior), feature_dim, shape=shape)


def characteristic_game(function: Callable[[Tensor], Tensor], empty: Tensor) -> VideoModel:
    """Create a model of any game v, given as a function of element positions.

    Args:
        function: maps positions (N, s) int64, ascending in each row, to values (N, C).
        empty: (C,) value of the empty sequence.
    """
    return VideoModel(CharacteristicFunction(function), empty.double(), 1)


def check_classes(n_classes: int) -> None:
    """Check the number of classes of a model whose scores pass a softmax.

    Raises:
        ModelError: there is one class, whose probability is 1 whatever the model says.
    """
    if n_classes == 1:
        raise ModelError(
            "n_classes: expected at least two classes, got 1: the softmax of one logit is always 1, so no element can "
            "contribute anything; for a model with one logit x that passes a sigmoid, give two columns, 0 and x: the "
            "second one's softmax is sigmoid(x)"
        )


def check_prior(prior: Tensor) -> Tensor:
    """Return a prior in float64.

    Raises:
        ModelError: the prior is not (C,) probabilities that sum to one.
    """
    prior = prior.double()
    if prior.ndim != 1 or not len(prior):
        raise ModelError(f"prior: expected a probability for each class, shape (C,), got shape {tuple(prior.shape)}")
    wrong = (~(prior >= 0) | prior.isinf()).nonzero()[:, 0].tolist()
    if wrong:
        listed = ", ".join(f"{prior[c].item():g} for class {c}" for c in wrong[:5]) + (
            ", ..." if len(wrong) > 5 else ""
        )
        raise ModelError(f"prior: expected probabilities from 0 to 1, got {listed}; a class without videos has 0")
    if not abs(float(prior.sum()) - 1) <= _PRIOR_ERROR:
        raise ModelError(
            f"prior: expected probabilities of {len(prior)} classes that sum to 1 within {_PRIOR_ERROR:g}, got a sum "
            f"of {float(prior.sum()):.6g}; divide each by their sum, if no class is missing"
        )
    return prior


def _prior_of_classes(prior: Tensor) -> Tensor:
    """Return the prior of a model with a softmax, in float64."""
    prior = check_prior(prior)
    check_classes(len(prior))
    return prior
