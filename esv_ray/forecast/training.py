"""Estimate what a training will take: examples, heads, and the memory of an actor. Reads its tables once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from esv_ray import storage
from esv_ray.spec_train import TrainSpec
from esv_ray.training.index import INDEX_BYTES, PIECE_BYTES, LabeledRows
from esv_ray.training.planning import CheckedTraining, check_training

FORMAT = 1
_COPIES_OF_WEIGHTS = 5  # weights, gradients, two moments of AdamW, the best ones so far
_ITEM_BYTES = 4


@dataclass(frozen=True)
class PartForecast:
    """The training videos, or the validation videos.

    Attributes:
        videos: number of videos.
        bytes: of their features in memory.
        held_bytes: most bytes of features that an actor holds at a time.
        kept: whether they stay in memory from epoch to epoch; else they are read again in every epoch of every head.
    """

    videos: int
    bytes: int
    held_bytes: int
    kept: bool


@dataclass(frozen=True)
class TrainingForecast:
    """The forecast of a training.

    Attributes:
        checked: its plan, and how far it is.
        training, validation: its videos.
        examples: training videos that are long enough, by scale: subsequences of an epoch.
        weights: numbers in the weights of the longest head.
        create_only: whether the store of the output creates objects once only; None if nothing is left.
    """

    checked: CheckedTraining
    training: PartForecast
    validation: PartForecast
    examples: Mapping[int, int]
    weights: int
    create_only: bool | None

    @property
    def spec(self) -> TrainSpec:
        """The training."""
        return self.checked.spec

    @property
    def heads(self) -> int:
        """Number of heads: scales times seeds."""
        return len(self.checked.plan.units)

    @property
    def heads_left(self) -> int:
        """Heads that are not committed."""
        return len(self.checked.pending)

    @property
    def steps(self) -> dict[int, int]:
        """Steps of the optimizer in an epoch, by scale; a streamed table may have a few more."""
        return {scale: -(-count // self.spec.batch) for scale, count in self.examples.items()}

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights of the longest head, and what its optimizer keeps."""
        return _COPIES_OF_WEIGHTS * _ITEM_BYTES * self.weights

    @property
    def reading_bytes(self) -> int:
        """Bytes for reading and checking a piece of a table, and of the indexes of all videos."""
        return 6 * PIECE_BYTES + INDEX_BYTES * (self.training.videos + self.validation.videos)

    @property
    def batch_bytes(self) -> int:
        """Bytes of a batch of the longest head, forth and back."""
        widths = (self.spec.n_max * self.checked.data.feature_dim, *self.spec.hidden_dims, self.checked.data.n_classes)
        return 4 * _ITEM_BYTES * max(self.spec.batch, 1024) * sum(widths)

    @property
    def actor_bytes(self) -> int:
        """Most bytes that an actor takes beside its interpreter and libraries."""
        held = self.training.held_bytes + self.validation.held_bytes
        return held + self.weight_bytes + self.reading_bytes + self.batch_bytes


def forecast_training(spec: TrainSpec) -> TrainingForecast:
    """Estimate the work and the memory of a training, and check that it can run.

    Writes nothing but a probe object, which is removed.

    Args:
        spec: the training.

    Raises:
        EsvError: the request is invalid, as for `training.work.train`.
    """
    checked = check_training(spec)
    data = checked.data
    widths = (spec.n_max * data.feature_dim, *spec.hidden_dims, data.n_classes)
    weights = sum((below + 1) * above for below, above in pairwise(widths))
    return TrainingForecast(
        checked,
        _part(data.training, spec.shuffle_buffer),
        _part(data.held, spec.shuffle_buffer),
        {scale: int((data.training.lengths >= scale).sum()) for scale in range(1, spec.n_max + 1)},
        weights,
        storage.creates_only(spec.output) if checked.pending else None,
    )


def _part(rows: LabeledRows, buffer: int) -> PartForecast:
    size = int(rows.sizes.sum())
    largest = int(np.bincount(rows.piece, weights=rows.sizes).max())
    return PartForecast(len(rows), size, min(size, max(buffer, largest)), size <= buffer)


def as_json(forecast: TrainingForecast) -> dict[str, Any]:
    """Return a forecast as plain numbers and texts; `docs/reference/plan-json.md` describes the keys."""
    data, spec = forecast.checked.data, forecast.spec
    return {
        "format": FORMAT,
        "features": spec.features,
        "output": spec.output,
        "input": {
            "videos": forecast.training.videos,
            "validation_videos": forecast.validation.videos,
            "left_out": data.left_out,
            "bytes": forecast.training.bytes,
            "validation_bytes": forecast.validation.bytes,
            "feature_dim": data.feature_dim,
            "n_classes": data.n_classes,
        },
        "work": {
            "heads": forecast.heads,
            "seeds": len(spec.head_seeds),
            "weights": forecast.weights,
            "epochs": spec.epochs,
            "by_scale": [
                {"scale": scale, "examples": count, "steps": forecast.steps[scale]}
                for scale, count in forecast.examples.items()
            ],
        },
        "done": {
            "planned": forecast.checked.planned,
            "heads": forecast.heads - forecast.heads_left,
            "heads_left": forecast.heads_left,
        },
        "memory": {
            "actor_bytes": forecast.actor_bytes,
            "training_bytes": forecast.training.held_bytes,
            "validation_bytes": forecast.validation.held_bytes,
            "weight_bytes": forecast.weight_bytes,
            "reading_bytes": forecast.reading_bytes,
            "batch_bytes": forecast.batch_bytes,
            "training_kept": forecast.training.kept,
            "validation_kept": forecast.validation.kept,
        },
        "write": {"create_only": forecast.create_only},
        "warnings": list(data.notes),
    }
