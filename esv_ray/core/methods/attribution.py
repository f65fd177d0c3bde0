"""Attribution of class scores to elements by other methods than ESVs, on the score of the same sequence.

With v the score of a class (`ScoreFunction`), x_1 .. x_n in R^D the elements of X, g_i = dv/dx_i:

- `integrated_gradients` (Sundararajan et al. 2017), from the baseline sequence (b, .., b):
  sum over d of (x_id - b_d) * integral over t = 0 .. 1 of g_id(b + t (X - b)). Over all elements they sum to
  v(X) - v(b, .., b).
- `grad_cam` (Selvaraju et al. 2017) without its ReLU: sum over d of a_d x_id, where the weight of a feature is
  a_d = mean over i of g_id.
- `occlusion` (Zeiler & Fergus 2014): v(X) - v(X minus i), where X minus i is the sequence of the other n - 1 elements.
- `random`: uniform on [-1, 1), fixed by seed, video and class.

Each video is computed by itself: its bits do not depend on the videos beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esv_ray.core.games.modules import CharacteristicFunction
from esv_ray.core.keyed import derive_key, mix64
from esv_ray.core.methods.score import ScoreFunction, score_function
from esv_ray.core.transfer import is_out_of_memory
from esv_ray.errors import ModelError, SpecError, short_text
from esv_ray.estimator import Method

DEFAULT_STEPS = 50
BY_GRADIENT: frozenset[Method] = frozenset({"integrated_gradients", "grad_cam"})
"""The methods that differentiate the model."""
_NO_CAPTUM = "integrated gradients need captum, which is not installed: pip install 'esv-ray[methods]'"


@dataclass(frozen=True, eq=False)
class MethodResult:
    """Attributions of B videos of n elements by one method.

    Attributes:
        values: (B, n, k) for the k classes of each video.
        delta: (B, k) of integrated gradients: sum over elements minus (v(X) - v(baseline)), the error of the
            integration; None for the other methods.
    """

    values: Tensor
    delta: Tensor | None = None


def attribute_method(
    method: Method,
    function: ScoreFunction,
    features: Tensor,
    classes: Tensor,
    *,
    video_ids: Sequence[str],
    baseline: Tensor | None = None,
    steps: int = DEFAULT_STEPS,
) -> MethodResult:
    """Attribute the scores of some classes to the elements of B videos of equal length.

    Args:
        method: the method.
        function: the score of sequences of n elements (`score_function`).
        features: (B, n, D) on the model's device and in its dtype; of a model of images uint8.
        classes: (B, k) int64 classes of each video.
        video_ids: B names; with the estimator's seed they fix sampled subsequences, and `random`.
        baseline: (D,) element of the baseline sequence of integrated gradients, e.g. the mean element of the table.
        steps: points of integrated gradients' integration (Gauss-Legendre).

    Raises:
        ModelError: the method needs gradients, and the model has none.
        SpecError: captum is not installed, or the model is a game of positions, without features.
        ValueError: shapes do not fit, or there is no baseline.
    """
    _check_shapes(function, features, classes, video_ids)
    classes = classes.to(features.device)
    if method == "random":
        return _random(function, features, classes, video_ids)
    relabelling = function.relabelling(video_ids)
    values, deltas = [], []
    for video in range(len(features)):
        own = None if relabelling is None else relabelling[video : video + 1]
        x, chosen = features[video : video + 1], classes[video]
        if method == "occlusion":
            values.append(_occlusion(function, x, chosen, video_ids[video], own))
        elif method == "grad_cam":
            values.append(_grad_cam(function, x, chosen, own))
        else:
            if baseline is None:
                raise ValueError("integrated gradients need a baseline (D,), e.g. the mean element of the table")
            value, delta = _integrated_gradients(function, x, chosen, own, baseline.to(x), steps)
            values.append(value)
            deltas.append(delta)
    return MethodResult(torch.stack(values), torch.stack(deltas) if deltas else None)


def _check_shapes(function: ScoreFunction, features: Tensor, classes: Tensor, video_ids: Sequence[str]) -> None:
    n, dim, n_classes = function.form.n, function.model.feature_dim, function.model.n_classes
    if features.ndim != 3 or features.shape[1:] != (n, dim) or not len(features):
        raise ValueError(f"expected features (B, {n}, {dim}) with B >= 1, got {tuple(features.shape)}")
    if classes.ndim != 2 or len(classes) != len(features) or len(video_ids) != len(features):
        raise ValueError(
            f"expected classes (B, k) and B names for B = {len(features)} videos, got {tuple(classes.shape)} and "
            f"{len(video_ids)}"
        )
    if bool(((classes < 0) | (classes >= n_classes)).any()):
        raise ValueError(f"expected classes from 0 to {n_classes - 1}")


def _integrated_gradients(
    function: ScoreFunction, x: Tensor, classes: Tensor, relabelling: Tensor | None, baseline: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Return integrated gradients (n, k) of one sequence (1, n, D), and their deltas (k,)."""

    def forward(points: Tensor) -> Tensor:
        return _differentiable_scores(function, points, relabelling)

    method, values, deltas = _captum()(forward), [], []
    for c in classes.tolist():
        with _gradients(function):
            value, delta = method.attribute(
                x,
                baselines=baseline.expand_as(x),
                target=c,
                n_steps=steps,
                internal_batch_size=function.together(),
                return_convergence_delta=True,
            )
        values.append(value.detach().sum(dim=2)[0])  # (n,)
        deltas.append(delta.detach()[0])
    return torch.stack(values, dim=1).to(x), torch.stack(deltas).to(x)


def _grad_cam(function: ScoreFunction, x: Tensor, classes: Tensor, relabelling: Tensor | None) -> Tensor:
    """Return Grad-CAM without its ReLU (n, k) of one sequence (1, n, D)."""
    inputs = x.detach().clone().requires_grad_()
    values = []
    with _gradients(function), torch.enable_grad():
        scores = _differentiable_scores(function, inputs, relabelling)[0]
        for c in classes.tolist():
            (gradient,) = torch.autograd.grad(scores[c], inputs, retain_graph=True)
            values.append(x[0] @ gradient[0].mean(dim=0))  # (n,)
    return torch.stack(values, dim=1)


@torch.no_grad()
def _occlusion(
    function: ScoreFunction, x: Tensor, classes: Tensor, video_id: str, relabelling: Tensor | None
) -> Tensor:
    """Return occlusion (n, k) of one sequence (1, n, D): from the same subsequences where the estimator allows it.

    Algorithm 1 may not have sampled a sequence without an element: each of them gets a sample of its own.
    """
    form, n = function.form, function.form.n
    if form.occluded or form.empty_without:
        if form.occluded:
            scores, without = function.occluded_scores(x, relabelling)
        else:
            scores = function.scores(x, relabelling)
            without = function.model.empty_value(function.estimator.output).to(x).expand(1, n, -1)
        return (scores[:, None] - without)[0, :, classes]
    shorter = score_function(function.model, function.estimator, n - 1, working_set=function.working_set)
    others = ~torch.eye(n, dtype=torch.bool, device=x.device)
    sequences = x.expand(n, -1, -1)[others].view(n, n - 1, -1)
    labels = shorter.relabelling([video_id])
    without = shorter.scores(sequences, None if labels is None else labels.expand(n, -1))
    return (function.scores(x, relabelling) - without)[:, classes]


def _random(function: ScoreFunction, features: Tensor, classes: Tensor, video_ids: Sequence[str]) -> MethodResult:
    """Return values uniform on [-1, 1): a video's class has the same ones, whatever other classes are asked for."""
    seed, n = function.estimator.seed, function.form.n
    keys = [
        [derive_key(seed, "random attribution", name, c) for c in row]
        for name, row in zip(video_ids, classes.tolist(), strict=True)
    ]
    words = mix64(np.arange(n, dtype=np.uint64)[None, :, None] ^ np.array(keys, dtype=np.uint64)[:, None, :])
    values = (words >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1  # (B, n, k)
    return MethodResult(torch.from_numpy(values).to(features.device, function.model.dtype))


def _differentiable_scores(function: ScoreFunction, x: Tensor, relabelling: Tensor | None) -> Tensor:
    """Return the scores (B, C) of sequences (B, n, D); they have a gradient if gradients are recorded.

    Raises:
        ModelError: they have none.
        SpecError: the game has no features.
    """
    if isinstance(function.model.scorer, CharacteristicFunction):
        raise SpecError("this game is a function of element positions: it has no features, so gradients are all 0")
    labels = None if relabelling is None else relabelling.expand(len(x), -1)
    scores = function.scores(x, labels)
    if torch.is_grad_enabled() and not scores.requires_grad:
        raise ModelError(
            "integrated_gradients and grad_cam need gradients, but the model's module returns logits without one; "
            "remove torch.no_grad, detach and conversions to NumPy from its forward, or use esv and occlusion alone"
        )
    return scores


@contextmanager
def _gradients(function: ScoreFunction) -> Iterator[None]:
    """Record gradients through the model, also through modules that torch refuses to differentiate in eval mode.

    Raises:
        ModelError: a user's module fails in the backward pass.
    """
    # cuDNN's recurrent layers have no backward pass in eval mode; torch's own have.
    with torch.backends.cudnn.flags(enabled=False) if function.model.runs_user_code else nullcontext():
        try:
            yield
        except RuntimeError as error:
            if not function.model.runs_user_code or is_out_of_memory(error):
                raise
            raise ModelError(
                f"integrated_gradients and grad_cam need gradients, but those of the model's module failed: "
                f"{short_text(error, 200)}; correct it, or use esv and occlusion alone"
            ) from error


def check_installed(method: str) -> None:
    """Check that the library of a method is installed, without importing it.

    Raises:
        SpecError: it is not.
    """
    if method == "integrated_gradients" and find_spec("captum") is None:
        raise SpecError(_NO_CAPTUM)


def _captum() -> Any:
    """Return captum's class of integrated gradients. Its import takes seconds.

    Raises:
        SpecError: it is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise SpecError(_NO_CAPTUM) from error
    return IntegratedGradients
