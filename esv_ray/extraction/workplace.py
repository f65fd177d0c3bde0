"""What an actor holds for all units of an extraction: the backbone, and threads that decode."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any, TypeVar

import torch

from esv_ray.decoding import Decoder, open_decoder
from esv_ray.errors import JobError
from esv_ray.extraction.backbones.backbone import Backbone
from esv_ray.extraction.backbones.opening import open_backbone
from esv_ray.extraction.run_file import ExtractionPlan, Written
from esv_ray.job.work import Heartbeat
from esv_ray.parallel import DaemonThreads
from esv_ray.spec_extract import ExtractSpec

_Result = TypeVar("_Result")


class Decoders:
    """Threads that decode videos, each with a decoder that is opened once and used for many."""

    def __init__(self, name: str, count: int) -> None:
        """Start the threads.

        Args:
            name: of the decoder.
            count: number of threads.
        """
        self.count = count
        self._name = name
        self._threads = DaemonThreads(count, "esv-decode")
        self._idle: list[Decoder] = []
        self._lock = Lock()
        self._closed = False

    def submit(self, work: Callable[[Decoder], _Result]) -> Future[_Result]:
        """Queue work that is called with a decoder, which it has for itself."""
        return self._threads.submit(lambda: self._with_decoder(work))

    def close(self) -> None:
        """Take no more work, and close the decoders: those at work when it ends."""
        self._threads.shutdown(cancel_futures=True)
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.close()

    def _with_decoder(self, work: Callable[[Decoder], _Result]) -> _Result:
        with self._lock:
            decoder = self._idle.pop() if self._idle else None
        decoder = decoder or open_decoder(self._name, threads=1)
        try:
            return work(decoder)
        finally:
            with self._lock:
                kept = not self._closed
                if kept:
                    self._idle.append(decoder)
            if not kept:
                decoder.close()


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
    decoders: Decoders
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
        decoders = Decoders(self.spec.decoder, self.spec.decoders)
        return Workplace(self.spec, ExtractionPlan(self.written, ()), backbone, decoders)
