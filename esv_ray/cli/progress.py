"""Progress of jobs and trainings on standard error: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from esv_ray.errors import count_of

if TYPE_CHECKING:
    from esv_ray.bench.shapes.files import RenderProgress
    from esv_ray.input.sources.outcome import ImportProgress
    from esv_ray.job.progress import Progress as JobProgress

_EVERY_S = 10.0

State = TypeVar("State")


@contextmanager
def job_progress() -> Iterator[Callable[[JobProgress], None]]:
    """Show the progress of a job; yields a callback for `run_job`."""

    def extent(now: JobProgress) -> tuple[int, int | None]:
        if not now.total and now.stage_total:
            return now.stage_done, now.stage_total
        return now.resumed + now.counts.rows, now.total or None

    with _progress(_job_text, lambda now: _job_text(now, " videos"), extent) as report:
        yield report


@contextmanager
def extract_progress() -> Iterator[Callable[[JobProgress], None]]:
    """Show the progress of an extraction; yields a callback for `extract`."""

    def extent(now: JobProgress) -> tuple[int, int | None]:
        return now.resumed + now.counts.rows, now.total or None

    with _progress(_extract_text, lambda now: _extract_text(now, " videos"), extent) as report:
        yield report


@contextmanager
def train_progress() -> Iterator[Callable[[JobProgress], None]]:
    """Show the progress of a training; yields a callback for `train`."""

    def extent(now: JobProgress) -> tuple[int, int | None]:
        return now.resumed + now.counts.rows, now.total or None

    with _progress(_train_text, _train_text, extent) as report:
        yield report


@contextmanager
def import_progress() -> Iterator[Callable[[ImportProgress], None]]:
    """Show the progress of an import of features; yields a callback for `import_features`."""

    def text(now: ImportProgress) -> str:
        return f"{now.done}{'' if now.total is None else f'/{now.total}'} videos, {now.rows} rows"

    with _progress(text, text, lambda now: (now.done, now.total)) as report:
        yield report


@contextmanager
def render_progress() -> Iterator[Callable[[RenderProgress], None]]:
    """Show the progress of rendered videos; yields a callback for `write_videos`."""

    def text(now: RenderProgress) -> str:
        return f"{now.done}/{now.total} videos"

    with _progress(text, text, lambda now: (now.done, now.total)) as report:
        yield report


@contextmanager
def _progress(
    text: Callable[[State], str], line: Callable[[State], str], extent: Callable[[State], tuple[int, int | None]]
) -> Iterator[Callable[[State], None]]:
    """Show progress as a bar, or as lines where standard error is not a terminal.

    Args:
        text: beside the bar.
        line: where there is no bar.
        extent: how much is completed, and the total if it is known.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield print_every(lambda now: [line(now)])
        return
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=14),
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)

        def report(now: State) -> None:
            completed, total = extent(now)
            bar.update(task, description=text(now), total=total, completed=completed)

        yield report


def file_progress() -> Callable[[int, int], None]:
    """Return a callback that prints, every ten seconds, how many files of features are read, and of how many."""

    def lines(now: tuple[int, int]) -> list[str]:
        return [f"{now[0]}/{now[1]} files of features read"]

    report = print_every(lines)
    return lambda done, total: report((done, total))


def print_every(
    lines: Callable[[State], Iterable[str]],
    *,
    first: bool = False,
    final: Callable[[State], bool] = lambda state: False,
) -> Callable[[State], None]:
    """Return a callback that prints lines about a state to standard error, at most every ten seconds.

    Args:
        lines: to print about a state.
        first: whether to print the first state at once.
        final: whether a state is to be printed whatever the time.
    """
    last = float("-inf") if first else time.monotonic()

    def report(now: State) -> None:
        nonlocal last
        if final(now) or time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            for line in lines(now):
                print(line, file=sys.stderr, flush=True)

    return report


def _extract_text(now: JobProgress, noun: str = "") -> str:
    return _job_text(now, noun, _limits(now))


def _limits(now: JobProgress) -> str:
    """Return the share of the actors' time in which they decode and in which the backbone computes."""
    actor_seconds = now.seconds * now.actors
    if actor_seconds <= 0:
        return ""
    decoding, computing = (min(1.0, seconds / actor_seconds) for seconds in (now.read_s, now.compute_s))
    return f"decoding {decoding:.0%} busy, backbone {computing:.0%} busy, "


def _job_text(now: JobProgress, noun: str = "", stages: str | None = None) -> str:
    done = f"{now.resumed + now.counts.rows}/{now.total}{noun}, " if now.total else ""  # not yet known while planning
    if now.waiting_for:
        return f"{done}waiting for {now.waiting_for}"
    if not now.total and now.stage:
        files = f": {now.stage_done}/{now.stage_total} files of features" if now.stage_total else ""
        return f"{now.stage}{files}"
    if now.actors == 0 and now.counts.rows == 0:
        return f"{done}starting actors"
    eta = "ETA -" if now.left_s is None else f"ETA {_clock(now.left_s)}"
    actors = count_of(now.actors, "actor") + (f" {now.device_busy:.0%} busy" if stages is None else "")
    silence = "".join(f"{text}, " for text in (now.stage, now.silence) if text)
    shares = _stages(now) if stages is None else stages
    return f"{done}{now.rate:.1f} videos/s, {now.counts.failed} failed, {actors}, {shares}{silence}{eta}"


def _stages(now: JobProgress) -> str:
    """Return each stage's share of the units' time."""
    total_s = now.read_s + now.compute_s + now.commit_s
    if total_s <= 0:
        return ""
    shares = (("read", now.read_s), ("compute", now.compute_s), ("write", now.commit_s))
    return " ".join(f"{name} {seconds / total_s:.0%}" for name, seconds in shares) + ", "


def _clock(seconds: float) -> str:
    minutes, remainder = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{remainder:02d}"


def _train_text(now: JobProgress) -> str:
    if not now.total:
        return now.stage or "checking the input"
    state = f"waiting for {now.waiting_for}" if now.waiting_for else now.stage or now.silence or "starting"
    failed = f", {now.counts.failed} failed" if now.counts.failed else ""
    return f"{now.resumed + now.counts.rows}/{now.total} heads{failed}, {state}"
