"""Training of multi-scale MLP heads on a feature table, in one process.

Each head f^s learns the class of random ordered subsequences of s frames (cross entropy), as in the paper; heads are
independent of each other. The prior is the labels' frequency in the training set.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.keyed import derive_key
from esv_ray.core.threads import torch_threads
from esv_ray.errors import DataError
from esv_ray.input.features import Video
from esv_ray.models.saving import check_destination, save_heads
from esv_ray.models.train_data import read_train_data
from esv_ray.spec import TrainSpec

_SUBSEQUENCES = 8  # subsequences of each validation video to evaluate a head
_SUBSEQUENCES_OF_F = 64  # subsequences per scale to estimate F of a full validation video


@dataclass(frozen=True)
class TrainProgress:
    """Progress of a training: epochs of all heads, and the last head's validation loss."""

    scale: int
    n_max: int
    epoch: int
    epochs: int
    validation_loss: float


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Attributes:
        output: the bundle.
        accuracy: accuracy of each head on random subsequences of the validation videos; None if all are shorter.
        accuracy_f: accuracy of the multi-scale model F on full validation videos.
        epochs: epochs of each head, up to its best.
        videos, validation_videos: number of videos used.
        left_out: rows that broke the feature table's contract or had no label.
        notes: one line per omission or warning (`TrainData.notes`).
    """

    output: str
    accuracy: dict[int, float | None]
    accuracy_f: float
    epochs: dict[int, int]
    videos: int
    validation_videos: int
    left_out: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Set:
    """Videos, concatenated."""

    frames: Tensor  # (sum of T, D)
    first: Tensor  # (V,) row of each video's first frame
    lengths: Tensor  # (V,)
    labels: Tensor  # (V,)

    @classmethod
    def of(cls, videos: Sequence[Video]) -> _Set:
        lengths = torch.tensor([len(video.features) for video in videos])
        return cls(
            torch.from_numpy(np.concatenate([video.features for video in videos])),
            lengths.cumsum(0) - lengths,
            lengths,
            torch.tensor([video.label for video in videos]),
        )

    def draw(self, videos: Tensor, s: int, generator: torch.Generator) -> Tensor:
        """(len(videos), s, D): of each video a random subsequence of s frames in time order; all have T >= s."""
        longest = int(self.lengths[videos].max())
        keys = torch.rand((len(videos), longest), generator=generator)
        keys[torch.arange(longest) >= self.lengths[videos][:, None]] = -1  # beyond the video's end
        positions = keys.topk(s, dim=1).indices.sort(dim=1).values
        return self.frames[self.first[videos][:, None] + positions]


def train(spec: TrainSpec, report: Callable[[TrainProgress], None] = lambda progress: None) -> TrainResult:
    """Train heads f^1 .. f^n_max and write a model bundle.

    Args:
        spec: the training (`load_train_spec`).
        report: called after every epoch of every head.

    Raises:
        DataError: no usable labelled videos, too few that are long enough for n_max, or validation on training videos;
            or the output cannot be written.
        ModelError: a bundle exists already.
    """
    check_destination(spec.output)
    with torch_threads(spec.threads):
        return _train(spec, report)


def _train(spec: TrainSpec, report: Callable[[TrainProgress], None]) -> TrainResult:
    data = read_train_data(spec)
    videos, held, n_classes = data.videos, data.held, data.n_classes
    training, validation = _Set.of(videos), _Set.of(held)
    counts = torch.bincount(training.labels, minlength=n_classes).double()
    prior = counts / counts.sum()
    heads, epochs = {}, {}
    for s in range(1, spec.n_max + 1):
        heads[s], epochs[s] = _train_head(spec, s, n_classes, training, validation, report)
    accuracy = {s: _accuracy(head, s, validation, spec.seed) for s, head in heads.items()}
    accuracy_f = _accuracy_of_f(heads, validation, n_classes, spec.seed)
    summary = {
        "features": spec.features,
        "seed": spec.seed,
        "videos": len(videos),
        "validation_videos": len(held),
        "accuracy": accuracy,
        "accuracy_f": accuracy_f,
    }
    save_heads(spec.output, heads, prior, classes=data.classes, training=summary)
    return TrainResult(spec.output, accuracy, accuracy_f, epochs, len(videos), len(held), data.left_out, data.notes)


def _train_head(
    spec: TrainSpec,
    s: int,
    n_classes: int,
    training: _Set,
    validation: _Set,
    report: Callable[[TrainProgress], None],
) -> tuple[MlpHead, int]:
    """Train the head of one scale; return it at its best validation loss, and the epoch of that."""
    # Weights and dropout come from torch's global generator: seeded for each head, and restored.
    with torch.random.fork_rng():
        torch.manual_seed(_seed(spec.seed, s))
        head = MlpHead(
            scale=s,
            feature_dim=training.frames.shape[1],
            hidden_dims=[spec.hidden] * spec.hidden_layers,
            n_classes=n_classes,
            batch_norm=spec.batch_norm,
            input_relu=spec.input_relu,
            dropout=spec.dropout,
        )
        return _fit(spec, s, head, training, validation, report)


def _fit(
    spec: TrainSpec,
    s: int,
    head: MlpHead,
    training: _Set,
    validation: _Set,
    report: Callable[[TrainProgress], None],
) -> tuple[MlpHead, int]:
    generator = torch.Generator().manual_seed(_seed(spec.seed, s))
    # Validation videos may all be shorter than s; then the head is evaluated on training videos.
    evaluated = validation if bool((validation.lengths >= s).any()) else training
    optimizer = torch.optim.AdamW(head.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
    best, best_loss, best_epoch = copy.deepcopy(head.state_dict()), float("inf"), 0
    long_enough = torch.nonzero(training.lengths >= s)[:, 0]
    if spec.batch_norm and spec.hidden_layers and len(long_enough) < 2:
        raise DataError(
            f"{spec.features}: batch_norm needs at least two videos of {s} frames or more, got {len(long_enough)}; "
            "set batch_norm to false or lower n_max"
        )
    for epoch in range(1, spec.epochs + 1):
        head.train()
        order = long_enough[torch.randperm(len(long_enough), generator=generator)]
        for videos in torch.split(order, spec.batch):
            if spec.batch_norm and len(videos) == 1:
                continue  # the last batch: one row has no variance
            optimizer.zero_grad()
            loss = F.cross_entropy(head(training.draw(videos, s, generator)), training.labels[videos])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        logits, labels = _sampled_logits(head, s, evaluated, spec.seed)
        validation_loss = float(F.cross_entropy(logits, labels))
        report(TrainProgress(s, spec.n_max, epoch, spec.epochs, validation_loss))
        if validation_loss < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(head.state_dict()), validation_loss, epoch
        elif epoch - best_epoch >= spec.patience:
            break
    if best_epoch == 0:
        raise DataError(
            f"training of the head of scale {s} diverged: expected a finite validation loss, got {validation_loss} "
            "after every epoch; lower learning_rate, or scale the features"
        )
    head.load_state_dict(best)
    return head.eval(), best_epoch


@torch.no_grad()
def _sampled_logits(head: MlpHead, s: int, videos: _Set, seed: int) -> tuple[Tensor, Tensor]:
    """Return logits and labels of `_SUBSEQUENCES` random subsequences per video with T >= s, the same at every call."""
    generator = torch.Generator().manual_seed(_seed(seed, 1000 + s))
    chosen = torch.nonzero(videos.lengths >= s)[:, 0].repeat(_SUBSEQUENCES)
    head.eval()
    return head(videos.draw(chosen, s, generator)), videos.labels[chosen]


def _accuracy(head: MlpHead, s: int, videos: _Set, seed: int) -> float | None:
    if not bool((videos.lengths >= s).any()):
        return None
    logits, labels = _sampled_logits(head, s, videos, seed)
    return float((logits.argmax(dim=1) == labels).double().mean())


@torch.no_grad()
def _accuracy_of_f(heads: dict[int, MlpHead], videos: _Set, n_classes: int, seed: int) -> float:
    """Accuracy of F on full videos by Eq. 8: the mean over scales s <= min(T, n_max) of the mean over subsequences,
    here over a random `_SUBSEQUENCES_OF_F` of them.
    """
    generator = torch.Generator().manual_seed(_seed(seed, 2000))
    total = torch.zeros((len(videos.lengths), n_classes))
    for s, head in heads.items():
        chosen = torch.nonzero(videos.lengths >= s)[:, 0]
        if not len(chosen):
            break  # longer scales find no video either
        for videos_part in torch.split(chosen, 256):
            logits = head(videos.draw(videos_part.repeat_interleave(_SUBSEQUENCES_OF_F), s, generator))
            total[videos_part] += logits.view(len(videos_part), _SUBSEQUENCES_OF_F, -1).mean(dim=1)
    # Eq. 8 divides by min(T, n_max), which moves no argmax.
    return float((total.argmax(dim=1) == videos.labels).double().mean())


def _seed(seed: int, part: int) -> int:
    return int(derive_key(seed, "train", part)) >> 1
