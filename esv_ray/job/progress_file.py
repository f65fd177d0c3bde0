"""Keeps progress.json up to date while a run lasts; it outlives the cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from esv_ray.errors import DataError
from esv_ray.job.progress import Ended, Progress, Report
from esv_ray.job.progress_record import (
    PartitionsRecord,
    ProgressRecord,
    partitions_record,
    progress_record,
    timestamp,
    write_progress,
)
from esv_ray.job.run import Run
from esv_ray.signals import INTERRUPTED, last_act

_EVERY_S = 10.0
_LAST_WRITE_S = 3.0  # allowed for the last write after an interrupt

_log = logging.getLogger("esv_ray")


@contextmanager
def progress_file(run: Run) -> Iterator[None]:
    """Keep progress.json up to date during a run, and record at its end how it ended.

    A failed write is logged; the job continues. A killed driver leaves the state `running` and an old time in
    `updated`.
    """
    begun = timestamp()
    stop = threading.Event()

    def write() -> None:
        given_up = {run.unit(index).name: why for index, why in list(run.scheduler.quarantined.items())}
        _write(run.work.output, progress_record(run.progress, run.ended or "running", begun, given_up))

    def keep_writing() -> None:
        write()
        while not stop.wait(_EVERY_S):
            write()
        write()

    writer = threading.Thread(target=keep_writing, name="esv-progress", daemon=True)
    writer.start()
    time_limit = None

    def on_forced_end(code: int) -> None:
        run.ended = "interrupted" if code == INTERRUPTED else "failed"
        write()

    with last_act(on_forced_end):
        try:
            yield
        except KeyboardInterrupt:
            run.ended, time_limit = "interrupted", _LAST_WRITE_S
            raise
        except BaseException:
            run.ended = "failed"
            raise
        finally:
            stop.set()
            writer.join(time_limit)


@contextmanager
def waiting_file(output: str, report: Report) -> Iterator[Callable[[str], None]]:
    """Report what a run waits for before it is planned.

    Yields:
        A function to call with what the run waits for. There is no progress.json before the first call; after it, the
        file also records how the run ended if that is before the plan.
    """
    begun = timestamp()
    waiting: Progress | None = None

    def wait_for(resource: str) -> None:
        nonlocal waiting
        waiting = Progress(0, 0, waiting_for=resource)
        report(waiting)
        write("running")

    def write(state: Ended | Literal["running"]) -> None:
        if waiting is not None:
            _write(output, progress_record(waiting, state, begun, {}))

    try:
        yield wait_for
    except KeyboardInterrupt:
        write("interrupted")
        raise
    except BaseException:
        write("failed")
        raise


@dataclass
class PartitionsProgress:
    """Progress of a run over partitions.

    Attributes:
        output: location above the partitions' outputs.
        begun: time in ISO 8601.
        counts: number of partitions by state, kept up to date by the run.
        problems: reasons by partition.
    """

    output: str
    begun: str
    counts: Mapping[Any, int]
    problems: dict[str, str] = field(default_factory=dict)

    def write(self, partition: str | None, state: Ended | Literal["running"] = "running") -> None:
        """Write progress.json.

        Args:
            partition: the one that is running, or None.
            state: state of the run.
        """
        _write(self.output, partitions_record(state, self.begun, partition, self.counts, self.problems))


@contextmanager
def partitions_file(output: str, counts: Mapping[Any, int]) -> Iterator[PartitionsProgress]:
    """Keep progress.json of a run over partitions: the caller writes when a partition begins, this at the end.

    Args:
        output: location above the partitions' outputs, each of which has a progress.json of its own.
        counts: number of partitions by state, kept up to date by the run.
    """
    progress = PartitionsProgress(output, timestamp(), counts)
    state: Ended = "failed"
    try:
        yield progress
        state = "incomplete" if progress.problems else "done"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        progress.write(None, state)


def _write(output: str, record: ProgressRecord | PartitionsRecord) -> None:
    try:
        write_progress(output, record)
    except DataError as error:
        _log.warning("%s", error)
