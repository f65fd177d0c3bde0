"""The thin actor around `run_unit`: Ray's threads read and commit, one own thread does all torch work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from traceback import extract_tb

import torch

from esv_ray.attribution.worker import UnitReport, Workplace, open_workplace, run_unit
from esv_ray.errors import EsvError, StorageError, one_line
from esv_ray.input.units import Unit
from esv_ray.job.scheduling.scheduler import Fault, Task
from esv_ray.parallel import DaemonThreads
from esv_ray.spec import JobSpec


@dataclass(frozen=True)
class UnitFault:
    """Why a unit was not done: whose fault it is, in one line, and whether the device can still be trusted."""

    fault: Fault
    reason: str
    device_lost: bool = False


class UnitActor:
    """A loaded model that takes units; a plain object, of which Ray makes an actor.

    Torch work spread over an actor's threads would give each its own thread pool, and results that depend on which.
    """

    def __init__(self, spec: JobSpec, job: str, digest: str, device: str) -> None:
        """Take what `open_workplace` wants; nothing is loaded yet, so that errors reach the caller whole."""
        self._wanted = (spec, job, digest, device)
        self._device = device
        self._compute = DaemonThreads(1, "esv-compute", partial(torch.set_num_threads, spec.compute.threads))
        self._place: Workplace | None = None

    def ready(self) -> int:
        """Load the model; the process id."""
        self._place = self._compute.submit(open_workplace, *self._wanted).result()
        return os.getpid()

    def run(self, unit: Unit, task: Task, retried: Sequence[int] | None = None) -> UnitReport | UnitFault:
        """One unit, after `ready`. What it meets is told rather than raised: not every exception can be sent."""
        assert self._place is not None, "the driver gives work to ready actors only"
        try:
            return run_unit(self._place, unit, task, retried=retried, compute=self._compute)
        # Whatever a model raises must cost its video and nothing else; sys.exit would end a job in this process with 0.
        except (Exception, SystemExit) as error:
            return fault_of(error, device_lost=self._device != "cpu" and not isinstance(error, EsvError))

    def beats(self) -> int:
        """A number that grows as long as work goes on."""
        return 0 if self._place is None else self._place.pulse.beats

    def close(self) -> None:
        """Stop after the batch that is being computed; what waits is dropped."""
        if self._place is not None:
            self._place.stopped.set()
        self._compute.shutdown(cancel_futures=True)


def fault_of(error: BaseException, *, device_lost: bool = False) -> UnitFault:
    """Whose fault an error is."""
    if isinstance(error, StorageError):
        return UnitFault("storage" if error.passing else "refused", one_line(error))
    if isinstance(error, EsvError):
        return UnitFault("input", one_line(error))
    return UnitFault("compute", f"{one_line(error)}{_where(error)}", device_lost)


def _where(error: BaseException) -> str:
    """Where an unexpected error was raised, for whoever looks for it."""
    frames = extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
