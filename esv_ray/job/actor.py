"""The actor around a workplace: Ray's threads read and commit; a thread of the actor does all device work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import extract_tb

from esv_ray.errors import EsvError, ModelError, StorageError, one_line
from esv_ray.job.scheduling.scheduler import Task
from esv_ray.job.work import Heartbeat, RunUnit, Unit, UnitFault, UnitReport, Workplace
from esv_ray.parallel import DaemonThreads


class UnitActor:
    """An open workplace that runs units; a plain object, of which Ray makes an actor.

    If several threads of an actor did torch work, each would have a thread pool of its own, and results would depend
    on which thread computed them.
    """

    def __init__(self, open_workplace: Callable[[str], Workplace], run_unit: RunUnit, device: str) -> None:
        """Keep the arguments; `ready` opens the workplace, so that its errors reach the caller.

        Args:
            open_workplace: opens the workplace on a device (`WorkPlan.open_workplace`).
            run_unit: runs a unit at the workplace (`WorkPlan.run_unit`).
            device: torch device.
        """
        self._open_workplace, self._run_unit = open_workplace, run_unit
        self._device = device
        self._compute = DaemonThreads(1, "esv-compute")
        self._workplace: Workplace | None = None

    def ready(self) -> int:
        """Open the workplace; return the process id."""
        self._workplace = self._compute.submit(self._open_workplace, self._device).result()
        return os.getpid()

    def run(self, unit: Unit, task: Task, retried: Sequence[int] | None = None) -> UnitReport | UnitFault:
        """Run a unit, after `ready`. Errors are returned, not raised, because not every exception can be pickled."""
        assert self._workplace is not None, "the driver gives work to ready actors only"
        try:
            return self._run_unit(self._workplace, unit, task, retried=retried, compute=self._compute)
        # Whatever a model raises must fail its video and nothing else; sys.exit would end a job in this process with 0.
        except (Exception, SystemExit) as error:
            return fault_of(error, device_lost=self._device != "cpu" and not isinstance(error, EsvError))

    def beats(self) -> tuple[int, str]:
        """Return a number that grows as long as work makes progress, and the long step that is under way, if any."""
        heartbeat = Heartbeat() if self._workplace is None else self._workplace.heartbeat
        return heartbeat.count, heartbeat.stage

    def close(self) -> None:
        """Stop after the batch that is being computed; drop waiting work."""
        if self._workplace is not None:
            self._workplace.stop()
        self._compute.shutdown(cancel_futures=True)


def fault_of(error: BaseException, *, device_lost: bool = False) -> UnitFault:
    """Classify an error by what is at fault."""
    if isinstance(error, StorageError):
        return UnitFault("storage" if error.transient else "refused", one_line(error))
    if isinstance(error, EsvError):
        # A model that is refused while it computes fails only its videos, like one that raises.
        return UnitFault("compute" if isinstance(error, ModelError) else "input", one_line(error))
    return UnitFault("compute", f"{one_line(error)}{_where(error)}", device_lost)


def _where(error: BaseException) -> str:
    """Return the file and line that raised an unexpected error."""
    frames = extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
