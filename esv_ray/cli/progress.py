"""Progress of a job and of a training: a bar on a terminal, a line every ten seconds elsewhere. On standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from esv_ray.errors import SpecError

if TYPE_CHECKING:
    from esv_ray.job.progress import Progress as JobProgress
    from esv_ray.models.train import TrainProgress

_EVERY_S = 10.0

_log = logging.getLogger("esv_ray")


@contextmanager
def unit_log(file: str | None) -> Iterator[None]:
    """One line of JSON for every unit, appended to a file; "-": to standard error; None: nowhere.

    Raises:
        SpecError: the file cannot be written.
    """
    if file is None:
        yield
        return
    logger = logging.getLogger("esv_ray.units")
    try:
        handler = logging.StreamHandler(sys.stderr) if file == "-" else _LogFile(file, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"--log {file}: cannot be written: {error.strerror}") from None
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.level, logger.propagate = before


class _LogFile(logging.FileHandler):
    """A file of log lines that reports the first line it cannot write, in one line: a full disk ends no job."""

    _reported = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Report the exception that is being handled, once."""
        if not self._reported:
            self._reported = True
            _log.warning("--log %s: cannot be written: %s; lines are missing from here on", self._where(), _reason())

    def close(self) -> None:
        """Close the file; what is left to write may find no room."""
        try:
            super().close()
        except OSError as error:
            if not self._reported:
                _log.warning("--log %s: its end cannot be written: %s", self._where(), error.strerror)

    def _where(self) -> str:
        return Path(self.baseFilename).name


def _reason() -> str:
    error = sys.exception()
    return str(getattr(error, "strerror", None) or error)


@contextmanager
def job_progress() -> Iterator[Callable[[JobProgress], None]]:
    """A callback for `run_job`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _job_lines()
        return
    bar = Progress(
        SpinnerColumn(),
        BarColumn(bar_width=14),
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        console=console,
    )
    with bar:
        task = bar.add_task("starting", total=None)

        def report(now: JobProgress) -> None:
            bar.update(
                task,
                description=_told(now),
                total=now.total or None,
                completed=now.resumed + now.counts.rows,
            )

        yield report


def _job_lines() -> Callable[[JobProgress], None]:
    last = time.monotonic()

    def report(now: JobProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            print(_told(now, " videos"), file=sys.stderr, flush=True)

    return report


def _told(now: JobProgress, of: str = "") -> str:
    done = f"{now.resumed + now.counts.rows}/{now.total}{of}, " if now.total else ""  # else it is not planned yet
    return f"{done}{_figures(now)}"


def _figures(now: JobProgress) -> str:
    if now.waiting_for:
        return f"waiting for {now.waiting_for}"
    if now.actors == 0 and now.counts.rows == 0:
        return "starting actors"
    eta = "ETA -" if now.left_s is None else f"ETA {_clock(now.left_s)}"
    actors = f"{now.actors} actors {now.device_busy:.0%} busy"
    silence = f"{now.silence}, " if now.silence else ""
    return f"{now.rate:.1f} videos/s, {now.counts.failed} failed, {actors}, {_stages(now)}{silence}{eta}"


def _stages(now: JobProgress) -> str:
    """Which share of the units' time each stage took."""
    whole = now.read_s + now.compute_s + now.commit_s
    if whole <= 0:
        return ""
    shares = (("read", now.read_s), ("compute", now.compute_s), ("write", now.commit_s))
    return " ".join(f"{name} {seconds / whole:.0%}" for name, seconds in shares) + ", "


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


@contextmanager
def train_progress() -> Iterator[Callable[[TrainProgress], None]]:
    """A callback for `train`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _train_lines()
        return
    bar = Progress(
        TextColumn("training head {task.fields[scale]}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}, validation loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=None, scale="1", epoch=0, loss=float("nan"))

        def report(now: TrainProgress) -> None:
            bar.update(
                task,
                total=now.n_max * now.epochs,
                completed=(now.scale - 1) * now.epochs + now.epoch,
                scale=f"{now.scale}/{now.n_max}",
                epoch=now.epoch,
                loss=now.validation_loss,
            )

        yield report


def _train_lines() -> Callable[[TrainProgress], None]:
    last = time.monotonic()

    def report(now: TrainProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            print(
                f"head {now.scale}/{now.n_max}, epoch {now.epoch}, validation loss {now.validation_loss:.3f}",
                file=sys.stderr,
                flush=True,
            )

    return report
