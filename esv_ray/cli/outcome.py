"""Print how a job ended, for any kind of work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esv_ray.errors import count_of
from esv_ray.output.layout import VIDEOS
from esv_ray.show.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from esv_ray.job.result import JobResult

_LISTED = 10
_RESUME = "the rest is committed; run the same command again to resume"


def show_result(
    result: JobResult, made: str = "attributions", *, count: str = "attribution_rows", folder: str = VIDEOS
) -> None:
    """Print how a job ended.

    Args:
        result: of the job.
        made: what the rows of its main table are.
        count: name of their number among the counts.
        folder: folder of its videos table.
    """
    counts = result.counts
    resumed = f", {result.resumed_units} of {result.units} units resumed" if result.resumed_units else ""
    click.echo(
        f"{count_of(counts.rows, 'video')}: {counts.ok} ok, {counts.skipped} skipped, {counts.failed} failed; "
        f"{counts.written.get(count, 0)} {made} in {result.seconds:.1f} s{resumed}"
    )
    for line in _failed_lines(result, folder):
        click.echo(f"  {printable(line)}")
    if counts.failed > result.max_failed * counts.rows:
        click.echo(f"more than max_failed = {result.max_failed:g} of the videos failed", err=True)
    for line in problem_lines(result):
        click.echo(line, err=True)
    click.echo(f"tables: {printable(result.output)}")


def problem_lines(result: JobResult) -> Iterator[str]:
    """Yield what is wrong with the end of a job, one line each."""
    for unit, reason in list(result.quarantined.items())[:_LISTED]:
        yield f"unit {unit} could not be committed: {printable(reason)}"
    for unit in result.missing[:_LISTED]:
        yield f"unit {unit} is missing"
    if result.units_left:
        yield f"{printable(result.problem)}; {_RESUME}"
    if result.repeated:
        yield printable(result.repeated)


def _failed_lines(result: JobResult, folder: str) -> Iterator[str]:
    """Describe the failed videos: each of a few; of many, an example of each kind of reason, and where the rest is."""
    failed, here = result.counts.failed, sum(failures.count for failures in result.failures)
    if failed <= len(result.failed) or not here:
        yield from (f"failed: {video_id or '(no id)'}: {reason}" for video_id, reason in result.failed)
    else:
        for failures in result.failures[:_LISTED]:
            yield f"{failures.count} failed{', for example' if failures.count > 1 else ''}: {failures.example}"
        others = sum(failures.count for failures in result.failures[_LISTED:])
        if others:
            yield f"{others} failed for other reasons"
        if failed > here:
            yield f"{failed - here} failed in earlier runs"
    if failed > len(result.failed):
        yield f"ids and reasons of all {failed}: columns status and reason of {result.output}/{folder}"
