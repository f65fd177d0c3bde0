"""What an actor holds for all units of an extraction: the backbone, and threads that decode."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import Any

import torch

from esv_ray.decoding.threads import DecodingThreads
from esv_ray.errors import JobError
from esv_ray.extraction.backbones.backbone import Backbone
from esv_ray.extraction.backbones.opening import open_backbone
from esv_ray.extraction.run_file import ExtractionPlan, Written
from esv_ray.job.work import Heartbeat
from esv_ray.spec_extract import ExtractSpec


@dataclass(frozen=True, eq=False)
class Workplace:
    """What an actor holds for all of its units.

    Attributes:
        spec: the extraction.
        plan: of its output, without the units.
        backbone: on its device.
        decoders: decode videos.
        stopped: set when the actor is to stop.
        heartbeat: counts batches.
    """

    spec: ExtractSpec
    plan: ExtractionPlan
    backbone: Backbone
    decoders: DecodingThreads
    stopped: Event = field(default_factory=Event)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)

    def stop(self) -> None:
        """Make running units end after the current frame, without a commit."""
        self.stopped.set()
        self.decoders.close()


@dataclass(frozen=True)
class OpenWorkplace:
    """Opens a workplace on an actor.

    Attributes:
        spec: the extraction.
        written: run.json.
    """

    spec: ExtractSpec
    written: Written

    def __call__(self, device: str) -> Workplace:
        """Load the backbone on a torch device, and set torch's threads in this process.

        Raises:
            JobError: the backbone changed since the extraction was planned.
            ModelError: it cannot be loaded here.
        """
        torch.set_num_threads(self.spec.compute.threads)
        backbone = open_backbone(self.spec, device)
        planned: dict[str, Any] = self.written.backbone
        if backbone.info.asdict() != planned:
            differ = sorted(key for key in planned if backbone.info.asdict().get(key) != planned[key])
            raise JobError(
                f"backbone {self.spec.backbone}: changed since the extraction was planned ({', '.join(differ)}); put "
                "it back or use a new output"
            )
        decoders = DecodingThreads(self.spec.decoder, self.spec.decoders)
        return Workplace(self.spec, ExtractionPlan(self.written, ()), backbone, decoders)
