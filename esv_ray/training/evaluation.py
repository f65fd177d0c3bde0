"""Evaluation of a head on subsequences of videos: loss, accuracy, calibration, and its share of F."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.games.heads import MlpHead
from esv_ray.training.calibration import NO_BINS, Bins, binned
from esv_ray.training.index import Int64Array
from esv_ray.training.windows import Videos, Windows

_SUBSEQUENCES = 8  # of each validation video, to evaluate a head
_SUBSEQUENCES_OF_F = 64  # per scale and video, to estimate F
_MOST_ROWS, _MOST_BYTES = 1024, 2**26  # of the subsequences that are evaluated together


@dataclass(frozen=True)
class Measured:
    """Measures of a head on random subsequences.

    Attributes:
        loss: mean cross entropy, weighted as in training.
        accuracy: share of correct classes.
        bins: counts by confidence.
    """

    loss: float
    accuracy: float
    bins: Bins


@torch.no_grad()
def measure(
    head: MlpHead,
    s: int,
    videos: Windows,
    seed: int,
    *,
    weights: Tensor | None = None,
    check: Callable[[], None] = lambda: None,
) -> Measured:
    """Evaluate a head on `_SUBSEQUENCES` random subsequences of each video with T >= s.

    Args:
        head: the head f^s, on any device.
        s: its scale.
        videos: at least one of them has T >= s.
        seed: fixes the subsequences.
        weights: of the classes, (C,), or None.
        check: called after every part; raises to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    head.eval()
    loss, mass, bins = 0.0, 0.0, NO_BINS
    for _, window in videos.in_order(s):
        chosen = torch.arange(len(window)).repeat(_SUBSEQUENCES)
        for part, logits in _logits(head, s, window, chosen, generator):
            labels = window.labels[part].to(logits.device)
            loss += float(F.cross_entropy(logits, labels, weight=weights, reduction="sum"))
            mass += len(part) if weights is None else float(weights[labels].sum())
            bins += binned(logits.softmax(dim=1), labels)
            check()
        del window  # before the next one is read
    return Measured(loss / mass if mass else float("nan"), bins.accuracy, bins)


@torch.no_grad()
def mean_logits(
    head: MlpHead,
    s: int,
    videos: Windows,
    places: Int64Array,
    seed: int,
    *,
    check: Callable[[], None] = lambda: None,
) -> tuple[Int64Array, npt.NDArray[np.float32]]:
    """Return the mean of f^s over random subsequences of videos with T >= s, the head's part of F (Eq. 8).

    Args:
        head: the head f^s.
        s: its scale.
        videos: the validation videos.
        places: numbers of the videos to evaluate, ascending.
        seed: fixes the subsequences.
        check: called after every part; raises to stop.

    Returns:
        (K,) numbers of the videos that are long enough, ascending, and (K, C) means over `_SUBSEQUENCES_OF_F`
        subsequences each.
    """
    generator = torch.Generator().manual_seed(seed)
    head.eval()
    numbers, means = [np.empty(0, np.int64)], []
    for chosen, window in videos.in_order(s, places):
        sums = torch.zeros((len(window), head.n_classes))
        repeated = torch.arange(len(window)).repeat_interleave(_SUBSEQUENCES_OF_F)
        for part, logits in _logits(head, s, window, repeated, generator):
            sums.index_add_(0, part, logits.float().cpu())
            check()
        numbers.append(chosen)
        means.append((sums / _SUBSEQUENCES_OF_F).numpy())
        del window  # before the next one is read
    empty = np.empty((0, head.n_classes), np.float32)
    return np.concatenate(numbers), np.concatenate([empty, *means])


def _logits(
    head: MlpHead, s: int, window: Videos, chosen: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield parts of the chosen videos of a window, and the logits of a random subsequence of each."""
    device = next(head.parameters()).device
    most = max(1, min(_MOST_ROWS, _MOST_BYTES // (4 * s * window.frames.shape[1])))
    for part in torch.split(chosen, most):
        yield part, head(window.frames[window.draw(part, s, generator)].to(device))
