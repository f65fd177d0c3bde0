"""Training of one head f^s on random ordered subsequences of s frames, by cross entropy, as in the paper.

Heads are independent of each other. All random numbers come from generators of the head's own seed, so that the same
seed gives the same bits in any process, whatever else it trains.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esv_ray.core.games.heads import MlpHead
from esv_ray.core.keyed import derive_key
from esv_ray.errors import DataError
from esv_ray.spec_train import TrainSpec
from esv_ray.training.evaluation import Measured, measure
from esv_ray.training.windows import Videos, Windows


@dataclass(frozen=True)
class Epoch:
    """One epoch of a head.

    Attributes:
        epoch: number, from 1.
        learning_rate: of its last step.
        training_loss: mean over its batches, with dropout; NaN if it had none.
        validation_loss: on the validation subsequences.
        accuracy: on them; None if all validation videos are shorter than the head.
    """

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A trained head, at its best validation loss.

    Attributes:
        head: on the device of the training, in eval mode.
        history: all epochs.
        best: the epoch that was kept.
    """

    head: MlpHead
    history: tuple[Epoch, ...]
    best: Epoch


@dataclass(frozen=True, eq=False)
class FitTask:
    """The input of training one head.

    Attributes:
        spec: the training.
        scale, seed: of the head.
        training, validation: the videos.
        n_classes: C.
        weights: of the classes, (C,), or None.
        device: torch device.
        report: called after every epoch.
        check: called after every batch; raises to stop.
    """

    spec: TrainSpec
    scale: int
    seed: int
    training: Windows
    validation: Windows
    n_classes: int
    weights: Tensor | None = None
    device: str = "cpu"
    report: Callable[[Epoch], None] = lambda epoch: None
    check: Callable[[], None] = lambda: None

    @property
    def validated(self) -> bool:
        """Whether a validation video is long enough for the head; if none is, it is evaluated on training videos."""
        return bool((self.validation.rows.lengths >= self.scale).any())


def seed_of(seed: int, part: int) -> int:
    """Return the seed of a part of a training."""
    return int(derive_key(seed, "train", part)) >> 1


def fit_head(task: FitTask) -> FittedHead:
    """Train a head until its validation loss has not improved for `patience` epochs.

    Raises:
        DataError: the validation loss is not finite after any epoch, or the table changed.
    """
    fit = _Fit(task)
    history: list[Epoch] = []
    best, best_state = None, copy.deepcopy(fit.head.state_dict())
    for epoch in range(1, task.spec.epochs + 1):
        history.append(fit.epoch(epoch))
        task.report(history[-1])
        if history[-1].validation_loss < (float("inf") if best is None else best.validation_loss):
            best, best_state = history[-1], copy.deepcopy(fit.head.state_dict())
        elif epoch - (0 if best is None else best.epoch) >= task.spec.patience:
            break
    if best is None:
        raise DivergedError(
            f"training of the head of scale {task.scale} diverged: expected a finite validation loss, got "
            f"{history[-1].validation_loss} after every epoch; lower learning_rate, or scale the features"
        )
    fit.head.load_state_dict(best_state)
    return FittedHead(fit.head.eval(), tuple(history), best)


class DivergedError(DataError):
    """The validation loss of a head is not finite after any epoch."""


class _Fit:
    """A head in training: its weights, optimizer and generators."""

    def __init__(self, task: FitTask) -> None:
        self.task = task
        seed = seed_of(task.seed, task.scale)
        self.head, state = _new_head(task, seed)
        self._draws = torch.Generator().manual_seed(seed)
        self._dropout = torch.Generator(task.device)
        if task.device == "cpu":
            self._dropout.set_state(state)
        else:
            self._dropout.manual_seed(seed)
        self._weights = None if task.weights is None else task.weights.to(task.device)
        spec = task.spec
        self._optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay
        )
        on_gpu = torch.device(task.device).type == "cuda"
        self._bfloat16 = spec.precision == "bfloat16" or (spec.precision == "auto" and on_gpu)
        self._eligible = int((task.training.rows.lengths >= task.scale).sum())

    def epoch(self, number: int) -> Epoch:
        """Pass once over the training videos, and evaluate the head."""
        self.head.train()
        losses, seen = torch.zeros(2, dtype=torch.float64, device=self.task.device), 0
        for window in self.task.training.shuffled(self.task.scale, self._draws):
            seen = self._pass_over(window, number, seen, losses)
            del window  # before the next one is read
        total, count = losses.tolist()
        measured = self._measured()
        return Epoch(
            number,
            float(self._optimizer.param_groups[0]["lr"]),
            total / count if count else float("nan"),
            measured.loss,
            measured.accuracy if self.task.validated else None,
        )

    def _pass_over(self, window: Videos, number: int, seen: int, losses: Tensor) -> int:
        """Train on all videos of a window in a random order; return how many were seen in this epoch."""
        task, spec = self.task, self.task.spec
        order = torch.randperm(len(window), generator=self._draws)
        for videos in torch.split(order, spec.batch):
            before, seen = seen, seen + len(videos)
            if spec.batch_norm and len(videos) == 1:
                continue  # the last batch: one row has no variance
            epochs = (number - 1 + before / self._eligible, number - 1 + seen / self._eligible)
            for group in self._optimizer.param_groups:
                group["lr"] = spec.learning_rate * rate_factor(spec, *epochs)
            rows = window.draw(videos, task.scale, self._draws)
            batch, labels = window.frames[rows].to(task.device), window.labels[videos].to(task.device)
            loss = self._step(batch, labels)
            losses += torch.stack([loss.double() * len(videos), loss.new_tensor(len(videos)).double()])
            task.check()
        return seen

    def _step(self, batch: Tensor, labels: Tensor) -> Tensor:
        """Take a step on a batch (N, s, D); return its loss."""
        self._optimizer.zero_grad()
        with torch.autocast(torch.device(self.task.device).type, torch.bfloat16, enabled=self._bfloat16):
            logits = self.head(self._dropped(batch))
        loss = F.cross_entropy(logits.float(), labels, weight=self._weights)
        # A batch of classes of weight 0 has no loss (0 / 0).
        if self._weights is not None and not bool(self._weights[labels].any()):
            return torch.zeros_like(loss)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.detach()

    def _dropped(self, batch: Tensor) -> Tensor:
        """Apply the dropout of the head's input, as `F.dropout` does, by the head's own generator.

        Before the head's ReLU instead of after it: the factors are not negative.
        """
        kept = 1 - self.task.spec.dropout
        if kept == 1:
            return batch
        inputs = batch.flatten(1)
        factors = torch.empty_like(inputs).bernoulli_(kept, generator=self._dropout).div_(kept)
        return (inputs * factors).view_as(batch)

    def _measured(self) -> Measured:
        """Evaluate the head on the validation subsequences, the same at every call and for every seed."""
        task = self.task
        videos = task.validation if task.validated else task.training
        seed = seed_of(task.spec.seed, 1000 + task.scale)
        return measure(self.head, task.scale, videos, seed, weights=self._weights, check=task.check)


def _new_head(task: FitTask, seed: int) -> tuple[MlpHead, Tensor]:
    """Return a head with random weights, and the state of the generator of these."""
    # torch initializes layers by its global generator, which is restored.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = MlpHead(
            scale=task.scale,
            feature_dim=task.training.rows.contract.feature_dim,
            hidden_dims=task.spec.hidden_dims,
            n_classes=task.n_classes,
            batch_norm=task.spec.batch_norm,
            input_relu=task.spec.input_relu,
        )
        return head.to(task.device), torch.random.get_rng_state()


def rate_factor(spec: TrainSpec, before: float, after: float) -> float:
    """Return the factor of the learning rate in a step.

    Args:
        spec: `schedule`, `warmup`, `step_epochs`, `step_factor` and `epochs`.
        before, after: epochs before and after the step, with their fractions.
    """
    factor = min(1.0, after / spec.warmup) if spec.warmup else 1.0
    if spec.schedule == "cosine":
        share = max(0.0, before - spec.warmup) / max(spec.epochs - spec.warmup, 1e-9)
        factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    elif spec.schedule == "step":
        factor *= spec.step_factor ** int(np.floor(before / spec.step_epochs))
    return factor
