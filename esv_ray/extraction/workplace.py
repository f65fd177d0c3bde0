"""What an actor holds for all units of an extraction: the backbones, and threads that decode."""

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
class Target:
    """A table that an actor writes.

    Attributes:
        spec: the extraction of one backbone.
        plan: of its table, without the units.
        backbone: on its device.
    """

    spec: ExtractSpec
    plan: ExtractionPlan
    backbone: Backbone


@dataclass(frozen=True, eq=False)
class Workplace:
    """What an actor holds for all of its units.

    Attributes:
        spec: the extraction.
        targets: its tables, one for each backbone.
        decoders: decode videos.
        stopped: set when the actor is to stop.
        heartbeat: counts batches.
    """

    spec: ExtractSpec
    targets: tuple[Target, ...]
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
        written: run.json of each table.
    """

    spec: ExtractSpec
    written: tuple[Written, ...]

    def __call__(self, device: str) -> Workplace:
        """Load the backbones on a torch device, and set torch's threads in this process.

        Raises:
            JobError: a backbone changed since the extraction was planned.
            ModelError: one cannot be loaded here.
        """
        torch.set_num_threads(self.spec.compute.threads)
        pairs = zip(self.spec.extractions, self.written, strict=True)
        targets = tuple(_target(spec, written, device) for spec, written in pairs)
        return Workplace(self.spec, targets, DecodingThreads(self.spec.decoder, self.spec.decoders))


def _target(spec: ExtractSpec, written: Written, device: str) -> Target:
    backbone = open_backbone(spec, device)
    planned: dict[str, Any] = written.backbone
    if backbone.info.asdict() != planned:
        differ = sorted(key for key in planned if backbone.info.asdict().get(key) != planned[key])
        raise JobError(
            f"backbone {spec.backbone}: changed since the extraction was planned ({', '.join(differ)}); put it back or "
            "use a new output"
        )
    return Target(spec, ExtractionPlan(written, ()), backbone)
