"""The page that esv plan prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from esv_ray.errors import count_of
from esv_ray.show.text import printable

if TYPE_CHECKING:
    from esv_ray.forecast.extraction import ExtractionForecast
    from esv_ray.forecast.lengths import Lengths
    from esv_ray.forecast.records import Forecast, Passes

_BINS, _BAR, _ROWS = 10, 30, 12


def show(forecast: Forecast) -> None:
    """Print a forecast."""
    from esv_ray.forecast.warnings import warnings

    labels = "labels" if forecast.labelled else "no labels"
    click.echo(
        f"{forecast.videos:,} videos in {count_of(forecast.files, 'file')}, "
        f"{count_of(len(forecast.row_groups), 'row group')}, {count_of(len(forecast.units), 'unit')}; "
        f"D = {forecast.feature_dim}, {labels}, {_bytes(forecast.table_bytes)}"
    )
    if forecast.resumed:
        click.echo(
            f"done: {len(forecast.units) - len(forecast.pending)} units, {forecast.videos - forecast.videos_left:,} "
            f"videos; left: {len(forecast.pending)} units, {forecast.videos_left:,} videos"
        )
    _show_lengths(forecast.lengths)
    _show_work(forecast)
    if forecast.pending:
        _show_needs(forecast)
    else:
        click.echo(f"nothing is left to do: the tables are in {forecast.spec.output}")
    for warning in warnings(forecast):
        click.secho(f"warning: {printable(warning)}", fg="yellow")


def show_extraction(forecast: ExtractionForecast) -> None:
    """Print the forecast of an extraction."""
    checked, sizes, tried, spec = forecast.checked, forecast.sizes, forecast.tried, forecast.spec
    labels = "labels" if checked.found.labelled else "no labels"
    backbones = ", ".join(f"backbone {printable(table.info.name)}, D = {table.info.dim}" for table in checked.tables)
    click.echo(
        f"{count_of(forecast.videos, 'video')} in {count_of(sizes.files, 'file')}, "
        f"{'' if sizes.looked_at == sizes.files else 'about '}{_bytes(sizes.bytes)}, "
        f"{count_of(len(checked.units), 'unit')}; {backbones}, {labels}"
    )
    if any(table.planned for table in checked.tables):
        units = len(checked.units) - len(checked.pending)
        click.echo(
            f"done: {units} units, {forecast.videos - forecast.videos_left} videos, {forecast.failed} of them failed; "
            f"left: {len(checked.pending)} units, {forecast.videos_left} videos"
        )
    if not forecast.videos_left:
        click.echo(f"nothing is left to do: the tables are in {printable(spec.output)}")
    elif tried is None or forecast.seconds is None:
        click.echo(f"tried here   no video of {len(forecast.failures)} could be extracted, so nothing more is known")
    else:
        elements = " and ".join(f"{each:.4g}" for each in dict.fromkeys(tried.elements))
        most = "" if forecast.most_elements is None else f" (at most {forecast.most_elements})"
        click.echo(
            f"tried here   {count_of(tried.videos, 'video')}: {elements} elements each{most}; decoding "
            f"{_seconds(tried.decode_s)}, backbone {_seconds(tried.compute_s)} each, on {forecast.actors.device}"
        )
        kind = "create-only" if forecast.create_only else "not create-only"
        click.echo(f"written      about {_bytes(forecast.written_bytes or 0)}, {kind}")
        working = count_of(forecast.actors.working, "actor")
        click.echo(f"time         about {_seconds(forecast.seconds)} with {working} on {forecast.actors.device}")
    for warning in forecast.warnings():
        click.secho(f"warning: {printable(warning)}", fg="yellow")


def _show_lengths(lengths: Lengths) -> None:
    exact = lengths.source == "rows"
    source = "exact" if exact else "mean of each row group; --read-lengths gives exact lengths"
    click.echo(f"\nframes per video ({source}):")
    bins = _binned(sorted(lengths.videos.items()))
    most = max((videos for _, _, videos in bins), default=1)
    for first, last, videos in bins:
        name = f"{first}" if first == last else f"{first}-{last}"
        click.echo(f"  {name:>11} {videos:>11,} {'#' * max(1, round(_BAR * videos / most))}")


def _binned(lengths: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return (first, last, videos) of at most ten bins, those without videos left out."""
    if len(lengths) <= _BINS:
        return [(frames, frames, videos) for frames, videos in lengths]
    shortest, longest = lengths[0][0], lengths[-1][0]
    width = -(-(longest - shortest + 1) // _BINS)
    counts: dict[int, int] = {}
    for frames, videos in lengths:
        counts[(frames - shortest) // width] = counts.get((frames - shortest) // width, 0) + videos
    return [
        (shortest + index * width, min(longest, shortest + (index + 1) * width - 1), videos)
        for index, videos in sorted(counts.items())
    ]


def _show_work(forecast: Forecast) -> None:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("n", "videos", "left", "estimator", "evaluations", "total", "ms", "based on"):
        is_text = column in ("estimator", "based on")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    lengths = forecast.by_length
    shown = sorted(lengths, key=lambda length: length.work.videos * length.work.evaluations)[-_ROWS:]
    for length in sorted(shown, key=lambda length: length.work.n):
        work = length.work
        table.add_row(
            str(work.n),
            f"{work.videos:,}",
            f"{work.pending:,}",
            work.kind if work.fits else "does not fit",
            _range(work.evaluations, work.evaluations_most) if work.fits else "-",
            f"{work.videos * work.evaluations:.3g}" if work.fits else "-",
            f"{1e3 * length.video_s:.3g}" if length.basis else "-",
            length.basis or "-",
        )
    Console(width=100).print(table)
    if len(lengths) > len(shown):
        click.echo(f"  and {len(lengths) - len(shown)} more lengths with less work")


def _show_needs(forecast: Forecast) -> None:
    pending = _range(forecast.evaluations(pending=True), forecast.evaluations(pending=True, most=True))
    click.echo(f"evaluations  {pending} left of {_range(forecast.evaluations(), forecast.evaluations(most=True))}")
    shorter = sum(length.work.pending * length.work.shorter_evaluations for length in forecast.by_length)
    if shorter:
        click.echo(f"             and {shorter:,} of what is left while elements are taken away (discards)")
    replaced = sum(length.work.pending * length.work.replaced_evaluations for length in forecast.by_length)
    if replaced:
        click.echo(f"             and up to {replaced:,} of sequences with replaced elements (replacements)")
    repeated = sum(length.work.pending * length.work.repeated_evaluations for length in forecast.by_length)
    if repeated:
        click.echo(f"             and up to {repeated:,} of variations (smoothness, order, sanity)")
    compared = sum(length.work.pending * length.work.compared_evaluations for length in forecast.by_length)
    if compared:
        click.echo(f"             and {compared:,} of other methods, counting a gradient as two")
    if forecast.passes is not None:
        _show_passes(forecast.passes)
    click.echo(f"read         {_bytes(forecast.read_bytes)}")
    size = forecast.output_size
    rows = _range(size.attribution_rows_least, size.attribution_rows_most)
    written = f"{_bytes(size.bytes_least)} to {_bytes(size.bytes_most)}"
    kind = "create-only" if forecast.create_only else "not create-only"
    click.echo(f"written      {written}: {rows} attributions in {count_of(size.files, 'file')}, {kind}")
    for table, most in size.further_rows_most.items():
        click.echo(f"             {_range(size.further_rows_least[table], most)} {table}")
    click.echo(
        f"memory       at most {_bytes(forecast.actor_bytes)} per actor: work {_bytes(forecast.batch_bytes)} of "
        f"{_bytes(forecast.budget)} allowed, reading {_bytes(forecast.reading_bytes)}"
    )
    _show_time(forecast)


def _show_passes(passes: Passes) -> None:
    """Print the forward passes of a network of images, and what fewer subsequences would take."""
    every = ", one for each subsequence" if passes.kind == "exact" else f"; exact takes {passes.exact:,}"
    click.echo(f"             {passes.passes:,} forward passes a video of n = {passes.n} ({passes.kind}{every})")
    if passes.adjusted:
        fewer = ", ".join(f"{count:,} with m={m}" for m, count in passes.adjusted.items())
        click.echo(f"             estimator.kind=adjusted with iterations=1 takes {fewer}")


def _show_time(forecast: Forecast) -> None:
    time, actors = forecast.time, forecast.actors
    most = "" if time.seconds_most < 1.05 * time.seconds else f" to {_seconds(time.seconds_most)}"
    working = f"{count_of(actors.working, 'actor')} on {actors.device}"
    click.echo(f"time         about {_seconds(time.seconds)}{most} with {working}")
    parts = {
        "compute": time.compute_s,
        "read": time.read_s,
        "write": time.write_s,
        "prepare": time.plans_s,
        "start": time.start_s,
    }
    click.echo(f"             {', '.join(f'{name} {_seconds(seconds)}' for name, seconds in parts.items())}")
    click.echo(f"             compute: {forecast.timings.source}; reading and writing: at assumed rates")


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _bytes(size: float) -> str:
    from esv_ray.core.memory import format_bytes

    return format_bytes(size)


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
