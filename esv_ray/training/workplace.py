"""The state of an actor for all heads of a training run: the videos, in memory if they fit."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

import torch

from esv_ray.errors import JobError
from esv_ray.job.work import Heartbeat
from esv_ray.spec_train import TrainSpec
from esv_ray.training.data import TrainData
from esv_ray.training.run_file import Written
from esv_ray.training.windows import Windows


@dataclass(frozen=True, eq=False)
class Workplace:
    """The state of an actor for all of its heads.

    Attributes:
        spec: the training.
        written: its plan.
        data: indexes of the videos.
        training, validation: read the videos.
        device: torch device.
        stopped: set when the actor is to stop.
        heartbeat: counts batches.
    """

    spec: TrainSpec
    written: Written
    data: TrainData
    training: Windows
    validation: Windows
    device: str
    stopped: Event
    heartbeat: Heartbeat

    def stop(self) -> None:
        """Make running heads end after the current batch, without a commit."""
        self.stopped.set()

    def check(self) -> None:
        """Record progress.

        Raises:
            JobError: the actor is to stop.
        """
        self.heartbeat.beat()
        if self.stopped.is_set():
            raise JobError("stopped")


@dataclass(frozen=True, eq=False)
class OpenWorkplace:
    """Opens a workplace on an actor.

    Attributes:
        spec: the training.
        written: its plan.
        data: indexes of the videos.
    """

    spec: TrainSpec
    written: Written
    data: TrainData

    def __call__(self, device: str) -> Workplace:
        """Set torch's threads in this process; read nothing yet."""
        torch.set_num_threads(self.spec.threads)
        heartbeat, data, size = Heartbeat(), self.data, self.spec.shuffle_buffer
        training, validation = (Windows(rows, size, beat=heartbeat.beat) for rows in (data.training, data.held))
        return Workplace(self.spec, self.written, data, training, validation, device, Event(), heartbeat)
